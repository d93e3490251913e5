"""How long ``tuner`` takes to answer, and ``tuner search`` to report its first epoch.

    python benchmarks/startup.py [--runs 5] [--images 2000] [--json FILE]

Medians of runs, each a new process; the files that it reads are in the machine's page cache, a first run that is not
counted sees to that. CPU seconds are user and system time of the command.

* ``tuner --help`` and, on a folder that holds one study of two trials, ``tuner studies``;
* ``tuner search tiny --workers 2 --set search.train_images=2000``: seconds from the command until the line that says
  that the first trial starts (the study is open, a worker has imported TensorFlow and is ready) and until the first
  epoch's line (2,000 images trained, 10,000 validated) come out of the pipe. The search is killed then.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tuner.data.sources import find

TUNER = str(Path(sys.executable).with_name("tuner"))
STUDY = "search tiny --trials 2 --epochs 1 --no-refit --workers 1 --set search.train_images=500 --quiet --out out"
MARKS = {"first trial starts": re.compile(r"trial \d+ starts"), "first epoch": re.compile(r"trial \d+ epoch 1:")}


def command_cost(arguments: str, folder: Path) -> dict[str, float]:
    """Return the wall and CPU seconds of one command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([TUNER, *arguments.split()], cwd=folder, check=True, capture_output=True)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def search_marks(images: int, folder: Path) -> dict[str, float]:
    """Return the seconds from the command to each of ``MARKS``, and kill the search."""
    arguments = f"search tiny --workers 2 --set search.train_images={images} --out out"
    seen: dict[str, float] = {}
    start = time.monotonic()
    with subprocess.Popen(
        [TUNER, *arguments.split()],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},  # what TensorFlow leaves there when it is killed goes too
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            for name, mark in MARKS.items():
                if name not in seen and mark.search(line):
                    seen[name] = time.monotonic() - start
            if len(seen) == len(MARKS):
                break
        process.kill()  # its workers end with it
    if len(seen) < len(MARKS):
        raise SystemExit(f"the search ended before its first epoch, exit {process.returncode}")
    return seen


def medians(runs: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return median, lowest and highest of every number."""
    return {
        name: {"median": statistics.median(found), "lowest": min(found), "highest": max(found)}
        for name in runs[0]
        for found in ([one[name] for one in runs],)
    }


def main() -> None:
    """Run everything and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    os.environ["TUNER_DATA"] = str(find(None, print).folder)
    found = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        command_cost(STUDY, folder)
        for arguments in ("--help", "studies --out out"):
            found[f"tuner {arguments}"] = medians(
                [command_cost(arguments, folder) for _ in range(asked.runs + 1)][1:],
            )
    searches = []
    for _ in range(asked.runs):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            searches.append(search_marks(asked.images, Path(name)))
    found[f"tuner search tiny --workers 2 --set search.train_images={asked.images}"] = medians(searches)
    for command, numbers in found.items():
        told = "; ".join(
            f"{name} {one['median']:.2f} s ({one['lowest']:.2f} to {one['highest']:.2f})"
            for name, one in numbers.items()
        )
        print(f"{command}: {told}")
    if asked.json:
        asked.json.write_text(json.dumps({"runs": asked.runs, "commands": found}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
