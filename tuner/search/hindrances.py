"""What keeps a database from its work, how long that is worth waiting for, and what the user can do about it."""

from __future__ import annotations

import sqlite3
import sys
from typing import NamedTuple

TRY_AGAIN_SECONDS = 0.5
LOCK_PATIENCE_SECONDS = 600.0
DISK_PATIENCE_SECONDS = 60.0
SERVER_PATIENCE_SECONDS = 1800.0
"""A server that is away: restarted, upgraded, or behind a network that is down. Running epochs go on meanwhile."""
SERVER_PAUSE_SECONDS = 8.0
"""Between two tries to reach it, at most."""

LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
# SQLite 3.40 says FULL of a full disk, and IOERR ("disk I/O error") at a limit on a file's size.
UNWRITABLE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

# PostgreSQL's SQLSTATEs (its manual, appendix A), or the two letters of a class of them.
AWAY_STATES = ("08", "53300", "57P", "25P03", "25006")
"""No connection, or too many; stopped, starting, crashed; a transaction that idled too long; a standby that has not
taken over yet. No state at all says that libpq found nobody."""
LOCKED_STATES = ("55P03", "40", "57014")
"""A lock waited for too long, a deadlock, a statement that somebody cancelled."""
UNWRITABLE_STATES = ("53", "58030")
"""The server's disk or memory is full."""
DAMAGED_STATES = ("XX001", "XX002")
REFUSED_STATES = ("28", "3D", "3F", "42501", "42P01", "0A", "54")
"""Not this user, no such database or schema, no privilege, no such table, beyond a limit."""

LASTING = (
    "password authentication failed", "authentication failed for user", "does not exist", "no pg_hba.conf entry",
    "no password supplied", "is not permitted to log in", "permission denied", "is not currently accepting connections",
    "unsupported frontend protocol", "unrecognized configuration parameter", "no such database", "no such user",
)  # fmt: skip
"""What a server, or a pooler before it, says fatally to who connects when no other time is better; psycopg knows no
state then. All else may pass: a start, a stop, too many others, a pooler whose server is away."""

GO_ON = "nothing stored is lost, and 'tuner search --resume' goes on"


class Hindrance(NamedTuple):
    """What keeps a database from its work, how long it is worth waiting, and what the user can do."""

    said: str
    patience_seconds: float
    remedy: str
    most_pause_seconds: float = TRY_AGAIN_SECONDS
    """Between two tries: as long as it has lasted until then, and at most this."""
    connect_anew: bool = True
    """What was connected while a file was read-only stays so; a connection to a server goes on after a lock."""


def database_error(error: BaseException | None) -> Exception | None:
    """Return the driver's error that SQLAlchemy, and perhaps Optuna, has wrapped."""
    psycopg = sys.modules.get("psycopg")  # who has not imported it has none of its errors
    kinds = (sqlite3.Error, psycopg.Error) if psycopg else (sqlite3.Error,)
    while error is not None and not isinstance(error, kinds):
        error = error.__cause__
    return error if isinstance(error, Exception) else None


def hindrance_of(error: BaseException) -> Hindrance | None:
    """Return what an error means, or None where it is none that time or the user can mend."""
    cause = database_error(error)
    if cause is None:
        return None
    return _of_sqlite(cause) if isinstance(cause, sqlite3.Error) else _of_postgres(cause)


def first_line(error: BaseException) -> str:
    """Return an error's text as far as one line goes; libpq adds questions and every address that it tried."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _of_sqlite(cause: sqlite3.Error) -> Hindrance | None:
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # BUSY_SNAPSHOT is a BUSY
    if code in LOCKED:
        return Hindrance("is locked by another program", LOCK_PATIENCE_SECONDS, f"end that program; {GO_ON}")
    if code in UNWRITABLE:
        remedy = f"free space, or make it writable; {GO_ON}"
        return Hindrance(f"cannot be written: {cause}", DISK_PATIENCE_SECONDS, remedy)
    if code in DAMAGED:
        return Hindrance(f"is damaged: {cause}", 0.0, "put a copy of it back, or name another with --storage")
    return None


def _of_postgres(cause: Exception) -> Hindrance | None:
    state, said = getattr(cause, "sqlstate", None), first_line(cause)
    import psycopg  # the error is one of its own

    lost = state is None and isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    if lost and _is_turned_away(str(cause)):
        return _refused(said)
    if lost or (state or "").startswith(AWAY_STATES):
        remedy = f"start the server, or see why it cannot be reached from here; {GO_ON}"
        return Hindrance(f"cannot be reached: {said}", SERVER_PATIENCE_SECONDS, remedy, SERVER_PAUSE_SECONDS)
    if state is None:
        return None
    if state.startswith(LOCKED_STATES):
        remedy = f"end that program; {GO_ON}"
        return Hindrance("is locked by another program", LOCK_PATIENCE_SECONDS, remedy, connect_anew=False)
    if state.startswith(UNWRITABLE_STATES):
        remedy = f"free space on the server, or name the one that can be written; {GO_ON}"
        return Hindrance(f"cannot be written: {said}", DISK_PATIENCE_SECONDS, remedy)
    if state.startswith(DAMAGED_STATES):
        return Hindrance(f"is damaged: {said}", 0.0, "put a copy of it back, or name another with --storage")
    if state.startswith(REFUSED_STATES):
        return _refused(said)
    return None


def _is_turned_away(said: str) -> bool:
    """Tell whether a server does not let this user into this database, now or later."""
    return "fe_sendauth" in said or any(words in said for words in LASTING)  # libpq has no password to give


def _refused(said: str) -> Hindrance:
    return Hindrance(f"refuses: {said}", 0.0, f"see to user, database and privileges there; {GO_ON}")
