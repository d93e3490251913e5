"""The whole road in one page: search, refit, score, report. What ``tuner search`` and the library call."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import optuna

from tuner.data.sources import Source, find
from tuner.data.splits import VALIDATION_SHARE, check_cut
from tuner.errors import DataError, SearchError, StudyError
from tuner.evaluation.finals import winner_of
from tuner.experiment.ending import Ending
from tuner.records import Note, Observer
from tuner.reporting.report import (
    Document,
    Facts,
    build_report,
    read_report,
    write_tables,
)
from tuner.reporting.verdict import verdict
from tuner.reporting.writing import write_everything
from tuner.runs import (
    IDENTITY,
    Interruption,
    command_line,
    disk_trouble_in_one_line,
    folder_bytes,
    is_run_of,
    kept_identity,
    machine,
    resume_command,
    sweep_drafts,
    write_json,
    write_text,
)
from tuner.search.asked import as_searched
from tuner.search.budget import FORWARD_SHARE, Clock, Pace, processor_seconds
from tuner.search.coordinator import Coordinator
from tuner.search.crew import Crew
from tuner.search.executors import Executor, on_ray
from tuner.search.executors.local import LocalExecutor, load_ahead
from tuner.search.pruners import make_pruner
from tuner.search.rehearsal import check_settings, rehearse
from tuner.search.request import Opened, Request, claimed
from tuner.search.samplers import make_sampler
from tuner.search.shelf import Shelf
from tuner.search.storage import PatientStorage
from tuner.search.study import (
    StudyFacts,
    create_study,
    keep_facts,
    load_study,
    summaries,
    why_no_winner,
)
from tuner.search.task import Rehearsed, SearchTask
from tuner.search.timekeeper import Timekeeper
from tuner.space.settings import SearchSettings

NOTE_SECONDS = 30.0
"""While the database cannot be written, the user is told so this often."""


def run_search(request: Request, observe: Observer, interruption: Interruption | None = None) -> Document:
    """Search, retrain the winner, score it once, write everything into the run folder, and return the report.

    Raises the errors of ``tuner.errors``; KeyboardInterrupt, which ``interruption`` asks for between two epochs, leaves
    a study that ``resume`` goes on with.
    """
    started, cpu_before = time.monotonic(), processor_seconds()
    pace = Pace.guess()  # before the workers start, which load TensorFlow on every core
    if request.settings.get("executor") != "ray":
        load_ahead()  # while the space is being read
    with claimed(request) as (opened, folder, storage), disk_trouble_in_one_line(folder, "'--resume' goes on"):
        clock = Clock(started, opened.settings.time, cpu_before)
        return _Run(request, opened, folder, storage, clock, observe, interruption or Interruption(), pace).whole()


@dataclass
class _Run:
    """One search under way, from its workers to its report."""

    request: Request
    opened: Opened
    folder: Path
    storage: PatientStorage
    clock: Clock
    observe: Observer
    interruption: Interruption
    pace: Pace
    _noted: float = -math.inf

    def whole(self) -> Document:
        """Run everything, and return the report."""
        settings, space = self.opened.settings, self.opened.space_file.space
        # Until averaging was chosen with the winner's checkpoint, whichever finalist that is.
        shelf = Shelf(self.folder / "checkpoints", max(settings.keep, settings.top))
        sweep_drafts(self.folder)
        with contextlib.closing(self._executor()) as executor:
            size = None if settings.workers == "auto" else int(settings.workers)
            crew = Crew(executor, size, heartbeat=settings.heartbeat, observe=self.observe, memory=settings.memory)
            source = find(self.opened.data, lambda text: self.observe(Note(text)))
            self._tell_of(source)
            rehearsed = self._rehearse(crew, source) if space.hypermodel else None
            task = SearchTask(space, settings, source, epoch_images(settings, source), crew.size, rehearsed)
            timekeeper = Timekeeper(task, self.clock, self.pace, refit=self.request.refit, size=lambda: crew.present)
            timekeeper.check_budget()
            if self.request.resume and not self.opened.resumed:
                self.observe(Note(f"There is no study '{self.opened.name}' to resume: it begins."))
            elif self.opened.resumed and self.request.study is None:
                self.observe(Note(f"Going on with '{self.opened.name}', the latest; --study names another one."))
            study, study_facts = self._study(source)
            self._write_space(study_facts)
            with self.interruption.listening():
                Coordinator(
                    study, task, crew, timekeeper, self.observe, shelf=shelf, interruption=self.interruption
                ).run()
                space = as_searched(space, study)
                seconds, before = self.clock.elapsed(), read_report(self.folder)
                facts = Facts(self.opened.name, study_facts, space, source, seconds, crew.lost, before)
                trials = summaries(study)
                write_tables(self.folder, trials, space)
                if self.interruption.asked:
                    raise KeyboardInterrupt
                ending = Ending(facts, self.request, self.folder, self.clock, timekeeper, shelf, self.observe)
                ending.judge_finalists(trials, crew, self.interruption)
                winner = winner_of(self.folder, study_facts, trials)
                if winner is None:
                    total, counted = settings.total_trials, sum(trial.counted for trial in trials)
                    more = ["--trials", str(counted + counted)] if total is not None and counted >= total else []
                    hint = f"'{resume_command(self.opened.outputs, self.opened.name, *more)}' goes on"
                    raise SearchError(why_no_winner(trials), hint=hint)
                document, refitted = ending.refit(winner, crew, self.interruption)
        sweep_drafts(self.folder)
        if refitted is not None:
            self.observe(Note("Scoring the test set …"))
            document = ending.score(winner, refitted, document)
        # As many as were asked for; a worker that was stopped may have written one more.
        Shelf(shelf.folder, settings.keep).tidy(trials)
        report = build_report(facts, trials, winner, document, self.clock)
        report["run_folder_bytes"] = folder_bytes(self.folder) - shelf.refit_bytes()
        report = verdict(self.opened.outputs, self.folder, study_facts, source, trials, report)
        write_json(self.folder / "run.json", _manifest(facts, report, self.clock))
        write_everything(self.folder, report, trials, space, settings)
        if document:
            shelf.clear_refit()  # not before the result is in
        return report

    def _executor(self) -> Executor:
        settings, folder = self.opened.settings, self.folder
        return on_ray(settings, folder) if settings.executor == "ray" else LocalExecutor(folder)

    def _tell_of(self, source: Source) -> None:
        """Tell what is to be known of the space and of the images before they are searched."""
        for text in self.opened.space_file.dropped:
            self.observe(Note(f"{self.opened.space_file.space.name}: {text}"))
        for text in (*source.notes, *(f"warning: {warning}" for warning in source.warnings)):
            self.observe(Note(f"{source.name}: {text}"))

    def _rehearse(self, crew: Crew, source: Source) -> Rehearsed:
        """Build the hypermodel once, before there is a study, and tell what it is given. Raises SpaceError."""
        found = rehearse(crew, self.opened.space_file.space, source)
        check_settings(found, self.opened.settings)
        trained = "trains by its own fit" if found.own_fit else "is trained epoch by epoch, and goes on after a crash"
        self.observe(Note(f"The hypermodel {trained}: {found.contract}."))
        return found

    def _write_space(self, facts: StudyFacts) -> None:
        if kept_identity(self.folder) not in (None, facts.identity):  # of a study that was called so before
            shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        write_text(self.folder / IDENTITY, facts.identity + "\n")
        write_text(self.folder / "space.toml", facts.space_text)
        if facts.hypermodel:
            write_text(self.folder / Path(facts.hypermodel.path).name, facts.hypermodel.text)

    def _study(self, source: Source) -> tuple[optuna.Study, StudyFacts]:
        """Create or load the study, with the sampler and pruner that this search uses, and note this search in it."""
        opened, storage = self.opened, self.storage
        storage.trouble = self._hear_trouble
        space, settings = opened.space_file.space, opened.settings
        command = self.request.command or command_line()
        if opened.resumed:
            study, facts = load_study(storage, opened.name)
            if not is_run_of(facts.identity, self.folder):
                said = "has nothing of this study: trials under way and the refit begin anew"
                self.observe(Note(f"{self.folder} {said}; --out names the folder that it was searched in."))
            if facts.data != source.digest:
                raise StudyError(
                    f"study '{opened.name}' was searched on other images (digest {facts.data}, now {source.digest})",
                    hint="name the same data with --data, or start a new study",
                )
            commands = (*facts.commands, command)
            facts = dataclasses.replace(facts, settings=settings, data_folder=opened.data, commands=commands)
            keep_facts(study, facts)
        else:
            text, digest = opened.space_file.text, opened.space_file.hash
            facts = StudyFacts(space.name, text, digest, source.digest, settings, opened.data, (command,))
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


def epoch_images(settings: SearchSettings, source: Source) -> float:
    """Return what an epoch of a trial costs, in images trained. Raises DataError when there are not so many."""
    check_cut(source, settings.folds, settings.train_images)
    return epoch_images_of(settings, source.n_train)


def epoch_images_of(settings: SearchSettings, n_train: int) -> float:
    """Return the same for a training file of ``n_train`` images."""
    share = 1 / settings.folds if settings.folds > 1 else VALIDATION_SHARE
    validation = round(n_train * share)
    train = n_train - validation
    if settings.train_images is not None and settings.train_images > train:
        raise DataError(f"search.train_images = {settings.train_images}, but the training split has {train}")
    return (settings.train_images or train) + FORWARD_SHARE * validation


def _manifest(facts: Facts, report: Document, clock: Clock) -> Document:
    return {
        "command": report["command"],
        "space_hash": report["space_hash"],
        "seed": report["seed"],
        "settings": dataclasses.asdict(facts.study_facts.settings),
        "data": {"name": facts.source.name, "digest": facts.source.digest, "verified": facts.source.verified},
        "versions": report["versions"],
        "commit": report["commit"],
        "machine": machine(),
        "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "wall_seconds": report["wall_seconds"],
        "cpu_seconds": report["cpu_seconds"],
        "seconds_left_of_time": None if clock.limit is None else round(clock.left(), 1),
    }
