"""A private PostgreSQL for the tests: real, on a free port, gone afterwards; and a wire to it that can be cut."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

USER, PASSWORD = "tuner", "geheim%/7c1e"
ENCODED = "geheim%25%2F7c1e"


def programs() -> Path | None:
    """The folder of PostgreSQL's own programs; Debian does not put it on the path."""
    found = shutil.which("initdb")
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return Path(found).resolve().parent if found else versions[-1].parent if versions else None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class Server:
    """One cluster in a folder of its own, run by a user who is not root: PostgreSQL refuses that."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            names = {user.pw_name for user in pwd.getpwall()}
            user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(folder, user.pw_uid, user.pw_gid)
        secret = folder / "password"
        secret.write_text(PASSWORD, "utf-8")
        secret.chmod(0o644)
        self._run("initdb", "--pgdata", folder / "data", "--username", USER, "--auth=scram-sha-256", "--encoding=UTF8",
                  "--locale=C", "--no-sync", "--pwfile", secret)  # fmt: skip

    @property
    def runs(self) -> bool:
        return (self.folder / "data" / "postmaster.pid").exists()

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c fsync=off -c max_connections=60"
        self._run(
            "pg_ctl", "--pgdata", self.folder / "data", "--log", self.folder / "log", "--wait", "-o", options, "start"
        )

    def stop(self, mode: str = "fast") -> None:
        """``fast`` ends every session; ``immediate`` is a crash."""
        self._run("pg_ctl", "--pgdata", self.folder / "data", "--wait", "--mode", mode, "stop")

    def new_database(self) -> str:
        """Make an empty database and return its name."""
        name = f"db_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def url(self, database: str, port: int | None = None) -> str:
        return f"postgresql+psycopg://{USER}:{ENCODED}@127.0.0.1:{port or self.port}/{database}"

    def execute(self, statement: str, *values: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """What an administrator types: each statement is committed by itself."""
        import psycopg

        where = self.url(database).replace("+psycopg", "")
        with contextlib.closing(psycopg.connect(where, autocommit=True)) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def end_sessions(self, database: str) -> None:
        """End every session of a database, as an administrator or a short outage does."""
        self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", database)

    def _run(self, program: str, *arguments: object) -> None:
        place = programs()
        assert place is not None
        done = subprocess.run(
            [place / program, *map(str, arguments)], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, check=False, timeout=120, **self._as,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stderr}"


@contextlib.contextmanager
def running() -> Iterator[Server]:
    # Not in pytest's folder, which is root's alone.
    with tempfile.TemporaryDirectory(prefix="tuner-pg-") as name:
        server = Server(Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


class Wire:
    """A wire between clients and a server; what is sent over it can be lost at its worst moment."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.commits = 0
        """That came by."""
        self.cut_at: dict[int, str] = {}
        """By the number of a COMMIT, counted from 1: ``before`` the server gets it, or ``after`` it has done it."""
        self._silent = False
        self._ends: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_clients(self) -> None:
        """Cut every connection at the clients' end: the server hears nothing, and its sessions live on."""
        self._silent = True
        for client, _ in self._ends:
            _shut(client)

    def close(self) -> None:
        self._listening.close()
        for pair in self._ends:
            for end in pair:
                _shut(end)
                end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self._ends.append((client, server))
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._down, args=(server, client), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while sent := client.recv(1 << 16):
                cut = ""
                if b"COMMIT" in sent:
                    self.commits += 1
                    cut = self.cut_at.pop(self.commits, "")
                if cut == "before":
                    _shut(client)
                    _shut(server)
                    return
                if cut == "after":
                    _shut(client, socket.SHUT_WR)  # nothing that the server answers arrives
                server.sendall(sent)
                if cut == "after":
                    _shut(server, socket.SHUT_WR)
                    return
        if not self._silent:
            _shut(server, socket.SHUT_WR)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while answered := server.recv(1 << 16):
                with contextlib.suppress(OSError):
                    client.sendall(answered)
        _shut(client)


def _shut(end: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(how)
