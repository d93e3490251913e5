"""A model taken away: each format in its own runtime, checked, and never another model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tuner.data.sources import Source
from tuner.data.splits import read_images
from tuner.errors import ExportError
from tuner.evaluation.ensemble import choose_members
from tuner.export.runtimes import FILES, format_of, open_runtime

from .conftest import SMALL_SPACE, Done

Tuner = Callable[..., Done]

LOADERS = {
    "keras": """
        import keras
        model = keras.saving.load_model(path)
        probabilities = model.predict(images, verbose=0)
    """,
    "saved-model": """
        import tensorflow as tf
        model = tf.saved_model.load(path)
        probabilities = model.serve(tf.constant(images)).numpy()
    """,
    "onnx": """
        import onnxruntime
        session = onnxruntime.InferenceSession(path)
        (probabilities,) = session.run(None, {session.get_inputs()[0].name: images})
    """,
    "litert": """
        from ai_edge_litert.interpreter import Interpreter
        model = Interpreter(path)
        predict = model.get_signature_runner()
        (probabilities,) = predict(**{name: images for name in predict.get_input_details()}).values()
    """,
}
"""What the model card says, without us."""


@pytest.fixture(scope="module")
def searched(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search, its winner retrained, and three trials' checkpoints."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "small.toml").write_text(SMALL_SPACE, "utf-8")
    command = ["search", "small.toml", "--data", str(small_folder), "--trials", "3", "--epochs", "3", "--pruner", "none",
               "--refit-seeds", "1", "--workers", "1", "--study", "s", "--seed", "1"]  # fmt: skip
    subprocess.run([sys.executable, "-m", "tuner", *command], cwd=folder, check=True, capture_output=True, timeout=200)
    return folder


def tuner_in(folder: Path, *arguments: str) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "tuner", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=250,
        env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def without_us(folder: Path, kind: str, path: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the format's own runtime says of the first image, and of all, in a process that cannot import us."""
    np.save(folder / "images.npy", images)
    code = "import sys; sys.modules['tuner'] = None\nimport numpy as np\n"
    code += (
        "path, every = sys.argv[1], np.load('images.npy')\nfor name, images in ('alone', every[:1]), ('all', every):\n"
    )
    code += textwrap.indent(textwrap.dedent(LOADERS[kind]), "    ")
    code += "    np.save(name + '.npy', probabilities)\n"
    subprocess.run([sys.executable, "-c", code, path], cwd=folder, check=True, capture_output=True, timeout=200)
    return np.load(folder / "alone.npy"), np.load(folder / "all.npy")


@pytest.fixture(scope="module")
def reference(searched: Path, small: Source) -> np.ndarray:
    """What the trained model says of the validation images."""
    return without_us(searched, "keras", "results/runs/s/model.keras", read_images(small).val)[1]


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(("keras", "saved-model"), marks=pytest.mark.slow, id="without more packages"),
        pytest.param(("onnx", "litert"), marks=pytest.mark.formats, id="with more packages"),
    ],
)
def test_each_format_gives_the_same_classes_in_its_own_runtime_where_we_are_not(
    kinds: tuple[str, ...], searched: Path, small: Source, reference: np.ndarray
) -> None:
    images, away = read_images(small).val, searched / f"away-{kinds[0]}"

    done = tuner_in(searched, "best", "s", "--export", away.name, "--format", ",".join(kinds), "--json")

    assert done.code == 0, done.err
    card = (away / "model_card.md").read_text("utf-8")
    for kind, written in zip(kinds, done.document["formats"], strict=True):
        assert (written["format"], written["agreement"]) == (kind, 1.0)
        assert written["largest_difference"] < 1e-4
        assert 0 < written["seconds_together"] < 1
        alone, together = without_us(searched, kind, f"{away.name}/{FILES[kind]}", images)
        for said in (alone, together):  # any batch size
            assert np.array_equal(said.argmax(axis=1), reference[: len(said)].argmax(axis=1))
            assert np.allclose(said, reference[: len(said)], atol=1e-4)
        assert FILES[kind] in card
    assert "100.00 % of the checked images" in card
    report = json.loads((searched / "results/runs/s/report.json").read_text("utf-8"))
    for fact in (report["command"], report["commit"] or "", "95 % Wilson interval", f"| {small.class_names[0]} |"):
        assert fact in card
    assert json.loads((away / "labels.json").read_text()) == list(small.class_names)


@pytest.mark.slow
def test_another_trial_is_exported_as_the_search_left_it_and_says_so(searched: Path) -> None:
    report = json.loads((searched / "results/runs/s/report.json").read_text())
    number = next(k for k in range(3) if k != report["best_trial"]["number"])

    done = tuner_in(searched, "best", "s", "--trial", str(number), "--export", "other", "--json")

    assert done.code == 0, done.err
    assert done.document["best_trial"]["number"] == number
    assert done.document["refit"] is None
    assert done.document["formats"][0]["agreement"] == 1.0
    card = (searched / "other" / "model_card.md").read_text("utf-8")
    assert f"# s, trial {number}" in card
    assert "never saw the test set" in card


@pytest.mark.slow
def test_an_ensemble_is_one_model_scored_once_and_kept(searched: Path, small: Source) -> None:
    first = tuner_in(searched, "best", "s", "--ensemble", "2", "--export", "together", "--json")
    again = tuner_in(searched, "best", "s", "--ensemble", "2", "--json")

    assert first.code == again.code == 0, first.err + again.err
    made = first.document["ensemble"]
    assert again.document["ensemble"] == made
    assert 1 <= len(made["members"]) <= 2
    assert sum(member["weight"] for member in made["members"]) == pytest.approx(1)
    assert made["val_accuracy"] >= max(member["val_accuracy"] for member in made["members"])
    folder = searched / "results/runs/s/ensemble-2"
    with np.load(folder / "predictions.npz") as saved:
        assert made["test_accuracy"] == pytest.approx((saved["probabilities"][0].argmax(1) == saved["labels"]).mean())
    said = without_us(searched, "keras", "together/model.keras", read_images(small).val)[1]
    assert np.allclose(said.sum(axis=1), 1, atol=1e-4)
    assert "ensemble of" in (searched / "together" / "model_card.md").read_text("utf-8")
    assert not list((searched / "results/runs/s/checkpoints").glob("member-*"))


@pytest.mark.slow
def test_what_stands_in_the_way_of_an_export_is_one_line(searched: Path) -> None:
    (searched / "theirs").mkdir()
    (searched / "theirs" / "labels.json").write_text("mine")
    model = searched / "results/runs/s/model.keras"
    content = model.read_bytes()

    a_file, taken = (tuner_in(searched, "best", "--export", name) for name in ("small.toml", "theirs"))
    model.write_bytes(b"x")
    damaged = tuner_in(searched, "best", "--export", "nowhere")
    model.write_bytes(content)

    for done, said in (
        (a_file, "small.toml: cannot be written"),
        (taken, "theirs/labels.json exists"),
        (damaged, "not a Keras model"),
    ):
        assert (done.code, done.err.count("\n")) == (7, 1), done.err
        assert said in done.err
    assert not (searched / "nowhere").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--format", "onxx"], 2, "--format onxx: onxx is none of keras, saved-model, onnx, litert"),
        (["--format", ","], 2, "nothing is none of"),
        (["--trial", "99", "--export", "x"], 5, "study 's' has no trial 99"),
        (["--trial", "1", "--ensemble", "2"], 2, "one model at a time"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], code: int, said: str, searched: Path) -> None:
    done = tuner_in(searched, "best", "s", *arguments)

    assert (done.code, done.err.count("\n")) == (code, 1), done.err
    assert said in done.err


def test_members_are_chosen_for_what_they_add() -> None:
    # given one good network, a copy of it, and a worse one that is right where the good one is wrong
    labels = np.array([0] * 8)
    good = np.array([[0.9, 0.1]] * 6 + [[0.4, 0.6]] * 2)
    other = np.array([[0.45, 0.55]] * 5 + [[0.9, 0.1]] * 3)
    probabilities = np.stack([good, good, other]).astype(np.float32)

    members, accuracy = choose_members(probabilities, labels, 2)

    assert accuracy == 1.0
    assert {index for index, _ in members} == {0, 2}
    assert sum(weight for _, weight in members) == pytest.approx(1)


def test_a_vote_of_one_is_kept_where_nothing_adds_to_it() -> None:
    labels = np.array([0, 1, 0, 1])
    perfect = np.eye(2, dtype=np.float32)[labels]

    members, accuracy = choose_members(np.stack([perfect, 1 - perfect]), labels, 2)

    assert (members, accuracy) == ([(0, 1.0)], 1.0)


@pytest.mark.parametrize("name", ["model.keras", "model.onnx", "model.tflite", "notes.txt"])
def test_what_is_no_model_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a model")

    with pytest.raises(ExportError) as raised:
        open_runtime(tmp_path / name)

    assert str(tmp_path / name) in str(raised.value)
    assert format_of(tmp_path) is None
