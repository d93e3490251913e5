"""Trials an hour on one fixed list of configurations: ours beside plain Optuna, KerasTuner and Ray Tune.

    python benchmarks/throughput.py [--images 10000] [--epochs 3] [--rounds 1] [--systems ours-2 optuna] [--json FILE]

Every system trains the same 24 configurations of ``systems.py`` on the same images, in a process and a folder of its
own, the systems in turn, each second round backwards. Ours is ``tuner search`` on one and on two workers as a user
gets it, checkpoints and study included; the others are written as their own documents write it, with ``model.fit`` and
TensorFlow's own threads. Nothing is pruned. Trials an hour are those of the whole command, Python's start and imports
included; "from then on" leaves out what came before the first trial's training.

What differs besides the systems: ours drops the incomplete last batch of an epoch (16 of 10,000 images), validates in
batches of 500 where ``fit`` takes the training's batch size, and scales its uint8 pixels within the network, where the
others get float32 arrays that were scaled once. The others build our order of layers, pool before norm, which spares
them work; Optuna keeps its study in memory and, unlike its example, does not evaluate a second time after ``fit``.

CPU seconds are those of the command and the children that it waited for; Ray's processes are not among them. "Machine"
is what all processes of this machine used meanwhile: with other work beside, it shows by how much the figures are off.

The environment: requirements.lock and benchmarks/requirements.txt. A system that is not installed is left out.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import re
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from systems import CLASSES, CONFIGURATIONS, INPUT_SHAPE, space_toml

from tuner.data.sources import find
from tuner.training.configuration import read_configuration

OURS = {"ours-2": 2, "ours-1": 1}
OTHERS = {"optuna": "optuna_integration", "keras-tuner": "keras_tuner", "ray": "ray"}
SYSTEMS = (*OURS, *OTHERS)
VERSIONS = ("tuner", "tensorflow", "keras", "optuna", "optuna-integration", "keras-tuner", "ray")
QUIET = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "PYTHONUNBUFFERED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
FIRST_EPOCH = re.compile(r"trial \d+ epoch 1: .* ([\d.]+) s$")


@dataclass(frozen=True)
class Run:
    """One system's command, from its start to its end."""

    system: str
    wall: float
    cpu: float | None
    machine_cpu: float
    before_training: float
    """Seconds until the first trial's training began."""
    val_accuracy: dict[int, float]
    """By configuration, after its last epoch."""

    @property
    def trials_an_hour(self) -> float:
        """Of the whole command."""
        return 3600 * len(self.val_accuracy) / self.wall

    @property
    def trials_an_hour_training(self) -> float:
        """From the first training on."""
        return 3600 * len(self.val_accuracy) / (self.wall - self.before_training)


def run(system: str, asked: argparse.Namespace) -> Run:
    """Run one system in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told = folder / "told.jsonl"
        if system in OURS:
            (folder / "list.toml").write_text(space_toml(CONFIGURATIONS[: asked.configurations]), "utf-8")
            options = (
                f"search list.toml --trials {asked.configurations} --epochs {asked.epochs} --workers {OURS[system]} "
                f"--set search.train_images={asked.images} --pruner none --no-refit --out out"
            )
            command = [sys.executable, "-m", "tuner", *options.split()]
        else:
            script = Path(__file__).with_name(f"systems_{system.replace('-', '_')}.py")
            options = f"--images {asked.images} --epochs {asked.epochs} --configurations {asked.configurations}"
            command = [sys.executable, str(script), *options.split(), "--told", str(told)]
        used, machine, start = children_cpu(), machine_cpu(), time.time()
        began = []
        lines = []
        # Whatever they write lands in the folder; the token is what Ray would otherwise keep in the home directory.
        environment = {
            **os.environ,
            **QUIET,
            "TMPDIR": name,
            "RAY_TMPDIR": name,
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout or ():
                lines.append(line)
                if system in OURS and (found := FIRST_EPOCH.search(line)):
                    began.append(time.time() - float(found[1]))
        wall = time.time() - start
        used, machine = children_cpu() - used, machine_cpu() - machine
        if process.returncode:
            raise SystemExit(f"{system}: exit {process.returncode}\n{''.join(lines[-20:])}")
        if system in OURS:
            accuracies = read_trials(next(folder.glob("out/runs/*/trials.csv")), asked)
        else:
            facts = [json.loads(line) for line in told.read_text("utf-8").splitlines()]
            began = [fact["at"] for fact in facts if "val_accuracy" not in fact]
            accuracies = {fact["configuration"]: fact["val_accuracy"] for fact in facts if "val_accuracy" in fact}
    if len(began) != asked.configurations or sorted(accuracies) != list(range(asked.configurations)):
        raise SystemExit(f"{system}: {len(began)} trainings began, these ended: {sorted(accuracies)}")
    return Run(system, wall, None if system == "ray" else used, machine, min(began) - start, accuracies)


def read_trials(table: Path, asked: argparse.Namespace) -> dict[int, float]:
    """Return our accuracies; every trial must be the configuration of its number, trained to its end."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        values = CONFIGURATIONS[number]
        cost = read_configuration(values).plan(INPUT_SHAPE, CLASSES).cost
        expected = {**values, "state": "complete", "epochs_trained": asked.epochs, "parameters": cost.parameters}
        if any(row[name] != str(value) for name, value in expected.items()):
            raise SystemExit(f"trial {number} is {row}, not {expected}")
    return {number: float(row["val_accuracy"]) for number, row in enumerate(rows)}


def children_cpu() -> float:
    """Return the CPU seconds of this process's children so far, as far as they were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def machine_cpu() -> float:
    """Return the CPU seconds of all processes since the machine started."""
    ticks = [int(word) for word in Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:8]]
    idle, waiting = ticks[3:5]
    return (sum(ticks) - idle - waiting) / os.sysconf("SC_CLK_TCK")


def installed(systems: Sequence[str]) -> list[str]:
    """Return those of ``systems`` that can be run here, and say which cannot."""
    found = [system for system in systems if system in OURS or importlib.util.find_spec(OTHERS[system])]
    for system in systems:
        if system not in found:
            say(f"{system}: left out, {OTHERS[system]} is not installed (benchmarks/requirements.txt)")
    return found


def versions() -> dict[str, str]:
    """Return the versions of what is compared."""
    found = {"python": platform.python_version()}
    for package in VERSIONS:
        if importlib.util.find_spec(package.replace("-", "_")):
            found[package] = importlib.metadata.version(package)
    return found


def summary(runs: Sequence[Run]) -> dict[str, dict[str, float | None]]:
    """Return the medians of every system."""
    by_system: dict[str, list[Run]] = {}
    for one in runs:
        by_system.setdefault(one.system, []).append(one)
    return {
        system: {
            "wall_seconds": statistics.median(one.wall for one in own),
            "cpu_seconds": None if own[0].cpu is None else statistics.median(one.cpu or 0.0 for one in own),
            "machine_cpu_seconds": statistics.median(one.machine_cpu for one in own),
            "seconds_before_training": statistics.median(one.before_training for one in own),
            "trials_an_hour": statistics.median(one.trials_an_hour for one in own),
            "trials_an_hour_training": statistics.median(one.trials_an_hour_training for one in own),
            "val_accuracy_mean": statistics.mean(value for one in own for value in one.val_accuracy.values()),
        }
        for system, own in by_system.items()
    }


def ratios(runs: Sequence[Run]) -> dict[str, list[float]]:
    """Return our trials an hour over another system's, one number a round."""
    rates: dict[str, list[float]] = {}
    for one in runs:
        rates.setdefault(one.system, []).append(one.trials_an_hour)
    pairs = [*itertools.product(OURS, OTHERS), ("ours-2", "ours-1")]
    return {
        f"{mine} / {other}": [a / b for a, b in zip(rates[mine], rates[other], strict=False)]
        for mine, other in pairs
        if mine in rates and other in rates
    }


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


def show(runs: Sequence[Run]) -> None:
    """Print the medians and the ratios."""
    say("\nsystem        wall s  CPU s  machine  trials/h  before training s  trials/h from then on  validation")
    for system, row in summary(runs).items():
        cpu = "–" if row["cpu_seconds"] is None else f"{row['cpu_seconds']:.1f}"
        say(
            f"{system:<12} {row['wall_seconds']:>7.1f} {cpu:>6} {row['machine_cpu_seconds']:>8.1f} "
            f"{row['trials_an_hour']:>9.0f} {row['seconds_before_training']:>18.1f} "
            f"{row['trials_an_hour_training']:>22.0f} {100 * (row['val_accuracy_mean'] or 0):>9.2f} %"
        )
    say("\ntrials an hour, ours over theirs: median (lowest to highest) of the rounds")
    for name, found in ratios(runs).items():
        say(f"{name:<22} {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})")


def main() -> None:
    """Run the rounds and print what they show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--configurations", type=int, default=len(CONFIGURATIONS), help="the first N of the list")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    asked.configurations = min(asked.configurations, len(CONFIGURATIONS))
    os.environ["TUNER_DATA"] = str(find(None, say).folder)
    systems = installed(asked.systems)
    load = os.getloadavg()
    say(f"{asked.configurations} configurations, {asked.images} images, {asked.epochs} epochs; load {load[0]:.2f}")
    runs: list[Run] = []
    for number in range(asked.rounds):
        for system in reversed(systems) if number % 2 else systems:
            runs.append(run(system, asked))
            say(f"round {number}, {system}: {runs[-1].wall:.1f} s, {runs[-1].trials_an_hour:.0f} trials an hour")
            if asked.json:  # after each run: a system that fails later takes nothing with it
                document = {
                    "images": asked.images,
                    "epochs": asked.epochs,
                    "machine": {"cores": os.cpu_count(), "processor": platform.processor(), "load_before": load},
                    "versions": versions(),
                    "configurations": CONFIGURATIONS[: asked.configurations],
                    "systems": summary(runs),
                    "ratios": ratios(runs),
                    "runs": [asdict(one) for one in runs],
                }
                asked.json.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    show(runs)


if __name__ == "__main__":
    main()
