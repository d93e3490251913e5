"""The landscape: learning curves of some hundred configurations, each trained to its end, and what they cost.

    python benchmarks/landscape/record.py [--minutes M] [--out FOLDER] [--table FILE]

Searches without a pruner over ``space.toml``, by ``tuner search``, which goes on where it was when the minutes are
over: Sobol points (``qmc``; the space's own entries come first), the neighbourhood of their best five, three times
(``near-*``; those and the space's own again, from another seed, then draws near them, then TPE), and some of all these,
from the median to the best, from two more seeds (``again-*``): how much of a curve is chance. Whatever is there is
written to ``curves.csv`` beside this file, one row a training: the configuration, its size, the seconds of its epochs
as they were (other work may have run beside) and the accuracy on the 10,000 validation images after each. A part that
the table holds, and whose study is not there, was recorded elsewhere and stays as it is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import tomli_w

from tuner.records import TrialSummary, Value
from tuner.runs import Outputs
from tuner.runs import write_table as write_table_to
from tuner.search.storage import open_storage
from tuner.search.study import load_study, study_names, summaries
from tuner.space.reader import read_space

HERE = Path(__file__).parent
SPACE = HERE / "space.toml"
AGAIN = 20
"""Configurations that are trained from two more seeds."""
NEAR = ["--trials", "70", "--start-with", "qmc", "--set", "search.startup_trials=45"]
PARTS: dict[str, list[str]] = {
    "qmc": ["--sampler", "qmc", "--trials", "100"],
    **{f"near-{seed}": [*NEAR, "--seed", str(seed)] for seed in (1, 2, 3)},
    **{f"again-{seed}": ["--sampler", "random", "--trials", str(AGAIN), "--seed", str(seed)] for seed in (4, 5)},
}
END_SECONDS = 60.0
"""A search that is told to stop ends with its running epochs."""


def main() -> None:
    """Record, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--out", default="results")
    parser.add_argument("--table", type=Path, default=HERE / "curves.csv")
    asked = parser.parse_args()
    until = time.monotonic() + 60 * asked.minutes
    for part in PARTS:
        if time.monotonic() < until and not record(part, asked.out, until):
            break
    write_table(asked.out, asked.table)


def record(part: str, out: str, until: float) -> bool:
    """Search a part, or what is left of it; False when the time was over first."""
    space = space_again(out) if part.startswith("again") else SPACE
    command = [sys.executable, "-m", "tuner", "search", str(space), "--study", part, "--out", out, "--no-refit"]
    started = part in studies(out)
    with subprocess.Popen([*command, *PARTS[part], *(["--resume"] if started else [])]) as search:
        try:
            return search.wait(max(1.0, until - time.monotonic())) == 0
        except subprocess.TimeoutExpired:
            search.terminate()
            search.wait(END_SECONDS)
            return False


def space_again(out: str) -> Path:
    """Return the space whose entries are some of what was trained, from the median to the best."""
    path = Path(out) / "again.toml"
    if not path.exists():
        trials = [trial for part in PARTS if not part.startswith("again") for trial in trained(part, out)]
        ranked = sorted(trials, key=lambda trial: trial.val_accuracy or 0.0)[len(trials) // 2 :]
        chosen = [ranked[k * (len(ranked) - 1) // (AGAIN - 1)].values for k in range(AGAIN)]
        path.write_text(f"{SPACE.read_text('utf-8')}\n{tomli_w.dumps({'start_with': chosen})}", "utf-8")
    return path


def studies(out: str) -> list[str]:
    """Return the names of the parts that were begun."""
    return study_names(open_storage(Outputs.of(out, None), create=True))


def trained(part: str, out: str) -> list[TrialSummary]:
    """Return a part's trials that trained to their end, or failed on the way."""
    if part not in studies(out):
        return []
    study, _ = load_study(open_storage(Outputs.of(out, None), create=False), part)
    return [trial for trial in summaries(study) if trial.state in ("complete", "failed")]


def write_table(out: str, path: Path) -> None:
    """Write what was recorded so far."""
    file = read_space(str(SPACE))
    names, epochs = list(file.space.parameters), range(1, file.settings.epochs + 1)
    header = ["part", "trial", "entry", *names, "parameters", "multiply_adds", "seconds", *(f"val_{k}" for k in epochs)]
    rows = []
    for part in PARTS:
        for trial in trained(part, out):
            reached = {result.epoch: f"{result.val_accuracy:.4f}" for result in trial.curve}
            rows.append([
                part, trial.number, int(trial.enqueued), *(_cell(trial.values.get(name, "")) for name in names),
                trial.cost.parameters, trial.cost.multiply_adds, f"{trial.seconds:.1f}",
                *(reached.get(epoch, "") for epoch in epochs),
            ])  # fmt: skip
    write_table_to(path, header, rows)
    print(f"{len(rows)} trainings in {path}")


def _cell(value: Value) -> Value:
    return f"{value:.6g}" if isinstance(value, float) else value


if __name__ == "__main__":
    main()
