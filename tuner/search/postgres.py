"""What only PostgreSQL has: how it is reached, whether a COMMIT without an answer counts, and one search per study.

The lock of a study is an advisory one, and it belongs to the connection that writes: the connection of a search takes
it before anything else, and one that cannot have it is none. So nothing is ever written without the lock, whatever
happened to the connection before. The lock alone does not tell that another search had it meanwhile and has ended: who
writes a study puts a token into it, and a later connection goes on only where it still stands.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import re
import socket
import threading
import time
import uuid
from typing import Any, NamedTuple

import sqlalchemy
import sqlalchemy.engine
import sqlalchemy.exc

from tuner.errors import EnvironmentProblem, StudyError, UsageError
from tuner.runs import without_password

DRIVER = "postgresql+psycopg"
LOCK_WAIT_SECONDS = 2.0
"""How long the server waits for a row's lock by itself: short, for meanwhile nobody is told and Ctrl-C is not heard."""
OLD_SESSION_SECONDS = 15.0
"""How long the session of a connection that was lost may take to end, once it is told to."""
CREATION_SECONDS = 60
CREATION = "the tables of Optuna"
"""Nobody's study: who holds this lock makes them."""
# A dead network is noticed within a minute at both ends: here the search waits, there its lock is free.
REACHED_BY = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""libpq's own words; what the URL says of them stands."""
IN_THE_FUTURE = "22023"
"""What ``txid_status`` says of a number that was not given out yet (invalid_parameter_value)."""
SEEN_DEAD_BY = (
    ("tcp_keepalives_idle", "30", 0),
    ("tcp_keepalives_interval", "10", 0),
    ("tcp_keepalives_count", "3", 0),
    ("tcp_user_timeout", "60000", 120000),  # keepalives are not sent while an answer is on its way
)
"""What the server is told for the same, each with the first version that knows it."""


def server_of(storage: str) -> sqlalchemy.URL | None:
    """Return the URL of a PostgreSQL server, None where ``storage`` is anything else.

    Raises UsageError when it cannot be read or names another driver, EnvironmentProblem without psycopg.
    """
    if not re.match(r"postgres(ql)?(\+\w+)?://", storage):
        return None
    shown = without_password(storage)
    try:
        url = sqlalchemy.make_url(re.sub(r"^postgres(ql)?://", f"{DRIVER}://", storage))
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise UsageError(f"--storage {shown}: no URL", hint=f"{DRIVER}://USER@HOST/DATABASE") from None
    if url.drivername != DRIVER:
        raise UsageError(f"--storage {shown}: another driver than psycopg", hint=f"{DRIVER}://…")
    nameless = [word for word in storage.partition("?")[2].split("&") if "=" not in word]
    # What is behind it would be told as the host that was not found: p@ss/word is a password and the host 'ss'.
    if any("@" in (part or "") for part in (url.host, url.database, *nameless)):
        raise UsageError("--storage: a password with '@' in it", hint="write %40 for it, or keep it in ~/.pgpass")
    try:
        importlib.import_module("psycopg")
    except ImportError:
        raise EnvironmentProblem(
            f"--storage {shown}: needs psycopg, which is not installed",
            hint="pip install 'psycopg[binary]', or tuner with its extra [postgres]",
        ) from None
    return url


def connect_arguments(url: sqlalchemy.URL) -> dict[str, Any]:
    """Return what connections are made with, beside what the URL says."""
    ours = {**REACHED_BY, "application_name": f"tuner {os.getpid()} on {socket.gethostname()}"[:63]}
    return {key: value for key, value in ours.items() if key not in url.query}


def wait_shortly(connection: Any, _record: object = None) -> None:  # noqa: ANN401  # psycopg's
    """Let a new connection wait for locks as shortly as SQLite does, and its server notice when it is dead."""
    connection.execute(f"SET lock_timeout = {int(LOCK_WAIT_SECONDS * 1000)}")
    for name, value, since in SEEN_DEAD_BY:
        if connection.info.server_version >= since:
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    connection.commit()


def has_tables(url: sqlalchemy.URL) -> tuple[bool, bool]:
    """Return whether a database has tables of Optuna, and whether it has all of them: the version comes last."""
    engine = _engine(url)
    with engine.connect() as connection:
        begun, ended = (
            connection.scalar(sqlalchemy.text("SELECT to_regclass(:name) IS NOT NULL"), {"name": name})
            for name in ("studies", "alembic_version")
        )
        ended = ended and connection.scalar(sqlalchemy.text("SELECT count(*) FROM alembic_version"))
    return bool(begun), bool(ended)


def alone_at_creation(url: sqlalchemy.URL) -> sqlalchemy.Connection:
    """Return a connection that nobody else has while tables are made; to be closed."""
    connection = _engine(url).connect()
    connection.execute(sqlalchemy.text(f"SET lock_timeout = '{CREATION_SECONDS}s'"))
    connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key("", CREATION)})
    return connection


def _engine(url: sqlalchemy.URL) -> sqlalchemy.Engine:
    """Return an engine that keeps no connection."""
    return sqlalchemy.create_engine(url, connect_args=connect_arguments(url), poolclass=sqlalchemy.NullPool)


class Commits:
    """Whether the transaction that a thread was committing when its connection was lost has been committed.

    A COMMIT without an answer may have come through. PostgreSQL knows: a transaction that writes has a number, whose
    status outlasts the connection and the server's crash.
    """

    def __init__(self) -> None:
        """Know of none yet."""
        self._of_thread = threading.local()

    def watch(self, *, wanted: bool) -> None:
        """Begin anew, and remember the number of the next transaction if it is ``wanted``: that is a round trip."""
        self._of_thread.wanted, self._of_thread.number = wanted, None

    @property
    def number(self) -> int | None:
        """Return the number of the transaction whose COMMIT was the last thing that was sent."""
        return getattr(self._of_thread, "number", None)

    def before_commit(self, connection: sqlalchemy.Connection) -> None:
        """Hear that a transaction is about to be committed."""
        if getattr(self._of_thread, "wanted", False):
            self._of_thread.number = connection.exec_driver_sql("SELECT txid_current_if_assigned()").scalar()


def status_of(connection: sqlalchemy.Connection, number: int) -> str:
    """Return ``committed``, ``aborted`` or ``in progress``.

    A server that has never heard of the transaction, because it was restored or took over, has not committed it.
    """
    try:
        return str(connection.scalar(sqlalchemy.text("SELECT txid_status(:number)"), {"number": number}) or "aborted")
    except sqlalchemy.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == IN_THE_FUTURE:
            return "aborted"
        raise


def written_by(connection: sqlalchemy.Connection, table: str, column: str, number: int) -> list[int]:
    """Return the rows of ``table``, by the ids in ``column``, that a transaction wrote last."""
    query = f"SELECT {column} FROM {table} WHERE xmin::text::bigint = :number % 4294967296"  # noqa: S608  # fixed words
    return list(connection.scalars(sqlalchemy.text(query), {"number": number}))


class _Session(NamedTuple):
    """A connection as the server sees it."""

    pid: int
    since: Any
    application: str


OWNER = "tuner:owner"
"""The study's system attribute that holds the token of who took it up last."""


class Hold:
    """The lock of one study, which the connection of its one writer takes before anything else."""

    def __init__(self, study: str) -> None:
        """Hold nothing yet."""
        self._study = study
        self._session: _Session | None = None
        """The connection that has, or had, the lock."""
        self.token = uuid.uuid4().hex
        self._owned: int | None = None

    def owns(self, study_id: int) -> None:
        """Hear that the study has the token: from now on it is written from memory, which no one else may outdate."""
        self._owned = study_id

    def connect(self, dialect: Any, _record: object, arguments: Any, named: Any) -> Any:  # noqa: ANN401  # SQLAlchemy's hook
        """Connect for SQLAlchemy, and take the lock. Raises StudyError when somebody else has it."""
        connection = dialect.connect(*arguments, **named)
        try:
            self._take(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _take(self, connection: Any) -> None:  # noqa: ANN401  # psycopg's
        schema = connection.execute("SELECT current_schema()").fetchone()[0]
        key = lock_key(schema or "", self._study)
        deadline = time.monotonic() + OLD_SESSION_SECONDS
        while not connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone()[0]:
            holder = _holder(connection, key)
            if holder is not None and (holder != self._session or time.monotonic() > deadline):
                raise self._refusal(holder) if self._owned is None or not self._owns(connection) else _only_locked()
            if holder is not None:  # our own, from before: the server has not noticed that its connection is dead
                connection.execute("SELECT pg_terminate_backend(%s)", [holder.pid])
            connection.commit()
            time.sleep(0.1)
        if self._owned is not None and not self._owns(connection):
            raise self._overtaken("another search, or deleted,")
        mine = "SELECT pid, backend_start, application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        self._session = _Session(*connection.execute(mine).fetchone())
        connection.commit()

    def _owns(self, connection: Any) -> bool:  # noqa: ANN401  # psycopg's
        """Tell whether the study still has the token: who has its lock then writes no trial, it only tells of it."""
        query = "SELECT value_json FROM study_system_attributes WHERE study_id = %s AND key = %s"
        found = connection.execute(query, [self._owned, OWNER]).fetchone()
        return found is not None and json.loads(found[0]) == self.token

    def let_go(self, connection: Any, _record: object) -> None:  # noqa: ANN401  # psycopg's
        """Hear that a connection is about to be closed: until the server sees that, it would keep the next one out."""
        with contextlib.suppress(Exception):  # it may be lost already
            connection.execute("SELECT pg_advisory_unlock_all()")
            connection.commit()

    def _refusal(self, holder: _Session) -> StudyError:
        owner = holder.application or "another program"
        owner = f"process {owner.removeprefix('tuner ')}" if owner.startswith("tuner ") else owner
        since = f" since {holder.since.astimezone():%Y-%m-%d %H:%M:%S}" if holder.since else ""
        if self._session is None:
            said = f"study '{self._study}' is being searched by {owner}{since}"
            return StudyError(said, hint="wait for it, or end it")
        return self._overtaken(f"{owner}{since}")

    def _overtaken(self, by: str) -> StudyError:
        return StudyError(
            f"study '{self._study}' was taken over by {by} while the connection to its database was lost",
            hint="nothing stored is lost; when that one has ended, 'tuner search --resume' goes on",
        )


def _only_locked() -> Exception:
    """Return what the server says of a lock that somebody has for a while."""
    import psycopg

    locked: Exception = psycopg.errors.LockNotAvailable("the study is being reported by another program")
    return locked


def lock_key(schema: str, study: str) -> int:
    """Return the number of a study's lock in its database: signed, 64 bits.

    >>> lock_key("public", "cnn-1") == lock_key("public", "cnn-1") != lock_key("public", "cnn-2")
    True
    """
    digest = hashlib.blake2b(f"tuner\0{schema}\0{study}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _holder(connection: Any, key: int) -> _Session | None:  # noqa: ANN401  # psycopg's
    """Return who has a lock; None when it is free again."""
    query = (
        "SELECT l.pid, a.backend_start, a.application_name FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid) "
        "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 "
        "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND l.classid::bigint = %s AND l.objid::bigint = %s"
    )
    found = connection.execute(query, [(key >> 32) & 0xFFFFFFFF, key & 0xFFFFFFFF]).fetchone()
    return _Session(*found) if found else None
