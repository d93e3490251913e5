"""How long a warm worker takes from being handed a trial to its first finished step.

    python benchmarks/warm.py [--runs 8] [--json FILE]

In a worker's environment, after one training that is not counted: trials of a shape that is new to the worker (built,
traced, compiled), then trials of a shape that it has kept, with other rates and strengths.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tuner.search.executors.local import worker_environment


def measure(runs: int) -> dict[str, list[tuple[float, float]]]:
    """Return wall and CPU seconds of every trial's start."""
    from tuner.search.worker import prepare_backend

    prepare_backend()
    from tuner.data.sources import find
    from tuner.data.splits import Cut, read_images
    from tuner.training.configuration import read_configuration
    from tuner.training.pipeline import plan_epoch
    from tuner.training.schedule import learning_rates
    from tuner.training.stock import Stock

    images = read_images(find(None, print), Cut(10_000))
    stock = Stock()
    gc.freeze()  # as a worker does

    def start(values: dict[str, Any], seed: int) -> tuple[float, float]:
        wall, cpu = time.monotonic(), time.process_time()
        configuration = read_configuration({"blocks": 3, "flip": True, "optimizer": "adamw", **values})
        recipe = configuration.recipe
        road = stock.take(configuration.plan((28, 28, 1), images.classes), images, recipe, seed)
        plan = plan_epoch(seed, 1, len(images.train), 64)
        road.epoch(plan.order[:1], plan.draws[:1], learning_rates(recipe, 1), lambda: False)
        return time.monotonic() - wall, time.process_time() - cpu

    start({"filters_1": 8}, 0)
    new, kept = [], []
    for seed in range(1, runs + 1):
        values = {"filters_1": 16 + 2 * seed, "dropout_dense": 0.1, "shift": 1, "weight_decay": 1e-3}
        new.append(start(values, seed))
        kept.append(
            start({**values, "dropout_dense": 0.4, "shift": 2, "weight_decay": 1e-2, "learning_rate": 0.01}, seed)
        )
    return {"a new shape": new, "a kept shape": kept}


def main() -> None:
    """Measure in a worker's environment and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.runs)))
        return
    command = [sys.executable, __file__, "--one", "--runs", str(asked.runs)]
    environment = {**os.environ, **worker_environment()}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found = json.loads(done.stdout.splitlines()[-1])
    for name, starts in found.items():
        walls, cpus = zip(*starts, strict=True)
        print(
            f"{name}: {statistics.median(walls):.2f} s ({min(walls):.2f} to {max(walls):.2f}), "
            f"CPU {statistics.median(cpus):.2f} s"
        )
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
