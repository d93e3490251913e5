"""Optuna's storage with patience: a locked database or a full disk is waited out, and nothing is lost."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import inspect
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import optuna
import sqlalchemy
import sqlalchemy.engine
import sqlalchemy.event
import sqlalchemy.exc
from optuna.trial import TrialState

from tuner.errors import EnvironmentProblem, StudyError
from tuner.runs import Outputs, lock_beside, make_writable, without_password

BUSY_SECONDS = 2.0
"""How long SQLite waits for a lock by itself: short, for meanwhile nobody is told and Ctrl-C is not heard."""
TRY_AGAIN_SECONDS = 0.5
LOCK_PATIENCE_SECONDS = 600.0
DISK_PATIENCE_SECONDS = 60.0

LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
# SQLite 3.40 says FULL of a full disk, and IOERR ("disk I/O error") at a limit on a file's size.
UNWRITABLE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

TRIALS = sqlalchemy.table(
    "trials",
    sqlalchemy.column("trial_id"),
    sqlalchemy.column("study_id"),
    sqlalchemy.column("number"),
    sqlalchemy.column("state"),
    sqlalchemy.column("datetime_start", sqlalchemy.DateTime()),
)
ATTRIBUTES = sqlalchemy.table("trial_user_attributes", sqlalchemy.column("trial_id"), sqlalchemy.column("key"))
"""The columns of Optuna's tables that a count needs."""
STUDIES = sqlalchemy.table("studies", sqlalchemy.column("study_name"))

_P = ParamSpec("_P")
_T = TypeVar("_T")


def open_storage(outputs: Outputs, *, create: bool) -> PatientStorage:
    """Return the storage of ``outputs``; SQLite in WAL, so that a dashboard reads while a search writes.

    Raises StudyError when there is none and none is to be created, EnvironmentProblem when it cannot be opened.
    """
    database = outputs.database
    if database is not None:
        if not create and not database.exists():
            raise StudyError(
                f"{database}: no studies there yet", hint="'tuner search' makes one; --out or --storage elsewhere?"
            )
        make_writable(database.parent) if create else None
    try:
        with _alone_at_creation(database, create=create):
            return PatientStorage(outputs)
    except (
        sqlalchemy.exc.SQLAlchemyError,
        optuna.exceptions.OptunaError,
        ImportError,
        ValueError,
        RuntimeError,
    ) as error:
        cause, hindrance = _sqlite_error(error), _hindrance(error)
        reason = str(cause or getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise EnvironmentProblem(
            f"{without_password(outputs.storage)}: cannot be opened as a study storage: {reason}",
            hint=hindrance.remedy if hindrance else "an SQLite file, or an SQLAlchemy URL whose driver is installed",
        ) from None


class Tally(NamedTuple):
    """Trials of one state that have the same one of some user attributes, or none."""

    state: TrialState
    key: str | None
    trials: int
    started: datetime | None
    """When the first of them did."""


def _patiently(
    operation: Callable[Concatenate[PatientStorage, _P], _T],
) -> Callable[Concatenate[PatientStorage, _P], _T]:
    @functools.wraps(operation)
    def until_it_works(self: PatientStorage, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        since: dict[str, float] = {}
        while True:
            try:
                return operation(self, *args, **kwargs)
            except Exception as error:  # noqa: BLE001  # what is not SQLite's is raised again
                self._wait(error, since)

    return until_it_works


class PatientStorage(optuna.storages.RDBStorage):
    """Optuna's storage, each of whose transactions is tried again while SQLite is locked or cannot be written.

    Trying again is safe. Every method that reaches the database does so in one session of Optuna's, which commits at
    its end and rolls back on any error: ``_create_new_trial`` inserts the trial with its template and its number, and
    ``set_trial_state_values`` sets state, values and times (a WAITING trial popped by somebody else meanwhile is seen
    by the next try, which reads the state anew and returns False). SQLite commits by the last frame in the write-ahead
    log: a COMMIT that failed has written nothing that counts. ``create_new_study`` alone does something after its
    commit, a read, and that is patient by itself. The retry lies below Optuna's cache, which changes after a backend
    call has returned; a failed call leaves the cache as it was.
    """

    def __init__(self, outputs: Outputs) -> None:
        """Open the database, which may create its tables. Raises what Optuna and SQLAlchemy raise, without patience."""
        self.trouble: Callable[[str], None] = lambda _: None
        """Hears one line of every try that failed; may raise, which ends the waiting."""
        self._where = str(outputs.database or without_password(outputs.storage))
        sqlite = {"connect_args": {"timeout": BUSY_SECONDS, "factory": _Connection}}
        super().__init__(outputs.storage, engine_kwargs=sqlite if outputs.database is not None else None)
        sqlalchemy.event.listen(self.engine, "handle_error", _keep_from_optuna)

    @_patiently
    def tally(self, study_id: int, keys: Collection[str]) -> list[Tally]:
        """Return how many trials there are by state and by which of ``keys`` they have, lowest number first.

        Optuna counts trials by reading them whole: seconds for 2,000 trials of 50 reports, against milliseconds.
        """
        trials, attributes = TRIALS.c, ATTRIBUTES.c
        has_one = sqlalchemy.and_(attributes.trial_id == trials.trial_id, attributes.key.in_(keys))
        query = (
            sqlalchemy.select(
                trials.state, attributes.key, sqlalchemy.func.count(), sqlalchemy.func.min(trials.datetime_start)
            )
            .select_from(TRIALS.outerjoin(ATTRIBUTES, has_one))
            .where(trials.study_id == study_id)
            .group_by(trials.state, attributes.key)
            .order_by(sqlalchemy.func.min(trials.number))
        )
        with self.engine.connect() as connection:
            return [Tally(TrialState[state], *others) for state, *others in connection.execute(query)]

    @_patiently
    def rename_study(self, old: str, new: str) -> None:
        """Give a study another name, which Optuna has no call for."""
        statement = sqlalchemy.update(STUDIES).where(STUDIES.c.study_name == old).values(study_name=new)
        with self.engine.begin() as connection:
            connection.execute(statement)

    def _wait(self, error: Exception, since: dict[str, float]) -> None:
        """Tell the trouble and wait for the next try. Raises EnvironmentProblem at the end of the patience."""
        hindrance = _hindrance(error)
        if hindrance is None:
            raise error
        now = time.monotonic()
        patience = hindrance.patience_seconds
        if now - since.setdefault(hindrance.remedy, now) >= patience:
            waited = f" after {patience:.0f} s of waiting" if patience else ""
            raise EnvironmentProblem(f"{self._where} {hindrance.said}{waited}", hint=hindrance.remedy) from error
        self.trouble(f"{self._where} {hindrance.said}; waiting")
        time.sleep(TRY_AGAIN_SECONDS)
        self.engine.dispose()  # what was connected while the file was read-only stays so


for _name, _method in inspect.getmembers(optuna.storages.RDBStorage, inspect.isfunction):
    # Those that open a session, each of them one transaction; the other methods call these.
    if "_create_scoped_session" in _method.__code__.co_names:
        setattr(PatientStorage, _name, _patiently(_method))


class _Connection(sqlite3.Connection):
    """A connection in WAL from its start."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # whatever SQLAlchemy connects with
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


class _Hindrance(NamedTuple):
    """What keeps SQLite from its work, how long it is worth waiting, and what the user can do."""

    said: str
    patience_seconds: float
    remedy: str


def _hindrance(error: BaseException) -> _Hindrance | None:
    cause = _sqlite_error(error)
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # BUSY_SNAPSHOT is a BUSY
    go_on = "nothing stored is lost, and 'tuner search --resume' goes on"
    if code in LOCKED:
        return _Hindrance("is locked by another program", LOCK_PATIENCE_SECONDS, f"end that program; {go_on}")
    if code in UNWRITABLE:
        remedy = f"free space, or make it writable; {go_on}"
        return _Hindrance(f"cannot be written: {cause}", DISK_PATIENCE_SECONDS, remedy)
    if code in DAMAGED:
        return _Hindrance(f"is damaged: {cause}", 0.0, "put a copy of it back, or name another with --storage")
    return None


def _sqlite_error(error: BaseException | None) -> sqlite3.Error | None:
    """Return the error of SQLite that SQLAlchemy, and perhaps Optuna, has wrapped."""
    while error is not None and not isinstance(error, sqlite3.Error):
        error = error.__cause__
    return error


class _KeptFromOptunaError(Exception):
    """Carries an error of SQLite past Optuna to the patience around it."""


def _keep_from_optuna(context: sqlalchemy.engine.ExceptionContext) -> None:
    """Raise what Optuna does not know.

    An OperationalError it would take for its own: a new trial is tried five times in silence, 15 s long, and a read
    of trials is taken for a query too long, with a warning.
    """
    if _hindrance(context.original_exception) is not None:
        raise _KeptFromOptunaError(str(context.original_exception))


@contextlib.contextmanager
def _alone_at_creation(database: Path | None, *, create: bool) -> Iterator[None]:
    """Let one process at a time open an SQLite file: Optuna asks which tables there are, and then creates the rest."""
    with contextlib.ExitStack() as stack:
        if database is not None:
            # Who creates a database makes the lock first; who only reads one, perhaps another's, leaves no file behind.
            with contextlib.suppress(OSError):
                lock = stack.enter_context(lock_beside(database).open("a" if create else "r"))
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
