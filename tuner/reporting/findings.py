"""What the trials say, as data: the figures draw it, the tests check it."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import optuna

from tuner.records import METRICS, TrialSummary, Value, metric_of
from tuner.search.samplers import distributions_of
from tuner.search.study import experimental
from tuner.space.parameters import Fixed, Space

FATES = ("complete", "pruned", "clock", "failed", "running")
"""The states of trials that trained, in the order in which they are drawn and counted."""
ENOUGH_TRIALS = 20
"""Fewer say nothing about which parameters matter: five must be among the best (Optuna on PED-ANOVA)."""
BEST_SHARE, BEST_TRIALS = 0.1, 5
MOST_TRIALS = 600
"""More would take seconds: every k-th of them says the same."""
SHUFFLES = 19
"""What is above all of them has a chance of one in twenty."""


def trained(trials: Sequence[TrialSummary]) -> list[TrialSummary]:
    """Return the trials that trained at least one epoch; twins and refused ones did not."""
    return [trial for trial in trials if trial.state in FATES and trial.curve]


def last_accuracy(trial: TrialSummary) -> float:
    """Return what ``trial`` is worth: what its last epoch reached on validation, or the mean of its folds."""
    return trial.path[-1][1] if trial.val_accuracy is None else trial.val_accuracy


def judged_by(trials: Sequence[TrialSummary]) -> str:
    """Return what stands at an axis of what the trials are worth."""
    return f"{METRICS[metric_of(trials)]}, %"


def ranking(trials: Sequence[TrialSummary]) -> tuple[list[float], int]:
    """Return the last accuracies of all trials that trained and did not fail, best first, and a quarter's count."""
    accuracies = sorted((last_accuracy(trial) for trial in trained(trials) if trial.state != "failed"), reverse=True)
    return accuracies, max(1, len(accuracies) // 4)


def best_so_far(trials: Sequence[TrialSummary]) -> list[tuple[int, float]]:
    """Return (trial number, best validation accuracy of the complete trials up to it), one a rise."""
    steps: list[tuple[int, float]] = []
    for trial in trials:
        accuracy = trial.val_accuracy
        if trial.state == "complete" and accuracy is not None and (not steps or accuracy > steps[-1][1]):
            steps.append((trial.number, accuracy))
    return steps


def compute_of(trial: TrialSummary) -> float:
    """Return what a trial took: multiply-adds of one image times its epochs."""
    return (trial.cost.multiply_adds if trial.cost else 0) * len(trial.curve)


def compute_by_fate(trials: Sequence[TrialSummary]) -> dict[str, float]:
    """Return the share of the compute that went into trials of each fate; empty when nothing was trained."""
    spent = dict.fromkeys(FATES, 0.0)
    for trial in trained(trials):
        spent[trial.state] += compute_of(trial)
    total = sum(spent.values())
    return {fate: share / total for fate, share in spent.items() if share} if total else {}


def reached(trials: Sequence[TrialSummary], epochs: int) -> list[dict[str, int]]:
    """Return for each epoch how many trials trained it, by what became of them: ``on`` are those that trained on."""
    rows: list[dict[str, int]] = []
    for epoch in range(1, epochs + 1):
        row = dict.fromkeys(("on", *FATES), 0)
        for trial in trained(trials):
            if len(trial.curve) > epoch:
                row["on"] += 1
            elif len(trial.curve) == epoch:
                row[trial.state] += 1
        rows.append(row)
    return rows


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which (size, accuracy) points no other one beats in both, smallest first.

    >>> pareto_front([(4, 0.92), (1, 0.90), (2, 0.89), (3, 0.91)])
    [1, 3, 0]
    """
    front: list[int] = []
    best = -1.0
    for index in sorted(range(len(points)), key=lambda k: (points[k][0], -points[k][1])):
        if points[index][1] > best:
            front.append(index)
            best = points[index][1]
    return front


def varying(space: Space, trials: Sequence[TrialSummary]) -> list[str]:
    """Return the parameters of which the trained trials had more than one value, in the space's order."""
    seen: dict[str, set[tuple[type, Value]]] = {}
    for trial in trained(trials):
        for name, value in trial.values.items():
            seen.setdefault(name, set()).add((type(value), value))
    return [
        name
        for name, parameter in space.parameters.items()
        if not isinstance(parameter, Fixed) and len(seen.get(name, ())) > 1
    ]


@dataclass(frozen=True)
class Importances:
    """How much of being among the best trials each parameter accounts for."""

    shares: Mapping[str, float] = field(default_factory=dict)
    """Of all parameters that varied, the most important first; they add up to 1."""
    clear: frozenset[str] = frozenset()
    """Those that stand out more than any of them did in any of the shuffles."""
    ranked: tuple[str, ...] = ()
    """All, by how much they stand out: their importance beside what chance gives them."""
    n_trials: int = 0
    n_best: int = 0
    missing: str = ""
    """Why there are none."""


def importances(space: Space, trials: Sequence[TrialSummary]) -> Importances:
    """Return what tells the best trials from the rest: Optuna's PED-ANOVA, conditional parameters included.

    Watanabe et al. 2023 and 2026. Pruned trials count with their last accuracy: which trials are among the best tenth
    is all that the method asks, and those were trained to the end. A few best trials always have something in common:
    the same is done with the accuracies dealt out anew, to tell what chance gives.
    """
    seen = [trial for trial in trained(trials) if trial.state != "failed"]
    seen = seen[:: -(-len(seen) // MOST_TRIALS) or 1]
    names = [name for name in varying(space, seen) if sum(name in trial.values for trial in seen) > 1]
    if len(seen) < ENOUGH_TRIALS:
        return Importances(missing=f"{len(seen)} trained trials say too little about it: {ENOUGH_TRIALS} are needed")
    if len(names) < 2:  # noqa: PLR2004  # one has all the importance
        return Importances(missing="fewer than two parameters varied")
    share = max(BEST_SHARE, BEST_TRIALS / len(seen))
    rng = random.Random(0)  # noqa: S311  # no secret
    with warnings.catch_warnings(), experimental():
        warnings.simplefilter("ignore")  # of conditional parameters that few trials had
        study = _as_study(space, seen)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share)
        found = evaluator.evaluate(study, params=names)
        by_chance = []
        for _ in range(SHUFFLES):
            errors = [1 - last_accuracy(trial) for trial in rng.sample(seen, len(seen))]
            by_chance.append(evaluator.evaluate(study, params=names, target=_picking(errors)))
    total = sum(found.values())
    if not total:
        return Importances(missing="the best trials have no value more often than the others")
    usual = {name: sum(chance[name] for chance in by_chance) / SHUFFLES or total for name in names}
    most = max(chance[name] / usual[name] for chance in by_chance for name in names)
    ranked = sorted(names, key=lambda name: -found[name] / usual[name])
    return Importances(
        {name: raw / total for name, raw in found.items()},
        frozenset(name for name in names if found[name] / usual[name] > most),
        tuple(ranked),
        len(seen),
        math.ceil(share * len(seen)),
    )


def _picking(errors: Sequence[float]) -> Callable[[optuna.trial.FrozenTrial], float]:
    return lambda trial: errors[trial.number]


def _as_study(space: Space, trials: Sequence[TrialSummary]) -> optuna.Study:
    """Return the trials as a study in memory, numbered anew, each complete with its last accuracy."""
    study = optuna.create_study(direction="maximize")
    distributions = distributions_of(space)
    for trial in trials:
        params = {name: value for name, value in trial.values.items() if name in distributions}
        chosen = {name: distributions[name] for name in params}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=chosen, value=last_accuracy(trial)))
    return study


def thinned(trials: Sequence[TrialSummary], most: int) -> list[TrialSummary]:
    """Return at most about ``most`` trials for a figure: the complete ones first, then every k-th of the others."""
    if len(trials) <= most:
        return list(trials)
    complete = sorted((t for t in trials if t.state == "complete"), key=last_accuracy, reverse=True)[: most // 2]
    kept = {trial.number for trial in complete}
    others = [trial for trial in trials if trial.number not in kept]
    step = -(-len(others) // (most - len(complete)))
    kept |= {trial.number for trial in others[::step]}
    return [trial for trial in trials if trial.number in kept]
