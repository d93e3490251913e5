"""A study's database in trouble: real SQLite, real processes, and nothing lost; and the locks of a search."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import math
import os
import re
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
import sqlalchemy.event
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from tuner.errors import DataError, EnvironmentProblem, StudyError
from tuner.experiment.housekeeping import delete_study, rename_study, what_goes
from tuner.runs import Outputs, only_one, without_password
from tuner.search import hindrances, postgres
from tuner.search import storage as storage_module
from tuner.search.request import Opened, Request, claimed
from tuner.search.storage import PatientStorage, alone, open_storage, see_optuna
from tuner.search.study import StudyFacts, create_study, list_studies, load_study, study_names
from tuner.space.reader import parse_space
from tuner.space.settings import SearchSettings

from .conftest import SMALL_SPACE

EVERY_DATABASE = pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str | None:
    """What ``--storage`` says: nothing, or a new database on a server."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return None
    server = request.getfixturevalue("server")
    return server.url(server.new_database())


@pytest.fixture
def outputs(tmp_path: Path, database: str | None) -> Outputs:
    return Outputs.of(str(tmp_path), database)


@pytest.fixture
def storage(outputs: Outputs) -> PatientStorage:
    """An empty storage of a writer, whose ``trouble`` is kept in ``told``, and noted in the file ``told``."""
    opened = _writer(outputs)

    def trouble(text: str) -> None:
        told(opened).append(text)
        (outputs.folder / "told").touch()

    opened.trouble = trouble
    return opened


def _writer(outputs: Outputs) -> PatientStorage:
    open_storage(outputs, create=True).engine.dispose()
    return open_storage(outputs, create=False, writer_of="what the test writes")


def told(storage: PatientStorage) -> list[str]:
    return storage.__dict__.setdefault("told", [])


def stored(outputs: Outputs) -> list[tuple[int, str, dict[int, float]]]:
    """What another program reads: number, state and reported values of every trial."""
    storage = optuna.storages.RDBStorage(outputs.storage)
    study = optuna.load_study(storage=storage, study_name="s")
    found = [(trial.number, trial.state.name, trial.intermediate_values) for trial in study.get_trials()]
    storage.engine.dispose()
    return found


def python(script: str, *arguments: object, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def heard(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


@contextlib.contextmanager
def locked_by_another_process(outputs: Outputs, seconds: float | None = None) -> Iterator[None]:
    """Let nobody else write for so long, or until somebody was told so."""
    holder = """
        import pathlib, sqlite3, sys, time
        if sys.argv[2].startswith("sqlite"):
            database = sqlite3.connect("studies.db", isolation_level=None)
            database.execute("BEGIN EXCLUSIVE")
        else:
            import psycopg
            database = psycopg.connect(sys.argv[2].replace("+psycopg", ""))
            database.execute("LOCK TABLE studies, trials IN EXCLUSIVE MODE")
        print("locked", flush=True)
        time.sleep(float(sys.argv[1]))
        while float(sys.argv[1]) == 0 and not pathlib.Path("told").exists():
            time.sleep(0.05)
        database.execute("COMMIT")
    """
    with python(holder, seconds or 0, outputs.storage, folder=outputs.folder) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield
        process.kill()


def test_every_call_that_reaches_the_database_is_patient() -> None:
    # What Optuna's cache calls of its backend is what reaches the database.
    called = set(
        re.findall(r"self\._backend\.(\w+)", inspect.getsource(optuna.storages._cached_storage._CachedStorage))
    )

    patient = {name for name in called if hasattr(getattr(PatientStorage, name), "__wrapped__")}

    assert called - patient == {"get_heartbeat_interval", "get_heartbeat_stale_trial_callback"}  # plain attributes
    assert "_create_new_trial" in patient


def test_an_optuna_without_the_parts_that_patience_is_built_on_is_refused_in_one_line() -> None:
    class Other(optuna.storages.RDBStorage):
        def _create_new_trial(self) -> None: ...

    see_optuna(optuna.storages.RDBStorage)
    for storage in (Other, object):
        with pytest.raises(EnvironmentProblem, match=r"was not tested with Optuna .* \(pip install 'optuna") as problem:
            see_optuna(storage)
        assert "\n" not in str(problem.value)


@EVERY_DATABASE
@pytest.mark.parametrize("state", list(TrialState), ids=lambda state: state.name)
def test_a_trial_that_is_stored_whole_is_as_optuna_itself_would_have_stored_it(
    state: TrialState, storage: PatientStorage, outputs: Outputs
) -> None:
    study = optuna.create_study(storage=storage, study_name="s")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    values = [math.inf] if state == TrialState.COMPLETE else None
    whole = optuna.trial.create_trial(
        state=state, values=values, params={"x": 0.25, "n": 4, "c": None}, user_attrs={"a": [1, None, "ä"], "b": {}},
        distributions={"x": FloatDistribution(0.1, 1, log=True), "n": IntDistribution(0, 8, step=2), "c": CategoricalDistribution([None, "x"])},
        system_attrs={"fixed_params": {"x": 1}}, intermediate_values={1: 0.5, 2: math.nan, 7: -math.inf},
    )  # fmt: skip
    plain = optuna.storages.RDBStorage(outputs.storage)
    stored = [where.get_trial(where.create_new_trial(study._study_id, whole)) for where in (plain, storage)]
    read = [plain.get_trial(trial._trial_id) for trial in stored]
    plain.engine.dispose()

    ours, theirs = (
        {key: value for key, value in vars(trial).items() if key not in ("_trial_id", "_number")}
        for trial in reversed(read)
    )
    assert repr(ours) == repr(theirs)  # nan is no nan's equal
    assert [trial.number for trial in stored] == [1, 2]
    assert [trial.number for trial in read] == [1, 2]


@EVERY_DATABASE
def test_a_trial_is_reported_when_another_program_lets_go_of_the_database(
    storage: PatientStorage, outputs: Outputs
) -> None:
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    started = time.monotonic()

    with locked_by_another_process(outputs, 3.0):
        trial.report(0.5, 1)
        waited = time.monotonic() - started

    assert 2.0 < waited < 60.0
    place = outputs.database or without_password(outputs.storage)
    assert set(told(storage)) == {f"{place} is locked by another program; waiting"}
    assert stored(outputs) == [(0, "RUNNING", {1: 0.5})]


@EVERY_DATABASE
@pytest.mark.parametrize("kind", ["waiting", "new"])
def test_a_trial_that_is_asked_for_waits_for_the_lock_and_comes_once(
    kind: str, storage: PatientStorage, outputs: Outputs
) -> None:
    study = optuna.create_study(storage=storage, study_name="s")
    if kind == "waiting":
        study.enqueue_trial({"x": 1})

    with locked_by_another_process(outputs):
        trial = study.ask()

    assert trial.number == 0
    assert len(told(storage)) == 1  # Optuna's own five tries would have kept the lock to themselves
    assert stored(outputs) == [(0, "RUNNING", {})]


def test_a_snapshot_that_another_write_made_old_is_taken_anew(
    storage: PatientStorage, outputs: Outputs, tmp_path: Path
) -> None:
    study = optuna.create_study(storage=storage, study_name="s")
    trial, other = study.ask(), study.ask()

    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")  # the reads before the write belong to its transaction

    def write_between(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("INSERT") and not told(storage):
            with contextlib.closing(sqlite3.connect(tmp_path / "studies.db")) as database, database:
                database.execute("UPDATE trials SET state = 'COMPLETE' WHERE trial_id = ?", (other._trial_id,))

    sqlalchemy.event.listen(storage.engine, "begin", begin)
    sqlalchemy.event.listen(storage.engine, "before_cursor_execute", write_between)
    started = time.monotonic()

    trial.report(0.5, 1)

    assert len(told(storage)) == 1
    assert time.monotonic() - started < storage_module.BUSY_SECONDS  # SQLITE_BUSY_SNAPSHOT comes at once
    assert stored(outputs) == [(0, "RUNNING", {1: 0.5}), (1, "COMPLETE", {})]


@EVERY_DATABASE
def test_patience_ends_in_one_line_and_the_study_goes_on_where_it_was(
    outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(postgres, "LOCK_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(hindrances, "LOCK_PATIENCE_SECONDS", 1.0)
    storage = _writer(outputs)
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    trial.suggest_float("x", 0, 1)

    with locked_by_another_process(outputs, 60.0):
        with pytest.raises(EnvironmentProblem, match="is locked by another program after 1 s of waiting") as problem:
            study.ask()
        with pytest.raises(EnvironmentProblem):
            trial.suggest_float("y", 0, 1)
    after = study.ask()
    after.suggest_int("y", 0, 9)  # no distribution is remembered that was never stored
    trial.report(0.5, 1)

    assert "'tuner search --resume' goes on" in str(problem.value)
    assert after.number == 1
    assert stored(outputs) == [(0, "RUNNING", {1: 0.5}), (1, "RUNNING", {})]


@EVERY_DATABASE
def test_a_study_that_is_deleted_while_it_is_searched_ends_the_search_in_one_line(outputs: Outputs) -> None:
    storage = _writer(outputs)
    storage.trouble = print  # as a search hears of it
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    optuna.delete_study(study_name="s", storage=open_storage(outputs, create=False))  # as Optuna Dashboard does

    for write in (lambda: trial.report(0.5, 1), study.ask):
        with pytest.raises(StudyError, match="was deleted by another program"):
            write()


@EVERY_DATABASE
def test_who_hears_of_the_trouble_can_end_the_waiting(storage: PatientStorage, outputs: Outputs) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    trial = optuna.create_study(storage=storage, study_name="s").ask()
    storage.trouble = interrupted

    with locked_by_another_process(outputs, 60.0), pytest.raises(KeyboardInterrupt):
        trial.report(0.5, 1)
    trial.report(0.25, 2)

    assert stored(outputs) == [(0, "RUNNING", {2: 0.25})]


SEARCH = """
    import json, os, resource, sys
    import optuna
    from tuner.errors import EnvironmentProblem
    from tuner.runs import Outputs
    from tuner.search import hindrances, storage as module

    told = []
    def open_study():
        storage = module.open_storage(Outputs.of(".", None), create=True)
        storage.trouble = told.append
        study = optuna.create_study(storage=storage, study_name="s", load_if_exists=True)
        return storage, study
"""


def test_a_database_that_may_not_grow_is_written_when_there_is_room_again(outputs: Outputs, tmp_path: Path) -> None:
    script = (
        SEARCH
        + """
    storage, study = open_study()
    first = study.ask()
    first.report(0.5, 1)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    def make_room(text):
        told.append(text)
        if len(told) % 2 == 0:
            limit(hard)
    storage.trouble = make_room

    limit(1)
    second = study.ask()
    for epoch in range(2, 5):
        limit(1)
        first.report(0.5, epoch)
    limit(1)
    study.tell(first, 0.75)
    print(json.dumps(told))
    """
    )

    said = json.loads(heard(python(script, folder=tmp_path)))

    assert said == ["studies.db cannot be written: disk I/O error; waiting"] * 10
    assert stored(outputs) == [(0, "COMPLETE", dict.fromkeys(range(1, 5), 0.5)), (1, "RUNNING", {})]


def test_a_disk_that_stays_full_ends_in_one_line_and_loses_nothing(outputs: Outputs, tmp_path: Path) -> None:
    script = (
        SEARCH
        + """
    hindrances.DISK_PATIENCE_SECONDS = 1.0
    storage, study = open_study()
    trial = study.ask()
    trial.report(0.5, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))
    try:
        trial.report(0.6, 2)
    except EnvironmentProblem as problem:
        print(problem)
    """
    )

    said = heard(python(script, folder=tmp_path))

    assert said.startswith("studies.db cannot be written: disk I/O error after 1 s of waiting (free space")
    assert said.count("\n") == 1
    assert stored(outputs) == [(0, "RUNNING", {1: 0.5})]


@pytest.mark.parametrize(("folder_mode", "file_mode"), [("555", "644"), ("755", "444")], ids=["folder", "file"])
def test_a_database_that_was_made_read_only_is_waited_for(
    folder_mode: str, file_mode: str, outputs: Outputs, tmp_path: Path
) -> None:
    script = (
        SEARCH
        + """
    if os.getuid() == 0:  # to whom no folder is read-only, but by the capabilities 1 and 2 (DAC_OVERRIDE, DAC_READ_SEARCH)
        import ctypes
        header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None).capget(header, sets) == 0
        sets[0] &= ~0b110
        assert ctypes.CDLL(None).capset(header, sets) == 0
    storage, study = open_study()
    trial = study.ask()
    def permit(folder, file):
        for name in os.listdir("."):  # SQLite makes its log and its index with the file's own permissions
            os.chmod(name, file)
        os.chmod(".", folder)
    def make_writable(text):
        told.append(text)
        if len(told) == 2:
            permit(0o755, 0o644)
    storage.trouble = make_writable

    storage.engine.dispose()
    permit(int(sys.argv[1], 8), int(sys.argv[2], 8))
    trial.report(0.5, 1)
    print(json.dumps(told))
    """
    )

    said = json.loads(heard(python(script, folder_mode, file_mode, folder=tmp_path)))
    found = stored(outputs)

    assert said == ["studies.db cannot be written: attempt to write a readonly database; waiting"] * 2
    assert found == [(0, "RUNNING", {1: 0.5})]


@pytest.mark.parametrize(
    "garbage", [b"garbage " * 4096, b"SQLite format 3\0" + b"garbage " * 4096], ids=["all", "body"]
)
def test_a_database_of_garbage_gets_one_line(garbage: bytes, tmp_path: Path) -> None:
    (tmp_path / "studies.db").write_bytes(garbage)

    with pytest.raises(EnvironmentProblem, match="file is not a database") as problem:
        open_storage(Outputs.of(str(tmp_path), None), create=True)

    assert str(problem.value).count("\n") == 0
    assert (tmp_path / "studies.db").read_bytes() == garbage


def test_a_database_that_is_damaged_in_the_middle_gets_one_line(storage: PatientStorage, tmp_path: Path) -> None:
    study = optuna.create_study(storage=storage, study_name="s")
    for _ in range(20):
        study.ask()
    storage.engine.dispose()  # the last one out writes everything from the log into the file
    file = tmp_path / "studies.db"
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))

    with pytest.raises(EnvironmentProblem, match="is damaged: database disk image is malformed"):
        study.ask()

    assert told(storage) == []


@EVERY_DATABASE
def test_two_processes_create_the_same_database_at_once(
    tmp_path: Path, database: str | None, request: pytest.FixtureRequest
) -> None:
    rounds = 5
    creator = """
        import sys
        from tuner.runs import Outputs
        from tuner.search.storage import open_storage
        print("ready", flush=True)
        for line in sys.stdin:
            try:
                storage = open_storage(Outputs.of(".", line.strip()), create=True)
                print("tables of", storage.get_current_version(), flush=True)
            except Exception as error:
                print(repr(error), flush=True)
    """
    server = request.getfixturevalue("server") if database else None
    places = [server.url(server.new_database()) if server else f"{tmp_path}/{number}.db" for number in range(rounds)]

    with python(creator, folder=tmp_path) as one, python(creator, folder=tmp_path) as two:
        both = (one, two)
        answers = []
        assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
        for place in places:
            for process in both:
                process.stdin.write(f"{place}\n")
                process.stdin.flush()
            answers += [process.stdout.readline() for process in both]
        for process in both:
            process.stdin.close()

    assert len(answers) == 2 * rounds
    assert len(set(answers)) == 1
    assert answers[0].startswith("tables of v")
    for place in places:
        engine = sqlalchemy.create_engine(Outputs.of(".", place).storage, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            for table in ("alembic_version", "version_info"):
                assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 1


def _run_folder(folder: Path, study: str = "s") -> Path:
    run = Outputs.of(str(folder), None).run_folder(study)
    run.mkdir(parents=True, exist_ok=True)
    return run


@contextlib.contextmanager
def searched_by_another_process(run: Path, database: Path) -> Iterator[subprocess.Popen[str]]:
    holder = """
        import sys
        from pathlib import Path
        from tuner.runs import only_one
        with only_one(Path(sys.argv[1]), Path(sys.argv[2])):
            print("held", flush=True)
            sys.stdin.read()
    """
    with python(holder, run, database, folder=run) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@contextlib.contextmanager
def held_by_another_process(outputs: Outputs, study: str = "s") -> Iterator[subprocess.Popen[str]]:
    holder = """
        import sys
        from tuner.runs import Outputs
        from tuner.search.storage import alone
        with alone(Outputs.of(sys.argv[1], sys.argv[2]), sys.argv[3]):
            print("held", flush=True)
            sys.stdin.read()
    """
    with python(holder, outputs.folder, outputs.storage, study, folder=outputs.folder) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n", process.stderr.read()
        yield process
        process.kill()


@EVERY_DATABASE
def test_a_study_that_is_searched_from_another_folder_is_refused_and_free_when_that_search_dies(
    outputs: Outputs, storage: PatientStorage, tmp_path: Path
) -> None:
    here, there = (
        Outputs.of(str(tmp_path / "here"), outputs.storage),
        Outputs.of(str(tmp_path / "there"), outputs.storage),
    )
    for place in (here, there):
        for study in ("s", "another"):
            place.run_folder(study).mkdir(parents=True)

    with held_by_another_process(here) as first:
        said = (
            rf"^study 's' is being searched by process {first.pid}( on \S+)? since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d \("
        )
        with pytest.raises(StudyError, match=said), alone(there, "s"):
            pass
        with alone(there, "another"):  # what was refused holds nothing
            pass
        first.kill()
        first.wait()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:  # a server takes a moment to see it
            with contextlib.suppress(StudyError), alone(there, "s") as writer:
                optuna.create_study(storage=writer, study_name="s").ask()
                break
            time.sleep(0.05)

    assert stored(outputs) == [(0, "RUNNING", {})]


def test_a_second_search_of_a_study_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    run, database = _run_folder(tmp_path), tmp_path / "studies.db"

    with (
        searched_by_another_process(run, database) as first,
        pytest.raises(
            StudyError,
            match=rf"^study 's' is being searched by process {first.pid} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d",
        ),
        only_one(run, database),
    ):
        pass


def test_a_search_of_the_same_study_from_another_folder_is_refused_too(tmp_path: Path) -> None:
    database = tmp_path / "studies.db"
    database.touch()
    (tmp_path / "linked.db").symlink_to(database)
    here, there = _run_folder(tmp_path / "here"), _run_folder(tmp_path / "there")
    another_study = _run_folder(tmp_path / "there", "another")

    with searched_by_another_process(here, database) as first:
        with pytest.raises(StudyError, match=f"process {first.pid} since"), only_one(there, tmp_path / "linked.db"):
            pass
        with only_one(another_study, database), only_one(there, None):  # what was refused holds nothing
            pass


def test_the_lock_of_a_dead_search_is_taken_over(tmp_path: Path) -> None:
    run, database = _run_folder(tmp_path), tmp_path / "studies.db"
    with searched_by_another_process(run, database) as first:
        pass
    locks = [run / ".lock", tmp_path / ".studies.db.s.lock"]
    assert [f"process {first.pid} since" in lock.read_text() for lock in locks] == [True, True]

    with only_one(run, database):
        texts = [lock.read_text() for lock in locks]

    assert all(text.startswith(f"process {os.getpid()} since 2") for text in texts)


def test_a_lock_that_cannot_be_made_gets_one_line(tmp_path: Path) -> None:
    run = _run_folder(tmp_path, "n" * 250)  # a folder can be called so; with a database's name before it, nothing can

    with pytest.raises(EnvironmentProblem, match="File name too long"), only_one(run, tmp_path / "studies.db"):
        pass


@EVERY_DATABASE
def test_two_searches_that_name_no_study_get_one_each(
    tmp_path: Path, database: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SMALL_SPACE, "utf-8")
    request = Request(space="small.toml", storage=database)
    elsewhere = Request(space="small.toml", out="elsewhere", storage=database or "results/studies.db")

    with claimed(request) as (first, *_), claimed(request) as (second, *_), claimed(elsewhere) as (third, *_):
        names = [first.name, second.name, third.name]

    assert names == ["small-1", "small-2", "small-3"]


@EVERY_DATABASE
def test_what_is_refused_or_ends_before_its_study_leaves_no_run_folder(
    outputs: Outputs, storage: PatientStorage, tmp_path: Path
) -> None:
    there = Outputs.of(str(tmp_path / "there"), outputs.storage)
    facts = StudyFacts("small", SMALL_SPACE, "", "", SearchSettings())
    create_study(storage, "s", facts, parse_space("small", SMALL_SPACE).space)
    resumed = Request(study="s", out=str(there.folder), storage=outputs.storage, resume=True)
    begun = dataclasses.replace(resumed, study="t", space=str(tmp_path / "small.toml"))
    (tmp_path / "small.toml").write_text(SMALL_SPACE, "utf-8")
    outputs.run_folder("s").mkdir(parents=True)
    there.run_folder("kept").mkdir(parents=True)

    with held_by_another_process(outputs):
        with pytest.raises(StudyError, match="is being searched"), claimed(resumed):
            pass
        with pytest.raises(StudyError, match="is being searched"):
            delete_study(there, "s")
        with pytest.raises(StudyError, match="is being searched"):
            rename_study(there, "s", "u")
        assert outputs.run_folder("s").exists()
    with pytest.raises(DataError), claimed(begun):
        raise DataError("no images")

    assert [path.name for path in there.run_folder("s").parent.iterdir()] == ["kept"]
    with claimed(begun) as (_, folder, _), pytest.raises(StudyError), claimed(begun):
        pass
    assert not folder.exists()


@EVERY_DATABASE
@pytest.mark.parametrize("left", ["small-1 (half-made)", "small-1"], ids=["now", "by earlier versions"])
def test_what_a_search_left_that_died_over_its_study_is_begun_or_deleted_by_its_name(
    left: str, outputs: Outputs, storage: PatientStorage, tmp_path: Path
) -> None:
    (tmp_path / "small.toml").write_text(SMALL_SPACE, "utf-8")
    optuna.create_study(storage=storage, study_name="foreign").ask()
    request = Request(space=str(tmp_path / "small.toml"), out=str(outputs.folder), storage=outputs.storage)
    named = dataclasses.replace(request, study="small-1")
    facts, space = StudyFacts("small", SMALL_SPACE, "", "", SearchSettings()), parse_space("small", SMALL_SPACE).space

    def leave() -> None:
        half = optuna.create_study(storage=storage, study_name=left)
        half.enqueue_trial({}, user_attrs={"start_with": True})

    leave()
    for asked in (dataclasses.replace(request, resume=True), dataclasses.replace(named, resume=True), named):
        with claimed(asked) as (opened, *_):
            assert (opened.name, opened.resumed) == ("small-1", False)
    with pytest.raises(StudyError, match=r"is half-made.*'tuner search SPACE --study small-1' begins it"):
        load_study(storage, "small-1")
    assert what_goes(outputs, "small-1").startswith("the half-made study 'small-1'")
    delete_study(outputs, "small-1")
    assert [study.study_name for study in storage.get_all_studies()] == ["foreign"]

    leave()
    create_study(storage, "small-1", facts, space)

    study, _ = load_study(storage, "small-1")
    assert len(study.get_trials()) == len(space.start_with)
    with pytest.raises(StudyError, match="exists"):
        create_study(storage, "foreign", facts, space)


@EVERY_DATABASE
def test_a_rename_that_another_machine_was_quicker_with_leaves_study_and_folder(
    outputs: Outputs, storage: PatientStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, space = StudyFacts("small", SMALL_SPACE, "", "", SearchSettings()), parse_space("small", SMALL_SPACE).space
    create_study(storage, "s", facts, space)
    optuna.create_study(storage=storage, study_name="t (half-made)")
    folder = outputs.run_folder("s")
    folder.mkdir(parents=True)
    (folder / "space.toml").touch()
    renamed = PatientStorage.rename_study

    def too_late(self: PatientStorage, old: str, new: str) -> None:
        optuna.create_study(storage=storage, study_name=new).ask()
        renamed(self, old, new)

    monkeypatch.setattr(PatientStorage, "rename_study", too_late)
    for new in ("t", "u"):
        with pytest.raises(StudyError, match=f"study '{new}' exists"):
            rename_study(outputs, "s", new)
        assert [path.name for path in folder.parent.iterdir()] == ["s"]

    assert study_names(storage) == ["s", "u"]


class _DiedError(BaseException):
    """Nobody catches it."""


def _make(storage: PatientStorage, opened: Opened, *, commits: int) -> None:
    """Make a study, and die before the COMMIT that comes after so many."""
    left = iter(range(commits))

    def die(_: object) -> None:
        if next(left, None) is None:
            raise _DiedError

    sqlalchemy.event.listen(storage.engine, "commit", die)
    facts = StudyFacts("small", opened.space_file.text, "", "", SearchSettings())
    create_study(storage, opened.name, facts, opened.space_file.space)


@EVERY_DATABASE
def test_a_study_over_whose_making_a_search_died_is_no_study_and_a_resume_on_another_machine_begins_it(
    tmp_path: Path, database: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SMALL_SPACE, "utf-8")
    here = Request(space="small.toml", storage=database)
    there = dataclasses.replace(here, out="elsewhere", storage=database or "results/studies.db", resume=True)
    left: set[tuple[str, ...]] = set()

    for commits in range(100):
        with claimed(here) as (opened, _, storage), contextlib.suppress(_DiedError):
            _make(storage, opened, commits=commits)
        reader = open_storage(opened.outputs, create=False)
        names = tuple(study.study_name for study in reader.get_all_studies())
        if names == ("small-1",):
            break
        left.add(names)
        assert (study_names(reader), list_studies(reader)) == ([], [])
        with claimed(there) as (begun, *_):
            assert (begun.name, begun.resumed) == ("small-1", False)

    assert left == {(), ("small-1 (half-made)",)}
    study, _ = load_study(open_storage(opened.outputs, create=False), "small-1")
    assert len(study.get_trials()) == len(opened.space_file.space.start_with) > 0
