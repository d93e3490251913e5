"""What goes between the coordinator and a worker on another machine: messages, and the files that belong to them.

A worker writes its checkpoints and its model where it is. They come back with the message that speaks of them, and are
in the coordinator's folder before anybody acts on it; they go out again with the job that goes on with them.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.data.idx import TRAINING, read_bytes
from tuner.data.sources import Source
from tuner.data.store import cache_folder
from tuner.errors import DataError
from tuner.runs import draft_of
from tuner.search.messages import FromJob, Ready, ToWorker

Files = Mapping[str, bytes]
"""By their path in the folder that they are of."""


@dataclass(frozen=True)
class Outgoing:
    """A message to a worker; None ends its process at once."""

    message: ToWorker | None
    checkpoints: Files = field(default_factory=dict)
    """Of a job's training, as far as it is."""
    images: Any = None
    """What the executor on the node fetches a job's images with, when no worker there has them yet."""


@dataclass(frozen=True)
class Incoming:
    """A message of a worker, or a sign of its life (None)."""

    message: Ready | FromJob | None
    memory: int
    """Bytes that it holds."""
    process: int
    """Its number on its node."""
    printed: bytes = b""
    """What it has printed since the parcel before."""
    checkpoints: Files = field(default_factory=dict)
    """Those that are new."""
    kept: frozenset[str] | None = None
    """The names of all checkpoints that there are; None where nothing was written."""
    model: bytes | None = None
    """The whole model, when the training has ended."""


@dataclass(frozen=True)
class Ended:
    """How a worker's process ended, and its last words."""

    code: int
    trouble: str
    """What happened beside it; empty when nothing did."""
    printed: bytes


def names_in(folder: Path) -> frozenset[str]:
    """Return the paths of the checkpoints below ``folder``, which need not be there."""
    return frozenset(str(path.relative_to(folder)) for path in folder.rglob("epoch-*.ckpt"))


def files_of(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Return what is in files of ``folder``."""
    return {name: (folder / name).read_bytes() for name in sorted(names)}


def put_files(folder: Path, files: Files, kept: frozenset[str] | None = None) -> None:
    """Write ``files`` below ``folder``, each all or nothing; of those that lie there, ``kept`` stay. Raises OSError."""
    for name, content in files.items():
        put_file(folder / name, content)
    if kept is not None and folder.exists():
        for name in names_in(folder) - kept:
            (folder / name).unlink(missing_ok=True)


def put_file(path: Path, content: bytes) -> None:
    """Write a file, all or nothing. Raises OSError."""
    with draft_of(path) as draft:
        draft.write_bytes(content)


def training_files(source: Source) -> dict[str, bytes]:
    """Return what trainings read of the images: no test pixel leaves the coordinator. Raises DataError."""
    return {part: read_bytes(source.folder, part, source.blob(part)) for part in TRAINING}


def images_here(source: Source, fetch: Callable[[], Files]) -> Path:
    """Return this node's folder with the images of ``source``; ``fetch`` brings them when they are not there yet.

    Of several workers that want them at a time, one fetches. The folder can be deleted at any time.
    """
    folder = cache_folder() / "nodes" / source.digest
    if _whole(folder, source):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _whole(folder, source):
            draft = folder.with_name(f"{folder.name}.draft")
            for old in (draft, folder):  # of a worker that was killed; damaged
                shutil.rmtree(old, ignore_errors=True)
            draft.mkdir()
            for part, content in fetch().items():
                (draft / part).write_bytes(content)
            draft.rename(folder)
    return folder


def _whole(folder: Path, source: Source) -> bool:
    try:
        for part in TRAINING:
            read_bytes(folder, part, source.blob(part))
    except DataError:
        return False
    return True
