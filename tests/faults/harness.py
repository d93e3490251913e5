"""Start a search under faults, resume it, and compare its end with that of a search to which nothing happened."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tuner.runs import Outputs
from tuner.search.storage import open_storage
from tuner.search.study import end_of, load_study
from tuner.training.checkpoint import read_checkpoint

HERE = Path(__file__).parent
STUDY = "s"
PATIENCE_SECONDS = 240.0
Fault = dict[str, Any]
Outcome = dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """A search command that has ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Running:
    """A search command that runs."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def wait_for(self, text: str, seconds: float = 60.0) -> None:
        """Return when the search has said ``text``."""
        deadline = time.monotonic() + seconds
        while text not in self.out.read_text("utf-8"):
            assert self.process.poll() is None, f"ended without saying {text!r}: {self.said}"
            assert time.monotonic() < deadline, f"has not said {text!r}: {self.said}"
            time.sleep(0.02)

    @property
    def said(self) -> str:
        return self.out.read_text("utf-8") + self.err.read_text("utf-8")

    def ended(self, seconds: float = PATIENCE_SECONDS) -> Ended:
        """Return how it ended; one that does not is ended."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"did not end within {seconds} s: {self.said}") from None
        return Ended(self.process.returncode, self.out.read_text("utf-8"), self.err.read_text("utf-8"))


@dataclass(frozen=True)
class Search:
    """One search command in a folder of its own, which can be typed again with --resume."""

    folder: Path
    arguments: tuple[str, ...]

    @property
    def run_folder(self) -> Path:
        return self.folder / "results" / "runs" / STUDY

    @property
    def faults(self) -> Path:
        return self.folder / "faults"

    @property
    def exists(self) -> bool:
        """Whether there is a study to resume."""
        return (self.folder / "results" / "studies.db").exists()

    def start(
        self, *faults: Fault, resume: bool = False, more: Sequence[str] = (), before: str | None = None
    ) -> Running:
        """Start the command; ``before`` is shell to run first in the same process, as ``ulimit``."""
        self.faults.mkdir(parents=True, exist_ok=True)
        (self.faults / "list.json").write_text(json.dumps(faults), "utf-8")
        command = [sys.executable, "-m", "tuner", "search", *self.arguments, "--study", STUDY, *more]
        command += ["--resume"] * resume
        if before:
            command = ["bash", "-c", f'{before}; exec "$@"', "bash", *command]
        count = len(list(self.folder.glob("said-*.out")))
        out, err = (self.folder / f"said-{count}.{kind}" for kind in ("out", "err"))
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **self.environment, "COLUMNS": "200"},
                stdin=subprocess.DEVNULL,
                stdout=to_out,
                stderr=to_err,
                # A shell starts background jobs with these ignored; this one is to be in the foreground.
                preexec_fn=_hear_signals,  # noqa: PLW1509  # no threads here
            )
        return Running(process, out, err)

    def run(self, *faults: Fault, resume: bool = False, more: Sequence[str] = (), before: str | None = None) -> Ended:
        """Run the command to its end."""
        return self.start(*faults, resume=resume, more=more, before=before).ended()

    @property
    def environment(self) -> dict[str, str]:
        """Return what puts the faults into a process; it also marks the processes of this search."""
        path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        return {"PYTHONPATH": path, "TUNER_FAULTS": str(self.faults / "list.json")}

    def fired(self) -> set[str]:
        """Return the names of the faults that have happened."""
        return {path.stem for path in self.faults.glob("*.fired")}

    def processes(self) -> list[int]:
        """Return the processes that this search has started and that still are."""
        mark = f"TUNER_FAULTS={self.faults / 'list.json'}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # somebody else's, or gone
                if mark in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def leftovers(self) -> list[str]:
        """Return what should not be there after the end: processes (within 10 s), drafts, checkpoints of no use."""
        deadline = time.monotonic() + 10
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        left = [f"process {pid}" for pid in self.processes()]
        left += [str(path) for path in (self.folder / "results").rglob("*.draft*")]
        complete = {f"trial-{number:05d}" for number, trial in self.trials().items() if trial["state"] == "COMPLETE"}
        kept = self.run_folder / "checkpoints"
        return left + [str(path) for path in kept.glob("*") if path.name not in complete]

    def trials(self) -> dict[int, dict[str, Any]]:
        """Return what the study holds of each trial, without times and attempts."""
        storage = open_storage(Outputs.of(str(self.folder / "results"), None), create=False)
        study, _ = load_study(storage, STUDY)
        found = {}
        for trial in study.get_trials(deepcopy=False):
            attrs = dict(trial.user_attrs)
            for timing in ("attempts", "lost"):
                attrs.pop(timing, None)
            end = end_of(trial)
            if end:
                outcome = {key: value for key, value in attrs[end].items() if key not in ("seconds", "peak_memory")}
                rows = outcome.get("curve", [])
                attrs[end] = {**outcome, "curve": [{k: v for k, v in row.items() if k != "seconds"} for row in rows]}
            found[trial.number] = {
                "state": trial.state.name,
                "values": trial.values,
                "params": trial.params,
                "intermediate_values": trial.intermediate_values,
                "attributes": attrs,
            }
        storage.engine.dispose()
        return found

    def outcome(self) -> Outcome:
        """Return everything that is to be the same whatever happened on the way."""
        checkpoints = {
            f"{path.parent.name}/{path.name}": _checkpoint(path)
            for path in sorted((self.run_folder / "checkpoints").glob("trial-*/*"))
        }
        return {"trials": self.trials(), "checkpoints": checkpoints, "refit": self._refit()}

    def report(self) -> Any:
        """Return report.json."""
        return json.loads((self.run_folder / "report.json").read_text("utf-8"))

    def _refit(self) -> dict[str, Any]:
        if not (self.run_folder / "report.json").exists():
            return {}
        report = self.report()
        same = {key: report[key] for key in ("n_trials", "n_complete", "n_pruned", "n_failed", "best_trial")}
        if report["refit"]:
            with np.load(self.run_folder / "predictions.npz") as saved:
                same["predictions"] = {name: _digest([saved[name]]) for name in saved.files}
            same["model"] = _model(self.run_folder / "model.keras")
            same["scores"] = {key: value for key, value in report["refit"].items() if key != "seconds"}
        return same


def differences(whole: Any, found: Any, where: str = "") -> list[str]:
    """Return where two outcomes differ, one line a place."""
    if isinstance(whole, dict) and isinstance(found, dict):
        lines = [f"{where}/{key}: only in the uninterrupted run" for key in whole.keys() - found.keys()]
        lines += [f"{where}/{key}: not in the uninterrupted run" for key in found.keys() - whole.keys()]
        for key in whole.keys() & found.keys():
            lines += differences(whole[key], found[key], f"{where}/{key}")
        return sorted(lines)
    return [] if repr(whole) == repr(found) else [f"{where}: {whole!r} became {found!r}"]


def start_anew(folder: Path, space: str, *arguments: object) -> Search:
    """Return a search of ``space`` in an empty folder."""
    folder.mkdir(parents=True)
    (folder / "small.toml").write_text(space, "utf-8")
    return Search(folder, ("small.toml", *map(str, arguments)))


def _hear_signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _checkpoint(path: Path) -> dict[str, Any]:
    curve, weights, slots = read_checkpoint(path)
    rows = [{k: v for k, v in dataclasses.asdict(row).items() if k != "seconds"} for row in curve]
    return {"curve": rows, "weights": _digest(weights), "slots": _digest(slots)}


def _model(path: Path) -> dict[str, str]:
    found = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = _digest([item[()]])

    with zipfile.ZipFile(path) as parts, parts.open("model.weights.h5") as file, h5py.File(file) as weights:
        weights.visititems(note)
    return found


def _digest(arrays: Sequence[Any]) -> str:
    """Return a digest of the bits, shapes and types of arrays."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
