"""What --data and TUNER_DATA name, and what a study keeps of it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tuner.data.sources import Source, find, named, short_name
from tuner.errors import DataError
from tuner.runs import command_line

from .own_images import (
    GREY,
    both,
    holds,
    npz,
    own_cache,
    pictures,
    planted_keras,
    table,
)

pytestmark = pytest.mark.usefixtures("own_cache")
__all__ = ["own_cache"]  # a fixture


def test_what_data_means_is_kept_with_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "photos", (3, 3), ((9, 9),))
    (tmp_path / "odd:16").mkdir()

    assert named("photos:16x20:grey") == f"{tmp_path}/photos:16x20:grey"
    assert named("odd:16") == f"{tmp_path}/odd:16"  # a folder of that very name
    assert named("train.csv,test.csv") == f"{tmp_path}/train.csv,{tmp_path}/test.csv"
    assert named("keras:cifar10") == "keras:cifar10"
    assert short_name(f"{tmp_path}/a,b/train.csv,{tmp_path}/a,b/test.csv") == "train.csv"
    assert short_name(f"{tmp_path}/photos:16") == "photos:16"
    assert short_name(None) == "fashion-mnist"


def test_a_comma_in_a_folders_name_parts_no_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = both(GREY)
    table(tmp_path / "a,b" / "train.csv", *train)
    table(tmp_path / "a,b" / "test.csv", *test)
    monkeypatch.chdir(tmp_path / "a,b")

    kept = named("train.csv,test.csv")

    monkeypatch.chdir(tmp_path)
    assert kept == f"{tmp_path}/a,b/train.csv,{tmp_path}/a,b/test.csv"
    assert holds(find(kept), train, test)
    assert named(kept) == kept


def test_a_name_of_any_bytes_is_searched_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode(b"b\xe4ume")
    source = find(str(npz(tmp_path / f"{name}.npz")))
    monkeypatch.setattr(sys, "argv", ["tuner", "search", "--data", f"{name}.npz"])

    said = (source.name, command_line(), short_name(named(str(tmp_path / f"{name}.npz"))))

    assert said == ("b�ume", "tuner search --data 'b�ume.npz'", "b�ume.npz")


def test_keras_data_sets_come_from_keras_cache_and_stay_there(
    fashion: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "keras" / "datasets" / "fashion-mnist"
    shutil.copytree(fashion.folder, planted)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))

    source = find("keras:fashion_mnist", download=False)

    assert source.folder == planted
    assert source.verified


def test_what_keras_loaded_once_is_there_without_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="keras:cifar10 is not on this machine"):
        find("keras:cifar10", download=False)

    with monkeypatch.context() as patched:
        patched.setenv(
            "PYTHONPATH", os.pathsep.join([str(planted_keras(tmp_path / "planted")), os.environ.get("PYTHONPATH", "")])
        )
        source = find("keras:cifar10")

    assert (source.kind, source.name, source.input_shape) == ("keras", "cifar10", (32, 32, 3))
    assert source.class_names[:2] == ("airplane", "automobile")
    assert find("keras:cifar10", download=False) == source
