"""The landscape: learning curves of some hundred configurations, each trained to its end, and what they cost.

    python -m benchmarks.landscape.record [--minutes M] [--out FOLDER] [--table FILE]

Searches without a pruner over ``space.toml``, by ``tuner search``, which goes on where it was when the minutes are
over: Sobol points (``qmc``; the space's own entries come first), the neighbourhood of their best five, three times
(``near-*``; those and the space's own again, from another seed, then draws near them, then TPE), and some of all these,
from the median to the best, from two more seeds (``again-*``): how much of a curve is chance. At last the best ones
with each way to average weights (``pairs``), since which had which was left to chance. Whatever is there is
written to ``curves.csv`` beside this file, one row a training: the configuration, its size, the seconds of its epochs
as they were (other work may have run beside) and the accuracy on the 10,000 validation images after each. A part that
the table holds, and whose study is not there, was recorded elsewhere and stays as it is.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path

import tomli_w

from benchmarks.landscape.table import read_values
from tuner.records import TrialSummary, Value, Values
from tuner.runs import Outputs, write_table, write_text
from tuner.search.storage import open_storage
from tuner.search.study import load_study, study_names, summaries
from tuner.space.reader import SpaceFile, read_space

Row = dict[str, str]
HERE = Path(__file__).parent
SPACE = HERE / "space.toml"
BEST, AGAIN, PAIRED = 5, 20, 12
"""Sobol points that a neighbourhood starts with; configurations that are trained from two more seeds; and those that
are trained with each way to average."""
AVERAGES = 3
NEAR = ["--trials", "70", "--set", "search.startup_trials=45"]
PARTS: dict[str, list[str]] = {
    "qmc": ["--sampler", "qmc", "--trials", "100"],
    **{f"near-{seed}": [*NEAR, "--seed", str(seed)] for seed in (1, 2, 3)},
    **{f"again-{seed}": ["--sampler", "random", "--trials", str(AGAIN), "--seed", str(seed)] for seed in (4, 5)},
    "pairs": ["--sampler", "random", "--trials", str(PAIRED * AVERAGES), "--seed", "6"],
}
END_SECONDS = 60.0
"""A search that is told to stop ends with its running epochs."""


def main() -> None:
    """Record, and write the table."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.landscape.record",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--out", default="results")
    parser.add_argument("--table", type=Path, default=HERE / "curves.csv")
    asked = parser.parse_args()
    until = time.monotonic() + 60 * asked.minutes
    for part in PARTS:
        if part not in studies(asked.out) and rows_of(part, asked.table):
            continue  # recorded elsewhere
        if time.monotonic() > until or not record(part, asked, until):
            break
        write_rows(asked.out, asked.table)
    write_rows(asked.out, asked.table)


def record(part: str, asked: argparse.Namespace, until: float) -> bool:
    """Search a part, or what is left of it; False when the time was over first."""
    command = [sys.executable, "-m", "tuner", "search", "--study", part, "--out", asked.out, "--no-refit"]
    if part in studies(asked.out):  # it has its own space
        command.append("--resume")
    else:
        space = Path(asked.out) / f"{part}.toml"
        write_text(space, space_of(part, asked.table))
        command += [str(space), *PARTS[part]]
    with subprocess.Popen(command) as search:
        try:
            code = search.wait(max(1.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            search.terminate()
            search.wait(END_SECONDS)
            return False
    if code:
        sys.exit(code)  # it has said why
    return True


def space_of(part: str, table: Path) -> str:
    """Return the text of a part's space."""
    return tomli_w.dumps({**tomllib.loads(SPACE.read_text("utf-8")), **first_trials(part, table)})


def first_trials(part: str, table: Path) -> dict[str, list[Values]]:
    """Return the ``start_with`` of a part's space, by what was recorded before."""
    if part == "qmc":
        return {}
    file = read_space(str(SPACE))
    if part.startswith("near"):
        best = ranking(file, rows_of("qmc", table))[-BEST:]
        return {"start_with": [*best[::-1], *file.space.start_with]}
    drawn = [row for part in PARTS if part.startswith(("qmc", "near")) for row in rows_of(part, table)]
    ranked = ranking(file, drawn)
    if part == "pairs":
        averages = file.space.parameters["ema"].grid()
        bare = unique({**values, "ema": averages[0]} for values in reversed(ranked))[:PAIRED]
        return {"start_with": [{**values, "ema": average} for values in bare for average in averages]}
    better = ranked[len(ranked) // 2 :]
    return {"start_with": [better[k * (len(better) - 1) // (AGAIN - 1)] for k in range(AGAIN)]}


def unique(found: Iterable[Values]) -> list[Values]:
    """Return each configuration once."""
    return list({json.dumps(values, sort_keys=True): values for values in found}.values())


def ranking(file: SpaceFile, rows: list[Row]) -> list[Values]:
    """Return the configurations of some rows, the best one last."""
    ranked = sorted(rows, key=lambda row: float(row[f"val_{file.settings.epochs}"] or 0.0))
    return [read_values(row, file.space) for row in ranked]


def rows_of(part: str, table: Path) -> list[Row]:
    """Return a part's rows in the table, if there is one."""
    if not table.exists():
        return []
    return [row for row in csv.DictReader(table.read_text("utf-8").splitlines()) if row["part"] == part]


def studies(out: str) -> list[str]:
    """Return the names of the parts that were begun here."""
    return study_names(open_storage(Outputs.of(out, None), create=True))


def write_rows(out: str, table: Path) -> None:
    """Write what was recorded so far: parts that were begun here as their studies have them, others as they were."""
    file, here = read_space(str(SPACE)), studies(out)
    header = [*file.space.parameters, "parameters", "multiply_adds", "seconds"]
    header = ["part", "trial", "entry", *header, *(f"val_{k}" for k in range(1, file.settings.epochs + 1))]
    rows = [row for part in PARTS for row in (trained(part, out) if part in here else rows_of(part, table))]
    write_table(table, header, [[row[name] for name in header] for row in rows])
    print(f"{len(rows)} trainings in {table}")


def trained(part: str, out: str) -> list[Row]:
    """Return a row for each of a part's trials that trained to its end, or failed on the way."""
    study, _ = load_study(open_storage(Outputs.of(out, None), create=False), part)
    file = read_space(str(SPACE))
    ended = [trial for trial in summaries(study) if trial.state in ("complete", "failed")]
    return [_row(part, trial, file) for trial in ended]


def _row(part: str, trial: TrialSummary, file: SpaceFile) -> Row:
    values = {name: _cell(trial.values.get(name, "")) for name in file.space.parameters}
    reached = {result.epoch: f"{result.val_accuracy:.4f}" for result in trial.curve}
    curve = {f"val_{epoch}": reached.get(epoch, "") for epoch in range(1, file.settings.epochs + 1)}
    row = {"part": part, "trial": trial.number, "entry": int(trial.enqueued), **values, **curve}
    row |= dataclasses.asdict(trial.cost) | {"seconds": f"{trial.seconds:.1f}"}
    return {name: str(cell) for name, cell in row.items()}


def _cell(value: Value) -> Value:
    return f"{value:.6g}" if isinstance(value, float) else value


if __name__ == "__main__":
    main()
