"""The whole road in one page: search, refit, score, report. What ``tuner search`` and the library call."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import errno
import json
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna

from tuner.data.sources import FASHION_MNIST, Source, find
from tuner.data.splits import VALIDATION_SHARE
from tuner.errors import DataError, EnvironmentProblem, SearchError, SpaceError, StudyError, UsageError
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
from tuner.runs import (
    Interruption,
    Outputs,
    command_line,
    commit,
    cores,
    draft_of,
    folder_bytes,
    machine,
    make_writable,
    only_one,
    write_json,
    write_text,
)
from tuner.search.budget import END_SECONDS, FORWARD_SHARE, REFIT_MARGIN, Clock, Pace, RefitPlan, plan_refit
from tuner.search.coordinator import Coordinator
from tuner.search.crew import Crew
from tuner.search.executors.local import LocalExecutor
from tuner.search.pruners import make_pruner
from tuner.search.samplers import make_sampler
from tuner.search.shelf import Shelf
from tuner.search.storage import open_storage
from tuner.search.study import (
    StudyFacts,
    best_trial,
    create_study,
    free_name,
    is_stillborn,
    keep_facts,
    latest_study,
    load_study,
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
BINDING = ("epochs", "train_images", "seed", "sampler", "deterministic")
"""Settings that make a study's trials what they are: a resumed search cannot change them."""
DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


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


def run_search(request: Request, observe: Observer, interruption: Interruption | None = None) -> Document:
    """Search, retrain the winner, score it once, write everything into the run folder, and return the report.

    Raises the errors of ``tuner.errors``; KeyboardInterrupt, which ``interruption`` asks for between two epochs, leaves
    a study that ``resume`` goes on with.
    """
    started = time.monotonic()
    with _claimed(request) as (opened, folder), _full_disk_in_one_line(folder):
        clock = Clock(started, opened.settings.time)
        return _Run(request, opened, folder, clock, observe, interruption or Interruption()).whole()


@contextlib.contextmanager
def _full_disk_in_one_line(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        raise EnvironmentProblem(
            f"{error.filename or folder}: cannot be written: {error.strerror}",
            hint="nothing that was written is lost: make room, then '--resume' goes on",
        ) from None


@contextlib.contextmanager
def _claimed(request: Request) -> Iterator[tuple[_Opened, Path]]:
    """Open a request under its study's locks; of two searches that pick one free name, the later takes the next."""
    taken: list[str] = []
    with contextlib.ExitStack() as locks:
        while True:
            opened = _open(request, taken)
            folder = opened.outputs.run_folder(opened.name)
            make_writable(folder)
            try:
                locks.enter_context(only_one(folder, opened.outputs.database))
                break
            except StudyError:
                if request.study or request.resume:
                    raise
                taken.append(opened.name)
        yield opened, folder


@dataclass
class _Run:
    """One search under way, from its workers to its report."""

    request: Request
    opened: _Opened
    folder: Path
    clock: Clock
    observe: Observer
    interruption: Interruption

    def whole(self) -> Document:
        """Run everything, and return the report."""
        settings, space = self.opened.settings, self.opened.space_file.space
        workers = cores() if settings.workers == "auto" else int(settings.workers)
        pace = Pace.guess()  # before the workers start, which load TensorFlow on every core
        shelf = Shelf(self.folder / "checkpoints", settings.keep)
        with contextlib.closing(LocalExecutor(self.folder)) as executor:
            crew = Crew(executor, workers, heartbeat=settings.heartbeat, observe=self.observe)
            source = find(self.opened.data, lambda text: self.observe(Note(text)))
            task = SearchTask(space, settings, source, _epoch_images(settings, source), workers)
            timekeeper = Timekeeper(task, self.clock, pace, refit=self.request.refit)
            timekeeper.check_budget()
            if self.request.resume and not self.opened.resumed:
                self.observe(Note(f"There is no study '{self.opened.name}' to resume: it begins."))
            study, study_facts = self._study(source)
            write_text(self.folder / "space.toml", study_facts.space_text)
            with self._interruptible():
                Coordinator(
                    study, task, crew, timekeeper, self.observe, shelf=shelf, interruption=self.interruption
                ).run()
                facts = Facts(self.opened.name, study_facts, space, source, self.clock.elapsed(), crew.lost)
                trials = summaries(study)
                write_tables(self.folder, trials, space)
                if self.interruption.asked:
                    raise KeyboardInterrupt
                winner = best_trial(trials)
                if winner is None:
                    hint = f"'tuner search --resume --study {self.opened.name}' goes on"
                    raise SearchError(why_no_winner(trials), hint=hint)
                document, refitted = self._refit(facts, winner, timekeeper, crew, shelf)
        if refitted is not None:
            self.observe(Note("Scoring the test set …"))
            document = self._score(source, winner, refitted)
        report = build_report(facts, trials, winner, document, self.clock.elapsed())
        report["run_folder_bytes"] = folder_bytes(self.folder) - shelf.refit_bytes()
        write_report(self.folder, report)
        write_json(self.folder / "run.json", _manifest(facts, report, self.clock))
        shelf.clear_refit()  # not before the result is in
        return report

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """While workers train, a first signal only asks."""
        self.interruption.heard = True
        try:
            yield
        finally:
            self.interruption.heard = False

    def _study(self, source: Source) -> tuple[optuna.Study, StudyFacts]:
        """Create or load the study, with the sampler and pruner that this search uses, and note this search in it."""
        opened = self.opened
        storage = open_storage(opened.outputs, create=not opened.resumed)
        storage.trouble = self._hear_trouble
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

    def _hear_trouble(self, text: str) -> None:
        """Hear that the study cannot be written for now; Ctrl-C ends the wait, and nothing is lost by that."""
        self.observe(Note(text))
        if self.interruption.asked:
            raise KeyboardInterrupt

    def _refit(
        self, facts: Facts, winner: TrialSummary, timekeeper: Timekeeper, crew: Crew, shelf: Shelf
    ) -> tuple[Document | None, Refitted | None]:
        """Retrain the winner on the workers that searched; a refit of before that is as good is kept instead."""
        settings = facts.study_facts.settings

        def left() -> float:
            return self.clock.left() - END_SECONDS

        epoch_seconds = REFIT_MARGIN * timekeeper.refit_epoch_seconds(winner)
        plan = plan_refit(settings, epoch_seconds=epoch_seconds, workers=timekeeper.workers, left=left())
        document = refit_of(read_report(self.folder), facts.study_facts, winner)
        if document and (not self.request.refit or _as_good(document, plan)):
            self.observe(Note("The winner is the one of before: its refit and its test score are kept."))
            return document, None
        if not self.request.refit:
            return document, None
        plan = _same_plan(shelf.folder / "refit.json", winner, settings, plan)
        if plan.note:
            self.observe(Note(f"Note: {plan.note}."))
        self.observe(RefitStarted(winner, plan.epochs, plan.seeds))
        return None, refit(
            winner.values,
            facts.source,
            plan,
            study_seed=settings.seed,
            shelf=shelf,
            crew=crew,
            # What is kept back for slow epochs is spent before seeds are dropped.
            left=lambda: left() + self.clock.grace / 2,
            patience=timekeeper.beat_seconds(winner.cost) if winner.cost else 0.0,
            interruption=self.interruption,
            observe=self.observe,
        )

    def _score(self, source: Source, winner: TrialSummary, refitted: Refitted) -> Document:
        """Score the test set once per seed and keep the first seed's model, whatever the others scored."""
        result = score(refitted, source.folder, self.folder / "predictions.npz")
        write_refit_curves(self.folder, refitted)
        mean, sd = result.mean_and_sd
        with draft_of(self.folder / "model.keras") as draft:
            shutil.copyfile(refitted.models[0], draft)
        return {
            "trial": winner.number,
            "epochs": refitted.epochs,
            "seeds": list(refitted.seeds),
            "test_accuracies": result.accuracies,
            "test_accuracy_mean": mean,
            "test_accuracy_sd": sd,
            "interval_95": list(result.interval_95),
            "n_test": len(result.labels),
            "seconds": round(refitted.seconds, 1),
            "note": refitted.note,
        }


def _same_plan(file: Path, winner: TrialSummary, settings: SearchSettings, plan: RefitPlan) -> RefitPlan:
    """Return the plan of an interrupted refit of the same winner, which can be gone on with; or keep ``plan``.

    A schedule cannot be given other epochs when it has begun.
    """
    size = {"epochs": settings.refit_epochs, "seeds": settings.refit_seeds}
    asked = {"trial": winner.number, "values": winner.values, **size}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        before = json.loads(file.read_text("utf-8"))
        if before["asked"] == asked:
            return RefitPlan(**before["plan"])
    write_json(file, {"asked": asked, "plan": dataclasses.asdict(plan)})
    return plan


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


def _open(request: Request, taken: Sequence[str]) -> _Opened:
    """Read and check everything that needs no data and no worker."""
    outputs = Outputs.of(request.out, request.storage)
    if request.study is not None and not re.fullmatch(r"[\w.,+=@ -]*\w[\w.,+=@ -]*", request.study):
        raise UsageError(f"--study {request.study}: a name has letters, digits, spaces and .,+=@-_ only")
    if request.resume and not (request.space and _nothing_to_resume(request, outputs)):
        return _reopen(request, outputs)
    return _open_new(request, outputs, taken)


def _nothing_to_resume(request: Request, outputs: Outputs) -> bool:
    """Tell whether the study was never begun: a search that died before it is resumed by beginning."""
    if outputs.database is not None and not outputs.database.exists():
        return True
    storage = open_storage(outputs, create=False)
    if request.study is not None:
        return request.study not in study_names(storage) or _never_begun(storage, outputs, request.study)
    try:
        latest_study(storage, read_checked(request.space or DEFAULT_SPACE, request.changes).space.name)
    except StudyError:
        return True
    return False


def _never_begun(storage: optuna.storages.BaseStorage, outputs: Outputs, name: str) -> bool:
    """Tell whether a search of ours died while it made the study; its run folder was locked before."""
    return (outputs.run_folder(name) / ".lock").exists() and is_stillborn(storage, name)


def _open_new(request: Request, outputs: Outputs, taken: Sequence[str]) -> _Opened:
    space_file = read_checked(request.space or DEFAULT_SPACE, request.changes)
    storage = open_storage(outputs, create=True)
    name = request.study or free_name(storage, outputs, space_file.space.name, taken)
    if name in study_names(storage) and not _never_begun(storage, outputs, name):
        raise StudyError(f"study '{name}' exists", hint="--resume goes on with it; --study NAME makes another")
    settings = space_file.settings.merged(request.settings)
    if settings.deterministic and settings.workers == "auto":  # the number is part of what the seed decides
        settings = dataclasses.replace(settings, workers=cores())
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
    for key in (*BINDING, *(["workers"] if facts.settings.deterministic else [])):
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
