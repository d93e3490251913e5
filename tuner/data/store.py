"""The one form on disk: what came as tables, arrays or pictures is kept as four IDX files, made once for each content.

Workers and resumed searches read these files, so that they see the same bytes however the images are decoded later. A
copy's place is named by a digest of what it was made from; it can be deleted at any time, and is made anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tuner.data.checks import check_classes, check_fit, digests, remarks
from tuner.data.collected import Collected, Labelled, located
from tuner.data.folder import Known, Source, check_known, class_names_of, open_folder
from tuner.data.idx import PARTS, images_as_idx, labels_as_idx
from tuner.errors import DataError, EnvironmentProblem
from tuner.runs import AGAIN, DAMAGED, disk_trouble_in_one_line, write_json

FORMAT = 1
"""How images are made uint8, brought to a size and held out; another one makes other copies."""
ABOUT = "about.json"
TEST_SHARE = 1 / 6
"""Of each class, is held out where no test set came."""
HELD_OUT_SEED = 20241121
"""Of no study: the test set is a property of the images."""

Fingerprint = list[object]
"""What a copy is made from: kind, options, and each file's name and digest; JSON can hold it."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """Images that are not in the one form yet."""

    name: str
    kind: str
    where: str
    """What errors begin with."""
    fingerprint: Callable[[], Fingerprint]
    collect: Callable[[], Collected]


def store_folder() -> Path:
    """Return where the copies are."""
    return cache_folder() / "images"


def cache_folder() -> Path:
    """Return where tuner keeps what it downloaded or made of images."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tuner"


def in_one_form(origin: Origin, say: Callable[[str], None]) -> Source:
    """Return the images of ``origin`` as four IDX files, made now unless they are there. Raises DataError.

    ``say`` hears what takes time. Two that want the same copy make it once; one that is damaged is made anew.
    """
    facts = origin.fingerprint()
    key = hashlib.blake2b(json.dumps([FORMAT, origin.kind, *facts]).encode(), digest_size=12).hexdigest()
    folder = store_folder() / key
    source = _open(folder)
    if source is None:
        with disk_trouble_in_one_line(store_folder(), AGAIN), _alone(say):
            source = _open(folder)
            if source is None:
                say(f"Preparing the images of {origin.where} for training …")
                _make(folder, origin)
                if origin.fingerprint() != facts:
                    shutil.rmtree(folder)
                    raise DataError(f"{origin.where}: has changed while it was read", hint="try again when it stays")
                source = _open(folder)
    if source is None:
        raise DataError(f"{folder}: is damaged again at once", hint="is the disk all right?")
    return source if source.verified else dataclasses.replace(source, name=origin.name)


def _open(folder: Path) -> Source | None:
    """Return a copy; None where there is none, or none that is whole."""
    try:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        listed = {name: tuple(about[name]) for name in ("class_names", "notes", "warnings")}
        known = Known(**{**about, **listed})
        source = open_folder(folder, known)
    except (*DAMAGED, DataError):
        return None
    return source if source.digest == known.digest else None


@contextlib.contextmanager
def _alone(say: Callable[[str], None]) -> Iterator[None]:
    """Hold the store's lock, which the kernel takes back when the process dies."""
    with contextlib.ExitStack() as held:
        try:
            store_folder().mkdir(parents=True, exist_ok=True)
            lock = held.enter_context((store_folder() / ".lock").open("a+"))
        except OSError as error:
            raise EnvironmentProblem(
                f"{store_folder()}: cannot write there: {error.strerror}",
                hint="images are prepared for training there; XDG_CACHE_HOME names another place than ~/.cache",
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another tuner is preparing images: waiting for it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for draft in store_folder().glob("*.draft"):  # of a process that was killed: nobody else is here
            shutil.rmtree(draft, ignore_errors=True)
        yield


def _make(folder: Path, origin: Origin) -> None:
    """Write a copy, all or nothing."""
    found = origin.collect()
    with located(origin.where):
        train, test, known = _prepared(origin, found)
    draft = folder.with_name(f"{folder.name}.draft")
    draft.mkdir(parents=True)
    try:
        for part, arrays in zip((PARTS[:2], PARTS[2:]), (train, test), strict=True):
            with (draft / part[0]).open("wb") as file:
                header, body = images_as_idx(arrays.images)
                file.write(header)
                file.write(body.data)
                file.flush()
                os.fsync(file.fileno())
            (draft / part[1]).write_bytes(labels_as_idx(arrays.labels))
        digest = open_folder(draft, known).digest
        write_json(draft / ABOUT, dataclasses.asdict(dataclasses.replace(known, digest=digest)))
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _prepared(origin: Origin, found: Collected) -> tuple[Labelled, Labelled, Known]:
    """Return images that can be searched: checked, classes numbered from 0, a test set held out if none came."""
    check_fit(found.train, found.test)
    notes = list(found.notes)
    present = np.unique(found.train.labels)
    if found.test is not None:
        check_known(found.test, present)
    names = class_names_of(present, found.class_names)
    if int(present[-1]) != len(present) - 1:
        notes.append(f"the labels {present[0]} to {present[-1]} are numbered 0 to {len(present) - 1} in their order")

    def numbered(part: Labelled) -> Labelled:
        return dataclasses.replace(part, labels=np.searchsorted(present, part.labels).astype(np.int64))

    train = numbered(found.train)
    test = None if found.test is None else numbered(found.test)
    check_classes(train, test, names)
    if test is None:
        train, test = hold_out(train, names)
        notes.append(
            f"there is no test set: {len(test.labels):,} of {len(train.labels) + len(test.labels):,} images are held "
            "out, every class in its proportion"
        )
    known = Known(
        name=origin.name,
        kind=origin.kind,
        digest="",
        class_names=names,
        held_out=found.test is None,
        notes=tuple(notes),
        warnings=tuple(remarks(train, test, names)),
    )
    return train, test, known


def hold_out(whole: Labelled, class_names: Sequence[str]) -> tuple[Labelled, Labelled]:
    """Return training and test images: a sixth of each class is test, the same for ever, equal pictures together."""
    by_content = digests(whole.images)
    chosen: list[int] = []
    for label in np.unique(whole.labels):
        members = np.flatnonzero(whole.labels == label)
        groups: dict[bytes, list[int]] = {}
        for index in members.tolist():
            groups.setdefault(by_content[index], []).append(index)
        alike = list(groups.values())
        wanted, taken = max(1, round(len(members) * TEST_SHARE)), 0
        for place in np.random.default_rng([HELD_OUT_SEED, int(label)]).permutation(len(alike)):
            # Two at least stay to train and to validate with, also where most are copies of one.
            if taken < wanted and taken + len(alike[place]) <= len(members) - 2:
                chosen += alike[place]
                taken += len(alike[place])
        if not taken:
            raise DataError(
                f"class '{class_names[label]}' has only copies of one image: no test image can be held out",
                hint="add images, or leave the class out",
            )
    test = np.sort(np.array(chosen, np.int64))
    return whole.only(np.setdiff1d(np.arange(len(whole.labels)), test)), whole.only(test)
