"""How many processes of how many threads: epochs a minute on this machine, which is what ``--workers auto`` goes by.

    python benchmarks/workers.py [--rounds 3] [--images 6400] [--seconds 10] [--json FILE]

Each layout (processes x threads) trains three networks for a while, all processes at once, each in a worker's
environment; imports and the first epoch are left out. Layouts take turns within a round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tuner.runs import cores
from tuner.search.executors.local import worker_environment

NETWORKS: dict[str, dict[str, Any]] = {
    "1 M": {"blocks": 2, "filters_1": 8, "filters_2": 32, "dense_units": 32},
    "4 M": {"blocks": 3, "filters_1": 24, "filters_2": 48, "filters_3": 64, "dense_units": 64},
    "22 M": {"blocks": 3, "filters_1": 32, "filters_2": 64, "filters_3": 128, "convs_2": 2, "convs_3": 2},
}


def train(name: str, threads: int, images_wanted: int, seconds: float) -> None:
    """Train in this process and print the epochs a minute; training begins at a line on the standard input."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)

    from tuner.data.sources import find
    from tuner.data.splits import Cut, read_images
    from tuner.records import EpochResult
    from tuner.training.configuration import read_configuration
    from tuner.training.fit import fit
    from tuner.training.stock import Stock

    images = read_images(find(None, print), Cut(images_wanted))
    images = type(images)(images.train, images.train_labels, images.val[:500], images.val_labels[:500], images.classes,
                          images.scale)  # fmt: skip
    configuration = read_configuration({**NETWORKS[name], "batch_size": 64})
    road = Stock().take(configuration.plan((28, 28, 1), images.classes), images, configuration.recipe, 1)
    marks: list[float] = []

    def after_epoch(_: EpochResult) -> bool:
        if not marks:
            print("ready", flush=True)
            sys.stdin.readline()
        marks.append(time.monotonic())
        return marks[-1] - marks[0] < seconds

    fit(road, images, configuration.recipe, epochs=10_000, seed=1, after_epoch=after_epoch)
    print(60 * (len(marks) - 1) / (marks[-1] - marks[0]), flush=True)


def layout(name: str, processes: int, threads: int, asked: argparse.Namespace) -> float:
    """Return the epochs a minute of all processes together."""
    command = [sys.executable, __file__, "--one", name, str(threads), str(asked.images), str(asked.seconds)]
    environment = {**worker_environment(), "OMP_NUM_THREADS": str(threads)}
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                         env=environment)
        for _ in range(processes)
    ]  # fmt: skip
    for process in running:
        while process.stdout and process.stdout.readline().strip() != "ready":
            if process.poll() is not None:
                raise SystemExit(f"a process ended with {process.returncode}")
    for process in running:
        if process.stdin:
            process.stdin.write("go\n")
            process.stdin.flush()
    return sum(float(process.communicate()[0].split()[-1]) for process in running)


def main() -> None:
    """Run the rounds and print what they show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=6400)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        train(asked.one[0], int(asked.one[1]), int(asked.one[2]), float(asked.one[3]))
        return
    count = cores()
    layouts = sorted({(1, 1), (1, count), (count, 1), (max(1, count // 2), 2), (count, 2)})
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(asked.rounds):
        for name in asked.networks:
            for processes, threads in layouts if number % 2 == 0 else reversed(layouts):
                rates = found.setdefault(name, {}).setdefault(f"{processes}x{threads}", [])
                rates.append(layout(name, processes, threads, asked))
    print(f"{count} cores; epochs of {asked.images} images a minute, processes x threads")
    for name, rows in found.items():
        for key, rates in rows.items():
            low, high = min(rates), max(rates)
            print(f"  {name:>4} multiply-adds  {key}: {statistics.median(rates):6.1f} ({low:.1f}-{high:.1f})")
    if asked.json:
        asked.json.write_text(
            json.dumps({"cores": count, "images": asked.images, "rates": found}, indent=2) + "\n", "utf-8"
        )


if __name__ == "__main__":
    main()
