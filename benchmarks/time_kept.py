"""Whether ``--time`` is kept when refit epochs turn out slower than what was measured in the search.

    python benchmarks/time_kept.py [--time 90] [--factors 1.0 1.3 2.0]

Real searches on the first 1,200 images of Fashion-MNIST, whose refit is long (400 epochs, four seeds) and made slower
by sleeping after each refit epoch; prints the command's wall seconds beside the limit, and what was cut.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tuner.data.idx import PARTS, parse_idx, read_bytes
from tuner.data.sources import find

SLOW_WORKER = """
import time
from tuner.search import worker
from tuner.training import compiled
real = compiled.CompiledRoad.epoch
def epoch(self, *args):
    start = time.monotonic()
    try:
        return real(self, *args)
    finally:
        if not self.validates:
            time.sleep(({factor} - 1) * (time.monotonic() - start))
made = compiled.CompiledRoad.__init__
def init(self, network, images, recipe):
    made(self, network, images, recipe)
    self.validates = len(images.val) > 0
compiled.CompiledRoad.__init__ = init
compiled.CompiledRoad.epoch = epoch
worker.main()
"""
SEARCH = "from tuner.search.executors import local; local.COMMAND = {worker!r}; from tuner.cli import main; main()"


def write_idx(path: Path, source: Path, count: int) -> None:
    """Write the first ``count`` items of a part of Fashion-MNIST."""
    array = parse_idx(read_bytes(source, path.name), path)[:count]
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(head + array.tobytes())


def main() -> None:
    """Run one search a factor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=int, default=90)
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0, 1.3, 2.0])
    asked = parser.parse_args()
    source = find(None, print)
    for factor in asked.factors:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "data").mkdir()
            for part in PARTS:
                write_idx(folder / "data" / part, source.folder, 1200 if part.startswith("train") else 300)
            code = SEARCH.format(worker=SLOW_WORKER.format(factor=factor))
            start = time.monotonic()
            options = (
                f"--data data --json --time {asked.time}s --epochs 4 --refit-epochs 400 --refit-seeds 4 --workers 2"
            )
            command = [sys.executable, "-c", code, "search", "tiny", *options.split()]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            wall = time.monotonic() - start
        if done.returncode:
            print(f"refit {factor} times as slow: exit {done.returncode}: {done.stderr.strip()}")
            continue
        report = json.loads(done.stdout)
        refit, seconds = report["refit"], report["wall_seconds"]
        print(
            f"refit {factor} times as slow: {wall:.1f} s of {asked.time} s (search {seconds['search']:.1f}, "
            f"refit {seconds['refit']:.1f}), {refit['epochs']} epochs, {len(refit['seeds'])} seeds: "
            f"{refit['note'] or 'nothing cut'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
