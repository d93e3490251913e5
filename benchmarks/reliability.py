"""What an uninterrupted search pays for being able to survive: the same search with and without checkpoints, in pairs.

    python benchmarks/reliability.py --pairs 4 [--images 10000] [--epochs 2]

Both halves of a pair train the same six configurations on Fashion-MNIST with two workers; the order alternates, because
machines drift. "Without" leaves out the checkpoints, by far the largest part; what remains in both (a beat a second, a
look at each worker's memory twice a second, one commit a rung) is not told apart here.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPACE = """
model = "cnn"

[parameters.filters_1]
type = "fixed"
value = 24
[parameters.filters_2]
type = "fixed"
value = 48
[parameters.filters_3]
type = "fixed"
value = 96
[parameters.blocks]
type = "fixed"
value = 3
[parameters.dense_units]
type = "fixed"
value = 96
[parameters.optimizer]
type = "fixed"
value = "adamw"
[parameters.label_smoothing]
type = "choice"
options = [0.0, 0.02, 0.04, 0.06, 0.08, 0.1]
"""
WITHOUT = "from tuner.search.shelf import Shelf; Shelf.place = lambda self, number: None; "
RUN = "import sys; from tuner.cli import main; main()"


def search(folder: Path, *, checkpoints: bool, images: int, epochs: int) -> tuple[float, float, float]:
    """Return the wall seconds, the CPU seconds of all processes, and the MB of checkpoints left, of one search."""
    (folder / "six.toml").write_text(SPACE, "utf-8")
    command = [sys.executable, "-c", ("" if checkpoints else WITHOUT) + RUN, "search", "six.toml", "--sampler", "grid",
               "--epochs", str(epochs), "--set", f"search.train_images={images}", "--workers", "2", "--no-refit", "-q",
               "--out", "out"]  # fmt: skip
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # ourselves
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    written = sum(path.stat().st_size for path in folder.rglob("*.ckpt"))
    return wall, cpu, written / 1e6


def main() -> None:
    """Run the pairs and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    walls, cpus = [], []
    for pair in range(arguments.pairs):
        seen = {}
        for checkpoints in (True, False) if pair % 2 else (False, True):
            with tempfile.TemporaryDirectory() as folder:
                seen[checkpoints] = search(
                    Path(folder), checkpoints=checkpoints, images=arguments.images, epochs=arguments.epochs
                )
        (wall, cpu, kept), (wall_off, cpu_off, _) = seen[True], seen[False]
        walls.append(wall / wall_off)
        cpus.append(cpu / cpu_off)
        print(  # noqa: T201
            f"pair {pair}: with {wall:.1f} s wall, {cpu:.1f} s CPU ({kept:.1f} MB kept); without {wall_off:.1f} s, "
            f"{cpu_off:.1f} s; ratio {walls[-1]:.3f} wall, {cpus[-1]:.3f} CPU",
            flush=True,
        )
    print(f"median ratio: {statistics.median(walls):.3f} wall, {statistics.median(cpus):.3f} CPU")  # noqa: T201


if __name__ == "__main__":
    main()
