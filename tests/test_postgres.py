"""Studies on a real PostgreSQL: outages, lost answers, one search per study, and no password anywhere."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tuner.cli import run
from tuner.data.sources import Source
from tuner.errors import EnvironmentProblem, StudyError, UsageError
from tuner.runs import Outputs, command_line, resume_command, without_password
from tuner.search import hindrances, postgres
from tuner.search import storage as storage_module
from tuner.search.messages import TrainJob
from tuner.search.pruners import make_pruner
from tuner.search.samplers import make_sampler
from tuner.search.storage import PatientStorage, alone, open_storage
from tuner.search.study import keep_facts, list_studies, load_study
from tuner.space.reader import SpaceFile, parse_space
from tuner.space.settings import SearchSettings

from .conftest import SMALL_SPACE, Done
from .faults.harness import differences
from .scripted import Bench, ScriptedWorkers, good
from .server import ENCODED, PASSWORD, Server, Wire
from .test_dashboard import Browser, write_report
from .test_reliability import DETERMINISTIC, Shuffled, told

ON_SERVER = pytest.mark.postgres


@pytest.fixture
def database(server: Server) -> str:
    return server.new_database()


@pytest.fixture
def outputs(server: Server, database: str, tmp_path: Path) -> Outputs:
    return Outputs.of(str(tmp_path), server.url(database))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "TRY_AGAIN_SECONDS", 0.02)


@contextlib.contextmanager
def writing(outputs: Outputs, study: str = "s") -> Iterator[tuple[optuna.Study, list[str]]]:
    """A study that this process alone may write, and the troubles that were told."""
    outputs.run_folder(study).mkdir(parents=True, exist_ok=True)
    open_storage(outputs, create=True)
    with alone(outputs, study) as storage:
        troubles: list[str] = []
        storage.trouble = troubles.append
        yield optuna.create_study(storage=storage, study_name=study, load_if_exists=True), troubles


def seen(outputs: Outputs) -> list[tuple[int, str, dict[int, float]]]:
    study = optuna.load_study(storage=open_storage(outputs, create=False), study_name="s")
    return [(trial.number, trial.state.name, trial.intermediate_values) for trial in study.get_trials()]


# What a lost connection may have done.


def _template(value: float) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(
        value=value, params={"x": value}, distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
        user_attrs={"a": [1, None, "ä"]}, system_attrs={"b": 2}, intermediate_values={1: value},
    )  # fmt: skip


CALLS: dict[str, Callable[[PatientStorage, int, int], object]] = {
    "create_new_study": lambda s, *_: s.get_study_name_from_id(
        s.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "new")
    ),
    "delete_study": lambda s, study, _: s.delete_study(study),
    "_create_new_trial": lambda s, study, _: [
        {
            **vars(s._create_new_trial(study, _template(0.25))),
            "_trial_id": 0,
            "_datetime_start": 0,
            "datetime_complete": 0,
        },
    ],
    "a trial that waits is taken": lambda s, _, trial: s.set_trial_state_values(trial, TrialState.RUNNING),
    "a trial that runs is not": lambda s, _, trial: s.set_trial_state_values(trial + 1, TrialState.RUNNING),
    "a trial ends": lambda s, _, trial: s.set_trial_state_values(trial + 1, TrialState.COMPLETE, [0.5]),
    "set_trial_param": lambda s, _, trial: s.set_trial_param(
        trial + 1, "x", 0.5, optuna.distributions.FloatDistribution(0, 1)
    ),
    "set_trial_user_attr": lambda s, _, trial: s.set_trial_user_attr(trial + 1, "a", {"b": 1}),
    "set_trial_intermediate_value": lambda s, _, trial: s.set_trial_intermediate_value(trial + 1, 3, 0.5),
    "set_study_user_attr": lambda s, study, _: s.set_study_user_attr(study, "a", "b"),
    "rename_study": lambda s, *_: s.rename_study("s", "new"),
}


def _dump(storage: PatientStorage) -> list[Any]:
    hidden = ("_trial_id", "_datetime_start", "datetime_complete")
    return [
        (study.study_name, study.user_attrs,
         [{key: value for key, value in vars(trial).items() if key not in hidden} for trial in storage.get_all_trials(study._study_id)])
        for study in storage.get_all_studies()
    ]  # fmt: skip


def _prepared(storage: PatientStorage) -> tuple[int, int]:
    """A study whose first trial waits and whose second runs."""
    study = optuna.create_study(storage=storage, study_name="s")
    study.enqueue_trial({"x": 1})
    storage.create_new_trial(study._study_id)
    return study._study_id, storage.get_all_trials(study._study_id)[0]._trial_id


@ON_SERVER
@pytest.mark.parametrize("call", list(CALLS))
def test_a_call_whose_connection_is_lost_at_its_commit_is_done_once(
    call: str, server: Server, wire: Wire, tmp_path: Path, quick: None
) -> None:
    found = []
    for cut in ("", "before", "after"):
        storage = open_storage(Outputs.of(str(tmp_path), server.url(server.new_database(), wire.port)), create=True)
        study, trial = _prepared(storage)
        troubles: list[str] = []
        storage.trouble = troubles.append
        wire.cut_at = {wire.commits + 1: cut}

        answer = CALLS[call](storage, study, trial)

        found.append((repr(answer), _dump(storage)))
        assert bool(troubles) == bool(cut)
        storage.engine.dispose()

    assert found[0] == found[1] == found[2]


@ON_SERVER
def test_a_search_that_loses_its_connection_again_and_again_has_the_study_of_one_on_sqlite(
    server: Server, database: str, wire: Wire, tmp_path: Path, small: Source, quick: None
) -> None:
    here = Bench(tmp_path / "here", small)
    study, space_file = here.study(DETERMINISTIC)
    here.coordinator(study, space_file, DETERMINISTIC, Shuffled(0), workers=3).run()
    there = Bench(tmp_path / "there", small, server.url(database, wire.port))
    there.study(DETERMINISTIC)
    there.outputs.run_folder("s").mkdir(parents=True)

    with alone(there.outputs, "s") as storage:
        troubles: list[str] = []
        storage.trouble = troubles.append
        other, _ = load_study(storage, "s")
        other.sampler, other.pruner = make_sampler(DETERMINISTIC, space_file.space), make_pruner(DETERMINISTIC)
        coordinator = there.coordinator(other, space_file, DETERMINISTIC, Shuffled(1), workers=3)
        # By chance: a new connection has COMMITs of its own, and what is cut in step with them never comes through.
        chance = random.Random(5)
        wire.cut_at = {
            wire.commits + n: chance.choice(("before", "after")) for n in range(1, 2000) if chance.random() < 0.15
        }
        cuts = len(wire.cut_at)
        coordinator.run()
        cuts -= len(wire.cut_at)
        wire.cut_at = {}

    assert cuts > 20
    assert len(troubles) >= cuts
    assert told(optuna.load_study(storage=open_storage(there.outputs, create=False), study_name="s")) == told(study)


@ON_SERVER
def test_a_server_that_is_restarted_is_waited_for_and_the_lock_is_taken_again(outputs: Outputs, server: Server) -> None:
    with writing(outputs) as (study, troubles):
        trial = study.ask()
        server.stop("immediate")
        again = threading.Timer(2.0, server.start)
        again.start()

        trial.report(0.5, 1)

        again.join()
        with pytest.raises(StudyError, match="is being searched by process"):
            open_storage(outputs, create=False, writer_of="s")
    place = re.escape(without_password(outputs.storage))
    assert all(re.fullmatch(rf"{place} cannot be reached: .*; waiting", line) for line in troubles)
    assert len(troubles) > 2
    assert seen(outputs) == [(0, "RUNNING", {1: 0.5})]


@ON_SERVER
def test_a_server_that_stays_away_ends_in_one_line_that_says_what_next(
    outputs: Outputs, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hindrances, "SERVER_PATIENCE_SECONDS", 1.0)
    with writing(outputs) as (study, _):
        trial = study.ask()
        server.stop()

        with pytest.raises(EnvironmentProblem, match=r"cannot be reached: .* after 1 s of waiting") as problem:
            trial.report(0.5, 1)
        with pytest.raises(EnvironmentProblem, match="cannot be opened as a study storage") as unopened:
            open_storage(outputs, create=True)

        server.start()
    for said in (str(problem.value), str(unopened.value)):
        assert "'tuner search --resume' goes on" in said
        assert "\n" not in said
        assert PASSWORD not in said
        assert ENCODED not in said


@ON_SERVER
def test_who_only_reads_is_told_soon_that_the_server_went_away_and_goes_on_when_it_is_back(
    outputs: Outputs, server: Server
) -> None:
    with writing(outputs) as (study, _):
        study.ask()
    reader = open_storage(outputs, create=False)
    rows = list_studies(reader)
    server.stop()
    since = time.monotonic()

    with pytest.raises(EnvironmentProblem, match="cannot be reached"):
        list_studies(reader)

    waited = time.monotonic() - since
    server.start()
    assert waited < 10
    assert list_studies(reader) == rows
    server.stop()
    server.start()
    assert list_studies(reader) == rows  # the connection that it kept is lost, and that is no trouble


@ON_SERVER
def test_a_command_that_writes_and_whom_nobody_hears_does_not_wait_for_a_server_for_long(
    outputs: Outputs, server: Server
) -> None:
    outputs.run_folder("s").mkdir(parents=True)
    optuna.create_study(storage=open_storage(outputs, create=True), study_name="s")
    with alone(outputs, "s") as storage:
        server.stop()
        since = time.monotonic()

        with pytest.raises(EnvironmentProblem, match=r"cannot be reached: .* after 2 s of waiting"):
            storage.rename_study("s", "t")

        waited = time.monotonic() - since
        server.start()
    assert waited < 10


# One search per study.


@ON_SERVER
def test_a_study_that_another_search_took_over_while_the_connection_was_lost_is_not_written_any_more(
    outputs: Outputs, server: Server, database: str
) -> None:
    elsewhere = dataclasses.replace(outputs, folder=outputs.folder / "elsewhere")
    with writing(outputs) as (study, _):
        trial = study.ask()
        server.end_sessions(database)
        with writing(elsewhere) as (other, _):
            other.ask()

            for _ in range(2):  # and it stays so
                with pytest.raises(
                    StudyError, match=r"was taken over by process \d+ on .* since .*'tuner search --resume'"
                ):
                    trial.report(0.5, 1)
            with pytest.raises(StudyError):
                study.ask()
    assert seen(outputs) == [(0, "RUNNING", {}), (1, "RUNNING", {})]


@ON_SERVER
@pytest.mark.parametrize("then", ["ends", "is deleted"])
def test_a_search_that_was_overtaken_by_one_that_has_ended_since_writes_nothing_any_more(
    then: str, outputs: Outputs, server: Server, database: str, small: Source
) -> None:
    settings = SearchSettings(trials=4, epochs=3, seed=1, pruner="none")
    here = Bench(outputs.folder, small, outputs.storage)
    elsewhere = Bench(outputs.folder / "elsewhere", small, outputs.storage)
    found: list[list[tuple[Any, ...]]] = []

    def overtaking(job: TrainJob) -> list[float | str]:
        if job.number == 2 and not found:
            server.end_sessions(database)
            with alone_in(elsewhere) as (other, space_file):
                elsewhere.coordinator(other, space_file, settings, ScriptedWorkers(good), workers=2).run()
                found.append(told(other))
                if then == "is deleted":
                    optuna.delete_study(study_name="s", storage=other._storage)
        return good(job)

    here.study(settings)
    with alone_in(here) as (study, space_file):
        coordinator = here.coordinator(study, space_file, settings, ScriptedWorkers(overtaking), workers=1)
        for _ in range(2):  # and it stays so
            with pytest.raises(StudyError, match=r"^study 's' was taken over by another search.*--resume") as refused:
                coordinator.run()

    reader = open_storage(outputs, create=False)
    if then == "ends":
        assert told(optuna.load_study(storage=reader, study_name="s")) == found[0]
    assert (len(found), refused.value.exit_code) == (1, 5)
    assert {state for _, state, *_ in found[0]} == {TrialState.COMPLETE}
    with alone(outputs, "s"):  # what was refused holds nothing
        pass


@contextlib.contextmanager
def alone_in(bench: Bench) -> Iterator[tuple[optuna.Study, SpaceFile]]:
    """The study of a bench, taken up as a resumed search does."""
    bench.outputs.run_folder("s").mkdir(parents=True)
    with alone(bench.outputs, "s") as storage:
        study, facts = load_study(storage, "s")
        keep_facts(study, facts)
        study.sampler, study.pruner = (
            make_sampler(facts.settings, (space_file := parse_space("small", SMALL_SPACE)).space),
            make_pruner(facts.settings),
        )
        yield study, space_file


@ON_SERVER
def test_a_search_that_lost_its_connection_while_others_only_looked_or_told_of_it_goes_on(
    outputs: Outputs, server: Server, database: str, small: Source
) -> None:
    bench = Bench(outputs.folder, small, outputs.storage)
    bench.study(DETERMINISTIC)
    elsewhere = dataclasses.replace(outputs, folder=outputs.folder / "elsewhere")
    elsewhere.run_folder("s").mkdir(parents=True)
    with alone_in(bench) as (study, _):
        trial = study.ask()
        server.end_sessions(database)
        with alone(elsewhere, "s"):
            pass
        trial.report(0.5, 1)

        server.end_sessions(database)
        troubles: list[str] = []
        with contextlib.ExitStack() as reporting:
            reporting.enter_context(alone(elsewhere, "s"))
            storage = study._storage
            backend = getattr(storage, "_backend", storage)
            backend.trouble = lambda text: (troubles.append(text), "locked" in text and reporting.close())
            trial.report(0.6, 2)

    assert any("is locked by another program; waiting" in line for line in troubles), troubles
    assert (trial.number, seen(outputs)[0]) == (0, (0, "RUNNING", {1: 0.5, 2: 0.6}))


@ON_SERVER
def test_a_trial_that_another_program_has_ended_ends_the_search_in_one_line(outputs: Outputs) -> None:
    with writing(outputs) as (study, _):
        trial = study.ask()
        plain = optuna.storages.RDBStorage(outputs.storage)
        plain.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        plain.engine.dispose()

        with pytest.raises(StudyError, match="was ended by another program") as refused:
            trial.report(0.5, 1)

    assert refused.value.exit_code == 5


@ON_SERVER
def test_a_search_whose_own_dead_connection_still_has_the_lock_takes_it(
    outputs: Outputs, server: Server, database: str, wire: Wire
) -> None:
    behind = dataclasses.replace(outputs, storage=server.url(database, wire.port))
    count = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE locktype = 'advisory' AND datname = %s"
    with writing(behind) as (study, troubles):
        trial = study.ask()
        wire.cut_clients()
        assert server.execute(count, database) == [(1,)]  # of a session that nobody speaks to

        trial.report(0.5, 1)

        assert server.execute(count, database) == [(1,)]
    assert len(troubles) > 0
    assert seen(outputs) == [(0, "RUNNING", {1: 0.5})]
    assert server.execute(count, database) == [(0,)]


@ON_SERVER
def test_readers_are_not_kept_out_and_two_studies_are_searched_at_once(outputs: Outputs) -> None:
    with writing(outputs) as (study, _), writing(outputs, "t") as (other, _):
        study.ask()
        other.ask()

        rows = list_studies(open_storage(outputs, create=False))

    assert [(row.name, row.trials) for row in rows] == [("s", {"running": 1}), ("t", {"running": 1})]


# What is said of a database that is no good, and of one without what it needs.


@ON_SERVER
def test_a_database_without_studies_stays_empty_when_it_is_only_looked_at(
    outputs: Outputs, server: Server, database: str
) -> None:
    with pytest.raises(StudyError, match=r"no studies there yet \('tuner search' makes one"):
        open_storage(outputs, create=False)

    assert server.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database=database) == [(0,)]


SEE_TO = r".*\(see to user, database and privileges"
BAD_ADDRESSES = {
    "wrong password": (lambda url: url.replace(ENCODED, "falsch-99"), 8, f"password authentication failed{SEE_TO}"),
    "no password": (lambda url: url.replace(f":{ENCODED}", ""), 8, f"fe_sendauth: no password supplied{SEE_TO}"),
    "no such database": (lambda url: url.replace("/db_", "/nodb_"), 8, f"does not exist{SEE_TO}"),
    "no such user": (lambda url: url.replace("//tuner:", "//nobody:"), 8, f'for user "nobody"{SEE_TO}'),
    "nobody listens": (lambda url: re.sub(r":\d+/", ":9/", url), 8, r"Connection refused.*\(start the server"),
    "a password with @": (lambda url: url.replace(ENCODED, "ge@heim"), 2, "write %40 for it"),
    "a password with @ and /": (lambda url: url.replace(ENCODED, "ge@hei/m"), 2, "write %40 for it"),
    "a password with @ and ?": (lambda url: url.replace(ENCODED, "ge@hei?m"), 2, "write %40 for it"),
    "another driver": (lambda url: url.replace("+psycopg", "+psycopg2"), 2, "another driver than psycopg"),
    "no URL": (lambda url: url.replace("@127.0.0.1:", "@127.0.0.1:x"), 2, "no URL"),
}


@ON_SERVER
@pytest.mark.parametrize("case", list(BAD_ADDRESSES))
def test_a_bad_address_gets_one_line_without_the_password(
    case: str, outputs: Outputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, code, said = BAD_ADDRESSES[case]
    address = change(outputs.storage)

    found = run(["studies", "--out", str(tmp_path), "--storage", address])

    line = capsys.readouterr().err
    assert (found, line.count("\n")) == (code, 1), line
    assert re.search(said, line), line
    assert not any(secret in line for secret in (PASSWORD, ENCODED, "falsch-99", "hei"))


@ON_SERVER
def test_a_search_whose_user_is_let_in_no_more_is_told_at_once_and_one_that_comes_too_early_waits(
    outputs: Outputs, server: Server, database: str
) -> None:
    import psycopg

    with writing(outputs) as (study, troubles):
        trial = study.ask()
        server.end_sessions(database)
        server.execute(f"DROP DATABASE {database}")
        with pytest.raises(EnvironmentProblem, match=r"refuses: .*does not exist.* \(see to user"):
            trial.report(0.5, 1)
    assert ["terminating connection" in line for line in troubles] == [True]
    for said in ("the database system is starting up", "sorry, too many clients already",
                 "the database system is not yet accepting connections", "terminating connection due to administrator command",
                 "remaining connection slots are reserved for roles with the SUPERUSER attribute",
                 "server login has been failing, try again later (server_login_retry)", "query_wait_timeout",
                 "pgbouncer cannot connect to server", "das Datenbanksystem startet"):  # fmt: skip
        early = psycopg.OperationalError(f"connection failed: FATAL:  {said}")
        assert getattr(hindrances.hindrance_of(early), "patience_seconds", 0) == hindrances.SERVER_PATIENCE_SECONDS
    standby = psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction")
    assert getattr(hindrances.hindrance_of(standby), "patience_seconds", 0) == hindrances.SERVER_PATIENCE_SECONDS


@ON_SERVER
def test_a_user_who_may_only_read_sees_the_studies_and_is_refused_in_one_line_when_writing(
    outputs: Outputs, server: Server, database: str
) -> None:
    with writing(outputs) as (study, _):
        study.ask()
    role = f"reader_{database}"
    server.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'lesen'")
    server.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}", database=database)
    address = re.sub("//.*@", f"//{role}:lesen@", outputs.storage)
    storage = open_storage(dataclasses.replace(outputs, storage=address), create=False)

    rows = list_studies(storage)

    assert [(row.name, row.trials) for row in rows] == [("s", {"running": 1})]
    with pytest.raises(EnvironmentProblem, match="refuses: permission denied for table") as problem:
        optuna.load_study(storage=storage, study_name="s").ask()
    assert "\n" not in str(problem.value)


def test_no_password_of_any_kind_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [
        "postgresql+psycopg://ann:secret@h/db", "postgresql://:secret@h:1/db", "postgresql://ann:se:cr@secret@h/db",
        "postgresql://ann:secret secret@h/db", "postgresql:///db?user=ann&password=secret&host=/tmp", "postgresql://h/db?sslpassword=secret",
        "postgresql+psycopg://ann@corp:secretpw@h/db", "postgresql:///db?scram_client_key=secret", "postgresql+psycopg://ann@corp:se@cret:secret@h:5432/db",
    ]  # fmt: skip
    arguments = [word for one in addresses for word in ("--storage", one, f"--storage={one}")]
    monkeypatch.setattr(sys, "argv", ["tuner", "search", "--seed", "3", *arguments])

    shown = [*map(without_password, addresses), command_line(), repr(Outputs.of(".", addresses[0]))]

    assert "secret" not in "".join(shown)
    assert "--seed 3" in command_line()
    assert shown[0] == "postgresql+psycopg://ann:***@h/db"
    assert without_password("postgresql:///db?oauth_client_secret=x") == "postgresql:///db?oauth_client_secret=***"
    assert (
        without_password("postgresql://ann@h:5432/db?sslmode=require") == "postgresql://ann@h:5432/db?sslmode=require"
    )


def test_a_command_to_be_typed_has_no_stars_for_a_password_and_no_storage_that_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = Outputs.of("results", "postgresql://ann@corp:secret@h/db?password=secret")
    monkeypatch.delenv("TUNER_STORAGE", raising=False)
    command = "tuner search --resume --study s"

    assert resume_command(there, "s") == f"{command} --storage postgresql://ann@corp@h/db"
    monkeypatch.setenv("TUNER_STORAGE", there.storage)
    assert resume_command(there, "s") == command
    assert resume_command(Outputs.of("results", None), "s") == f"{command} --storage sqlite:///results/studies.db"
    monkeypatch.setenv("TUNER_STORAGE", "")
    assert resume_command(Outputs.of("results", None), "s") == command


def _python(script: str, *arguments: object) -> Done:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [Path(__file__).parents[1], *sys.path]))},
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def test_without_the_extra_it_is_said_what_to_install_and_nothing_is_shown(tmp_path: Path) -> None:
    script = "import sys; sys.modules['psycopg'] = None; from tuner.cli import run; sys.exit(run(sys.argv[1:]))"

    done = _python(script, "studies", "--out", tmp_path, "--storage", "postgresql://ann:secret@h/db")

    assert done.code == 8
    assert done.err == (
        "error: --storage postgresql://ann:***@h/db: needs psycopg, which is not installed (pip install 'psycopg[binary]', or tuner with its extra [postgres])\n"
    )


def test_a_study_in_a_file_imports_nothing_of_it(tmp_path: Path) -> None:
    script = """
import sys, optuna
from tuner.runs import Outputs
from tuner.search.storage import alone, open_storage
outputs = Outputs.of(sys.argv[1], None)
outputs.run_folder("s").mkdir(parents=True)
open_storage(outputs, create=True)
with alone(outputs, "s") as storage:
    optuna.create_study(storage=storage, study_name="s").ask()
print(sorted(name for name in sys.modules if name.startswith("psycopg")))
"""

    done = _python(script, tmp_path)

    assert (done.code, done.out) == (0, "[]\n"), done.err


def test_a_lock_is_of_one_study_in_one_schema() -> None:
    keys = {postgres.lock_key(schema, study) for schema in ("public", "team") for study in ("s", "t", "ä")}

    assert len(keys) == 6
    assert all(-(2**63) <= key < 2**63 for key in keys)


def test_an_address_that_is_no_servers_is_left_to_optuna() -> None:
    assert postgres.server_of("sqlite:///studies.db") is None
    assert postgres.server_of("mysql://h/db") is None
    with pytest.raises(UsageError, match="another driver"):
        postgres.server_of("postgresql+asyncpg://h/db")


# From any machine.


@ON_SERVER
def test_the_dashboard_shows_a_study_whose_run_folder_is_elsewhere_and_says_what_it_lacks(
    server: Server, database: str, tmp_path: Path, small: Source
) -> None:
    bench = Bench(tmp_path / "here", small, server.url(database))
    settings = dataclasses.replace(DETERMINISTIC, deterministic=False, pruner="none", trials=3)
    study, _ = bench.search(settings)
    write_report(bench, study)
    there = Bench(tmp_path / "there", small, server.url(database))

    at_home, away = Browser(bench).study(), Browser(there).study()

    assert len(away["trials"]) == len(at_home["trials"]) == 3
    assert (len(at_home["artifacts"]) > 0, away["artifacts"]) == (True, [])
    lack = "on this machine: its figures, its tables, and whether it was trained again and scored are known where"
    assert lack in away["note"]["body"].replace("\\", "")
    assert "on this machine" not in at_home["note"]["body"]
    assert PASSWORD not in json.dumps(away)
    assert ENCODED not in json.dumps(away)


@ON_SERVER
def test_a_study_that_was_searched_elsewhere_is_renamed_and_deleted_and_what_stays_is_said(
    server: Server, database: str, tmp_path: Path, small: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path / "here", small, server.url(database))
    for name in ("s", "t"):
        bench.search(SearchSettings(trials=1, epochs=1), name=name)
    there = ["--out", str(tmp_path / "there"), "--storage", server.url(database)]

    codes = [
        run(["studies", *words, *there])
        for words in (["rename", "s", "t"], ["rename", "s", "u"], ["delete", "t", "--yes"])
    ]
    said = capsys.readouterr()

    assert codes == [5, 0, 0]
    assert "study 't' exists" in said.err
    assert said.out.splitlines() == [
        "s is now u; its run folder is not here: where it is, rename it, too",
        "deleted study 't' (1 trials), not the run folder of the machine that searched it",
    ]
    storage = open_storage(bench.outputs, create=False)
    assert [row.name for row in list_studies(storage)] == ["u"]
    storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "v")
    with pytest.raises(StudyError, match="study 'u' exists"):  # as when another machine was quicker
        storage.rename_study("v", "u")
    assert [path.name for path in (tmp_path / "there" / "runs").iterdir()] == []


def _tuner(folder: Path, url: str, *arguments: object, timeout: float = 240) -> Done:
    """Type a command in ``folder``, the storage in the environment, as on a machine where it is set up."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "tuner", *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False,
        timeout=timeout, env={**os.environ, "TUNER_STORAGE": url, "COLUMNS": "200"},
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


@ON_SERVER
@pytest.mark.timeout(600)
def test_a_search_is_told_of_on_every_machine_and_its_password_nowhere(
    server: Server, database: str, tmp_path: Path, small_folder: Path
) -> None:
    here, there, url = tmp_path / "here", tmp_path / "there", server.url(database)
    here.mkdir()
    (here / "small.toml").write_text(SMALL_SPACE, "utf-8")
    searched = _tuner(here, "", "search", "small.toml", "--trials", 2, "--epochs", 1, "--refit-epochs", 1, "--refit-seeds", 1,
                      "--workers", 1, "--data", small_folder, "--storage", url)  # fmt: skip
    said = [searched]
    assert searched.code == 0, searched.err

    for folder in (here, there):
        listed, best = (_tuner(folder, url, *words, "--json") for words in (["studies"], ["best"]))
        assert [(row["name"], row["trials"]) for row in listed.document] == [("small-1", {"complete": 2})]
        assert best.document["best_trial"]["values"]
        assert (best.document["refit"] is None) == (folder == there)
        said += [listed, best]
    report, export = _tuner(there, url, "report"), _tuner(there, url, "best", "--export", "m")
    resumed = _tuner(there, url, "search", "--resume", "--trials", 3, "--workers", 1, "--no-refit")
    said += [report, export, resumed, _tuner(here, url, "report"), _tuner(here, url, "best", "--export", "m")]

    assert "not at results/runs/small-1 on this machine" in best.document["missing"]
    assert (report.code, export.code, resumed.code) == (5, 7, 0), resumed.err
    assert "has no run folder there (--out names the folder that it was searched in" in report.err
    assert "is not at results/runs/small-1 on this machine" in export.err
    assert not (there / "m").exists()
    assert "has nothing of this study" in resumed.out
    assert [done.code for done in said[-2:]] == [0, 0]
    for secret in (PASSWORD, ENCODED):
        assert not any(secret in done.out + done.err for done in said)
        written = [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
        assert written == []
    assert ":***@127.0.0.1" in (here / "results/runs/small-1/report.json").read_text("utf-8")
    commands = server.execute("SELECT value_json FROM study_user_attributes", database=database)
    assert not any(secret in str(commands) for secret in (PASSWORD, ENCODED))


@ON_SERVER
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_that_is_stopped_for_half_a_minute_during_a_search_costs_no_trial_and_changes_no_curve(
    server: Server, tmp_path: Path, small_folder: Path
) -> None:
    outcomes = []
    for name, outage in (("whole", 0), ("disturbed", 30)):
        folder, url = tmp_path / name, server.url(server.new_database())
        folder.mkdir()
        (folder / "small.toml").write_text(SMALL_SPACE, "utf-8")
        command = [sys.executable, "-m", "tuner", "search", "small.toml", "--trials", "6", "--workers", "2", "--epochs", "6",
                   "--seed", "3", "--data", str(small_folder), "--deterministic", "--no-refit"]  # fmt: skip
        with subprocess.Popen(
            command, cwd=folder, env={**os.environ, "TUNER_STORAGE": url}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:  # fmt: skip
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if outage and server.runs and "trial 1 epoch 2" in line:
                    server.stop()
                    again = threading.Timer(outage, server.start)
                    again.start()
            assert process.wait(300) == 0, (said, process.stderr.read() if process.stderr else "")
        study, _ = load_study(open_storage(Outputs.of(str(folder / "results"), url), create=False), "small-1")
        outcomes.append({
            str(trial.number): [trial.state.name, trial.values, trial.params, trial.intermediate_values,
                                [{**row, "seconds": 0} for row in trial.user_attrs.get("complete", {}).get("curve", [])]]
            for trial in study.get_trials()
        })  # fmt: skip
        if outage:
            again.join()
        assert any("cannot be reached" in line for line in said) == (name == "disturbed")
        assert not any(secret in "".join(said) for secret in (PASSWORD, ENCODED))

    assert len(outcomes[0]) == 6
    assert differences(*outcomes) == []
