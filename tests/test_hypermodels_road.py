"""The whole road of a hypermodel: the real command, real workers, KerasTuner's own networks."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuner.data.idx import PARTS, parse_idx, read_bytes

from . import own_images
from .conftest import Done, write_idx

Tuner = Callable[..., Done]
DOCS = Path(__file__).parent.parent / "docs" / "kerastuner.md"
EXAMPLES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL))
SHORT = ("--epochs", "2", "--refit-epochs", "2", "--refit-seeds", "1", "--workers", "1", "--seed", "0")


def write_examples(folder: Path) -> None:
    for name, text in EXAMPLES.items():
        (folder / name).write_text(text, "utf-8")


def run(folder: Path, *arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tuner", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def document(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def searched(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The first example of the documentation, searched, retrained and scored."""
    folder = tmp_path_factory.mktemp("hyper")
    write_examples(folder)
    done = run(folder, "search", "my_model.py", "--trials", 4, *SHORT, "--keep", 4, "--data", small_folder, "--json")
    return folder, document(done)


def test_a_build_function_goes_from_search_to_report(searched: tuple[Path, Any]) -> None:
    folder, report = searched
    found = folder / "results" / "runs" / "my_model-1"

    assert (report["study"], report["n_trials"]) == ("my_model-1", 4)
    assert report["refit"]["test_accuracy_mean"] > 0.4
    assert (found / "my_model.py").read_text() == EXAMPLES["my_model.py"]
    trials = rows(found / "trials.csv")
    assert (trials[0]["blocks"], trials[0]["filters_0"], trials[0]["dropout"]) == ("1", "8", "False")
    assert float(trials[0]["learning_rate"]) == 1e-3
    assert all(int(trial["multiply_adds"]) > 0 for trial in trials)
    assert "learning_rate" in (found / "report.md").read_text()


@pytest.mark.slow
def test_its_model_loads_where_neither_tuner_nor_the_file_are(searched: tuple[Path, Any], small_folder: Path) -> None:
    folder, report = searched
    document(run(folder, "best", "--export", "away", "--json"))
    code = """
import sys; sys.modules["tuner"] = sys.modules["keras_tuner"] = None  # importing them would fail
import keras, numpy as np
images = np.frombuffer(open(sys.argv[1], "rb").read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
labels = np.frombuffer(open(sys.argv[2], "rb").read(), np.uint8, offset=8)
said = keras.saving.load_model("model.keras").predict(images, verbose=0)
assert abs(said.sum(axis=1) - 1).max() < 1e-5
print((said.argmax(axis=1) == labels).mean())
"""
    command = [sys.executable, "-c", code, *(str(small_folder / part) for part in PARTS[2:])]
    done = subprocess.run(command, cwd=folder / "away", capture_output=True, text=True, check=True, timeout=100)

    assert float(done.stdout) == pytest.approx(report["refit"]["test_accuracies"][0])


def test_a_file_that_cannot_be_searched_leaves_one_line_and_no_study(tmp_path: Path, small_folder: Path) -> None:
    (tmp_path / "mine.py").write_text("def build_model(hp):\n    return hp.Int('units', 1, 2)\n")

    done = run(tmp_path, "search", "mine.py", "--data", small_folder, "--trials", 2, "--quiet")

    assert done.returncode == 3
    assert done.stderr == "error: mine.py: it returned int, not a Keras model (return model)\n"
    assert document(run(tmp_path, "studies", "--json")) == []


def test_a_changed_file_is_not_resumed(searched: tuple[Path, Any], small_folder: Path) -> None:
    folder, _ = searched
    (folder / "elsewhere").mkdir(exist_ok=True)
    changed = folder / "elsewhere" / "my_model.py"
    changed.write_text(EXAMPLES["my_model.py"].replace("1e-2", "1e-1"))

    done = run(folder, "search", changed, "--resume", "--trials", 5, "--data", small_folder)

    assert done.returncode == 5
    assert "made with another my_model.py, before it was changed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--sampler", "grid"), "sampler = grid needs to know the space before"),
        (("--set", "parameters.blocks=2"), "a hypermodel asks for its own values (change them in its file)"),
        (("--start-with", "baselines"), "they are points of a 'cnn' space"),
        (("--set", "hypermodel.pixels=255"), "hypermodel.pixels = 255 is none of auto, unit, raw"),
    ],
    ids=["grid", "a parameter set", "baselines", "unknown pixels"],
)
def test_what_a_hypermodel_cannot_do_is_said_before_anything_starts(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    write_examples(tmp_path)

    done = run(tmp_path, "search", "my_model.py", *arguments)

    assert done.returncode in (2, 3)
    assert said in done.stderr


@pytest.mark.slow
def test_show_check_and_dry_run_build_it_a_few_times(tmp_path: Path, small_folder: Path) -> None:
    write_examples(tmp_path)

    shown = document(run(tmp_path, "spaces", "show", "my_model.py", "--json"))
    assert {"blocks", "filters_0", "filters_1", "dropout", "learning_rate"} < set(shown["parameters"])
    assert shown["parameters"]["rate"]["when"] == {"dropout": [True]}
    checked = document(run(tmp_path, "spaces", "check", "my_model.py:build_model", "--json"))
    assert (checked["sampled"], checked["refused"]) == (20, 0)
    fewest, _, most = [network["cost"]["parameters"] for network in checked["networks"]]
    assert fewest < most
    assert [network["built_parameters"] for network in checked["networks"]][::2] == [fewest, most]
    forecast = document(run(tmp_path, "search", "my_model.py", "--dry-run", "--json", "--data", small_folder))
    assert forecast["sampled"] == 20
    assert forecast["seconds"] > 0


@pytest.mark.slow
def test_finalists_an_ensemble_and_another_trial_are_those_of_the_hypermodel(
    searched: tuple[Path, Any], small_folder: Path
) -> None:
    folder, _ = searched
    more = document(run(folder, "search", "--resume", "--trials", 5, "--top", 2, "--data", small_folder, "--json"))
    assert more["finalists"]
    kept = [row["number"] for row in rows(folder / "results/runs/my_model-1/trials.csv") if row["state"] == "complete"]
    document(run(folder, "best", "--trial", kept[-1], "--export", "another", "--json"))
    document(run(folder, "best", "--ensemble", 2, "--export", "vote", "--json", timeout=400))

    for name in ("another", "vote"):
        code = f"import keras; print(keras.saving.load_model('{name}/model.keras').input_shape)"
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
        assert "28, 28, 1" in done.stdout


@pytest.mark.slow
def test_every_feature_goes_to_export_with_a_layer_of_ones_own_and_colour(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent / "everything.py", tmp_path)
    data = own_images.idx(
        tmp_path / "data",
        own_images.images((200, 200, 200), (32, 32, 3)),
        own_images.images((40, 40, 40), (32, 32, 3), seed=1),
    )

    shown = document(run(tmp_path, "spaces", "show", "everything.py:build", "--data", data, "--json"))
    report = document(run(tmp_path, "search", "everything.py:build", "--trials", 4, *SHORT, "--data", data, "--json"))

    assert {"number", "head/units", "width", "dynamic"} <= set(shown["parameters"])
    assert report["refit"]["test_accuracy_mean"] > 0.5
    header = (tmp_path / "results/runs/everything-1/trials.csv").read_text().splitlines()[0].split(",")
    assert len(set(header)) == len(header)
    document(run(tmp_path, "best", "--export", "away", "--format", "keras,saved-model", "--json"))
    card = (tmp_path / "away/model_card.md").read_text()
    snippet = re.search(r"Keras:\n\n```python\n(.*?)```", card, re.DOTALL)
    assert snippet
    code = f"import numpy as np\nimages = np.zeros((2, 32, 32, 3), np.uint8)\n{snippet[1]}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "away", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    refused = run(tmp_path, "predict", "away/model.keras", data / "t10k-images-idx3-ubyte")
    assert "it holds Scaled, which is code of its maker's" in refused.stderr


@pytest.mark.slow
def test_a_fit_of_its_own_that_is_killed_goes_from_search_to_export(tmp_path: Path, small_folder: Path) -> None:
    write_examples(tmp_path)
    command = ["search", "own_fit.py", "--trials", 3, *SHORT, "--data", small_folder, "--json"]
    kept = tmp_path / "results/runs/own_fit-1/checkpoints"
    _kill_when(tmp_path, command, lambda: any(kept.glob("*/epoch-0001.ckpt")))

    report = document(run(tmp_path, *command, "--resume"))

    trials = rows(tmp_path / "results/runs/own_fit-1/trials.csv")
    assert "2" in {trial["attempts"] for trial in trials}
    assert all(trial["epochs_trained"] == "2" for trial in trials if trial["state"] == "complete")
    assert set(report["best_trial"]["values"]) == {"units", "batch_size"}
    assert report["refit"]["test_accuracy_mean"] > 0.4
    document(run(tmp_path, "best", "--export", "away", "--json"))
    refused = run(tmp_path, "search", "own_fit.py", "--deterministic", "--trials", 2, "--data", small_folder)
    assert (refused.returncode, "matter of timing" in refused.stderr) == (3, True)


@pytest.mark.slow
def test_a_killed_search_of_a_hypermodel_by_folds_ends_as_the_undisturbed_one(
    tmp_path: Path, small_folder: Path
) -> None:
    curves = []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        write_examples(folder)
        command = ["search", "my_model.py", "--trials", 3, *SHORT, "--set", "search.folds=2", "--workers", 2,
                   "--deterministic", "--no-refit", "--data", small_folder]  # fmt: skip
        if name == "killed":
            kept = folder / "results/runs/my_model-1/checkpoints"
            _kill_when(folder, command, lambda kept=kept: any(kept.glob("*/fold-0/epoch-0002.ckpt")))
            command.append("--resume")
        done = run(folder, *command)
        assert done.returncode == 0, done.stderr
        table = rows(folder / "results/runs/my_model-1/curves.csv")
        curves.append([{key: value for key, value in row.items() if key != "seconds"} for row in table])

    assert curves[0] == curves[1]
    assert max(int(row["epoch"]) for row in curves[0]) == 4  # two of each fold


def _kill_when(folder: Path, command: list[object], ready: Callable[[], bool]) -> None:
    """Run the command and kill it and its workers once ``ready`` says so."""
    process = subprocess.Popen([sys.executable, "-m", "tuner", *map(str, command)], cwd=folder, start_new_session=True)
    until = time.monotonic() + 120
    while not ready() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    assert ready()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["HyperResNet", "HyperXception"])
def test_kerastuners_own_applications_go_from_search_to_export(tmp_path: Path, small_folder: Path, name: str) -> None:
    text = EXAMPLES["resnet.py"].replace("HyperResNet", name)
    (tmp_path / "application.py").write_text(text)
    (few := tmp_path / "few").mkdir()
    for part in PARTS:  # the refit takes all there are, and these networks are deep
        array = parse_idx(read_bytes(small_folder, part), small_folder / part)
        write_idx(few / part, array[: 240 if part.startswith("train") else 60])

    report = document(run(
        tmp_path, "search", "application.py", "--trials", 1, "--epochs", 1, "--refit-epochs", 1, "--refit-seeds", 1,
        "--workers", 1, "--set", "search.train_images=64", "--set", "limits.parameters=30000000", "--data", "few",
        "--json", timeout=800,
    ))  # fmt: skip

    assert report["n_complete"] >= 1
    assert "learning_rate" in report["best_trial"]["values"]
    assert 0 <= report["refit"]["test_accuracy_mean"] <= 1
    done = run(tmp_path, "best", "--export", "away", "--json")
    if report["best_trial"]["values"].get("version") == "next":
        assert "Lambda" in done.stderr
    else:
        assert document(done)["exported"]
