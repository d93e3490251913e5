"""Ours beside plain Optuna and KerasTuner's Hyperband, live: the same space, images, networks, cores and CPU minutes.

    python -m benchmarks.live run --system ours --seed 0 [--cpu-minutes 20]     # one run; for each system and seed
    python -m benchmarks.live finish [--epochs 12] [--seeds 2]                  # retrain and score every answer
    python -m benchmarks.live table results/reference/DATE-peers --runs results/runs/peers
    python -m benchmarks.live figure results/reference/DATE-peers               # makes table.csv and the figure again

All three search the built-in space ``cnn`` within its limits on Fashion-MNIST's constant split, trials of at most 8
epochs, and train its networks by our own code (``training.py``). Ours is ``tuner search cnn --no-refit`` on two
workers, as it comes, the configurations that the space starts with included; the peers are as their documents write
them (``plain_optuna.py``, ``plain_keras_tuner.py``), in one process on TensorFlow's own two threads. Every process has
the allocator settings that our workers have. A configuration over the limits costs no system anything.

A run ends with the first epoch that ends after its CPU seconds, Python's start and imports included; that epoch does
not count. One that is killed is begun again from nothing by the same command; one that has ended is kept. Runs and
refits hold a lock: one at a time. Its answer is the best trial that was complete in time, in its system's own words:
by the last epoch's validation accuracy for ours and Optuna, by the best epoch's for KerasTuner. Each answer is trained
again by our refit, on all training images, for the same epochs, from two seeds, and scored once each.

The environment: requirements.lock and benchmarks/requirements.txt.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from pathlib import Path

from benchmarks.live.events import ABOUT, EVENTS, SPACE, SYSTEMS, Spent, Told, cpu_seconds, wall_seconds
from benchmarks.live.tables import TABLE, gather, read_kept, whole_runs, write_summary
from tuner.errors import TunerError
from tuner.runs import commit, machine, make_writable, only_one, versions, write_json
from tuner.search.executors.local import worker_environment
from tuner.search.request import read_checked

FIGURE = "anytime.png"


def run(asked: argparse.Namespace) -> None:
    """Make one run, from nothing."""
    folder: Path = asked.out / f"{asked.system}-{asked.seed}"
    if (folder / ABOUT).exists():
        print(f"{folder}: this run has ended already; remove the folder to make it again")
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    load = os.getloadavg()
    with Told(folder / EVENTS, 60 * asked.cpu_minutes) as told, contextlib.suppress(Spent):
        _search(asked, told, folder)
        raise RuntimeError(f"{asked.system} ended its search before its budget was spent")
    about = {
        "system": asked.system,
        "seed": asked.seed,
        "space": read_checked(SPACE).hash,
        "cpu_minutes": asked.cpu_minutes,
        "epochs": asked.epochs,
        "train_images": asked.train_images,
        "cpu_seconds": round(cpu_seconds(), 1),
        "wall_seconds": round(wall_seconds(), 1),
        "load_before": load,
        "versions": versions(),
        "commit": commit(),
        "machine": machine(),
    }
    write_json(folder / ABOUT, about)
    print(f"{folder}: {about['cpu_seconds']} CPU seconds, {about['wall_seconds']} s")


def _search(asked: argparse.Namespace, told: Told, folder: Path) -> None:
    """Search with the system that is asked for. Raises Spent."""
    if asked.system == "ours":
        from benchmarks.live.ours import search as ours

        ours(told, folder, seed=asked.seed, epochs=asked.epochs, train_images=asked.train_images)
    elif asked.system == "optuna":
        from benchmarks.live.plain_optuna import search as optuna

        optuna(told, seed=asked.seed, epochs=asked.epochs, train_images=asked.train_images)
    else:
        from benchmarks.live.plain_keras_tuner import search as keras_tuner

        keras_tuner(told, folder, seed=asked.seed, epochs=asked.epochs, train_images=asked.train_images)


def _take_environment() -> None:
    """Become a process with the environment of our workers, but for the number of threads: glibc reads it once."""
    wanted = {
        name: value
        for name, value in worker_environment().items()
        if name in os.environ or not name.endswith("_NUM_THREADS")
    }
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)  # noqa: S606  # ourselves


def finish(asked: argparse.Namespace) -> None:
    """Retrain and score the answers that are not scored yet."""
    from benchmarks.live.answers import finish as retrain
    from tuner.search.budget import RefitPlan

    runs = [folder for folder in whole_runs(asked.out) if asked.system in (None, folder.name.rpartition("-")[0])]
    retrain(runs, RefitPlan(asked.epochs, asked.seeds))


def table(asked: argparse.Namespace) -> None:
    """Write the table of what the runs show, after the tables that it is made from where runs are named."""
    if asked.runs:
        asked.to.mkdir(parents=True, exist_ok=True)
        gather(asked.runs, asked.to)
    write_summary(read_kept(asked.to), asked.to / TABLE)
    print((asked.to / TABLE).read_text("utf-8"), end="")


def figure(asked: argparse.Namespace) -> None:
    """Write the table and the figure."""
    from benchmarks.live.figure import anytime
    from tuner.reporting.figures.style import write_png

    table(asked)
    write_png(anytime(read_kept(asked.to)), asked.to / FIGURE)


def main() -> None:
    """Read the command and do it."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.live", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="make one run")
    one.add_argument("--system", choices=SYSTEMS, required=True)
    one.add_argument("--seed", type=int, required=True)
    one.add_argument("--cpu-minutes", type=float, default=20.0)
    one.add_argument("--epochs", type=int, default=8, help="of a full trial")
    one.add_argument("--train-images", type=int, help="a part of the training images, to try it out")
    ends = commands.add_parser("finish", help="retrain and score the answers")
    ends.add_argument("--system", choices=SYSTEMS, help="of this system only")
    ends.add_argument("--epochs", type=int, default=12)
    ends.add_argument("--seeds", type=int, default=2)
    for training in (one, ends):
        training.add_argument("--out", type=Path, default=Path("results/runs/peers"), help="where the runs are")
    for name in ("table", "figure"):
        shows = commands.add_parser(name, help=f"make the {name} from committed tables")
        shows.add_argument("to", type=Path, metavar="FOLDER", help="of the committed tables")
        shows.add_argument("--runs", type=Path, help="make those first, from the runs there")
    asked = parser.parse_args()
    if asked.command == "run" and asked.system != "ours":
        _take_environment()
    try:
        if asked.command in ("run", "finish"):
            make_writable(asked.out)
            with only_one(asked.out, None, "a run or a refit is being made there"):
                (run if asked.command == "run" else finish)(asked)
        else:
            (table if asked.command == "table" else figure)(asked)
    except TunerError as error:
        sys.exit("error: " + "\n  ".join(error.lines))
    except KeyboardInterrupt:
        sys.exit("Interrupted: the same command begins the run again, or goes on with the refit.")


if __name__ == "__main__":
    main()
