"""A study's database in trouble: real SQLite, real processes, and nothing lost; and the locks of a search."""

from __future__ import annotations

import contextlib
import inspect
import json
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
import sqlalchemy.event

from tuner.errors import EnvironmentProblem, StudyError
from tuner.runs import Outputs, only_one
from tuner.search import storage as storage_module
from tuner.search.request import Request, claimed
from tuner.search.storage import PatientStorage, open_storage

from .conftest import SMALL_SPACE


@pytest.fixture
def storage(tmp_path: Path) -> PatientStorage:
    """An empty storage whose ``trouble`` is kept in ``told``, and noted in the file ``told``."""
    opened = open_storage(Outputs.of(str(tmp_path), None), create=True)

    def trouble(text: str) -> None:
        told(opened).append(text)
        (tmp_path / "told").touch()

    opened.trouble = trouble
    return opened


def told(storage: PatientStorage) -> list[str]:
    return storage.__dict__.setdefault("told", [])


def stored(folder: Path) -> list[tuple[int, str, dict[int, float]]]:
    """What another program reads: number, state and reported values of every trial."""
    study = optuna.load_study(storage=f"sqlite:///{folder}/studies.db", study_name="s")
    return [(trial.number, trial.state.name, trial.intermediate_values) for trial in study.get_trials()]


def python(script: str, *arguments: object, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
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
def locked_by_another_process(folder: Path, seconds: float | None = None) -> Iterator[None]:
    """Hold the lock for so long, or until somebody was told that it is held."""
    holder = """
        import pathlib, sqlite3, sys, time
        database = sqlite3.connect("studies.db", isolation_level=None)
        database.execute("BEGIN EXCLUSIVE")
        print("locked", flush=True)
        time.sleep(float(sys.argv[1]))
        while float(sys.argv[1]) == 0 and not pathlib.Path("told").exists():
            time.sleep(0.05)
        database.execute("COMMIT")
    """
    with python(holder, seconds or 0, folder=folder) as process:
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


def test_a_trial_is_reported_when_another_program_lets_go_of_the_database(
    storage: PatientStorage, tmp_path: Path
) -> None:
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    started = time.monotonic()

    with locked_by_another_process(tmp_path, 3.0):
        trial.report(0.5, 1)
        waited = time.monotonic() - started

    assert 2.0 < waited < 60.0
    assert set(told(storage)) == {f"{tmp_path}/studies.db is locked by another program; waiting"}
    assert stored(tmp_path) == [(0, "RUNNING", {1: 0.5})]


@pytest.mark.parametrize("kind", ["waiting", "new"])
def test_a_trial_that_is_asked_for_waits_for_the_lock_and_comes_once(
    kind: str, storage: PatientStorage, tmp_path: Path
) -> None:
    study = optuna.create_study(storage=storage, study_name="s")
    if kind == "waiting":
        study.enqueue_trial({"x": 1})

    with locked_by_another_process(tmp_path):
        trial = study.ask()

    assert trial.number == 0
    assert len(told(storage)) == 1  # Optuna's own five tries would have kept the lock to themselves
    assert stored(tmp_path) == [(0, "RUNNING", {})]


def test_a_snapshot_that_another_write_made_old_is_taken_anew(storage: PatientStorage, tmp_path: Path) -> None:
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
    assert stored(tmp_path) == [(0, "RUNNING", {1: 0.5}), (1, "COMPLETE", {})]


def test_patience_ends_in_one_line_and_the_study_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(storage_module, "LOCK_PATIENCE_SECONDS", 1.0)
    storage = open_storage(Outputs.of(str(tmp_path), None), create=True)
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    trial.suggest_float("x", 0, 1)

    with locked_by_another_process(tmp_path, 60.0):
        with pytest.raises(EnvironmentProblem, match="is locked by another program after 1 s of waiting") as problem:
            study.ask()
        with pytest.raises(EnvironmentProblem):
            trial.suggest_float("y", 0, 1)
    after = study.ask()
    after.suggest_int("y", 0, 9)  # no distribution is remembered that was never stored
    trial.report(0.5, 1)

    assert "'tuner search --resume' goes on" in str(problem.value)
    assert after.number == 1
    assert stored(tmp_path) == [(0, "RUNNING", {1: 0.5}), (1, "RUNNING", {})]


def test_who_hears_of_the_trouble_can_end_the_waiting(storage: PatientStorage, tmp_path: Path) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    trial = optuna.create_study(storage=storage, study_name="s").ask()
    storage.trouble = interrupted

    with locked_by_another_process(tmp_path, 60.0), pytest.raises(KeyboardInterrupt):
        trial.report(0.5, 1)
    trial.report(0.25, 2)

    assert stored(tmp_path) == [(0, "RUNNING", {2: 0.25})]


SEARCH = """
    import json, os, resource, sys
    import optuna
    from tuner.errors import EnvironmentProblem
    from tuner.runs import Outputs
    from tuner.search import storage as module

    told = []
    def open_study():
        storage = module.open_storage(Outputs.of(".", None), create=True)
        storage.trouble = told.append
        study = optuna.create_study(storage=storage, study_name="s", load_if_exists=True)
        return storage, study
"""


def test_a_database_that_may_not_grow_is_written_when_there_is_room_again(tmp_path: Path) -> None:
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
    assert stored(tmp_path) == [(0, "COMPLETE", dict.fromkeys(range(1, 5), 0.5)), (1, "RUNNING", {})]


def test_a_disk_that_stays_full_ends_in_one_line_and_loses_nothing(tmp_path: Path) -> None:
    script = (
        SEARCH
        + """
    module.DISK_PATIENCE_SECONDS = 1.0
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
    assert stored(tmp_path) == [(0, "RUNNING", {1: 0.5})]


@pytest.mark.parametrize(("folder_mode", "file_mode"), [("555", "644"), ("755", "444")], ids=["folder", "file"])
def test_a_database_that_was_made_read_only_is_waited_for(folder_mode: str, file_mode: str, tmp_path: Path) -> None:
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
    found = stored(tmp_path)

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


def test_two_processes_create_the_same_database_at_once(tmp_path: Path) -> None:
    rounds = 5
    creator = """
        import sys
        from tuner.runs import Outputs
        from tuner.search.storage import open_storage
        print("ready", flush=True)
        for line in sys.stdin:
            try:
                storage = open_storage(Outputs.of(line.strip(), None), create=True)
                print("tables of", storage.get_current_version(), flush=True)
            except Exception as error:
                print(repr(error), flush=True)
    """

    with python(creator, folder=tmp_path) as one, python(creator, folder=tmp_path) as two:
        both = (one, two)
        answers = []
        assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
        for number in range(rounds):
            for process in both:
                process.stdin.write(f"{tmp_path / str(number)}\n")
                process.stdin.flush()
            answers += [process.stdout.readline() for process in both]
        for process in both:
            process.stdin.close()

    assert len(answers) == 2 * rounds
    assert len(set(answers)) == 1
    assert answers[0].startswith("tables of v")
    for number in range(rounds):
        with contextlib.closing(sqlite3.connect(tmp_path / str(number) / "studies.db")) as database:
            assert database.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
            assert database.execute("SELECT count(*) FROM version_info").fetchone() == (1,)


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


def test_two_searches_that_name_no_study_get_one_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SMALL_SPACE, "utf-8")
    request = Request(space="small.toml")
    elsewhere = Request(space="small.toml", out="elsewhere", storage="results/studies.db")

    with claimed(request) as (first, _), claimed(request) as (second, _), claimed(elsewhere) as (third, _):
        names = [first.name, second.name, third.name]

    assert names == ["small-1", "small-2", "small-3"]
