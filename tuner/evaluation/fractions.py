"""How many images a configuration needs: its validation accuracy by the share of the training images."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.data.sources import Source
from tuner.data.splits import Cut, read_images
from tuner.evaluation.trainings import Trainings
from tuner.records import FractionEpochEnded, FractionsStarted, Note, Observer, TrialSummary, seed_for
from tuner.runs import AGAIN, DAMAGED, Interruption, auto_workers, write_json
from tuner.search.crew import Crew
from tuner.search.executors.local import LocalExecutor
from tuner.search.messages import TrainJob
from tuner.search.study import StudyFacts

FILE = "fractions.json"
FRACTIONS = (0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Point:
    """One training on a part of the images."""

    train_images: int
    val_accuracy: float
    """By the study's metric."""


def measure_fractions(  # noqa: PLR0913  # one verb with its whole sentence
    winner: TrialSummary,
    facts: StudyFacts,
    source: Source,
    folder: Path,
    *,
    fractions: Sequence[float] = FRACTIONS,
    interruption: Interruption,
    observe: Observer,
) -> list[Point]:
    """Train the winner's values on parts of the training split, as long as a trial, and keep the points in ``folder``.

    Every part has the classes in their proportion and holds the smaller ones. A fresh seed, the same for all. Raises
    SearchError, KeyboardInterrupt: the same call goes on where it was.
    """
    settings, total = facts.settings, len(read_images(source).train)
    sizes = sorted({max(len(source.class_names), round(share * total)) for share in fractions})
    before = read_fractions(folder, facts, winner.number)
    if [point.train_images for point in before] == sizes:
        observe(Note("The trainings on parts of the images are those of before: what they reached is kept."))
        return before
    checkpoints = folder.absolute() / "checkpoints"
    jobs = [
        TrainJob(
            number=-1 - place,
            values=winner.values,
            source=source,
            epochs=settings.epochs,
            seed=seed_for(settings.seed, "fraction", winner.number),
            cut=Cut(size),
            checkpoints=str(checkpoints / f"fraction-{winner.number}-{size}"),
            hypermodel=facts.hypermodel,
        )
        for place, size in enumerate(reversed(sizes))  # the longest first
    ]
    size_of = {job.number: job.cut.train_images or 0 for job in jobs}
    checkpoints.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(LocalExecutor(folder)) as executor, interruption.listening():
        observe(FractionsStarted(tuple(sizes), settings.epochs, settings.metric))
        size = min(auto_workers(), len(jobs))
        crew = Crew(executor, size, heartbeat=settings.heartbeat, observe=observe, again=AGAIN)
        work = Trainings(
            jobs,
            crew,
            observe,
            name=lambda number: f"The training on {size_of[number]} images",
            heard=lambda number, result: observe(FractionEpochEnded(size_of[number], result)),
            interruption=interruption,
            again=AGAIN,
        )
        work.run()
    curves = zip(jobs, work.trained().curves, strict=True)
    points = sorted(
        (Point(size_of[job.number], curve[-1].figure(settings.metric)) for job, curve in curves),
        key=lambda point: point.train_images,
    )
    rows = [dataclasses.asdict(point) for point in points]
    write_json(folder / FILE, {"study": facts.identity, "trial": winner.number, "points": rows})
    for job in jobs:
        shutil.rmtree(job.checkpoints or "")
    return points


def read_fractions(folder: Path, facts: StudyFacts, winner: int) -> list[Point]:
    """Return what was measured of this winner of this study, or nothing."""
    try:
        kept = json.loads((folder / FILE).read_text("utf-8"))
        if (kept["study"], kept["trial"]) != (facts.identity, winner):
            return []
        return [Point(**row) for row in kept["points"]]
    except DAMAGED:
        return []
