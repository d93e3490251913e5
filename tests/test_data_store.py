"""The copies of images that trainings read: made once, whole or not at all, and never another's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tuner.data import store
from tuner.data.holdout import read_test
from tuner.data.idx import PARTS, parse_images
from tuner.data.sources import find, open_folder
from tuner.data.splits import read_images, validation_images
from tuner.errors import DataError, EnvironmentProblem

from .conftest import write_idx
from .own_images import (
    GREY,
    TRAIN,
    both,
    idx,
    images,
    npz,
    own_cache,
)

pytestmark = pytest.mark.usefixtures("own_cache")
__all__ = ["own_cache"]  # a fixture


def test_more_classes_than_a_byte_can_tell_are_kept(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(300), 3)
    pixels = np.random.default_rng(0).integers(0, 256, (900, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "many.npz", x_train=pixels, y_train=labels)

    source = find(str(tmp_path / "many.npz"))

    assert len(source.class_names) == 300
    assert np.array_equal(np.unique(read_images(source).train_labels), np.arange(300))
    assert np.array_equal(read_test(source)[1], np.arange(300))
    assert validation_images(source) == 300


def test_a_copy_is_made_once_and_read_from_then_on(tmp_path: Path) -> None:
    path = str(npz(tmp_path / "a.npz"))
    said: list[str] = []

    first = find(path, said.append)
    before = {file: file.stat().st_mtime_ns for file in first.folder.iterdir()}
    second = find(path, said.append)

    assert len(said) == 1
    assert second == first
    assert {file: file.stat().st_mtime_ns for file in first.folder.iterdir()} == before
    assert open_folder(first.folder).digest == first.digest  # which is a data set like any other


def test_other_images_under_the_same_name_are_other_images(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz")
    first, copy_ = find(str(path)), find(str(path)).folder
    when = path.stat()

    pixels, labels = images(TRAIN, GREY, seed=5)
    npz(path, x_train=pixels, y_train=labels)
    os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))  # a tool that keeps times
    second = find(str(path))

    assert second.digest != first.digest
    assert second.folder != copy_


def test_a_damaged_copy_is_made_anew(tmp_path: Path) -> None:
    path = str(npz(tmp_path / "a.npz"))
    source = find(path)
    part = source.folder / PARTS[0]
    part.write_bytes(part.read_bytes()[:-1] + b"\7")
    stray = source.folder.with_name("killed.draft")
    stray.mkdir()

    assert find(path) == source
    assert parse_images(part.read_bytes(), part)[-1].max() > 7
    assert not stray.exists()


def test_images_that_change_while_they_are_searched_are_refused(tmp_path: Path) -> None:
    train, test = both(GREY)
    source = find(str(idx(tmp_path / "idx", train, test)))
    write_idx(source.folder / PARTS[0], train[0][::-1, ..., 0])
    write_idx(source.folder / PARTS[2], test[0][::-1, ..., 0])

    with pytest.raises(DataError, match=f"{PARTS[0]}: has changed since the search began"):
        read_images(source)
    with pytest.raises(DataError, match=f"{PARTS[2]}: has changed since the search began"):
        read_test(source)


def test_two_that_want_the_same_images_make_one_copy(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz")
    code = f"from tuner.data.sources import find; print(find({str(path)!r}, print).folder)"

    both_at_once = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both_at_once]

    assert [process.returncode for process in both_at_once] == [0, 0]
    assert len({lines.splitlines()[-1] for lines in said}) == 1
    assert "".join(said).count("Preparing the images") == 1
    assert [place.name for place in store.store_folder().iterdir() if place.is_dir()] == [find(str(path)).folder.name]


def test_a_full_disk_leaves_no_half_of_a_copy(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz")
    full = f"ulimit -f 4; exec {sys.executable} -m tuner data check {path}"  # four blocks a file

    done = subprocess.run(["sh", "-c", full], capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stderr.count("\n")) == (8, 1), done.stderr
    assert "cannot be written: File too large" in done.stderr
    assert [place.name for place in store.store_folder().iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = npz(tmp_path / "a.npz")
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")

    with pytest.raises(EnvironmentProblem, match=r"/proc/nothing.* cannot write there.*XDG_CACHE_HOME"):
        find(str(path))
