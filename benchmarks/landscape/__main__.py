"""Replay strategies on the recorded landscape.

    python -m benchmarks.landscape simulate --out FOLDER [--group peers | --strategies NAME ...] [--seeds 30]
        [--trainings 60] [--answers once|any]         # goes on where it was
    python -m benchmarks.landscape figures --out FOLDER   # draw them anew from the tables that simulate left
    python -m benchmarks.landscape ranks --out FOLDER     # do early epochs rank like the last one?
    python -m benchmarks.landscape fidelity --out FOLDER  # how well do recorded configurations answer for others?

``record.py`` makes the table, and ``make strategies`` all that is committed of it. A budget counts full trainings of a
typical configuration, in CPU seconds of a worker.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from benchmarks.landscape.replay import LEAF
from benchmarks.landscape.simulate import Experiment, Landscape, simulate
from benchmarks.landscape.strategies import GROUPS, STRATEGIES
from benchmarks.landscape.table import CURVES, SPACE
from tuner.errors import TunerError, UsageError
from tuner.runs import write_table, write_text


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.landscape", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("simulate", "figures", "ranks", "fidelity"))
    parser.add_argument("--space", type=Path, default=SPACE)
    parser.add_argument("--curves", type=Path, default=CURVES)
    parser.add_argument("--out", type=Path, required=True, help="the folder of the tables and figures")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--group", choices=GROUPS, default="all", help="of strategies")
    which.add_argument("--strategies", nargs="+", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--trainings", type=float, default=60.0, help="the budget")
    parser.add_argument("--answers", choices=("once", "any"), default="once", help="of a recorded configuration")
    parser.add_argument("--leaf", type=int, default=LEAF, help="of the forest whose fidelity is asked for")
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    try:
        act(asked)
    except TunerError as error:
        print("\n".join(f"error: {line}" for line in error.lines), file=sys.stderr)
        return error.exit_code
    return 0


def act(asked: argparse.Namespace) -> None:
    """Do it. Raises TunerError."""
    landscape = Landscape(asked.space, asked.curves)
    match asked.what:
        case "simulate":
            names = list(dict.fromkeys(asked.strategies or GROUPS[asked.group]))
            if unknown := [name for name in names if name not in STRATEGIES]:
                raise UsageError(f"no strategy {', '.join(unknown)}", hint=f"there are: {'; '.join(STRATEGIES)}")
            experiment = Experiment(landscape, names, asked.seeds, asked.trainings, asked.answers == "once")
            for line in simulate(experiment, asked.processes, asked.out):
                print(line, flush=True)
        case "figures":
            from benchmarks.landscape.figures import draw

            print(*draw(asked.out), sep="\n")
        case "ranks":
            from benchmarks.landscape.ranks import Ranked, rank_epochs

            rows = rank_epochs(landscape.read()[1])
            header = [field.name for field in dataclasses.fields(Ranked)]
            cells = [
                [f"{cell:.3f}" if isinstance(cell, float) else cell for cell in dataclasses.astuple(row)]
                for row in rows
            ]
            write_table(asked.out / "ranks.csv", header, cells)
            for row in rows:
                print(
                    f"{row.group:28} {row.configurations:4} epoch {row.epoch}: {row.spearman:.2f},"
                    f" better half {row.spearman_better_half:.2f}, kept {row.kept:.0%}"
                )
        case _:
            from benchmarks.landscape.fidelity import leave_out

            space_file, table = landscape.read()
            figures = dataclasses.asdict(leave_out(table, space_file.space, asked.leaf))
            write_text(asked.out / "fidelity.json", json.dumps({"leaf": asked.leaf, **figures}, indent=1) + "\n")
            for name, value in figures.items():
                shown = f"{value:.3f}" if isinstance(value, float) else value
                print(f"{name.replace('_', ' '):20} {shown}")


if __name__ == "__main__":
    sys.exit(main())
