"""Many short trials in real processes: each configuration once, and no memory that grows."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .conftest import Done

ENTRIES, WORKERS = 400, 8
SPACE = """
model = "cnn"
[parameters.blocks]
type = "fixed"
value = 1
[parameters.filters_1]
type = "int"
low = 2
high = 15
[parameters.dense_units]
type = "fixed"
value = 0
[parameters.learning_rate]
type = "float"
low = 1e-5
high = 1e-1
log = true
[parameters.batch_size]
type = "fixed"
value = 64
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_hundred_enqueued_trials_run_once_each_on_eight_workers_and_memory_stays_flat(
    tuner: Callable[..., Done], tmp_path: Path, small_folder: Path
) -> None:
    entries = [
        f"\n[[start_with]]\nfilters_1 = {2 + k % 14}\nlearning_rate = {5e-5 * (k + 1)!r}\n" for k in range(ENTRIES)
    ]
    (tmp_path / "many.toml").write_text(SPACE + "".join(entries), "utf-8")

    done = tuner("search", "many.toml", "--data", small_folder, "--trials", ENTRIES, "--workers", WORKERS, "--epochs", 1,
                 "--pruner", "none", "--no-refit", "--quiet", timeout=800)  # fmt: skip

    assert done.code == 0, done.err
    with (tmp_path / "results" / "runs" / "many-1" / "trials.csv").open() as file:
        trials = list(csv.DictReader(file))
    assert [trial["state"] for trial in trials] == ["complete"] * ENTRIES
    assert sorted(float(trial["learning_rate"]) for trial in trials) == pytest.approx(
        [5e-5 * (k + 1) for k in range(ENTRIES)]
    )
    # A worker has every eighth trial; its first ones load what every later one uses, fill its stock of compiled loops
    # (there are more shapes than it keeps, so that nearly every trial compiles) and settle the allocator: measured are
    # the last two hundred.
    later = [(number, float(trial["peak_memory_mib"])) for number, trial in enumerate(trials) if number >= ENTRIES // 2]
    growth_a_trial = WORKERS * np.polyfit(*zip(*later, strict=True), 1)[0]
    print(f"worker memory grows by {growth_a_trial:.3f} MiB a trial")  # noqa: T201
    assert growth_a_trial < 0.2
