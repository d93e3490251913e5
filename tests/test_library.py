"""``import tuner``: the list that programs may rely on, and searches that leave the process as it was."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
import os
import pkgutil
import shlex
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import tuner
from tuner.cli import run
from tuner.cli import search as command
from tuner.runs import Interruption, write_json
from tuner.search.request import Request

from .scripted import ScriptedWorkers, good

PUBLIC = [
    "DataError", "EnsembleStarted", "EnvironmentProblem", "EpochEnded", "EpochResult", "Event", "ExportError",
    "FinalEpochEnded", "FinalsStarted", "MemberEpochEnded", "Note", "Observer", "Prediction", "Predictions",
    "RefitEpochEnded", "RefitStarted", "Result", "SearchError", "SearchStarted", "SpaceError", "StudyError",
    "TrialEnded", "TrialStarted", "TrialSummary", "TunerError", "UsageError", "classify", "open_result", "run_search",
]  # fmt: skip


# The list.


def test_what_programs_may_rely_on_is_this_list() -> None:
    assert tuner.__all__ == PUBLIC
    assert dir(tuner) == PUBLIC
    assert all(hasattr(tuner, name) for name in PUBLIC)
    assert not hasattr(tuner, "search_space")


def test_no_public_name_is_a_rooms() -> None:
    rooms = {module.name for module in pkgutil.iter_modules(tuner.__path__)}

    assert {"search", "errors", "library"} <= rooms
    assert not rooms & set(PUBLIC)


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in {"Event", "Observer"}])
def test_every_public_name_is_documented_and_annotated(name: str) -> None:
    found = getattr(tuner, name)
    members = (
        [member for key, member in vars(found).items() if not key.startswith("_")] if inspect.isclass(found) else []
    )
    functions = [getattr(one, "fget", one) for one in [found, *members]]

    assert inspect.getdoc(found)
    for function in filter(inspect.isfunction, functions):
        signature = inspect.signature(function)
        parameters = [one for one in signature.parameters.values() if one.name != "self"]
        assert function.__doc__, function
        assert signature.return_annotation is not inspect.Signature.empty, function
        assert all(one.annotation is not inspect.Parameter.empty for one in parameters), function


def test_the_package_is_cheap_until_something_is_asked_of_it() -> None:
    code = """
import sys, tuner
assert {name for name in sys.modules if name.startswith("tuner.")} == set(), sys.modules
tuner.run_search, tuner.Result, tuner.TunerError, tuner.TrialEnded
heavy = {"numpy", "optuna", "rich", "typer", "keras", "tensorflow"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# The same as the command.


def test_a_search_has_the_options_of_the_command() -> None:
    of_the_command = {name.rstrip("_") for name in inspect.signature(command.search).parameters}
    of_the_library = set(inspect.signature(tuner.run_search).parameters)

    only_shown = {"dry_run", "quiet", "json"}
    assert of_the_library - {"progress", "refit"} == of_the_command - only_shown - {"no_refit"}


EVERYTHING: dict[str, Any] = {
    "space": Path("small.toml"), "study": "one study", "trials": 3, "time": None, "epochs": 2, "data": Path("photos:32"),
    "workers": 2, "executor": "ray", "sampler": "random", "metric": "val_balanced_accuracy", "pruner": "none", "seed": 7, "out": "there",
    "storage": "sqlite:///some.db", "refit_epochs": 3, "refit_seeds": 1, "top": 2, "refit": False, "deterministic": True, "keep": 4,
    "start_with": "baselines", "resume": True,
    "set": {"search.train_images": 500, "parameters.optimizer": "adam", "parameters.learning_rate": {"low": 1e-5},
            "parameters.filters_1.options": [4, np.int64(8)], "parameters.flip": True, "parameters.zoom": np.float32(0.5)},
}  # fmt: skip


@pytest.mark.parametrize(
    "said",
    [EVERYTHING, {"time": "45m", "workers": "auto"}, {"time": 90, "seed": 0}, {}],
    ids=["all", "45m", "90", "none"],
)
def test_the_study_remembers_a_command_that_asks_the_same(
    said: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []

    def hear(request: Request, *_: object) -> None:
        asked.append(request)
        raise tuner.StudyError("heard")

    monkeypatch.setattr("tuner.experiment.run_search", hear)
    with pytest.raises(tuner.StudyError, match="heard"):
        tuner.run_search(**said, progress=False)

    program, *words = shlex.split(asked[0].command or "")
    assert (program, run([*words, "--quiet"])) == ("tuner", 5)
    asked = [dataclasses.replace(one, command=None) for one in asked]
    assert asked[0] == asked[1]
    assert set(said) <= set(inspect.signature(tuner.run_search).parameters)


@pytest.mark.parametrize(
    ("said", "error", "what"),
    [
        ({"space": "cmn"}, tuner.SpaceError, "did you mean 'cnn'"),
        ({"trials": 0}, tuner.SpaceError, r"search\.trials = 0 must be above 0"),
        ({"trials": "9"}, tuner.SpaceError, r"search\.trials = '9' is not a whole number"),
        ({"time": "soon"}, tuner.SpaceError, "not a duration"),
        ({"sampler": "bayes"}, tuner.SpaceError, "one of tpe, random"),
        ({"set": {"search.memory": None}}, tuner.SpaceError, "--set search.memory: None is no text"),
        ({"set": {"parameters.filtres_1": 8}}, tuner.SpaceError, "did you mean 'filters_1'"),
        ({"data": "nowhere"}, tuner.DataError, "nowhere: no such file"),
        ({"space": None, "resume": True}, tuner.StudyError, "no studies there yet"),
    ],
)
def test_what_is_wrong_is_an_error_of_the_list(
    said: dict[str, Any], error: type[Exception], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tuner.experiment.road.LocalExecutor", Workers)
    monkeypatch.setattr("tuner.experiment.road.load_ahead", lambda: None)

    with pytest.raises(error, match=what):
        tuner.run_search(**{"space": "cnn", **said}, progress=False)

    assert issubclass(error, tuner.TunerError)


# Searches in this process, by workers that play a script.


class Workers(ScriptedWorkers):
    """Scripted workers as a search starts them."""

    def __init__(self, log_folder: Path) -> None:
        super().__init__(good)


Search = Callable[..., tuner.Result]


@pytest.fixture
def search(space_path: Path, small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Search]:
    """A search of three trials that are not trained; of its report nothing is drawn. Ctrl-C means what it usually does:
    a shell starts background jobs with it ignored."""
    monkeypatch.chdir(space_path.parent)
    monkeypatch.setattr("tuner.experiment.road.LocalExecutor", Workers)
    monkeypatch.setattr("tuner.experiment.road.load_ahead", lambda: None)
    monkeypatch.setattr(
        "tuner.experiment.road.write_everything",
        lambda folder, report, *_: write_json(folder / "report.json", report),
    )

    def go(**said: Any) -> tuner.Result:
        asked = {"trials": 3, "epochs": 2, "workers": 1, "pruner": "none", "data": small_folder, "refit": False}
        return tuner.run_search(space_path, **{**asked, **said})

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield go
    signal.signal(signal.SIGINT, before)


def _state() -> dict[str, Any]:
    """What a program has set, and finds again."""
    root = logging.getLogger()
    return {
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "cwd": Path.cwd(),
        "environment": dict(os.environ),
        "optuna": optuna.logging.get_verbosity(),
        "logging": (root.level, list(root.handlers), logging.root.manager.disable),
        "warnings": list(warnings.filters),
        "streams": (sys.stdout, sys.stderr, sys.argv[:]),
        "threads": threading.active_count(),
        "numpy": (np.geterr(), np.get_printoptions()),
        "random": np.random.get_state()[1].tolist(),  # noqa: NPY002  # a program's own
    }


def test_two_searches_in_a_process_leave_it_as_it_was(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optuna.logging._default_handler", optuna.logging._default_handler)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        before = _state()

        first, second = search(progress=False), search(progress=False)

        assert _state() == before
    finally:
        optuna.logging.set_verbosity(verbosity)
    assert (first.study, second.study) == ("small-1", "small-2")
    assert first.values == second.values
    assert first.test_accuracy is first.interval_95 is first.model is first.predictions is None


def test_files_are_closed_after_a_search(search: Search) -> None:
    search(progress=False)  # what is imported and kept once
    before = len(list(Path("/proc/self/fd").iterdir()))

    search(progress=False)
    tuner.open_result()

    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_a_search_runs_in_another_thread(search: Search) -> None:
    found: list[tuner.Result] = []
    handler = signal.getsignal(signal.SIGINT)

    thread = threading.Thread(target=lambda: found.append(search(progress=False)))
    thread.start()
    thread.join(60)

    assert found[0].report["n_complete"] == 3
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_search_runs_within_a_running_event_loop(search: Search) -> None:
    async def cell() -> list[tuner.Result]:
        return [search(progress=False), await asyncio.to_thread(search, progress=False)]

    assert [result.report["n_complete"] for result in asyncio.run(cell())] == [3, 3]


def test_progress_is_a_function_lines_or_nothing(search: Search, capsys: pytest.CaptureFixture[str]) -> None:
    events: list[tuner.Event] = []

    search(progress=events.append)
    search(progress=False)
    silent = capsys.readouterr()
    search()
    shown = capsys.readouterr()

    assert silent.out == silent.err == shown.err == ""
    assert sum(isinstance(event, tuner.TrialEnded) for event in events) == 3
    assert sum(isinstance(event, tuner.EpochEnded) for event in events) == 6
    assert "Study small-3: space small, 3 trials, 2 epochs each" in shown.out
    assert "trial 2 epoch 2: validation" in shown.out


def test_ctrl_c_ends_a_search_between_two_epochs_and_it_can_be_gone_on_with(search: Search) -> None:
    handler, seen = signal.getsignal(signal.SIGINT), []

    def press(event: tuner.Event) -> None:
        seen.append(event)
        if isinstance(event, tuner.EpochEnded) and event.number == 1:
            signal.raise_signal(signal.SIGINT)

    said = r"^Interrupted\. 1 complete.* run_search\(study='small-1', resume=True, …\) goes on with it\.$"
    with pytest.raises(KeyboardInterrupt, match=said):
        search(progress=press)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not any(isinstance(event, tuner.TrialStarted) and event.number > 1 for event in seen)

    result = search(resume=True, study="small-1", progress=False)

    assert result.report["n_complete"] == 3
    assert result.report["command"].count(" && tuner search small.toml --resume") == 0
    assert result.report["command"].count(" && ") == 1


def test_an_exception_of_the_observer_ends_the_search_and_it_can_be_gone_on_with(search: Search) -> None:
    def stop(event: tuner.Event) -> None:
        if isinstance(event, tuner.TrialEnded):
            raise TypeError("a bug of the program's")

    with pytest.raises(TypeError, match="a bug of the program's"):
        search(progress=stop)

    assert search(resume=True, study="small-1", progress=False).report["n_complete"] == 3


def test_a_signal_that_the_program_ignores_stays_ignored() -> None:
    from tuner.console.signals import signals

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals((signal.SIGINT,)) as interruption:
            signal.raise_signal(signal.SIGINT)
        assert interruption == Interruption()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_result_is_opened_again_from_another_folder(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = search(progress=False, study="autumn")
    search(progress=False, study="winter", trials=2)

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    named, latest = (tuner.open_result(name, out=tmp_path / "results") for name in ("autumn", None))

    assert (named.study, latest.study) == ("autumn", "winter")
    assert named.folder == made.folder == tmp_path / "results" / "runs" / "autumn"
    assert (named.values, named.val_accuracy) == (made.values, made.val_accuracy)
    with pytest.raises(tuner.StudyError, match=r"there is no study 'spring' \(there are: autumn, winter\)"):
        tuner.open_result("spring", out=tmp_path / "results")
    with pytest.raises(tuner.ExportError, match="no retrained model yet"):
        made.export("away", progress=False)
    monkeypatch.setenv("TUNER_OUT", str(tmp_path / "results"))
    assert tuner.open_result().study == "winter"


def test_a_result_says_what_it_is(search: Search) -> None:
    result = search(progress=False)

    accuracy = f"{100 * result.val_accuracy:.2f} %"
    assert str(result) == f"small-1: validation accuracy {accuracy}, not yet retrained"
    assert repr(result) == f"<{result}>"
    assert accuracy in result._repr_html_()
    assert "<td>learning_rate</td>" in result._repr_html_()
