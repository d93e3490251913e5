"""The images: found, verified, split once and for all; the test pixels behind one door."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tuner.cli import run
from tuner.data.fetching import save_keras_set
from tuner.data.folder import FASHION_BLOBS
from tuner.data.idx import PARTS, git_blob, read_bytes
from tuner.data.sources import Source, find, named, open_folder, places
from tuner.data.splits import Cut, check_cut, part_of, read_images, split_indices
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


def test_a_part_of_unbalanced_images_lacks_no_class() -> None:
    labels = np.repeat([0, 1, 2], [1000, 6, 3])
    train = np.arange(len(labels))

    parts = [part_of(train, labels, count) for count in (3, 20, 40, 900)]

    assert [np.bincount(labels[part]).tolist() for part in parts[:2]] == [[1, 1, 1], [18, 1, 1]]
    assert all(np.isin(part, larger).all() for part, larger in itertools.pairwise(parts))


def test_a_cut_that_no_class_stands_is_refused(small: Source) -> None:
    few = dataclasses.replace(small, train_class_counts=(90, 3, 90), class_names=("a", "b", "c"))

    check_cut(few, 3, 3)
    with pytest.raises(DataError, match=r"search.folds = 4, but class 'b' has 3 training image\(s\) \(at most 3"):
        check_cut(few, 4, None)
    with pytest.raises(DataError, match=r"search.train_images = 2, but there are 3 classes"):
        check_cut(few, 1, 2)


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


def test_what_tuner_data_names_stays_with_the_study(
    fashion: Source, small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_folder.parent)
    (tmp_path / "photos" / "a").mkdir(parents=True)

    monkeypatch.setenv("TUNER_DATA", small_folder.name)
    assert named(None) == str(small_folder)
    assert find("fashion-mnist").verified  # which says what it wants
    monkeypatch.setenv("TUNER_DATA", f"{tmp_path}/photos:32")
    assert named(None) == f"{tmp_path}/photos:32"
    assert places()[0].found == "own images: 'tuner data check' looks at them"
    monkeypatch.setenv("TUNER_DATA", f"{tmp_path}/none:4")
    assert "from 8 to 512" in places()[0].found
    monkeypatch.setenv("TUNER_DATA", str(fashion.folder))
    assert named(None) == named("fashion-mnist") == "fashion-mnist"  # wherever it lies
    assert find(None) == find("fashion-mnist") == fashion
    monkeypatch.delenv("TUNER_DATA")
    assert named(None) == "fashion-mnist"


def test_fetch_fetches_fashion_mnist_whatever_tuner_data_is(
    fashion: Source, small_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUNER_DATA", str(small_folder))

    assert run(["data", "fetch", "--json"]) == 0

    assert json.loads(capsys.readouterr().out) == {
        "name": "fashion-mnist", "folder": str(fashion.folder), "verified": True
    }  # fmt: skip


def test_a_download_without_an_answer_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def silent(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 300, stderr=b"still trying")

    monkeypatch.setattr(subprocess, "run", silent)

    with pytest.raises(DataError, match="keras:mnist cannot be loaded: no answer in 300 s"):
        save_keras_set("mnist", tmp_path / "x.npz")


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
    "a class without images": "is not among the 1 training classes",
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
        find(str(folder))

    assert said in str(raised.value)
    assert str(folder) in str(raised.value)


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("search/worker.py", "from tuner.data.holdout import read_test", "The test pixels have one door"),
        ("training/fit.py", "import tuner.search.study", "A room imports only from rooms below it"),
        ("search/crew.py", "import ray", "Ray has one door, and needs not be there"),
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
