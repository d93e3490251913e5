"""The whole road in one page: search, refit, score, report. What ``tuner search`` and the library call."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import errno
import json
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna

from tuner.data.sources import Source, find
from tuner.data.splits import VALIDATION_SHARE
from tuner.errors import DataError, EnvironmentProblem, SearchError, StudyError
from tuner.evaluation.refit import Refitted, refit
from tuner.evaluation.score import score
from tuner.records import Note, Observer, RefitStarted, TrialSummary
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
    auto_workers,
    command_line,
    commit,
    draft_of,
    folder_bytes,
    machine,
    resume_command,
    sweep_drafts,
    write_json,
    write_text,
)
from tuner.search.budget import END_SECONDS, FORWARD_SHARE, REFIT_MARGIN, Clock, Pace, RefitPlan, plan_refit
from tuner.search.coordinator import Coordinator
from tuner.search.crew import Crew
from tuner.search.executors.local import LocalExecutor
from tuner.search.pruners import make_pruner
from tuner.search.request import Opened, Request, claimed
from tuner.search.samplers import make_sampler
from tuner.search.shelf import Shelf
from tuner.search.storage import open_storage
from tuner.search.study import (
    StudyFacts,
    best_trial,
    create_study,
    keep_facts,
    load_study,
    summaries,
    why_no_winner,
)
from tuner.search.task import SearchTask
from tuner.search.timekeeper import Timekeeper
from tuner.space.settings import SearchSettings
from tuner.training.checkpoint import epochs_kept

NOTE_SECONDS = 30.0
"""While the database cannot be written, the user is told so this often."""
DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def run_search(request: Request, observe: Observer, interruption: Interruption | None = None) -> Document:
    """Search, retrain the winner, score it once, write everything into the run folder, and return the report.

    Raises the errors of ``tuner.errors``; KeyboardInterrupt, which ``interruption`` asks for between two epochs, leaves
    a study that ``resume`` goes on with.
    """
    started = time.monotonic()
    pace = Pace.guess()  # before the workers start, which load TensorFlow on every core
    asked = request.settings.get("workers")
    with contextlib.closing(LocalExecutor()) as executor:
        with contextlib.suppress(OSError):  # no room for a temporary log: they start later, then
            executor.warm(asked if isinstance(asked, int) else auto_workers())  # while the space is being read
        with claimed(request) as (opened, folder), _full_disk_in_one_line(folder):
            clock = Clock(started, opened.settings.time)
            executor.log_folder = folder
            return _Run(request, opened, folder, clock, observe, interruption or Interruption(), executor, pace).whole()


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


@dataclass
class _Run:
    """One search under way, from its workers to its report."""

    request: Request
    opened: Opened
    folder: Path
    clock: Clock
    observe: Observer
    interruption: Interruption
    executor: LocalExecutor
    pace: Pace
    _noted: float = -math.inf

    def whole(self) -> Document:
        """Run everything, and return the report."""
        settings, space = self.opened.settings, self.opened.space_file.space
        workers = auto_workers() if settings.workers == "auto" else int(settings.workers)
        shelf = Shelf(self.folder / "checkpoints", settings.keep)
        sweep_drafts(self.folder)
        with contextlib.closing(self.executor) as executor:
            crew = Crew(executor, workers, heartbeat=settings.heartbeat, observe=self.observe, memory=settings.memory)
            executor.let_go()
            source = find(self.opened.data, lambda text: self.observe(Note(text)))
            task = SearchTask(space, settings, source, _epoch_images(settings, source), workers)
            timekeeper = Timekeeper(task, self.clock, self.pace, refit=self.request.refit)
            timekeeper.check_budget()
            if self.request.resume and not self.opened.resumed:
                self.observe(Note(f"There is no study '{self.opened.name}' to resume: it begins."))
            elif self.opened.resumed and self.request.study is None:
                self.observe(Note(f"Going on with '{self.opened.name}', the latest; --study names another one."))
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
                    total, counted = settings.total_trials, sum(trial.counted for trial in trials)
                    more = ["--trials", str(counted + counted)] if total is not None and counted >= total else []
                    hint = f"'{resume_command(self.opened.outputs, self.opened.name, *more)}' goes on"
                    raise SearchError(why_no_winner(trials), hint=hint)
                document, refitted = self._refit(facts, winner, timekeeper, crew, shelf)
        shelf.tidy(trials)  # a worker that was stopped may have written one more
        sweep_drafts(self.folder)
        if refitted is not None:
            self.observe(Note("Scoring the test set …"))
            document = self._score(source, winner, refitted)
        report = build_report(facts, trials, winner, document, self.clock.elapsed())
        report["run_folder_bytes"] = folder_bytes(self.folder) - shelf.refit_bytes()
        write_report(self.folder, report)
        write_json(self.folder / "run.json", _manifest(facts, report, self.clock))
        if document:
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
        if time.monotonic() - self._noted > NOTE_SECONDS:
            self._noted = time.monotonic()
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
        plan = _begun_plan(shelf, facts.study_facts, winner, plan, epoch_seconds=epoch_seconds, left=left())
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


def _begun_plan(  # noqa: PLR0913
    shelf: Shelf, facts: StudyFacts, winner: TrialSummary, plan: RefitPlan, *, epoch_seconds: float, left: float
) -> RefitPlan:
    """Return the plan of an interrupted refit of the same winner where going on with it is as good; or keep ``plan``.

    As good: no shorter than what is planned now, with epochs behind it, and with time for the rest. A schedule that
    has begun cannot be given other epochs.
    """
    file = shelf.folder / "refit.json"
    asked = {"study": facts.identity, "trial": winner.number}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        before = json.loads(file.read_text("utf-8"))
        begun = RefitPlan(**before["plan"])
        done = epochs_kept(Path(shelf.place(-1)))
        in_time = (begun.epochs - done) * epoch_seconds <= left
        longest = facts.settings.refit_epochs
        if before["asked"] == asked and done and plan.epochs <= begun.epochs <= longest and in_time:
            return dataclasses.replace(begun, seeds=min(begun.seeds, facts.settings.refit_seeds))
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
