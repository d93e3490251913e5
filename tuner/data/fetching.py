"""Published data sets, downloaded by Keras into its own cache; Fashion-MNIST from Debian where that fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tuner.data.folder import FASHION_BLOBS, FASHION_MNIST
from tuner.data.idx import PARTS, git_blob, has_part, read_bytes
from tuner.data.store import cache_folder
from tuner.errors import DataError

DOWNLOAD_TIMEOUT_SECONDS = 300
VERIFIED = "verified"
_DEBIAN_FOLDER = Path("usr/share/datasets/fashion-mnist")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish",
    "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange",
    "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine",
    "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk",
    "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank",
    "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow_tree", "wolf", "woman", "worm",
)  # fmt: skip
KERAS_SETS: dict[str, tuple[str, ...]] = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (),
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
}
"""Of ``keras.datasets``, with their classes' names, which Keras does not tell."""


def keras_folder() -> Path:
    """Return Keras's cache of data sets."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"


def debian_folder() -> Path:
    """Return where Debian's package puts Fashion-MNIST."""
    return Path("/") / _DEBIAN_FOLDER


def save_keras_set(name: str, to: Path) -> None:
    """Let Keras load one of its data sets, from its cache or by a download, and write it as ``.npz``.

    Raises DataError.
    """
    code = (
        f"import sys, numpy, keras; (a, b), (c, d) = keras.datasets.{name}.load_data(); "
        "numpy.savez(sys.argv[1], x_train=a, y_train=b, x_test=c, y_test=d)"
    )
    try:
        _run_keras(code, str(to))
    except (OSError, subprocess.SubprocessError) as error:
        raise DataError(
            f"keras:{name} cannot be loaded: {_last_line(error)}",
            hint=f"its files go to {keras_folder()}; the network is needed for that once",
        ) from None


def fetch(say: Callable[[str], None] = lambda _: None) -> Path:
    """Download Fashion-MNIST, by Keras or else as Debian's package (no root needed), and return its folder."""
    problems = []
    for what, download in (("Keras", _fetch_with_keras), ("Debian's package", _fetch_from_debian)):
        say(f"Fetching Fashion-MNIST (30 MB) through {what} …")
        try:
            folder = download()
        except (OSError, subprocess.SubprocessError) as error:
            problems.append(f"{what}: {_last_line(error)}")
            continue
        if state_of(folder) == VERIFIED:
            return folder
        problems.append(f"{what}: {state_of(folder)}")
    raise DataError(
        f"Fashion-MNIST cannot be downloaded ({'; '.join(problems)})",
        hint="put the four IDX files into a folder and name it with --data or TUNER_DATA",
    )


def state_of(folder: Path | None) -> str:
    """Return whether a folder holds Fashion-MNIST: ``verified``, ``not there``, or what is wrong."""
    if folder is None:
        return "not set"
    try:
        if not any(has_part(folder, part) for part in PARTS):
            return "not there"
        for part in PARTS:
            if git_blob(read_bytes(folder, part)) != FASHION_BLOBS[part]:
                return f"{part} is not the published one"
    except (DataError, OSError) as error:
        return str(error)
    return VERIFIED


def _last_line(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer in {DOWNLOAD_TIMEOUT_SECONDS} s"
    output = getattr(error, "stderr", None) or str(error)
    return str(output.strip().splitlines()[-1]) if output.strip() else "failed"


def _fetch_with_keras() -> Path:
    _run_keras("import keras; keras.datasets.fashion_mnist.load_data()")
    return keras_folder() / FASHION_MNIST


def _run_keras(code: str, *arguments: str) -> None:
    # In a process of its own: the download needs Keras, and this process does without it.
    _run([sys.executable, "-c", code, *arguments], env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})


def _fetch_from_debian() -> Path:
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        package = "dataset-fashion-mnist"
        try:
            _run(["apt-get", "download", package], cwd=room)
        except subprocess.SubprocessError:  # no package lists on this machine: make some of our own, without root
            (room / "lists" / "partial").mkdir(parents=True)
            lists = ["-o", f"Dir::State::Lists={room / 'lists'}", "-o", f"Dir::Cache={room}"]
            _run(["apt-get", *lists, "update"], cwd=room)
            _run(["apt-get", *lists, "download", package], cwd=room)
        _run(["dpkg-deb", "-x", str(next(room.glob("*.deb"))), str(room / "unpacked")])
        folder = cache_folder() / FASHION_MNIST
        folder.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            draft = folder / f".{part}.gz.draft"
            shutil.copyfile(room / "unpacked" / _DEBIAN_FOLDER / f"{part}.gz", draft)
            draft.replace(folder / f"{part}.gz")
    return folder


def _run(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    subprocess.run(  # noqa: S603  # a fixed command
        command, cwd=cwd, env=env, check=True, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_SECONDS
    )
