"""Optuna Dashboard on our storage, in this process."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tuner.errors import EnvironmentProblem

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


def check_port(host: str, port: int) -> None:
    """Raise EnvironmentProblem when nothing can listen on ``host``:``port``."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise EnvironmentProblem(
            f"{host}:{port}: cannot listen there: {error.strerror}", hint="choose another with --port"
        ) from None


def serve(storage: BaseStorage, host: str, port: int) -> None:
    """Serve Optuna Dashboard until interrupted."""
    from optuna_dashboard import run_server

    run_server(storage, host=host, port=port)
