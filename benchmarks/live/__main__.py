"""Ours beside plain Optuna and KerasTuner's Hyperband, live: the same space, images, networks, cores and CPU minutes.

    python -m benchmarks.live run [--systems ours optuna] [--seeds 0 1 2]       # all systems and three seeds by default
    python -m benchmarks.live finish [--refit-epochs 12] [--refit-seeds 2]      # retrain and score every answer
    python -m benchmarks.live table results/reference/DATE-peers --runs results/runs/peers
    python -m benchmarks.live figure results/reference/DATE-peers               # makes table.csv and the figure again

All search the built-in space ``cnn`` within its limits on Fashion-MNIST's constant split, trials of at most 9 epochs
(whole rungs of a third), and train its networks by our own code (``training.py``). Ours is ``tuner search cnn
--no-refit`` on two workers, as it comes, the configurations that the space starts with included; the peers are as their
documents write them (``plain_optuna.py``, ``plain_keras_tuner.py``), in one process on TensorFlow's own two threads.
``optuna-entries`` is a control: plain Optuna that starts with those configurations too. Every process has the allocator
settings that our workers have. A configuration over the limits costs no system anything.

A run ends with the first epoch that ends after its CPU seconds, Python's start and imports included; that epoch does
not count. One that is killed is begun again from nothing by the same command; one that has ended is kept. Each is a
process of its own, which refuses to begin on a machine that has other work, or beside runs of another protocol
(``--cpu-minutes``, ``--epochs``, ``--train-images``). Runs and refits hold a lock: one at a time. A run's answer is the
best trial that was complete in time, in its system's own words: by the last epoch's validation accuracy for ours and
Optuna, by the best epoch's for KerasTuner. Each answer is trained again by our refit, on all training images, for the
same epochs, from the same two seeds, and scored once each.

The environment: requirements.lock and benchmarks/requirements.txt.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.live.events import ABOUT, EVENTS, SPACE, SYSTEMS, Spent, Told, cpu_seconds, wall_seconds
from benchmarks.live.tables import TABLE, check_protocol, gather, read_kept, whole_runs, write_summary
from tuner.errors import EnvironmentProblem, SearchError, TunerError
from tuner.runs import commit, machine, make_writable, only_one, versions, write_json
from tuner.search.executors.local import worker_environment
from tuner.search.request import read_checked

FIGURE = "anytime.png"
QUIET = 0.7
"""Load above which no run begins: one process of somebody else's is 1."""
SETTLING_SECONDS = 300.0
"""In which the load of a run that has ended is to be gone, before the next one."""


def run(asked: argparse.Namespace) -> None:
    """Make every run that is asked for, each in a process of its own: its CPU seconds count from its start.

    Raises SearchError at the end when some have failed, EnvironmentProblem when the machine is not quiet.
    """
    failed = []
    wanted = [(system, seed) for seed, system in itertools.product(asked.seeds, asked.systems)]
    for number, (system, seed) in enumerate(wanted):
        if not asked.anyway:
            await_quiet(SETTLING_SECONDS if number else 0)
        # Its own start is load enough for it to refuse: it has been looked at here.
        command = [sys.executable, *sys.orig_argv[1:], "--systems", system, "--seeds", str(seed), "--anyway"]
        if subprocess.run(command, check=False).returncode:
            failed.append(f"{system}-{seed}")
    if failed:
        raise SearchError(f"{len(failed)} of {len(wanted)} runs have failed: {', '.join(failed)}")


def await_quiet(seconds: float = 0.0) -> None:
    """Wait until the machine has no other work. Raises EnvironmentProblem when it still has some after ``seconds``."""
    until = time.monotonic() + seconds
    while (load := os.getloadavg()[0]) > QUIET:
        if time.monotonic() >= until:
            raise EnvironmentProblem(f"the load is {load:.2f}, above {QUIET}: --anyway measures all the same")
        time.sleep(5)


def run_one(asked: argparse.Namespace) -> None:
    """Make one run, from nothing. Raises UsageError beside runs of another protocol, and EnvironmentProblem."""
    (system,), (seed,) = asked.systems, asked.seeds
    protocol = {
        "space": read_checked(SPACE).hash,
        "cpu_minutes": asked.cpu_minutes,
        "epochs": asked.epochs,
        "train_images": asked.train_images,
    }
    check_protocol(asked.out, protocol)
    folder: Path = asked.out / f"{system}-{seed}"
    if (folder / ABOUT).exists():
        print(f"{folder}: this run has ended already; remove the folder to make it again")
        return
    if not asked.anyway:
        await_quiet()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    load = os.getloadavg()
    with Told(folder / EVENTS, 60 * asked.cpu_minutes) as told, contextlib.suppress(Spent):
        _search(asked, told, folder)
        raise RuntimeError(f"{system} ended its search before its budget was spent")
    about = {
        "system": system,
        "seed": seed,
        **protocol,
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
    (system,), (seed,), epochs, train_images = asked.systems, asked.seeds, asked.epochs, asked.train_images
    match system:
        case "ours":
            from benchmarks.live.ours import search as ours

            ours(told, folder, seed=seed, epochs=epochs, train_images=train_images)
        case "optuna" | "optuna-entries":
            from benchmarks.live.plain_optuna import search as optuna

            optuna(told, seed=seed, epochs=epochs, train_images=train_images, entries=system == "optuna-entries")
        case _:
            from benchmarks.live.plain_keras_tuner import search as keras_tuner

            keras_tuner(told, folder, seed=seed, epochs=epochs, train_images=train_images)


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

    runs = [folder for folder in whole_runs(asked.out) if folder.name.rpartition("-")[0] in asked.systems]
    retrain(runs, RefitPlan(asked.refit_epochs, asked.refit_seeds))


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
    runs = commands.add_parser("run", help="make runs")
    runs.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    runs.add_argument("--cpu-minutes", type=float, default=20.0)
    runs.add_argument("--epochs", type=int, default=9, help="of a full trial")
    runs.add_argument("--train-images", type=int, help="a part of the training images, to try it out")
    runs.add_argument("--anyway", action="store_true", help="beside whatever else the machine does")
    ends = commands.add_parser("finish", help="retrain and score the answers")
    ends.add_argument("--refit-epochs", type=int, default=12)
    ends.add_argument("--refit-seeds", type=int, default=2)
    for training in (runs, ends):
        training.add_argument("--systems", choices=SYSTEMS, nargs="+", default=list(SYSTEMS))
        training.add_argument("--out", type=Path, default=Path("results/runs/peers"), help="where the runs are")
    for name in ("table", "figure"):
        shows = commands.add_parser(name, help=f"make the {name} from committed tables")
        shows.add_argument("to", type=Path, metavar="FOLDER", help="of the committed tables")
        shows.add_argument("--runs", type=Path, help="make those first, from the runs there")
    asked = parser.parse_args()
    several = asked.command == "run" and len(asked.systems) * len(asked.seeds) > 1
    if asked.command == "run" and not several and asked.systems != ["ours"]:
        _take_environment()
    try:
        if several:
            run(asked)
        elif asked.command in ("run", "finish"):
            make_writable(asked.out)
            with only_one(asked.out, None, "a run or a refit is being made there"):
                (run_one if asked.command == "run" else finish)(asked)
        else:
            (table if asked.command == "table" else figure)(asked)
    except TunerError as error:
        sys.exit("error: " + "\n  ".join(error.lines))
    except KeyboardInterrupt:
        sys.exit("Interrupted: the same command begins the run again, or goes on with the refit.")


if __name__ == "__main__":
    main()
