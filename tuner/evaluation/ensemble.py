"""Several of a study's configurations as one model: a soft vote, whose members and weights validation chooses.

The choice is made with the search's own checkpoints, on the images that no one of them was trained on; the members are
then trained again on all images, joined into one Keras model, and that is scored once.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.data.sources import Source
from tuner.data.splits import Cut, read_images
from tuner.errors import SearchError
from tuner.evaluation.apart import apart
from tuner.evaluation.score import TestScore, score
from tuner.evaluation.trainings import Trained, Trainings
from tuner.records import (
    VAL_ACCURACY,
    EnsembleStarted,
    MemberEpochEnded,
    Note,
    Observer,
    TrialSummary,
    Values,
    seed_for,
)
from tuner.runs import AGAIN, DAMAGED, Interruption, auto_workers, write_json
from tuner.search.crew import Crew
from tuner.search.executors.local import LocalExecutor
from tuner.search.messages import TrainJob
from tuner.search.shelf import Shelf
from tuner.search.study import StudyFacts
from tuner.space.hypermodel_file import HypermodelFile
from tuner.training.metrics import by_metric

ROUNDS = 25
"""Votes that are given at most; weights are shares of them."""
BATCH = 500


@dataclass(frozen=True)
class Member:
    """A configuration of the ensemble; ``weight`` is its share of the vote."""

    trial: int
    weight: float
    val_accuracy: float
    """Of its checkpoint alone, by the search's metric."""


@dataclass(frozen=True)
class Ensemble:
    """Members, best first, and what they reach together; accuracies are fractions."""

    members: tuple[Member, ...]
    val_accuracy: float
    """Of the checkpoints' vote, on the images that chose it, by the search's metric."""
    epochs: int
    """Of the members' second training."""
    test_accuracy: float
    interval_95: tuple[float, float]
    n_test: int
    model: Path


def choose_members(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], size: int, metric: str = VAL_ACCURACY
) -> tuple[list[tuple[int, float]], float]:
    """Return (candidate, weight) for at most ``size`` candidates, and what their vote reaches by ``metric``.

    Greedy selection with replacement (Caruana et al. 2004): each round gives a vote to the candidate with which the
    mean is most often right, equals by their log loss; the earliest best round counts. ``probabilities`` are
    (candidates, images, classes).
    """
    votes: collections.Counter[int] = collections.Counter()
    total = np.zeros_like(probabilities[0], dtype=np.float64)
    best: tuple[float, dict[int, int]] = (-1.0, {})
    for number in range(1, ROUNDS + 1):
        allowed = range(len(probabilities)) if len(votes) < size else sorted(votes)
        rated = {k: _rate((total + probabilities[k]) / number, labels, metric) for k in allowed}
        chosen = max(rated, key=lambda k: rated[k])
        votes[chosen] += 1
        total += probabilities[chosen]
        if rated[chosen][0] > best[0]:
            best = (rated[chosen][0], dict(votes))
    accuracy, counts = best
    given = sum(counts.values())
    return sorted(((k, count / given) for k, count in counts.items()), key=lambda one: (-one[1], one[0])), accuracy


def _rate(mean: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], metric: str) -> tuple[float, float]:
    """Return what the vote reaches and its mean log likelihood: more is better of both."""
    right = mean[np.arange(len(labels)), labels]
    return by_metric(metric, mean.argmax(axis=1), labels), float(np.log(np.maximum(right, 1e-12)).mean())


def candidates_of(trials: Sequence[TrialSummary], shelf: Shelf, folds: int) -> list[TrialSummary]:
    """Return the complete trials whose checkpoints are kept, each configuration once, best first."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.val_accuracy is not None]
    ranked = sorted(complete, key=lambda trial: (-(trial.val_accuracy or 0.0), trial.number))
    distinct = {json.dumps(trial.values, sort_keys=True): trial for trial in reversed(ranked)}
    kept = [trial for trial in distinct.values() if any(_checkpoints(shelf, trial, folds).glob("epoch-*.ckpt"))]
    return sorted(kept, key=ranked.index)


def _checkpoints(shelf: Shelf, trial: TrialSummary, folds: int) -> Path:
    place = Path(shelf.place(trial.number))
    return place if folds == 1 else place / "fold-0"


def make_ensemble(  # noqa: PLR0913  # one verb with its whole sentence
    trials: Sequence[TrialSummary],
    facts: StudyFacts,
    source: Source,
    folder: Path,
    *,
    size: int,
    interruption: Interruption,
    observe: Observer,
) -> Ensemble:
    """Choose, train, join and score an ensemble of at most ``size`` members, into ``folder/ensemble-SIZE``.

    What is there already of the same members is kept, and an interrupted training goes on from its last epoch. Raises
    SearchError when fewer than two configurations have checkpoints, or a training fails; KeyboardInterrupt.
    """
    settings, shelf = facts.settings, Shelf(folder / "checkpoints", facts.settings.keep)
    candidates = candidates_of(trials, shelf, settings.folds)
    if len(candidates) < 2:  # noqa: PLR2004  # a vote
        raise SearchError(
            f"an ensemble needs the checkpoints of two configurations, and {len(candidates) or 'none'} is kept",
            hint="a search with --keep N keeps those of its N best trials",
        )
    cut = Cut(settings.train_images) if settings.folds == 1 else Cut(settings.train_images, fold=(0, settings.folds))
    places = tuple((trial.values, _checkpoints(shelf, trial, settings.folds)) for trial in candidates)
    observe(Note(f"Choosing the members: what {len(candidates)} checkpoints say of the validation images …"))
    probabilities, labels = apart(
        validation_probabilities,
        places,
        facts.hypermodel,
        source,
        cut,
        what="predicting the validation images",
        again=AGAIN,
    )
    chosen, val_accuracy = choose_members(probabilities, labels, size, settings.metric)
    alone = [by_metric(settings.metric, one.argmax(axis=1), labels) for one in probabilities]
    members = tuple(Member(candidates[k].number, weight, alone[k]) for k, weight in chosen)
    jobs = [
        TrainJob(
            number=-1 - place,
            values=candidates[k].values,
            source=source,
            epochs=settings.refit_epochs,
            seed=seed_for(settings.seed, "ensemble", candidates[k].number),
            cut=Cut(everything=True),
            checkpoints=str(shelf.folder / f"member-{candidates[k].number}"),
            save_to=str(shelf.folder / f"member-{candidates[k].number}.keras"),
            hypermodel=facts.hypermodel,
        )
        for place, (k, _) in enumerate(chosen)
    ]
    weights = [member.weight for member in members]
    key = hashlib.blake2b(json.dumps([[job.key for job in jobs], weights]).encode(), digest_size=16).hexdigest()
    to = folder / f"ensemble-{size}"
    before = _read(to, key)
    if before is not None:
        return before
    trained = _train(jobs, members, folder, interruption=interruption, observe=observe, heartbeat=settings.heartbeat)
    observe(Note("Joining the members, and scoring their vote …"))
    model = to / "model.keras"
    to.mkdir(parents=True, exist_ok=True)
    apart(join, trained.models, tuple(weights), model, facts.hypermodel, what="joining the members", again=AGAIN)
    joined = Trained((model,), (key,), ())
    result = score(joined, source, to / "predictions.npz", hypermodel=facts.hypermodel, again=AGAIN)
    made = _made(members, val_accuracy, settings.refit_epochs, result, model)
    write_json(to / "ensemble.json", {"key": key, **_document(made)})
    for job in jobs:
        shutil.rmtree(job.checkpoints or "", ignore_errors=True)
        Path(job.save_to or "").unlink(missing_ok=True)
    return made


def _train(  # noqa: PLR0913
    jobs: list[TrainJob],
    members: Sequence[Member],
    folder: Path,
    *,
    interruption: Interruption,
    observe: Observer,
    heartbeat: float,
) -> Trained:
    observe(EnsembleStarted(tuple(member.trial for member in members), jobs[0].epochs))
    with contextlib.closing(LocalExecutor(folder)) as executor, interruption.listening():
        crew = Crew(executor, min(auto_workers(), len(jobs)), heartbeat=heartbeat, observe=observe, again=AGAIN)
        work = Trainings(
            jobs,
            crew,
            observe,
            name=lambda number: f"Member {-number}, trial {members[-1 - number].trial},",
            heard=lambda number, result: observe(MemberEpochEnded(members[-1 - number].trial, result)),
            interruption=interruption,
            again=AGAIN,
        )
        work.run()
    return work.trained()


def validation_probabilities(
    places: Sequence[tuple[Values, Path]], hypermodel: HypermodelFile | None, source: Source, cut: Cut
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return what each checkpoint says of the validation images, (candidates, images, classes), and their labels."""
    from tuner.training.rebuilt import rebuilt

    images = read_images(source, cut)
    said = [
        rebuilt(values, hypermodel, source, images, folder).predict(images.val, batch_size=BATCH, verbose=0)
        for values, folder in places
    ]
    return np.stack(said), np.asarray(images.val_labels, np.int64)


def join(models: Sequence[Path], weights: Sequence[float], to: Path, hypermodel: HypermodelFile | None = None) -> None:
    """Write one Keras model whose probabilities are the weighted mean of the ``models``', in standard layers."""
    import keras

    from tuner.runs import draft_of
    from tuner.training.rebuilt import load_whole

    members = [load_whole(path, hypermodel) for path in models]
    inputs = keras.Input(members[0].input_shape[1:], dtype="uint8", name="pixels")
    votes = []
    for number, (member, weight) in enumerate(zip(members, weights, strict=True)):
        member.name = f"member_{number}"
        votes.append(keras.layers.Rescaling(weight, name=f"weight_{number}")(member(inputs)))
    joined = keras.layers.Add(name="probabilities")(votes) if len(votes) > 1 else votes[0]
    with draft_of(to) as draft:
        keras.Model(inputs, joined).save(draft)


def _made(members: tuple[Member, ...], val_accuracy: float, epochs: int, result: TestScore, model: Path) -> Ensemble:
    accuracy, interval = result.accuracies[0], result.interval_95
    return Ensemble(members, val_accuracy, epochs, accuracy, interval, len(result.labels), model)


def _document(made: Ensemble) -> dict[str, Any]:
    facts = {name: value for name, value in vars(made).items() if name != "model"}
    return {**facts, "members": [vars(member) for member in made.members]}


def _read(folder: Path, key: str) -> Ensemble | None:
    """Return the ensemble that is kept in ``folder``, when it is of the same trainings; nothing is scored twice."""
    try:
        kept = json.loads((folder / "ensemble.json").read_text("utf-8"))
        if kept.pop("key") != key or not (folder / "model.keras").is_file():
            return None
        members = tuple(Member(**row) for row in kept.pop("members"))
        low, high = kept.pop("interval_95")
        return Ensemble(members=members, interval_95=(low, high), model=folder / "model.keras", **kept)
    except DAMAGED:
        return None
