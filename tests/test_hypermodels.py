"""KerasTuner's hypermodels as a worker reads and builds them: the real library, the real Keras."""

from __future__ import annotations

import multiprocessing
import posixpath
import re
import subprocess
import sys
import time
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest

from tuner.data.sources import Source
from tuner.data.splits import read_images
from tuner.errors import SpaceError
from tuner.evaluation.apart import apart
from tuner.search import worker
from tuner.search.executors import children, local
from tuner.search.executors.processes import start
from tuner.search.messages import Beat
from tuner.search.worker import prepare_backend
from tuner.space.hypermodel import asked_of
from tuner.space.hypermodel_file import read_hypermodel
from tuner.space.parameters import Float, Int
from tuner.training.guests import GuestRoad

from .guests import HEAD, Write, built, write

__all__ = ["write"]  # a fixture

prepare_backend()


# What a user's file can get wrong: each in one line that names the file, the line and the way out.

NEEDS = "class Mine(keras_tuner.HyperModel):\n    def __init__(self, classes):\n        super().__init__()\n"
WRONG = {
    "an import fails": ("import nothing_of_that_name", r"imported: ModuleNotFoundError: .*nothing_of_that_name.* \(line 1\)"),
    "it ends Python": ("import sys\nsys.exit(3)", r"it cannot be imported: SystemExit: 3 \(line 2\)"),
    "nothing to build": ("x = 1", r"what is to be searched\? There is neither a function of 'hp' alone nor a HyperModel"),
    "two candidates": (HEAD + "def one(hp): ...\ndef two(hp): ...", r"There is one and two \(name one: my_model.py:one\)"),
    "a class with arguments": (HEAD + NEEDS, r"Mine needs classes \(make one in the file: hypermodel = Mine\(…\)\)"),
    "build raises": ("def build(hp):\n    hp.Int('x', 1, 2)\n    raise ValueError('no such luck')", r"it cannot be built: ValueError: no such luck \(line 3\)"),
    "build returns nothing": ("def build(hp): ...", r"it returned NoneType, not a Keras model \(return model\)"),
    "not compiled": (HEAD + "def build(hp): return net()", r"not compiled with a loss \(model.compile\("),
    "too few outputs": (HEAD + "def build(hp): return compiled(net(outputs=7))", r"outputs of shape \(7,\) an image, and the data has 10 classes"),
    "other images": (HEAD + "def build(hp): return compiled(net(shape=(32, 32, 3)))", r"it takes images of shape \(32, 32, 3\), and the data's are \(28, 28, 1\)"),
    "averaged weights": (HEAD + "def build(hp):\n    model = net()\n    model.compile(keras.optimizers.Adam(use_ema=True), 'sparse_categorical_crossentropy')\n    return model", r"averages weights, and use_ema is not heeded here"),
    "logits of a loss that wants probabilities": (HEAD + "def build(hp): return compiled(net(activation=None))", r"do not add up to 1, and its loss is not from_logits"),
    "a domain upside down": ("def build(hp): hp.Int('x', 9, 1)", r"min_value 9 is greater than the max_value 1\. \(line 1\)"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_file_is_one_line(write: Write, text: str, said: str) -> None:
    with pytest.raises(SpaceError, match=said) as error:
        built(write(text))

    assert "\n" not in str(error.value)
    assert "my_model.py" in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def build(hp:\n", r"my_model.py, line 1: not Python: '\(' was never closed"),
        ("tuner = make()\ntuner.search(x, y)", r"line 2: it searches as soon as it is imported \(put what is"),
    ],
    ids=["no Python", "a search at its top"],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "my_model.py").write_text(text)

    with pytest.raises(SpaceError, match=said):
        read_hypermodel(str(tmp_path / "my_model.py"))


def test_a_name_that_is_not_there_is_refused_with_those_that_are(write: Write) -> None:
    file = write("def build_model(hp): ...", "bild_model")

    with pytest.raises(SpaceError, match=r"there is no 'bild_model' in it \(there is: build_model\)"):
        built(file)


def test_an_object_is_meant_before_its_class_and_helpers_of_more_than_hp_are_not(write: Write) -> None:
    text = """
class Mine(keras_tuner.HyperModel):
    def build(self, hp):
        return compiled(net(block(hp, 3)))

def block(hp, size):
    return layers.Conv2D(hp.Int("filters", 2, 4), size)

hypermodel = Mine()
"""
    assert built(write(HEAD + text)).values == {"filters": 2}


# What a network takes and gives.


@pytest.mark.parametrize(
    ("build", "shape", "highest", "one_hot", "logits"),
    [
        ("compiled(net())", (28, 28, 1), 1.0, False, False),
        ("compiled(net(layers.Rescaling(1 / 255)))", (28, 28, 1), 255.0, False, False),
        ("compiled(net(layers.Rescaling(2.0, offset=-1)))", (28, 28, 1), 1.0, False, False),
        ("compiled(net(shape=(28, 28)))", (28, 28), 1.0, False, False),
        ("compiled(net(shape=(784,)))", (784,), 1.0, False, False),
        ("compiled(net(), loss='categorical_crossentropy', metrics=['acc'])", (28, 28, 1), 1.0, True, False),
        ("compiled(net(activation=None), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))", (28, 28, 1), 1.0, False, True),
        ("compiled(net(), loss=keras.losses.CategoricalFocalCrossentropy())", (28, 28, 1), 1.0, True, False),
        ("compiled(keras.Sequential([layers.Flatten(), layers.Dense(10, 'softmax')]))", (28, 28, 1), 1.0, False, False),
        ("compiled(net(), loss=['sparse_categorical_crossentropy'])", (28, 28, 1), 1.0, False, False),
        ("compiled(net(shape=(32, 32, 3)), loss='categorical_crossentropy')", (32, 32, 3), 1.0, True, False),
        ("compiled(net(shape=(3072,)))", (3072,), 1.0, False, False),
    ],
)  # fmt: skip
def test_the_contract_is_read_from_what_was_built(
    write: Write, build: str, shape: tuple[int, ...], highest: float, *, one_hot: bool, logits: bool
) -> None:
    of_images = (32, 32, 3) if shape in ((32, 32, 3), (3072,)) else (28, 28, 1)
    contract = built(write(f"{HEAD}\ndef build(hp): return {build}"), input_shape=of_images).contract

    assert (contract.shape, contract.highest, contract.one_hot, contract.logits) == (shape, highest, one_hot, logits)
    assert contract.metric in ("accuracy", "acc")


@pytest.mark.parametrize(
    ("metrics", "called"),
    [
        ("[keras.metrics.SparseTopKCategoricalAccuracy(5), 'accuracy']", "accuracy"),
        ("[keras.metrics.SparseCategoricalAccuracy(name='balanced_acc'), keras.metrics.SparseCategoricalAccuracy()]", "sparse_categorical_accuracy"),
        ("[keras.metrics.SparseCategoricalAccuracy(name='my_acc')]", "my_acc"),
        ("[]", ""),
    ],
)  # fmt: skip
def test_the_accuracy_of_the_logs_is_the_one_that_is_plainly_called_so(write: Write, metrics: str, called: str) -> None:
    assert built(write(f"{HEAD}\ndef build(hp): return compiled(net(), metrics={metrics})")).contract.metric == called


def test_a_loss_of_ones_own_says_by_a_setting_that_it_takes_logits(write: Write) -> None:
    text = """
def my_loss(y, said):
    return keras.losses.sparse_categorical_crossentropy(y, said, from_logits=True)
def build(hp):
    return compiled(net(activation=None), loss=my_loss)
"""

    assert built(write(HEAD + text, outputs="logits", labels="integer")).contract.logits
    with pytest.raises(SpaceError, match=r"say --set hypermodel\.outputs=logits"):
        built(write(HEAD + text, labels="integer"))


@pytest.mark.parametrize(
    "text",
    [
        "def build(hp: int):\n    assert build.__annotations__['hp'] is int\n    return compiled(net())",
        "import re\nVERSION = re.search('a', 'a')\ndef build(hp): return compiled(net())",
        "del compiled, net\ndef build_model(hyperparameters):\n    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10, 'softmax')])\n    model.compile('sgd', 'sparse_categorical_crossentropy')\n    return model",
    ],
    ids=["annotations", "re.search", "another name"],
)
def test_what_is_good_python_is_read_as_such(write: Write, text: str) -> None:
    assert built(write(HEAD + text)).values == {}


def test_a_wide_range_is_not_written_out() -> None:
    hp = keras_tuner.HyperParameters()
    hp.Int("seed", 0, 2**31 - 1)
    hp.Float("share", 0.0, 1e6, step=0.5)

    seed, share = (asked_of(one).parameter for one in hp.space)

    assert seed == Int(0, 2**31 - 1)
    assert share == Float(0.0, 1e6, 0.5)


def test_what_the_contract_gets_wrong_can_be_set(write: Write) -> None:
    text = HEAD + "def build(hp): return compiled(net(layers.Rescaling(1 / 255)))"

    assert built(write(text, pixels="unit")).contract.highest == 1.0
    with pytest.raises(SpaceError, match="its loss does not take one-hot labels"):
        built(write(text, labels="one-hot"))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("layers.Conv2D(8, 3, padding='same', strides=2)", 14 * 14 * 9 * 8 + 14 * 14 * 8 * 10),
        ("keras.Sequential([layers.Conv2D(4, 5)]), layers.BatchNormalization()", 24 * 24 * 25 * 4 + 24 * 24 * 4 * 10),
        ("layers.DepthwiseConv2D(3), layers.SeparableConv2D(6, 3)", 26 * 26 * 9 + 24 * 24 * (9 + 6) + 24 * 24 * 6 * 10),
        ("layers.MaxPooling2D(4), layers.Conv2DTranspose(3, 2, strides=2)", 49 * 4 * 3 + 14 * 14 * 3 * 10),
    ],
)
def test_multiply_adds_are_counted_layer_by_layer(write: Write, layers: str, expected: int) -> None:
    guest = built(write(f"{HEAD}\ndef build(hp): return compiled(net({layers}))"))

    assert guest.contract.cost.multiply_adds == expected
    assert guest.contract.cost.parameters == guest.model.count_params()


@pytest.mark.parametrize("logits", [False, True], ids=["probabilities", "logits"])
def test_the_model_that_leaves_takes_raw_pixels_and_says_what_the_network_says(
    write: Write, small: Source, tmp_path: Path, *, logits: bool
) -> None:
    loss = f"keras.losses.SparseCategoricalCrossentropy(from_logits={logits})"
    text = f"def build(hp): return compiled(net(activation={None if logits else 'softmax'!r}, shape=(28, 28)), loss={loss})"
    guest, images = built(write(HEAD + text)), read_images(small)
    said = GuestRoad(guest, images).logits(images.val)

    guest.whole().save(tmp_path / "model.keras")

    model = keras.saving.load_model(tmp_path / "model.keras")
    assert model.input_shape == (None, 28, 28, 1)
    found = model.predict(images.val, verbose=0)
    np.testing.assert_allclose(found, np.exp(said) / np.exp(said).sum(axis=1, keepdims=True), atol=1e-5)


def test_the_process_that_searches_loads_neither_keras_nor_kerastuner(write: Write) -> None:
    file = write("raise AssertionError('it was imported')\ndef build(hp): ...")
    code = f"""
import sys
import tuner.cli.search, tuner.experiment, tuner.export.away, tuner.search.rehearsal
from tuner.search.request import read_checked
read_checked({file.path!r})
print([name for name in ("keras", "tensorflow", "keras_tuner") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "[]", done.stderr


def test_a_file_here_that_is_called_like_a_library_hides_it_from_no_process_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tuner", "random", "keras_tuner"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError('it was imported')")
    (tmp_path / "beside_it.py").write_text("import random\nHERE = random.random()")
    (tmp_path / "my_model.py").write_text(f"import beside_it\n{HEAD}\ndef build(hp): return compiled(net())")
    monkeypatch.chdir(tmp_path)
    children._forget()

    with (tmp_path / "log").open("wb") as log:
        process, channel = start("random:SystemRandom", log, local.worker_environment(), alone=True)
    channel.close()

    assert process.wait(30) == 0, (tmp_path / "log").read_text()
    assert apart(posixpath.join, "a", "b", what="joining", again="") == "a/b"
    assert built(read_hypermodel("my_model.py")).values == {}


@pytest.mark.parametrize("busy", [True, False], ids=["computes", "hangs"])
def test_a_worker_says_that_a_users_code_computes_and_nothing_when_it_hangs(
    monkeypatch: pytest.MonkeyPatch, *, busy: bool
) -> None:
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(worker, "BUSY", 0.1)  # this process has other threads, which compute a little
    ours, theirs = multiprocessing.Pipe()

    with worker.Worker(theirs)._pulse(7):
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            time.sleep(0 if busy else 1.0)

    heard = []
    while ours.poll():
        heard.append(ours.recv())
    assert set(heard) == ({Beat(7)} if busy else set())


def test_kerastuner_is_a_guest_of_one_room() -> None:
    rooms = Path(__file__).parent.parent / "tuner"

    users = {
        str(path.relative_to(rooms))
        for path in rooms.rglob("*.py")
        if re.search(r"^\s*(import|from) keras_tuner", path.read_text(), re.MULTILINE)
    }

    assert users == {"space/hypermodel.py"}
