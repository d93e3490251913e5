"""What an uninterrupted search pays for being able to survive.

    python benchmarks/reliability.py [--pairs 4] [--images 10000] [--epochs 2]

Two measurements of a search over six configurations of the cnn family (137,000 parameters, AdamW) on two workers:

* within one run, where noise hits both sides alike: the share of the workers' training time that goes into checkpoints
  and into beats (``Checkpoints.save``, ``Worker._stopped``), and the coordinator's CPU seconds;
* in pairs, with and without checkpoints, in alternating order: the ratio of wall and of CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

FIXED = {"blocks": 3, "filters_1": 24, "filters_2": 48, "filters_3": 96, "dense_units": 96, "optimizer": "adamw"}
VARIED = '[parameters.label_smoothing]\ntype = "choice"\noptions = [0.0, 0.02, 0.04, 0.06, 0.08, 0.1]\n'
SPACE = 'model = "cnn"\n' + VARIED + "".join(
    f'[parameters.{name}]\ntype = "fixed"\nvalue = {json.dumps(value)}\n' for name, value in FIXED.items()
)  # fmt: skip

TIMED_WORKER = """
import atexit, json, time
from tuner.search import worker
from tuner.training import checkpoint, fit
seconds = {"save": 0.0, "beat": 0.0, "fit": 0.0}
def timed(owner, name, what):
    real = getattr(owner, name)
    def call(*args, **kwargs):
        start = time.perf_counter()
        try:
            return real(*args, **kwargs)
        finally:
            seconds[what] += time.perf_counter() - start
    setattr(owner, name, call)
timed(checkpoint.Checkpoints, "save", "save")
timed(worker.Worker, "_stopped", "beat")
timed(fit, "fit", "fit")
atexit.register(lambda: print("SECONDS " + json.dumps(seconds), flush=True))
worker.main()
"""
SEARCH = """
import resource, sys
from tuner.search.executors import local
from tuner.search.shelf import Shelf
local.COMMAND = {worker!r}
if not {checkpoints}:
    Shelf.place = lambda self, number: None
from tuner.cli import run
code = run(sys.argv[1:])
own = resource.getrusage(resource.RUSAGE_SELF)
print("COORDINATOR", own.ru_utime + own.ru_stime)
sys.exit(code)
"""


@dataclass(frozen=True)
class Cost:
    """Seconds of one search."""

    wall: float
    cpu: float
    coordinator_cpu: float
    fit: float
    save: float
    beat: float


def search(*, checkpoints: bool, images: int, epochs: int) -> Cost:
    """Run the search in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "six.toml").write_text(SPACE, "utf-8")
        code = SEARCH.format(worker=TIMED_WORKER, checkpoints=checkpoints)
        command = [sys.executable, "-c", code, "search", "six.toml", "--sampler", "grid", "--epochs", str(epochs),
                   "--set", f"search.train_images={images}", "--workers", "2", "--no-refit", "--pruner", "none", "-q",
                   "--out", "out"]  # fmt: skip
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        wall = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        parts = [
            json.loads(line.removeprefix("SECONDS "))
            for log in folder.rglob("worker-*.log")
            for line in log.read_text("utf-8").splitlines()
            if line.startswith("SECONDS ")
        ]
    total = {key: sum(part[key] for part in parts) for key in ("fit", "save", "beat")}
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, cpu, float(done.stdout.split("COORDINATOR")[1]), **total)


def main() -> None:
    """Run the pairs and print what they show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=2)
    asked = parser.parse_args()
    walls, cpus, shares = [], [], []
    for pair in range(asked.pairs):
        order = (True, False) if pair % 2 else (False, True)
        seen = {on: search(checkpoints=on, images=asked.images, epochs=asked.epochs) for on in order}
        on, off = seen[True], seen[False]
        walls.append(on.wall / off.wall)
        cpus.append(on.cpu / off.cpu)
        shares.append((on.save + on.beat) / on.fit)
        print(
            f"pair {pair}: with {on.wall:.1f} s wall, {on.cpu:.1f} s CPU; without {off.wall:.1f} s, {off.cpu:.1f} s; "
            f"of {on.fit:.1f} s training {on.save:.3f} s checkpoints and {on.beat:.3f} s beats "
            f"({100 * shares[-1]:.2f} %); coordinator {on.coordinator_cpu:.2f} and {off.coordinator_cpu:.2f} s CPU",
            flush=True,
        )
    print(
        f"median: {100 * statistics.median(shares):.2f} % of the training time; with to without "
        f"{statistics.median(walls):.3f} wall, {statistics.median(cpus):.3f} CPU"
    )


if __name__ == "__main__":
    main()
