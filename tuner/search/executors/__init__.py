"""Where workers run. An executor is small: start, end and look at workers, send, receive."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from tuner.errors import EnvironmentProblem
from tuner.search.messages import FromWorker, ToWorker
from tuner.space.settings import SearchSettings

RAY_DEFAULTS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_NUM_REDIS_GET_RETRIES": "10"}
"""Nothing is sent to anybody; and a cluster that does not answer is given up after ten seconds, not after a minute."""


class Executor(Protocol):
    """What the coordinator knows of the machines."""

    def start(self) -> int:
        """Start one worker and return its number at once; it says ``Ready`` later."""

    def send(self, worker: int, message: ToWorker) -> None:
        """Send without waiting; a worker that is gone is reported by ``receive``."""

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        """Return what has arrived, waiting at most ``timeout`` seconds for the first message."""

    def placed(self, worker: int) -> bool:
        """Tell whether ``worker`` has a machine; one that waits for room is not silent."""

    def room(self) -> int:
        """Return how many workers it is worth having now, those that run included; 0 where there is room for none."""

    def kill(self, worker: int) -> None:
        """End a worker that does not answer, without its help, and say nothing more of it."""

    def memory(self, worker: int) -> int | None:
        """Return the bytes of memory that a worker holds; None where it cannot be told."""

    def close(self) -> None:
        """End every worker."""


def ray_address(settings: SearchSettings) -> str:
    """Return the cluster's address; ``local`` is a Ray of our own."""
    return settings.ray_address or os.environ.get("RAY_ADDRESS") or "local"


def on_ray(settings: SearchSettings, log_folder: Path) -> Executor:
    """Join the cluster that ``settings`` name, or start a Ray of our own. Raises EnvironmentProblem."""
    with environment(RAY_DEFAULTS):
        try:
            from tuner.search.executors.ray import RayExecutor
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "ray":
                raise
            raise EnvironmentProblem(
                "--executor ray: Ray is not installed", hint="pip install ray, or tuner with its extra [ray]"
            ) from None
        return RayExecutor(log_folder, settings)


def room_on_ray(settings: SearchSettings) -> int:
    """Return how many workers the cluster that ``settings`` name has room for. Raises EnvironmentProblem."""
    with contextlib.closing(on_ray(settings, Path())) as executor:
        return executor.room()


@contextlib.contextmanager
def environment(more: Mapping[str, str]) -> Iterator[None]:
    """Meanwhile, have ``more`` in the environment where it says nothing else; afterwards nothing new is in it."""
    before = set(os.environ)
    for name, value in more.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name in set(os.environ) - before:  # Ray sets some too, and our fork server would load anew for any
            del os.environ[name]
