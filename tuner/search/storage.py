"""Optuna's storage with patience: a lock, a full disk, a server that is away are waited out, and nothing is lost."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import inspect
import sqlite3
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import optuna
import sqlalchemy
import sqlalchemy.engine
import sqlalchemy.event
import sqlalchemy.exc
import sqlalchemy.orm
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial

from tuner.errors import EnvironmentProblem, StudyError, TunerError
from tuner.runs import Outputs, lock_beside, make_writable, only_one, without_password
from tuner.search.hindrances import TRY_AGAIN_SECONDS, database_error, first_line, hindrance_of
from tuner.search.postgres import (
    OWNER,
    Commits,
    Hold,
    alone_at_creation,
    connect_arguments,
    has_tables,
    server_of,
    status_of,
    wait_shortly,
    written_by,
)
from tuner.search.rows import Tally, rows_of, tallied

COMMAND_PATIENCE_SECONDS = 2.0
"""How long whatever is no search waits for a server: enough to connect anew, and somebody waits for the answer."""
BUSY_SECONDS = 2.0
"""How long SQLite waits for a lock by itself: short, for meanwhile nobody is told and Ctrl-C is not heard."""
NOT_TWICE = ("create_new_study", "delete_study", "_create_new_trial", "set_trial_state_values")
"""Calls that do something else when they are made again after their COMMIT came through."""
OF_A_SEARCH = ("create_new_trial", "get_trials", "set_trial", "set_study")
"""What the names of calls begin with that a search needs its study for."""

STUDIES = sqlalchemy.table("studies", sqlalchemy.column("study_name"))

_P = ParamSpec("_P")
_T = TypeVar("_T")


def open_storage(outputs: Outputs, *, create: bool, writer_of: str | None = None) -> PatientStorage:
    """Return the storage of ``outputs``; SQLite in WAL, so that a dashboard reads while a search writes.

    ``writer_of`` names the study whose one writer it is to be: on a server its connection holds the study's lock.
    Raises StudyError when there is none and none is to be created, or somebody else has the lock; EnvironmentProblem
    when it cannot be opened.
    """
    with _opening(outputs):
        if not create and not has_studies(outputs):
            raise StudyError(
                f"{_place(outputs)}: no studies there yet",
                hint="'tuner search' makes one; --out or --storage elsewhere?",
            )
        if create and outputs.database is not None:
            make_writable(outputs.database.parent)
        with _alone_at_creation(outputs, create=create):
            return PatientStorage(outputs, writer_of)


def has_studies(outputs: Outputs) -> bool:
    """Tell whether there is a database, begun at least. Raises EnvironmentProblem when a server cannot be asked."""
    if outputs.database is not None:
        return outputs.database.exists()
    with _opening(outputs):
        server = server_of(outputs.storage)
        return server is None or has_tables(server)[0]


@contextlib.contextmanager
def alone(outputs: Outputs, study: str) -> Iterator[PatientStorage]:
    """Hold a study's run folder and the study, wherever its database is, and yield what it can be written with.

    Raises StudyError when another process has one of them, EnvironmentProblem when they cannot be held.
    """
    with only_one(outputs.run_folder(study), outputs.database):
        storage = open_storage(outputs, create=False, writer_of=study)
        try:
            yield storage
        finally:
            storage.engine.dispose()


@contextlib.contextmanager
def _opening(outputs: Outputs) -> Iterator[None]:
    """Turn whatever keeps a database from being opened into one line."""
    try:
        yield
    except (
        _KeptFromOptunaError,
        sqlalchemy.exc.SQLAlchemyError,
        optuna.exceptions.OptunaError,
        ImportError,
        ValueError,
        RuntimeError,
    ) as error:
        cause, hindrance = database_error(error), hindrance_of(error)
        reason = first_line(cause or getattr(error, "orig", None) or error)
        raise EnvironmentProblem(
            f"{without_password(outputs.storage)}: cannot be opened as a study storage: {reason}",
            hint=hindrance.remedy if hindrance else "an SQLite file, or an SQLAlchemy URL whose driver is installed",
        ) from None


class _EndedElsewhereError(StudyError, optuna.exceptions.UpdateFinishedTrialError):
    """A trial that this search has running was ended by another program; Optuna's callers know it as theirs."""


def own(study: optuna.Study) -> None:
    """Note in a study who writes it from now on, with what it remembers of it: a search, not who only reports."""
    storage = study._storage  # noqa: SLF001  # a Study shows the storage that it was given no other way
    storage = getattr(storage, "_backend", storage)
    if isinstance(storage, PatientStorage):
        storage.own(study._study_id)  # noqa: SLF001  # Optuna's own way needs the id


def _place(outputs: Outputs) -> str:
    return str(outputs.database or without_password(outputs.storage))


def _nobody(_: str) -> None:
    """Hear of trouble in silence."""


def _patiently(
    operation: Callable[Concatenate[PatientStorage, _P], _T],
) -> Callable[Concatenate[PatientStorage, _P], _T]:
    @functools.wraps(operation)
    def until_it_works(self: PatientStorage, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        since: dict[str, float] = {}
        while True:
            self.commits.watch(wanted=self.on_server and operation.__name__ in NOT_TWICE)
            try:
                return operation(self, *args, **kwargs)
            except optuna.exceptions.UpdateFinishedTrialError as error:
                raise _EndedElsewhereError(
                    f"{self._where}: a trial of this search was ended by another program",
                    hint="nothing stored is lost, and 'tuner search --resume' goes on",
                ) from error
            except KeyError as error:
                if self.trouble is _nobody or not operation.__name__.lstrip("_").startswith(OF_A_SEARCH):
                    raise
                said = f"{self._where}: the study of this search was deleted by another program"
                raise StudyError(said, hint="its run folder is left as it is") from error
            except Exception as error:  # noqa: BLE001  # what is not the database's is raised again
                number = self.commits.number
                self._wait(error, since)
            if number is not None and self._was_committed(number):
                return cast("_T", self._done_by(number, operation.__name__, args))

    return until_it_works


class PatientStorage(optuna.storages.RDBStorage):
    """Optuna's storage, each of whose transactions is tried again while the database is locked, unwritable or away.

    Trying again is safe. Every method that reaches the database does so in one session of Optuna's, which commits at
    its end and rolls back on any error: ``_create_new_trial`` inserts the trial with its template and its number, and
    ``set_trial_state_values`` sets state, values and times (a WAITING trial popped by somebody else meanwhile is seen
    by the next try, which reads the state anew and returns False). SQLite commits by the last frame in the write-ahead
    log: a COMMIT that failed has written nothing that counts. On a server it may have come through all the same: calls
    that cannot be made twice ask there what has become of their transaction. ``create_new_study`` alone does something
    after its commit, a read, and that is patient by itself. The retry lies below Optuna's cache, which changes after a
    backend call has returned; a failed call leaves the cache as it was.
    """

    def __init__(self, outputs: Outputs, writer_of: str | None = None) -> None:
        """Open the database, which may create its tables; ``writer_of`` takes the lock of a study there, on a server.

        Raises what Optuna and SQLAlchemy raise, without patience; StudyError when somebody else has the lock.
        """
        self.trouble: Callable[[str], None] = _nobody
        """Hears one line of every try that failed, twice a second; may raise, which ends the waiting. While nobody
        hears, a server is not waited for long."""
        self.commits = Commits()
        self._where = _place(outputs)
        server = server_of(outputs.storage)
        self.on_server = server is not None
        self._hold: Hold | None = None
        # Optuna fills a template in.
        address = server.render_as_string(hide_password=False) if server else outputs.storage
        super().__init__(
            address.replace("{", "{{").replace("}", "}}"),
            engine_kwargs=_engine_arguments(outputs, server, one=writer_of is not None),
            # It takes a second connection beside the first.
            skip_compatibility_check=server is not None and writer_of is not None,
        )
        sqlalchemy.event.listen(self.engine, "handle_error", _keep_from_optuna)
        if server is not None:
            self._keep_to_server(writer_of)

    def _keep_to_server(self, writer_of: str | None) -> None:
        weakref.finalize(self, self.engine.dispose)  # psycopg complains of connections that are left open
        sqlalchemy.event.listen(self.engine, "commit", self.commits.before_commit)
        sqlalchemy.event.listen(self.engine, "connect", wait_shortly)
        if writer_of is not None:
            self._hold = Hold(writer_of)
            sqlalchemy.event.listen(self.engine, "do_connect", self._hold.connect)
            sqlalchemy.event.listen(self.engine, "close", self._hold.let_go)
        self.engine.dispose()  # those were made before anybody listened
        if writer_of is not None:
            with self.engine.connect():
                pass  # the lock is taken now, or refused

    def own(self, study_id: int) -> None:
        """Put this writer's token into a study on a server: one that takes it over is seen by that, even afterwards.

        A file's lock is lost with its process alone.
        """
        if self._hold is not None:
            self.set_study_system_attr(study_id, OWNER, self._hold.token)
            self._hold.owns(study_id)

    @_patiently
    def tally(self, study_id: int, keys: Collection[str]) -> list[Tally]:
        """Return how many trials there are by state and by which of ``keys`` they have, lowest number first.

        Optuna counts trials by reading them whole: seconds for 2,000 trials of 50 reports, against milliseconds.
        """
        with self.engine.connect() as connection:
            return tallied(connection, study_id, keys)

    @_patiently
    def rename_study(self, old: str, new: str) -> None:
        """Give a study another name, which Optuna has no call for. Raises StudyError when there is one of that name."""
        statement = sqlalchemy.update(STUDIES).where(STUDIES.c.study_name == old).values(study_name=new)
        try:
            with self.engine.begin() as connection:
                connection.execute(statement)
        except sqlalchemy.exc.IntegrityError:
            raise StudyError(f"study '{new}' exists", hint="choose another name") from None

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: sqlalchemy.orm.Session
    ) -> models.TrialModel:
        """Store a new trial whole, within ``_create_new_trial``.

        Nobody knows of it yet, so that there is nothing to look up. Optuna looks up three things for a parameter and
        one for an attribute: 42 statements for a trial of ten parameters, against 8. What it looks for beside,
        another trial's distribution of the same name that does not go with this one, the memory of the ledger has
        refused before.
        """
        if template_trial is None:
            return super()._get_prepared_new_trial(study_id, None, session)
        trial = models.TrialModel(
            study_id=study_id,
            number=None,
            state=template_trial.state,
            datetime_start=template_trial.datetime_start,
            datetime_complete=template_trial.datetime_complete,
        )
        session.add(trial)
        session.flush()  # which gives it its id
        for model, rows in rows_of(template_trial, cast("int", trial.trial_id)):
            if rows:
                session.execute(sqlalchemy.insert(model), rows)
        trial.number = trial.count_past_trials(session)
        return trial

    def _wait(self, error: Exception, since: dict[str, float]) -> None:
        """Tell the trouble and wait for the next try. Raises EnvironmentProblem at the end of the patience."""
        hindrance = None if isinstance(error, TunerError) else hindrance_of(error)
        if hindrance is None:
            raise error
        now = time.monotonic()
        lasted = now - since.setdefault(hindrance.remedy, now)
        patience = hindrance.patience_seconds
        if self.on_server and self.trouble is _nobody:
            patience = min(patience, COMMAND_PATIENCE_SECONDS)
        if lasted >= patience:
            waited = f" after {patience:.0f} s of waiting" if patience else ""
            raise EnvironmentProblem(f"{self._where} {hindrance.said}{waited}", hint=hindrance.remedy) from error
        again = now + min(max(lasted, TRY_AGAIN_SECONDS), hindrance.most_pause_seconds)
        while (left := again - time.monotonic()) > 0:
            self.trouble(f"{self._where} {hindrance.said}; waiting")
            time.sleep(min(TRY_AGAIN_SECONDS, left))
        if hindrance.connect_anew:
            self.engine.dispose()  # what was connected while the file was read-only stays so

    def _was_committed(self, number: int) -> bool:
        """Tell whether a transaction on the server has been committed, when it is decided."""
        since: dict[str, float] = {}
        asked_first = time.monotonic()
        while True:
            try:
                with self.engine.connect() as connection:
                    status = status_of(connection, number)
            except Exception as error:  # noqa: BLE001  # as above
                self._wait(error, since)
                continue
            if status != "in progress":
                return status == "committed"
            if self.trouble is _nobody and time.monotonic() - asked_first > COMMAND_PATIENCE_SECONDS:
                said = f"{self._where} has not decided yet on what was sent before its connection was lost"
                raise EnvironmentProblem(said, hint="look again in a minute whether it was done")
            self.trouble(f"{self._where} has not decided yet on what was sent before its connection was lost; waiting")
            time.sleep(TRY_AGAIN_SECONDS)

    @_patiently
    def _written_by(self, number: int, table: str, column: str) -> list[int]:
        with self.engine.connect() as connection:
            return written_by(connection, table, column, number)

    def _done_by(self, number: int, name: str, args: tuple[Any, ...]) -> object:
        """Return what a call would have returned whose transaction was committed, one of those in ``NOT_TWICE``."""
        match name:
            case "create_new_study":
                return self._written_by(number, "studies", "study_id")[0]
            case "_create_new_trial":
                return self.get_trial(self._written_by(number, "trials", "trial_id")[0])
            case "set_trial_state_values":
                # One that took no waiting trial, for it did not wait any more, has committed that it did nothing.
                return args[0] in self._written_by(number, "trials", "trial_id")
            case _:
                return None


def see_optuna(storage: type = optuna.storages.RDBStorage) -> None:
    """Raise EnvironmentProblem where Optuna's storage lacks the private parts that patience is built on."""
    used = {"_create_new_trial": "_get_prepared_new_trial", "set_trial_state_values": "_create_scoped_session"}
    for name, part in used.items():
        if part not in getattr(getattr(storage, name, None), "__code__", see_optuna.__code__).co_names:
            raise EnvironmentProblem(
                f"tuner was not tested with Optuna {optuna.__version__}: its storage has no {name} with {part}",
                hint="pip install 'optuna>=5,<5.1'",
            )


see_optuna()
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


def _engine_arguments(outputs: Outputs, server: sqlalchemy.URL | None, *, one: bool) -> dict[str, Any]:
    if outputs.database is not None:
        return {"connect_args": {"timeout": BUSY_SECONDS, "factory": _Connection}}
    if server is None:
        return {}
    # Who holds a study has one connection: a second one would not get the lock.
    size = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 1.0} if one else {}
    return {"connect_args": connect_arguments(server), **size}


class _KeptFromOptunaError(Exception):
    """Carries an error of the database past Optuna to the patience around it."""


def _keep_from_optuna(context: sqlalchemy.engine.ExceptionContext) -> None:
    """Raise what Optuna does not know.

    An OperationalError it would take for its own: a new trial is tried five times in silence, 15 s long, and a read
    of trials is taken for a query too long, with a warning.
    """
    if hindrance_of(context.original_exception) is not None:
        raise _KeptFromOptunaError(str(context.original_exception))


@contextlib.contextmanager
def _alone_at_creation(outputs: Outputs, *, create: bool) -> Iterator[None]:
    """Let one process at a time make the tables: Optuna asks which there are, and then creates the rest."""
    database = outputs.database
    with contextlib.ExitStack() as stack:
        if database is not None:
            # Who creates a database makes the lock first; who only reads one, perhaps another's, leaves no file behind.
            with contextlib.suppress(OSError):
                lock = stack.enter_context(lock_beside(database).open("a" if create else "r"))
                fcntl.flock(lock, fcntl.LOCK_EX)
        elif (server := server_of(outputs.storage)) is not None and not has_tables(server)[1]:
            stack.enter_context(alone_at_creation(server))
        yield
