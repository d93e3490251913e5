"""Train the winner again on all training images, once a seed, on the workers that searched."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from tuner.data.sources import Source
from tuner.data.splits import Cut
from tuner.evaluation.trainings import Trained, Trainings
from tuner.records import Observer, RefitEpochEnded, Values, seed_for
from tuner.runs import Interruption
from tuner.search.budget import RefitPlan
from tuner.search.crew import Crew
from tuner.search.messages import TrainJob
from tuner.search.shelf import Shelf
from tuner.space.hypermodel_file import HypermodelFile


@dataclass(frozen=True)
class Refitted(Trained):
    """The retrained winner, once a seed."""

    epochs: int
    seeds: tuple[int, ...]
    seconds: float
    note: str = ""
    """What was cut, before it began or on the way."""


def refit(  # noqa: PLR0913  # one verb with its whole sentence
    values: Values,
    source: Source,
    plan: RefitPlan,
    *,
    study_seed: int,
    shelf: Shelf,
    crew: Crew,
    left: Callable[[], float],
    patience: float,
    interruption: Interruption,
    observe: Observer,
    done: Collection[int] = (),
    hypermodel: HypermodelFile | None = None,
) -> Refitted:
    """Train ``values`` from fresh seeds on all training images of ``source``; the models go to ``shelf``.

    Seeds derive from ``study_seed`` and are none of the search's; a refit that was interrupted goes on from its last
    epoch. The seeds in ``done`` are trained already, and left out. ``left`` are the seconds until it has to end.
    Raises SearchError when a training fails, KeyboardInterrupt when it was interrupted.
    """
    start = time.monotonic()
    shelf.folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        TrainJob(
            number=-1 - number,  # trials count from 0
            values=values,
            source=source,
            epochs=plan.epochs,
            seed=seed,
            cut=Cut(everything=True),
            checkpoints=shelf.place(-1 - number),
            save_to=str(shelf.folder / f"refit-{number}.keras"),
            hypermodel=hypermodel,
        )
        for number in range(plan.seeds)
        if (seed := seed_for(study_seed, "refit", number)) not in done
    ]
    work = Trainings(
        jobs,
        crew,
        observe,
        name=lambda number: f"Refit seed {-1 - number}",
        heard=lambda number, result: observe(RefitEpochEnded(-1 - number, result)),
        interruption=interruption,
        left=left,
        patience=patience,
    )
    work.run()
    seeds = tuple(job.seed for job in jobs if job.number not in work.dropped)
    dropped = f"{len(work.dropped)} of {plan.seeds} refit seeds dropped on the way to keep --time" * bool(work.dropped)
    trained = work.trained()
    return Refitted(
        trained.models,
        trained.keys,
        trained.curves,
        epochs=plan.epochs,
        seeds=seeds,
        seconds=time.monotonic() - start,
        note="; ".join(note for note in (plan.note, dropped) if note),
    )
