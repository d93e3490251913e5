"""The images: found, verified, split once and for all; the test pixels behind one door."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tuner.data.folder import FASHION_BLOBS
from tuner.data.idx import PARTS, git_blob, read_bytes
from tuner.data.sources import Source, find, open_folder, places
from tuner.data.splits import Cut, part_of, read_images, split_indices
from tuner.errors import DataError

from .conftest import write_idx

ROOT = Path(__file__).parents[1]


def test_what_is_found_is_the_published_release_byte_for_byte(fashion: Source) -> None:
    assert fashion.verified
    assert {part: git_blob(read_bytes(fashion.folder, part)) for part in PARTS} == FASHION_BLOBS
    assert (fashion.n_train, fashion.n_test, fashion.input_shape) == (60_000, 10_000, (28, 28, 1))
    assert fashion.test_class_counts == (1000,) * 10


def test_the_split_is_constant_stratified_and_whole(fashion: Source) -> None:
    images = read_images(fashion)

    assert (len(images.train), len(images.val)) == (50_000, 10_000)
    assert np.bincount(images.val_labels).tolist() == [1000] * 10
    labels = read_images(fashion, Cut(everything=True)).train_labels
    train, val = split_indices(labels)
    assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(60_000))
    # One constant split for ever: studies of different years can be compared.
    assert val[:5].tolist() == split_indices(labels)[1][:5].tolist() == FIRST_VALIDATION_IMAGES
    assert images.scale == pytest.approx((0.28604, 0.35302), abs=1e-5)


FIRST_VALIDATION_IMAGES = [0, 7, 9, 10, 18]


def test_a_part_of_the_training_images_keeps_the_classes_in_proportion(fashion: Source) -> None:
    labels = read_images(fashion, Cut(everything=True)).train_labels
    train, _ = split_indices(labels)

    part, larger = part_of(train, labels, 3000), part_of(train, labels, 6000)

    assert np.bincount(labels[part]).tolist() == [300] * 10
    assert np.isin(part, larger).all()
    with pytest.raises(DataError, match=r"search.train_images = 50001"):
        part_of(train, labels, 50_001)


def test_gzipped_files_and_an_own_folder_are_read(small_folder: Path, tmp_path: Path) -> None:
    for part in PARTS:
        (tmp_path / f"{part}.gz").write_bytes(gzip.compress((small_folder / part).read_bytes()))

    own = open_folder(tmp_path)

    assert not own.verified
    assert own.digest == open_folder(small_folder).digest
    assert own.name == tmp_path.name


def test_another_data_set_is_not_the_published_one_for_being_called_so(small_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(small_folder, tmp_path / "fashion-mnist")

    assert not open_folder(tmp_path / "fashion-mnist").verified


def test_tuner_data_names_the_folder(small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNER_DATA", str(small_folder))

    assert find(None).folder == small_folder.resolve()
    assert places()[0].found.endswith("is not the published one")


def test_a_damaged_copy_is_passed_over_and_the_next_place_is_used(
    fashion: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "datasets" / "fashion-mnist"
    damaged.mkdir(parents=True)
    for part in PARTS:
        (damaged / f"{part}.gz").write_bytes(b"\x1f\x8bnot gzip")
    cache = tmp_path / "tuner" / "fashion-mnist"
    shutil.copytree(fashion.folder, cache)
    monkeypatch.delenv("TUNER_DATA", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert "cannot be read" in places()[1].found
    assert find(None).folder == cache.resolve()


def _break(folder: Path, how: str) -> None:
    images, labels = folder / PARTS[0], folder / PARTS[1]
    match how:
        case "missing":
            images.unlink()
        case "truncated":
            images.write_bytes(images.read_bytes()[:-5])
        case "not IDX":
            images.write_text("label,pixel1")
        case "bad gzip":
            images.rename(folder / "away")
            (folder / f"{PARTS[0]}.gz").write_bytes(b"\x1f\x8b\x08garbage")
        case "labels do not fit":
            write_idx(labels, np.zeros(7))
        case "a class without images":
            write_idx(labels, np.full(1200, 3))
        case "test size":
            write_idx(folder / PARTS[2], np.zeros((300, 32, 32)))
        case "unknown test class":
            write_idx(folder / PARTS[3], np.full(300, 11))


BROKEN = {
    "missing": "is missing",
    "truncated": "where the header promises",
    "not IDX": "not an IDX file",
    "bad gzip": "cannot be read",
    "labels do not fit": "do not fit",
    "a class without images": "labels must be 0..n-1",
    "test size": "training images are",
    "unknown test class": "test label 11",
}


@pytest.mark.parametrize(("how", "said"), BROKEN.items())
def test_a_broken_folder_says_what_is_wrong_with_which_file(
    small_folder: Path, tmp_path: Path, how: str, said: str
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(small_folder, folder)
    _break(folder, how)

    with pytest.raises(DataError) as raised:
        open_folder(folder)

    assert said in str(raised.value)
    assert str(folder) in str(raised.value)


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("search/worker.py", "from tuner.data.holdout import read_test", "The test pixels have one door"),
        ("training/fit.py", "import tuner.search.study", "A room imports only from rooms below it"),
    ],
)
def test_an_import_through_a_wall_is_caught(tmp_path: Path, module: str, line: str, contract: str) -> None:
    shutil.copytree(ROOT / "tuner", tmp_path / "tuner", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "tuner" / module).open("a") as source:
        source.write(f"\n{line}\n")

    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout
