"""Bad input gets one clear line, the right exit code, and no traceback."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from tuner.data.idx import PARTS

from .conftest import SMALL_SPACE, Done

Tuner = Callable[..., Done]

# name: (arguments, exit code, what the line says)
BAD: dict[str, tuple[list[str], int, str]] = {
    "unknown option": (["search", "--trails", "3"], 2, "--trials"),
    "unknown command": (["serach"], 2, "serach"),
    "a study name that is a path": (["search", "mine.toml", "--study", "../x"], 2, "--study ../x: a name has letters"),
    "trials of zero": (["search", "--trials", "0"], 2, "--trials"),
    "a time that is none": (["search", "--time", "soon"], 2, "e.g. 45m, 1h30m or 600s"),
    "unknown sampler": (["search", "--sampler", "bayes"], 2, "--sampler"),
    "workers that are no number": (["search", "--workers", "many"], 2, "--workers many"),
    "copy over a file": (["spaces", "copy", "cnn", "mine.toml"], 2, "mine.toml exists"),
    "unknown built-in space": (["search", "cmn"], 3, "did you mean 'cnn'?"),
    "a space file that is not there": (["search", "nowhere.toml"], 3, "nowhere.toml: no such file"),
    "a space file of another kind": (["search", "space.yaml"], 3, "ends in .toml"),
    "a misspelt key": (["spaces", "check", "typo.toml"], 3, "typo.toml: parameters.filters_1: unknown key 'hihg'"),
    "limits that nothing meets": (["spaces", "check", "cnn", "--set", "limits.parameters=5"], 3, "all of 200 random"),
    "a list for a value": (["spaces", "check", "cnn", "--set", "parameters.blocks=[1]"], 3, "parameters.NAME.options"),
    "broken TOML": (["spaces", "show", "broken.toml"], 3, "broken.toml: not TOML"),
    "a parameter nobody reads": (
        ["search", "mine.toml", "--set", "parameters.filtres_1=8"],
        3,
        "did you mean 'filters_1'?",
    ),
    "a set without a value": (["search", "mine.toml", "--set", "parameters.flip"], 3, "not KEY=VALUE"),
    "a set of the wrong type": (["search", "mine.toml", "--set", "search.epochs=ten"], 3, "search.epochs = 'ten'"),
    "a grid over a continuum": (
        ["search", "mine.toml", "--sampler", "grid"],
        3,
        "parameters.momentum: a float without 'step'",
    ),
    "data that is not there": (["search", "mine.toml", "--data", "pictures"], 4, "pictures: no such file or folder"),
    "more training images than there are": (
        ["search", "mine.toml", "--data", "small", "--set", "search.train_images=5000"],
        4,
        "the training split has 1000",
    ),
    "data that is cut short": (["search", "mine.toml", "--data", "cut"], 4, "where the header promises"),
    "an empty data folder": (["search", "mine.toml", "--data", "empty"], 4, "no images in this folder"),
    "no studies yet": (["studies"], 5, "no studies there yet"),
    "resuming nothing": (["search", "--resume"], 5, "'tuner search' makes one"),
    "best of a study that is not there": (["best", "cnn-9", "--storage", "some.db"], 5, "there is no study 'cnn-9'"),
    "a study that exists": (
        ["search", "mine.toml", "--study", "some", "--storage", "some.db"],
        5,
        "study 'some' exists",
    ),
    "a study of somebody else": (["best", "some", "--storage", "some.db"], 5, "was not made by tuner"),
    "no time for anything": (["search", "mine.toml", "--data", "small", "--time", "9s"], 6, "cannot hold one trial"),
    "an output folder that is a file": (["search", "mine.toml", "--out", "mine.toml"], 8, "cannot write there"),
    "an unwritable output folder": (["search", "mine.toml", "--out", "/proc/results"], 8, "cannot write there"),
    "a storage that is no database": (["studies", "--storage", "mine.toml"], 8, "cannot be opened as a study storage"),
    "a storage without its driver": (["studies", "--storage", "nodb://x"], 8, "cannot be opened as a study storage"),
    "a dashboard without studies": (["dashboard", "--storage", "none.db"], 5, "no studies there yet"),
}


@pytest.fixture
def folder(tmp_path: Path, small_folder: Path) -> Path:
    (tmp_path / "mine.toml").write_text(SMALL_SPACE, "utf-8")
    (tmp_path / "typo.toml").write_text(SMALL_SPACE.replace("high = 12", "hihg = 12", 1), "utf-8")
    (tmp_path / "broken.toml").write_text("a = = 3", "utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "small").symlink_to(small_folder)
    shutil.copytree(small_folder, tmp_path / "cut")
    whole = (tmp_path / "cut" / PARTS[0]).read_bytes()
    (tmp_path / "cut" / PARTS[0]).write_bytes(whole[:-100])
    optuna.create_study(storage=f"sqlite:///{tmp_path}/some.db", study_name="some")
    return tmp_path


def _assert_one_line(done: Done, code: int, said: str) -> None:
    assert done.code == code, done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert said in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def _files(folder: Path, arguments: list[str]) -> dict[Path, bytes]:
    """What a user has there; a database that a command looks at is put into write-ahead mode."""
    named = "some.db" in arguments
    files = [path for path in folder.glob("*.*") if path.is_file() and not (named and "some.db" in path.name)]
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_clear_line_and_its_code(name: str, folder: Path, tuner: Tuner) -> None:
    arguments, code, said = BAD[name]
    before = _files(folder, arguments)

    done = tuner(*arguments)

    _assert_one_line(done, code, said)
    assert _files(folder, arguments) == before  # nothing that was there is lost


def test_a_port_in_use_says_so(folder: Path, tuner: Tuner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        done = tuner("dashboard", "--storage", "some.db", "--port", port)

    _assert_one_line(done, 8, f"127.0.0.1:{port}: cannot listen there: Address already in use")


@pytest.mark.slow
def test_a_changed_space_is_refused_when_a_study_is_resumed(folder: Path, tuner: Tuner, small_folder: Path) -> None:
    options = ["--study", "one", "--trials", 1, "--epochs", 1, "--workers", 1, "--data", small_folder, "--no-refit"]
    assert tuner("search", "mine.toml", *options).code == 0

    changed = tuner("search", "mine.toml", "--resume", *options, "--set", "parameters.learning_rate.low=1e-3")
    longer = tuner("search", "--resume", "--study", "one", "--trials", 2, "--epochs", 5, "--data", small_folder)
    other_images = tuner("search", "--resume", "--study", "one", "--trials", 2, "--data", "fashion-mnist")

    _assert_one_line(changed, 5, "was made with another space")
    _assert_one_line(longer, 5, "was searched with epochs = 1, not 5")
    _assert_one_line(other_images, 5, "was searched on other images")
