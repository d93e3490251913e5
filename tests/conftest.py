"""What the tests share: real Fashion-MNIST, small slices of it, and the command line as a process."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tuner.data.idx import PARTS, parse_idx, read_bytes
from tuner.data.sources import Source, find, open_folder

from . import server as postgres
from .server import Server, Wire, programs

# A space whose networks train in a second on the small slice.
SMALL_SPACE = """
description = "for the tests"
model = "cnn"

[parameters.blocks]
type = "fixed"
value = 2

[parameters.filters_1]
type = "int"
low = 4
high = 12
step = 4

[parameters.filters_2]
type = "int"
low = 4
high = 12
step = 4

[parameters.dense_units]
type = "choice"
options = [0, 16]

[parameters.optimizer]
type = "choice"
options = ["sgd", "adam"]

[parameters.momentum]
type = "float"
low = 0.5
high = 0.95
when = { optimizer = "sgd" }

[parameters.learning_rate]
type = "float"
low = 1e-4
high = 1e-1
log = true

[parameters.batch_size]
type = "fixed"
value = 32

[[start_with]]
filters_1 = 8
filters_2 = 12
dense_units = 16
optimizer = "adam"
learning_rate = 5e-3

[search]
epochs = 4
refit_epochs = 3
refit_seeds = 2
"""


NEEDED = {
    "backends": ("jax", "torch"),
    "browser": ("playwright",),
    "formats": ("onnx", "tf2onnx", "onnxruntime", "ai_edge_litert"),
    "landscape": ("sklearn",),
    "notebook": ("nbclient", "ipykernel", "ipywidgets"),
    "postgres": ("psycopg",),
    "ray": ("ray",),
}
"""By marker, the modules that its tests need and that are no dependency."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="run the tests that train for minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reasons = _reasons_to_skip()
    if not config.getoption("--run-slow"):
        reasons["slow"] = "trains for minutes: --run-slow, as .ci/run does"
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


class _LongFilesFirst:
    """A process takes a file at a time: those that may last longest come first, so that none waits at the end."""

    @pytest.hookimpl(trylast=True)  # when what is not asked for has gone
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        allowed: dict[Path, float] = defaultdict(float)
        for item in items:
            allowed[item.path] += _seconds_allowed(item)
        items.sort(key=lambda item: -allowed[item.path])


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_LongFilesFirst())


def _seconds_allowed(item: pytest.Item) -> float:
    """Return about how long a test may last."""
    if item.get_closest_marker("skip"):
        return 0.0
    own = item.get_closest_marker("timeout")
    return float(own.args[0]) if own else 60.0 if item.get_closest_marker("slow") else 5.0


def _reasons_to_skip() -> dict[str, str]:
    """By marker, why its tests cannot run here."""
    missing = {
        marker: [name for name in modules if importlib.util.find_spec(name) is None]
        for marker, modules in NEEDED.items()
    }
    if chromium() is None:
        missing["browser"].append("Chromium")
    if programs() is None:
        missing["postgres"].append("a PostgreSQL server (apt-get install postgresql)")
    return {
        marker: f"needs {', '.join(names)}: tests/requirements-{marker}.txt, which .ci/run installs"
        for marker, names in missing.items()
        if names
    }


def chromium() -> str | None:
    """The system's own Chromium or Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for path in map(shutil.which, names) if path), None)


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture(scope="session")
def fashion() -> Source:
    return find(None, print)


@pytest.fixture(scope="session")
def small_folder(fashion: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 1,200 training and 300 test images of Fashion-MNIST as IDX files."""
    folder = tmp_path_factory.mktemp("small")
    for part in PARTS:
        array = parse_idx(read_bytes(fashion.folder, part), fashion.folder / part)
        write_idx(folder / part, array[: 1200 if part.startswith("train") else 300])
    return folder


@pytest.fixture(scope="session")
def small(small_folder: Path) -> Source:
    return open_folder(small_folder)


@pytest.fixture
def bench(tmp_path: Path, small: Source) -> Any:
    """A study in an empty folder, searched by scripted workers: a ``scripted.Bench``."""
    from .scripted import Bench

    return Bench(tmp_path, small)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Server]:
    with postgres.running() as one:
        yield one


@pytest.fixture
def server(cluster: Server) -> Iterator[Server]:
    """A PostgreSQL that runs, and that a test may stop."""
    yield cluster
    if not cluster.runs:
        cluster.start()


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    one = Wire(server.port)
    yield one
    one.close()


@pytest.fixture
def space_path(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL_SPACE, "utf-8")
    return path


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def tuner(tmp_path: Path) -> Callable[..., Done]:
    """Run ``tuner`` as a user does, in an empty folder."""

    def run(*arguments: object, timeout: float = 240) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "tuner", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "100"},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def trained_on(fashion: Source) -> tuple[np.ndarray, np.ndarray]:
    """The training file's images and labels: no test image is needed to make pictures."""
    images, labels = (parse_idx(read_bytes(fashion.folder, part), fashion.folder / part) for part in PARTS[:2])
    return images, labels


@pytest.fixture(scope="session")
def boot(trained_on: tuple[np.ndarray, np.ndarray]) -> Image.Image:
    """The first training image, an ankle boot: it touches the left and right edges."""
    return Image.fromarray(trained_on[0][0])
