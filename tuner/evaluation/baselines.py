"""The published networks, trained and scored here: what a result is set beside."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tuner.data.sources import Source, find
from tuner.errors import DataError, SpaceError
from tuner.evaluation.measured import Measured, folder_of, place_of, read_measured, write_measured
from tuner.evaluation.score import TestScore, score
from tuner.evaluation.trainings import Trainings
from tuner.models.baselines import BASELINES
from tuner.models.baselines.baseline import Baseline
from tuner.records import (
    BaselineEpochEnded,
    BaselineScored,
    BaselinesStarted,
    EpochResult,
    Note,
    Observer,
    seed_for,
)
from tuner.runs import (
    AGAIN,
    Interruption,
    Outputs,
    auto_workers,
    disk_trouble_in_one_line,
    make_writable,
    only_one,
    sweep_drafts,
    versions,
)
from tuner.search.crew import Crew
from tuner.search.executors.local import LocalExecutor
from tuner.search.messages import TrainJob
from tuner.space.settings import SearchSettings


def measure_baselines(  # noqa: PLR0913  # one verb with its whole sentence
    chosen: Sequence[Baseline],
    outputs: Outputs,
    data: str | None,
    *,
    epochs: int | None,
    seeds: int | None,
    workers: int | str,
    interruption: Interruption,
    observe: Observer,
) -> tuple[Source, dict[str, Measured]]:
    """Train each baseline under its published settings, score it on the official test set, and keep the result.

    What is there already of the same images and settings is kept, seed by seed, and an interrupted training goes on
    from its last epoch. ``epochs`` and ``seeds`` are each baseline's own when None. Returns what is measured, by name.
    Raises the errors of ``tuner.errors``, and KeyboardInterrupt when it was interrupted between two epochs.
    """
    folder = folder_of(outputs)
    make_writable(folder)
    with (
        only_one(folder, None, "the baselines are being trained"),
        contextlib.closing(LocalExecutor(folder)) as executor,
        disk_trouble_in_one_line(folder, AGAIN),
    ):
        sweep_drafts(folder)
        source = find(data, lambda text: observe(Note(text)))
        work = _Work(source, folder, epochs, seeds, observe)
        for baseline in chosen:
            work.add(baseline)
        if work.jobs:
            size = min(auto_workers() if workers == "auto" else int(workers), len(work.jobs))
            observe(BaselinesStarted(len(work.jobs), len(chosen)))
            with interruption.listening():
                heartbeat = SearchSettings().heartbeat
                work.run(Crew(executor, size, heartbeat=heartbeat, observe=observe, again=AGAIN), interruption)
    return source, work.found


class _Work:
    """What is measured already and what is still to be trained."""

    def __init__(self, source: Source, folder: Path, epochs: int | None, seeds: int | None, observe: Observer) -> None:
        self._source, self._folder, self._epochs, self._seeds, self._observe = source, folder, epochs, seeds, observe
        self._checkpoints = folder.absolute() / "checkpoints"
        self.jobs: dict[int, TrainJob] = {}
        self.found: dict[str, Measured] = {}
        self._missing: dict[str, list[int]] = {}
        self._seeds_of: dict[int, int] = {}
        self._ended: set[int] = set()

    def add(self, baseline: Baseline) -> None:
        """Plan what is missing of one baseline."""
        epochs, wanted = self._epochs or baseline.epochs, self._seeds or baseline.seeds
        try:
            self._size(baseline)
        except SpaceError as error:
            raise DataError(f"{baseline.name}: {error.message}", hint="its network needs larger images") from None
        before = read_measured(place_of(self._folder, baseline, epochs))
        done = 0
        if before is not None and before.is_of(baseline, epochs, self._source.digest):
            self.found[baseline.name] = before
            done = before.seeds
        numbers = []
        for seed in range(done, wanted):
            number = -1 - len(self.jobs)
            job = TrainJob(
                number=number,
                values={"baseline": baseline.name, "digest": baseline.digest},
                source=self._source,
                epochs=epochs,
                seed=seed_for("baseline", baseline.name, seed),
                cut=baseline.cut,
            )
            # Other epochs or images in between do not end what was interrupted of these.
            place = self._checkpoints / f"{baseline.name}-{seed}-{job.key[:8]}"
            self.jobs[number] = dataclasses.replace(job, checkpoints=str(place), save_to=f"{place}.keras")
            self._seeds_of[number] = seed
            numbers.append(number)
        self._missing[baseline.name] = numbers

    def run(self, crew: Crew, interruption: Interruption) -> None:
        """Train what is missing. Raises SearchError, KeyboardInterrupt."""
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        trainings = Trainings(
            # The longest first, so that no core is idle at the end.
            sorted(self.jobs.values(), key=lambda job: (-job.epochs * self._size(self._baseline(job)), -job.number)),
            crew,
            self._observe,
            name=self._title,
            heard=self._heard,
            ended=lambda number: self._score(number, trainings),
            interruption=interruption,
            again=AGAIN,
        )
        trainings.run()

    def _size(self, baseline: Baseline) -> float:
        """Return how long an epoch takes, in multiply-adds an image of the training file."""
        cost = baseline.plan(self._source.input_shape, len(self._source.class_names)).cost
        return cost.units * (1 - (baseline.cut.share or 0.0))

    def _title(self, number: int) -> str:
        """Return what the user calls a training."""
        return f"{self._baseline(self.jobs[number]).name}, seed {self._seeds_of[number]}"

    def _heard(self, number: int, result: EpochResult) -> None:
        """Hear of an epoch."""
        job = self.jobs[number]
        self._observe(BaselineEpochEnded(self._baseline(job).name, self._seeds_of[number], job.epochs, result))

    def _score(self, number: int, trainings: Trainings) -> None:
        """Hear that a training has ended: when it was its baseline's last, score them all."""
        self._ended.add(number)
        baseline = self._baseline(self.jobs[number])
        numbers = self._missing[baseline.name]
        if not self._ended.issuperset(numbers):
            return
        trained = trainings.trained(numbers)
        predictions = self._checkpoints / f"{baseline.name}.npz"
        scored = score(trained, self._source, predictions, again=AGAIN)
        found = self._measured(baseline, self.jobs[number].epochs, trained.curves, scored)
        before = self.found.get(baseline.name)
        self.found[baseline.name] = found if before is None else _together(before, found)
        write_measured(place_of(self._folder, baseline, found.epochs), self.found[baseline.name])
        predictions.unlink()
        for job in (self.jobs[number] for number in numbers):
            shutil.rmtree(job.checkpoints or "")
            Path(job.save_to or "").unlink()
        mean, sd = self.found[baseline.name].mean_and_sd
        self._observe(BaselineScored(baseline.name, mean, sd, self.found[baseline.name].seeds))

    def _measured(
        self, baseline: Baseline, epochs: int, curves: tuple[tuple[EpochResult, ...], ...], scored: TestScore
    ) -> Measured:
        smallest = np.min_scalar_type(len(self._source.class_names) - 1)
        return Measured(
            name=baseline.name,
            epochs=epochs,
            digest=baseline.digest,
            data=self._source.digest,
            parameters=baseline.plan(self._source.input_shape, len(self._source.class_names)).cost.parameters,
            seconds=sum(result.seconds for curve in curves for result in curve),
            versions=versions(),
            curves=curves,
            predicted=scored.probabilities.argmax(axis=2).astype(smallest),
            probabilities=scored.probabilities.round(3).astype(np.float16),
            labels=scored.labels.astype(smallest),
        )

    def _baseline(self, job: TrainJob) -> Baseline:
        return BASELINES[str(job.values["baseline"])]


def _together(before: Measured, more: Measured) -> Measured:
    return dataclasses.replace(
        more,
        seconds=before.seconds + more.seconds,
        curves=before.curves + more.curves,
        predicted=np.concatenate([before.predicted, more.predicted]),
        probabilities=np.concatenate([before.probabilities, more.probabilities]),
    )
