"""Optuna Dashboard on our storage, in this process, until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import warnings
import webbrowser
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from tuner.errors import EnvironmentProblem
from tuner.runs import Outputs
from tuner.search.storage import PatientStorage

NICENESS = 5
"""A search on the same machine goes first."""


class Server(ThreadingMixIn, WSGIServer):
    """A thread a request: neither a slow plot nor a connection that a browser holds open keeps the others waiting."""

    daemon_threads = True
    request_queue_size = 64
    """A browser opens several connections at once."""

    @property
    def address(self) -> str:
        """Return where it listens, as a browser wants it."""
        host = str(self.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}"


class _Server6(Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the parameter's name
        """Say nothing: one line a request would bury the address."""


def listen(host: str, port: int) -> Server:
    """Return a server that listens, and does not answer yet; port 0 is a free one. Raises EnvironmentProblem."""
    try:
        return (_Server6 if ":" in host else Server)((host, port), _Quiet)
    except OSError as error:
        raise EnvironmentProblem(
            f"{host}:{port}: cannot listen there: {error.strerror}", hint="choose another with --port"
        ) from None


def open_browser(address: str) -> None:
    """Open a page beside whatever comes next; nothing happens where there is no browser.

    Without a display there are browsers for the terminal alone, which would take it over.
    """
    displays = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    if sys.platform != "linux" or any(os.environ.get(name) for name in displays):
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def serve(server: Server, storage: PatientStorage, outputs: Outputs) -> None:
    """Serve Optuna Dashboard, our material in it, until interrupted."""
    from tuner.reporting.attached import Attached

    # What an importance thinks of few trials is no news for the terminal.
    warnings.filterwarnings("ignore", category=UserWarning, module="optuna")
    os.nice(NICENESS)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.set_app(Attached(storage, outputs))
        server.serve_forever()
