"""The whole road as a user walks it: the real command, real workers, a slice of the real images."""

from __future__ import annotations

import csv
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tuner.data.idx import PARTS
from tuner.space.reader import parse_space

from .conftest import SMALL_SPACE, Done

Tuner = Callable[..., Done]


@pytest.fixture(scope="module")
def searched(
    small_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict, subprocess.CompletedProcess[str]]:
    """One search from the command line, and the folder that it left."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "small.toml").write_text(SMALL_SPACE, "utf-8")
    command = [sys.executable, "-m", "tuner", "search", "small.toml", "--trials", "6", "--workers", "2", "--seed", "0",
               "--data", str(small_folder), "--json"]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), done


def test_json_is_the_only_thing_on_stdout_and_nothing_is_on_stderr(searched: tuple) -> None:
    assert searched[2].stdout.startswith("{")
    assert searched[2].stderr == ""


def test_the_report_says_everything_that_was_promised(searched: tuple) -> None:
    _, report, _ = searched

    assert {
        "study", "space", "space_hash", "seed", "command", "versions", "commit", "n_trials", "n_complete", "n_pruned", "n_refused",
        "n_failed", "compute_saved_by_pruning", "best_trial", "refit", "baselines", "wall_seconds",
    } <= set(report)  # fmt: skip
    assert {"number", "values", "val_accuracy", "epochs", "origin"} <= set(report["best_trial"])
    refit = report["refit"]
    assert {"epochs", "seeds", "test_accuracies", "test_accuracy_mean", "test_accuracy_sd", "interval_95"} <= set(refit)
    assert (report["study"], report["n_trials"], refit["epochs"], len(refit["seeds"])) == ("small-1", 6, 3, 2)
    assert report["n_complete"] + report["n_pruned"] == 6
    assert set(report["wall_seconds"]) == {"search", "refit", "total"}
    low, high = refit["interval_95"]
    assert 0.5 < low < refit["test_accuracies"][0] < high < 1  # it has learnt
    assert report["baselines"] == []  # not the published data: nothing to compare with


def report_trials(run: Path) -> list[dict[str, str]]:
    with (run / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_run_folder_holds_what_was_promised_and_no_leftovers(searched: tuple) -> None:
    folder, report, _ = searched
    run = folder / "results" / "runs" / "small-1"

    assert {path.name for path in run.iterdir()} == {
        ".study", "run.json", "space.toml", "trials.csv", "curves.csv", "refit_curves.csv", "report.json", "report.md",
        "report.html", "figures", "predictions.npz", "examples.npz", "errors_by_class.csv", "worst_mistakes.csv", "model.keras", "worker-0.log", "worker-1.log", ".lock",
        "checkpoints",
    }  # fmt: skip
    complete = sorted(
        (trial for trial in report_trials(run) if trial["state"] == "complete"),
        key=lambda trial: (-float(trial["val_accuracy"]), int(trial["number"])),
    )
    kept = {f"trial-{int(trial['number']):05d}" for trial in complete[:3]}
    assert {path.name for path in (run / "checkpoints").iterdir()} == kept
    assert report["run_folder_bytes"] > sum(path.stat().st_size for path in (run / "checkpoints").rglob("*.ckpt"))
    assert json.loads((run / "report.json").read_text()) == report
    trials = report_trials(run)
    assert [int(row["number"]) for row in trials] == list(range(6))
    assert list(trials[0])[:9] == [
        "number", "state", "val_accuracy", "epochs_trained", "seconds", "parameters", "multiply_adds", "attempts",
        "peak_memory_mib",
    ]  # fmt: skip
    assert list(trials[0])[9:] == list(parse_space("small", SMALL_SPACE).space.parameters)
    with (run / "curves.csv").open() as file:
        curves = list(csv.DictReader(file))
    assert len(curves) == sum(int(row["epochs_trained"]) for row in trials)
    best = report["best_trial"]
    last = [row for row in curves if int(row["number"]) == best["number"]][-1]
    assert float(last["val_accuracy"]) == best["val_accuracy"]
    with np.load(run / "predictions.npz") as saved:
        assert saved["probabilities"].shape == (2, 300, 10)
        right = (saved["probabilities"].argmax(2) == saved["labels"]).mean(1)
    assert right.tolist() == pytest.approx(report["refit"]["test_accuracies"])


def test_the_exported_model_loads_where_tuner_is_not_and_predicts_the_same(searched: tuple, small_folder: Path) -> None:
    folder, _, _ = searched
    command = [sys.executable, "-m", "tuner", "best", "--export", "away", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert [Path(path).name for path in json.loads(done.stdout)["exported"]] == [
        "model.keras", "labels.json", "pictures.json", "model_card.md",
    ]  # fmt: skip

    code = """
import sys; sys.modules["tuner"] = None  # importing it would fail
import json, keras, numpy as np
images = np.frombuffer(open(sys.argv[1], "rb").read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
model = keras.saving.load_model("away/model.keras")
np.save("probabilities.npy", model.predict(images, verbose=0, batch_size=7))
assert len(json.load(open("away/labels.json"))) == model.output_shape[1] == 10
"""
    subprocess.run([sys.executable, "-c", code, str(small_folder / PARTS[2])], cwd=folder, check=True, timeout=100)

    with np.load(folder / "results/runs/small-1/predictions.npz") as saved:
        np.testing.assert_allclose(np.load(folder / "probabilities.npy"), saved["probabilities"][0], atol=1e-6)
    card = (folder / "away" / "model_card.md").read_text()
    assert "uint8" in card
    assert "95 % Wilson interval" in card


def test_best_and_studies_show_the_search(searched: tuple) -> None:
    folder, report, _ = searched

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "tuner", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout

    best = run("best")
    assert f"trial {report['best_trial']['number']}" in best
    assert f"{100 * report['refit']['test_accuracy_mean']:.2f}" in best
    assert "tuner search small.toml" in best
    row = json.loads(run("studies", "--json"))[0]
    assert (row["name"], sum(row["trials"].values())) == ("small-1", 6)
    assert row["best_val_accuracy"] == report["best_trial"]["val_accuracy"]


@pytest.mark.slow
def test_a_trials_curve_depends_on_its_values_and_seed_only(
    searched: tuple, tuner: Tuner, space_path: Path, small_folder: Path
) -> None:
    _, first, _ = searched
    again = tuner(
        "search", space_path, "--trials", 6, "--workers", 1, "--seed", 0, "--data", small_folder, "--no-refit", "--json"
    )
    assert again.code == 0, again.err

    def curves(folder: Path) -> dict[str, list[list[str]]]:
        found: dict[str, list[list[str]]] = {}
        with (folder / "results/runs/small-1/curves.csv").open() as file:
            for number, *row, _seconds in list(csv.reader(file))[1:]:
                found.setdefault(number, []).append(row)
        return found

    one, two = curves(searched[0]), curves(space_path.parent)
    assert set(one) == set(two)
    for number, rows in one.items():
        shared = min(len(rows), len(two[number]))  # another timing may prune elsewhere
        assert rows[:shared] == two[number][:shared]
    assert again.document["refit"] is None
    assert again.document["seed"] == first["seed"]


@pytest.mark.slow
def test_no_refit_says_what_is_missing_and_resume_adds_it(tuner: Tuner, space_path: Path, small_folder: Path) -> None:
    options = ["--workers", 1, "--data", small_folder]
    assert tuner("search", space_path, "--trials", 2, "--no-refit", *options).code == 0

    best = tuner("best")
    refused = tuner("best", "--export", "away")
    resumed = tuner("search", "--resume", "--trials", 3, *options, "--json")

    assert "tuner search --resume --study small-1" in best.out
    assert refused.code == 7
    assert "no retrained model" in refused.err
    assert resumed.code == 0, resumed.err
    assert resumed.document["n_trials"] == 3
    assert resumed.document["refit"]["test_accuracy_mean"] > 0.4
    assert resumed.document["space_hash"] == json.loads(tuner("spaces", "show", space_path, "--json").out)["hash"]
    # The study goes, its run folder stays: the next study does not take its name, nor its score.
    for file in (space_path.parent / "results").glob("studies.db*"):
        file.unlink()
    fresh = tuner("search", space_path, "--trials", 1, "--epochs", 1, "--no-refit", *options, "--json").document
    assert (fresh["study"], fresh["refit"]) == ("small-2", None)
    same_name = tuner(
        "search", space_path, "--study", "small-1", "--trials", 1, "--no-refit", *options, "--json"
    ).document
    assert same_name["refit"] is None


@pytest.mark.slow
def test_a_resumed_search_remembers_what_it_was_told_and_scores_the_same_winner_once(
    tuner: Tuner, space_path: Path, small_folder: Path
) -> None:
    options = ["--workers", 1, "--data", small_folder]
    first = tuner("search", space_path, "--trials", 1, "--epochs", 2, *options, "--json").document

    kept = tuner("search", "--resume", *options, "--json").document
    more = tuner("search", "--resume", "--trials", 2, "--no-refit", *options, "--json").document
    again = tuner("search", "--resume", "--no-refit", *options, "--json").document

    assert kept["refit"] == first["refit"]  # seconds included: nothing was trained or scored a second time
    assert [document["n_trials"] for document in (first, kept, more, again)] == [1, 1, 2, 2]
    assert again["command"].count(" && tuner search --resume") == 3
    assert tuner("search", space_path, "--study", "small-1", *options).code == 5


def test_plain_lines_on_a_pipe_tell_every_event(tuner: Tuner, space_path: Path, small_folder: Path) -> None:
    done = tuner("search", space_path, "--trials", 2, "--workers", 1, "--epochs", 2, "--refit-seeds", 1,
                 "--refit-epochs", 1, "--data", small_folder)  # fmt: skip

    assert done.code == 0, done.err
    for said in ("Study small-1", "trial 0 starts", "start_with", "trial 0 epoch 2: validation", "trial 0 complete",
                 "Retraining trial", "refit seed 0 epoch 1", "Test accuracy", "pruner saved"):  # fmt: skip
        assert said in done.out
    assert "\x1b" not in done.out


def test_the_dashboard_serves_the_study(searched: tuple) -> None:
    folder, _, _ = searched
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tuner", "dashboard", "small-1", "--port", str(port)]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert f"http://127.0.0.1:{port}/dashboard/studies/1" in process.stdout.readline()
            assert [study["study_name"] for study in _studies_served(port)] == ["small-1"]
        finally:
            process.send_signal(signal.SIGTERM)


def _studies_served(port: int) -> list[dict]:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=5) as answer:
                return json.load(answer)["study_summaries"]
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.3)


def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
from tuner.cli import run
assert run(["--help"]) == 0 and run(["search", "--help"]) == 0
loaded = {"tensorflow", "keras", "optuna", "matplotlib", "numpy", "rich.live"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_search_loads_no_tensorflow_into_the_process_that_owns_the_study() -> None:
    code = """
import sys
import tuner.experiment, tuner.console.screens, tuner.evaluation.score
assert not {"tensorflow", "keras"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
