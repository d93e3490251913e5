"""The whole road in one page: search, refit, score, report. What ``tuner search`` and the library call."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna

from tuner.data.sources import FASHION_MNIST, Source, find
from tuner.data.splits import VALIDATION_SHARE
from tuner.errors import DataError, SearchError, SpaceError, StudyError, UsageError
from tuner.evaluation.refit import Refitted, refit
from tuner.evaluation.score import score
from tuner.records import Note, Observer, RefitStarted, TrialSummary, Value
from tuner.reporting.best import refit_of
from tuner.reporting.report import (
    Document,
    Facts,
    build_report,
    read_report,
    write_refit_curves,
    write_report,
    write_tables,
)
from tuner.runs import Outputs, command_line, commit, cores, machine, make_writable, only_one, write_json, write_text
from tuner.search.budget import END_SECONDS, FORWARD_SHARE, REFIT_MARGIN, Clock, Pace, RefitPlan, plan_refit
from tuner.search.coordinator import Coordinator
from tuner.search.executors.local import LocalExecutor
from tuner.search.pruners import make_pruner
from tuner.search.samplers import make_sampler
from tuner.search.study import (
    StudyFacts,
    best_trial,
    create_study,
    free_name,
    keep_facts,
    latest_study,
    load_study,
    open_storage,
    study_names,
    summaries,
    why_no_winner,
)
from tuner.search.task import SearchTask
from tuner.search.timekeeper import Timekeeper
from tuner.space.reader import SpaceFile, parse_space, read_space
from tuner.space.settings import SearchSettings
from tuner.training.configuration import check_space

DEFAULT_SPACE = "cnn"
BINDING = ("epochs", "train_images", "seed", "sampler")
"""Settings that make a study's trials what they are: a resumed search cannot change them."""


@dataclass(frozen=True)
class Request:
    """What the user asks of a search; None leaves a setting to the space, or to the study that is resumed."""

    space: str | None = None
    study: str | None = None
    data: str | None = None
    out: str = "results"
    storage: str | None = None
    resume: bool = False
    refit: bool = True
    changes: tuple[str, ...] = ()
    """``--set`` in the order given."""
    settings: dict[str, Value] = field(default_factory=dict)
    """Search settings from options of their own, e.g. ``{"trials": 20}``."""


@dataclass(frozen=True)
class _Opened:
    """A request, read and checked, before anything was started."""

    outputs: Outputs
    name: str
    space_file: SpaceFile
    settings: SearchSettings
    data: str | None
    resumed: bool


def run_search(request: Request, observe: Observer) -> Document:
    """Search, retrain the winner, score it once, write everything into the run folder, and return the report.

    Raises the errors of ``tuner.errors``; KeyboardInterrupt leaves a study that ``resume`` goes on with.
    """
    started = time.monotonic()
    opened = _open(request)
    folder = opened.outputs.run_folder(opened.name)
    make_writable(folder)
    with only_one(folder):
        return _run(request, opened, folder, Clock(started, opened.settings.time), observe)


def _run(request: Request, opened: _Opened, folder: Path, clock: Clock, observe: Observer) -> Document:
    settings, space = opened.settings, opened.space_file.space
    workers = cores() if settings.workers == "auto" else int(settings.workers)
    pace = Pace.guess()  # before the workers start, which load TensorFlow on every core
    with contextlib.closing(LocalExecutor(folder)) as executor:
        for _ in range(workers):
            executor.start()
        source = find(opened.data, lambda text: observe(Note(text)))
        task = SearchTask(space, settings, source, _epoch_images(settings, source), workers)
        time_kept = Timekeeper(task, clock, pace, refit=request.refit)
        time_kept.check_budget()
        study, study_facts = _study(opened, source)
        write_text(folder / "space.toml", study_facts.space_text)
        coordinator = Coordinator(study, task, executor, time_kept, observe)
        coordinator.run()
        facts = Facts(opened.name, study_facts, opened.space_file.space, source, clock.elapsed())
        trials = summaries(study)
        write_tables(folder, trials, space)
        winner = best_trial(trials)
        if winner is None:
            raise SearchError(why_no_winner(trials), hint=f"'tuner search --resume --study {opened.name}' goes on")
        left = clock.left() - END_SECONDS
        epoch_seconds = REFIT_MARGIN * time_kept.refit_epoch_seconds(winner)
        plan = plan_refit(settings, epoch_seconds=epoch_seconds, workers=workers, left=left)
        document = refit_of(read_report(folder), study_facts, winner)
        refitted = None
        if document and (not request.refit or _as_good(document, plan)):
            observe(Note("The winner is the one of before: its refit and its test score are kept."))
        elif request.refit:
            refitted = _refit(facts, winner, plan, executor=executor, idle=coordinator.idle, observe=observe)
    if refitted is not None:
        observe(Note("Scoring the test set …"))
        document = _score(folder, source, winner, refitted, plan)
    report = build_report(facts, trials, winner, document, clock.elapsed())
    write_report(folder, report)
    write_json(folder / "run.json", _manifest(facts, report, clock))
    return report


def _epoch_images(settings: SearchSettings, source: Source) -> float:
    """Return what an epoch of a trial costs, in images trained. Raises DataError when there are not so many."""
    validation = round(source.n_train * VALIDATION_SHARE)
    train = source.n_train - validation
    if settings.train_images is not None and settings.train_images > train:
        raise DataError(f"search.train_images = {settings.train_images}, but the training split has {train}")
    return (settings.train_images or train) + FORWARD_SHARE * validation


def _as_good(document: Document, plan: RefitPlan) -> bool:
    """Tell whether an earlier refit of the same winner is what would be done now: the test set is scored once."""
    return len(document["seeds"]) >= plan.seeds and bool(document["epochs"] >= plan.epochs)


def _open(request: Request) -> _Opened:
    """Read and check everything that needs no data and no worker."""
    outputs = Outputs.of(request.out, request.storage)
    if request.study is not None and not re.fullmatch(r"[\w.,+=@ -]*\w[\w.,+=@ -]*", request.study):
        raise UsageError(f"--study {request.study}: a name has letters, digits, spaces and .,+=@-_ only")
    return _reopen(request, outputs) if request.resume else _open_new(request, outputs)


def _open_new(request: Request, outputs: Outputs) -> _Opened:
    space_file = read_checked(request.space or DEFAULT_SPACE, request.changes)
    storage = open_storage(outputs, create=True)
    name = request.study or free_name(storage, outputs, space_file.space.name)
    if name in study_names(storage):
        raise StudyError(f"study '{name}' exists", hint="--resume goes on with it; --study NAME makes another")
    settings = space_file.settings.merged(request.settings)
    make_sampler(settings, space_file.space)  # a grid over an infinite space is refused here
    data = str(Path(request.data).absolute()) if request.data not in (None, FASHION_MNIST) else None
    return _Opened(outputs, name, space_file, settings, data, resumed=False)


def _reopen(request: Request, outputs: Outputs) -> _Opened:
    """Take up the study that is named, or the latest one; its own space, unless one is given to compare with it."""
    space_file = read_checked(request.space, request.changes) if request.space else None
    storage = open_storage(outputs, create=False)
    name = request.study or latest_study(storage, space_file.space.name if space_file else None)
    _, facts = load_study(storage, name)
    if space_file is None:
        space_file = parse_space(facts.space_name, facts.space_text, request.changes, source=f"study '{name}'")
        check_space(space_file.space)
    settings = _resumed_settings(name, facts, space_file, request)
    return _Opened(outputs, name, space_file, settings, request.data or facts.data_folder, resumed=True)


def read_checked(source: str, changes: tuple[str, ...] = ()) -> SpaceFile:
    """Return a space that its family can build. Raises SpaceError."""
    space_file = read_space(source, changes)
    try:
        check_space(space_file.space)
    except SpaceError as error:
        raise SpaceError(f"{source}: {error.message}", hint=error.hint) from None
    return space_file


def _resumed_settings(name: str, facts: StudyFacts, space_file: SpaceFile, request: Request) -> SearchSettings:
    """Return the study's own settings with what the user says now over them, where that can change."""
    if facts.space_hash != space_file.hash:
        raise StudyError(
            f"study '{name}' was made with another space ({facts.space_hash}, now {space_file.hash})",
            hint="start a new study with --study NAME, or leave SPACE and --set out to resume with the old one",
        )
    said: dict[str, Value] = {key: value for key, value in request.settings.items() if value is not None}
    set_now = {change.partition("=")[0].strip().removeprefix("search.") for change in request.changes}
    said |= {key: getattr(space_file.settings, key) for key in set_now if hasattr(space_file.settings, key)}
    for key in BINDING:
        if key in said and said[key] != getattr(facts.settings, key):
            raise StudyError(
                f"study '{name}' was searched with {key} = {getattr(facts.settings, key)}, not {said[key]}",
                hint="its trials could not be compared; start a new study with --study NAME",
            )
    settings = facts.settings.merged(said)
    # Who names one end of the search now does not mean the other one of then.
    if "time" in said and "trials" not in said:
        settings = dataclasses.replace(settings, trials=None)
    if "trials" in said and "time" not in said:
        settings = dataclasses.replace(settings, time=None)
    return settings


def _study(opened: _Opened, source: Source) -> tuple[optuna.Study, StudyFacts]:
    """Create or load the study, with the sampler and pruner that this search uses, and note this search in it."""
    storage = open_storage(opened.outputs, create=not opened.resumed)
    space, settings = opened.space_file.space, opened.settings
    if opened.resumed:
        study, facts = load_study(storage, opened.name)
        if facts.data != source.digest:
            raise StudyError(
                f"study '{opened.name}' was searched on other images (digest {facts.data}, now {source.digest})",
                hint="name the same data with --data, or start a new study",
            )
        facts = dataclasses.replace(facts, settings=settings, commands=(*facts.commands, command_line()))
        keep_facts(study, facts)
    else:
        text, digest = opened.space_file.text, opened.space_file.hash
        facts = StudyFacts(space.name, text, digest, source.digest, settings, opened.data, (command_line(),))
        study = create_study(storage, opened.name, facts, space)
    study.sampler, study.pruner = make_sampler(settings, space), make_pruner(settings)
    return study, facts


def _refit(  # noqa: PLR0913
    facts: Facts,
    winner: TrialSummary,
    plan: RefitPlan,
    *,
    executor: LocalExecutor,
    idle: Sequence[int],
    observe: Observer,
) -> Refitted:
    """Retrain the winner on the workers that searched."""
    if plan.note:
        observe(Note(f"Note: {plan.note}."))
    observe(RefitStarted(winner, plan.epochs, plan.seeds))
    return refit(
        winner.values,
        facts.source,
        plan,
        study_seed=facts.study_facts.settings.seed,
        folder=executor.log_folder / "checkpoints",
        executor=executor,
        idle=idle,
        observe=observe,
    )


def _score(folder: Path, source: Source, winner: TrialSummary, refitted: Refitted, plan: RefitPlan) -> Document:
    """Score the test set once per seed and keep the first seed's model, whatever the others scored."""
    result = score(refitted.models, source.folder, folder / "predictions.npz")
    write_refit_curves(folder, refitted)
    refitted.models[0].replace(folder / "model.keras")
    shutil.rmtree(refitted.models[0].parent)
    mean, sd = result.mean_and_sd
    return {
        "trial": winner.number,
        "epochs": plan.epochs,
        "seeds": list(refitted.seeds),
        "test_accuracies": result.accuracies,
        "test_accuracy_mean": mean,
        "test_accuracy_sd": sd,
        "interval_95": list(result.interval_95),
        "n_test": len(result.labels),
        "seconds": round(refitted.seconds, 1),
        "note": plan.note,
    }


def _manifest(facts: Facts, report: Document, clock: Clock) -> Document:
    return {
        "command": report["command"],
        "space_hash": report["space_hash"],
        "seed": report["seed"],
        "settings": dataclasses.asdict(facts.study_facts.settings),
        "data": {"name": facts.source.name, "digest": facts.source.digest, "verified": facts.source.verified},
        "versions": report["versions"],
        "commit": commit(),
        "machine": machine(),
        "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "wall_seconds": report["wall_seconds"],
        "cpu_seconds": report["cpu_seconds"],
        "seconds_left_of_time": None if clock.limit is None else round(clock.left(), 1),
    }
