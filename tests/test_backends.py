"""Keras on JAX and torch: learning, the same bits again, TensorFlow's steps, and a whole search. Each in its process.

pytest's own process has TensorFlow; ``python -m tests.test_backends DATA WEIGHTS FOUND`` is the other backend's side.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.data.idx import PARTS, parse_idx, read_bytes
from tuner.data.sources import open_folder
from tuner.data.splits import read_images
from tuner.search.executors.local import worker_environment

from .conftest import SMALL_SPACE, Done

pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]

NETWORK = {"blocks": 2, "filters_1": 8, "filters_2": 16, "dense_units": 32, "batch_size": 32}
RECIPE = {"optimizer": "adamw", "weight_decay": 1e-3, "clip_norm": 1.0, "label_smoothing": 0.1, "l2": 1e-4, "ema": 0.2,
          "erase": 4}  # fmt: skip
# No dropout, whose random numbers each backend draws its own way, and a slow rate: Adam's first steps divide by nearly
# nothing, which magnifies rounding.
STEPS = {**NETWORK, **RECIPE, "learning_rate": 1e-4, "flip": True}
TRAINING = {**NETWORK, **RECIPE, "learning_rate": 5e-3, "dropout_dense": 0.2, "shift": 1}
N_STEPS, EPOCHS, UNTIL = 8, 3, 1


def first_steps(data: Path, weights: Path) -> dict[str, Any]:
    """Take a few steps from the ``weights`` (.npz), which whoever comes first writes."""
    from keras import ops

    from tuner.models.cnn import build_network
    from tuner.training.configuration import read_configuration
    from tuner.training.pipeline import plan_epoch
    from tuner.training.stock import make_road

    images, configuration = read_images(open_folder(data)), read_configuration(STEPS)
    network = build_network(configuration.plan((28, 28, 1), 10), scale=images.scale, seed=1)
    if not weights.exists():
        np.savez(weights, *network.get_weights())
    with np.load(weights) as saved:
        network.set_weights([saved[name] for name in saved.files])
    road, epoch = make_road(network, images, configuration.recipe), plan_epoch(1, 1, len(images.train), 32)
    rates = np.full(N_STEPS, 1e-4, np.float32)
    loss, accuracy = road.epoch(epoch.order[:N_STEPS], epoch.draws[:N_STEPS], rates, lambda: False)
    # Without the moving statistics, which are in the logits: the fused norm estimates the variance without bias.
    trained = np.concatenate([ops.convert_to_numpy(w).ravel() for w in network.trainable_weights])
    return {"loss": loss, "accuracy": accuracy, "trained": trained, "logits": road.logits(images.val)}


def trainings(data: Path, checkpoints: Path) -> dict[str, Any]:
    """Train once, again, and interrupted: each one's curve, and its weights as one row."""
    from tuner.training.checkpoint import Checkpoints
    from tuner.training.configuration import read_configuration
    from tuner.training.fit import fit
    from tuner.training.stock import Stock

    images, configuration, stock = read_images(open_folder(data)), read_configuration(TRAINING), Stock()
    kept = Checkpoints(checkpoints, "this")
    found: dict[str, Any] = {}
    for name, until, keeper in (("once", EPOCHS, None), ("again", EPOCHS, None),
                                ("interrupted", UNTIL, kept), ("resumed", EPOCHS, kept)):  # fmt: skip
        road = stock.take(configuration.plan((28, 28, 1), 10), images, configuration.recipe, 1)
        curve = fit(road, images, configuration.recipe, epochs=EPOCHS, seed=1, keeper=keeper,
                    after_epoch=lambda result, last=until: result.epoch < last)  # fmt: skip
        found[f"{name}_curve"] = [(r.loss, r.accuracy, r.val_loss, r.val_accuracy) for r in curve]
        found[f"{name}_weights"] = np.concatenate([weight.ravel() for weight in road.network.get_weights()])
    return found


@pytest.fixture(scope="module", params=["jax", "torch"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def here(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The initial weights, and TensorFlow's first steps from them."""
    weights = tmp_path_factory.mktemp("weights") / "initial.npz"
    return weights, first_steps(small_folder, weights)


@pytest.fixture(scope="module")
def there(
    backend: str, here: tuple[Path, dict], small_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the other backend found, in a process of its own with a worker's environment."""
    found = tmp_path_factory.mktemp(backend) / "found.npz"
    command = [sys.executable, "-m", "tests.test_backends", small_folder, here[0], found]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], env={**worker_environment(), "KERAS_BACKEND": backend},
                          capture_output=True, text=True, check=False, timeout=400)  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(found) as saved:
        return dict(saved)


def test_the_first_steps_are_tensorflows(backend: str, here: tuple[Path, dict], there: dict) -> None:
    _, expected = here

    assert there["backend"] == backend
    assert there["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert there["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-6)
    np.testing.assert_allclose(there["trained"], expected["trained"], atol=3e-5)  # eight steps moved them by 8e-4
    np.testing.assert_allclose(there["logits"], expected["logits"], atol=5e-3)


def test_a_training_learns(there: dict) -> None:
    val_accuracy = there["once_curve"][:, 3]

    assert val_accuracy[-1] > 0.65
    assert there["once_curve"][-1, 0] < there["once_curve"][0, 0]


def test_the_same_seed_gives_the_same_bits_also_after_an_interruption(there: dict) -> None:
    assert len(there["interrupted_curve"]) == UNTIL
    for name in ("again", "resumed"):
        assert np.array_equal(there[f"{name}_curve"], there["once_curve"])
        assert np.array_equal(there[f"{name}_weights"], there["once_weights"])
    assert not np.array_equal(there["interrupted_weights"], there["once_weights"])


def test_a_search_refits_scores_and_exports_what_tensorflow_loads(
    backend: str, tuner: Callable[..., Done], small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    monkeypatch.setenv("KERAS_BACKEND", backend)
    (tmp_path / "small.toml").write_text(SMALL_SPACE, "utf-8")
    settings = ["--deterministic", "--workers", 1, "--seed", 0, "--epochs", 3, "--refit-epochs", 2, "--refit-seeds", 1]

    searched = tuner("search", "small.toml", "--trials", 4, *settings, "--data", small_folder, "--json")
    exported = tuner("best", "--export", "away", "--json")

    assert (searched.code, exported.code) == (0, 0), searched.err + exported.err
    report = searched.document
    assert (report["n_trials"], report["n_failed"]) == (4, 0)
    assert report["n_pruned"] > 0
    assert report["refit"]["test_accuracies"][0] > 0.5
    assert keras.backend.backend() == "tensorflow"
    model = keras.saving.load_model(tmp_path / "away" / "model.keras", compile=False)
    images = parse_idx(read_bytes(small_folder, PARTS[2]), small_folder / PARTS[2])[..., None]
    with np.load(tmp_path / "results" / "runs" / report["study"] / "predictions.npz") as saved:
        np.testing.assert_allclose(model.predict(images, verbose=0), saved["probabilities"][0], atol=1e-4)


def main(data: str, weights: str, found: str) -> None:
    """Save what the backend of this process finds."""
    from tuner.search.worker import prepare_backend

    prepare_backend()
    import keras

    done = {**first_steps(Path(data), Path(weights)), **trainings(Path(data), Path(found).parent / "checkpoints")}
    np.savez(found, backend=keras.backend.backend(), **done)


if __name__ == "__main__":
    main(*sys.argv[1:])
