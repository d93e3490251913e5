"""What a report shows of the search: how it went, where its compute went, and what it learnt about the space."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial

from tuner.records import TrialSummary
from tuner.reporting.exhibit import Exhibit, Omission
from tuner.reporting.figures import search, space
from tuner.reporting.findings import (
    compute_by_fate,
    importances,
    last_accuracy,
    pareto_front,
    ranking,
    reached,
    trained,
    varying,
)
from tuner.reporting.sentences import judged, listed, percent, value_text
from tuner.reporting.story import Story
from tuner.space.parameters import Choice

MOST_BARS, MOST_SLICES, MOST_RAILS = 12, 6, 5
WORDS = {
    "complete": "complete trials",
    "pruned": "pruned ones",
    "clock": "ones that the clock stopped",
    "failed": "failed ones",
    "running": "unfinished ones",
}
RATE, KIND = "learning_rate", "optimizer"


def search_exhibits(story: Story) -> Iterator[Exhibit | Omission]:
    """Yield every figure of the search in its order, or why it is left out."""
    if not trained(story.trials):
        yield Omission("search", "The search", "no trial was trained")
        return
    yield _history(story)
    yield _curves(story)
    yield _compute(story)
    yield _sizes(story)
    yield from _of_the_space(story)


def _by(story: Story, what: str) -> str:
    return f"{story.judged_by.capitalize()} by {what}"


def _history(story: Story) -> Exhibit:
    best = story.report["best_trial"]
    seen = f"Trial {story.winner} won, with {percent(judged(best))} on validation."
    reading = "Open marks were not trained to the end; they stand at their last accuracy."
    return Exhibit("search", "history", "The history of the search", _by(story, "trial"), seen, reading,
                   partial(search.history, story.trials, story.winner))  # fmt: skip


def _curves(story: Story) -> Exhibit:
    seen_trials = trained(story.trials)
    complete = sum(trial.state == "complete" for trial in seen_trials)
    seen = f"{complete} of {len(seen_trials)} trained trials went through all {story.settings.trial_epochs} epochs."
    first = "Those of the first fold." if story.settings.folds > 1 else ""
    firsts = [dataclasses.replace(trial, curve=trial.curve[: story.settings.epochs]) for trial in story.trials]
    return Exhibit("search", "curves", "The learning curves of all trials", _by(story, "epoch"), seen, first,
                   partial(search.learning_curves, firsts, story.winner, story.rungs))  # fmt: skip


def _compute(story: Story) -> Exhibit:
    shares = compute_by_fate(story.trials)
    parts = [f"{100 * share:.0f} % into {WORDS[fate]}" for fate, share in shares.items()]
    seen = (
        f"Of the multiply-adds went {listed(parts)}; the pruner saved "
        f"{100 * story.report['compute_saved_by_pruning']:.0f} % of what training every trial in full takes."
    )
    rows = reached(story.trials, max(len(trial.curve) for trial in trained(story.trials)))
    return Exhibit("search", "compute", "Where the compute went", "Trials by epoch, and shares of compute", seen, "",
                   partial(search.compute, rows, shares, story.rungs))  # fmt: skip


def _sizes(story: Story) -> Exhibit | Omission:
    complete = [trial for trial in trained(story.trials) if trial.state == "complete" and trial.cost]
    title = "Accuracy against size"
    if not complete:
        return Omission("search", title, "no trial is complete")
    points = [(float(trial.cost.multiply_adds) if trial.cost else 0.0, last_accuracy(trial)) for trial in complete]
    front = [complete[k] for k in pareto_front(points)]
    best = front[-1]
    seen = f"The most accurate trial has {_size(best)}"
    near = next(trial for trial in front if last_accuracy(best) - last_accuracy(trial) <= 0.005)  # noqa: PLR2004  # half a point
    if near is not best:
        seen += f"; trial {near.number} comes within half a point of it with {_size(near)}"
    return Exhibit("search", "sizes", title, _by(story, "multiply-adds and by parameters"), f"{seen}.",
                   "No complete trial stands above and left of the line.",
                   partial(search.sizes, story.trials, story.winner))  # fmt: skip


def _size(trial: TrialSummary) -> str:
    return f"{trial.cost.multiply_adds / 1e6:.1f} M multiply-adds" if trial.cost else "an unknown size"


def _of_the_space(story: Story) -> Iterator[Exhibit | Omission]:
    found = importances(story.space, story.trials)
    title = "Which parameters matter"
    names = list(found.ranked) or varying(story.space, story.trials)
    if found.missing:
        yield Omission("search", title, found.missing)
    else:
        clear = [f"{name} ({100 * found.shares[name]:.0f} %)" for name in found.ranked if name in found.clear]
        seen = f"In {found.n_trials} trials no parameter stands out more than chance explains."
        if clear:
            seen = f"{listed(clear)} {'stand' if len(clear) > 1 else 'stands'} out more than chance explains."
        reading = (
            f"PED-ANOVA: by how much the values of the best {found.n_best} of {found.n_trials} trials differ from all "
            "the others'. Open bars are within what shuffled accuracies give."
        )
        shares = dict(list(found.shares.items())[:MOST_BARS])
        yield Exhibit("search", "importances", title, "Importance of each parameter", seen, reading,
                      partial(space.importance, shares, found.clear))  # fmt: skip
    if not names:
        yield Omission("search", "Slices and parallel coordinates", "no parameter varied")
        return
    winner = next(trial for trial in story.trials if trial.number == story.winner)
    yield _rate(story, winner)
    yield _slices(story, winner, names[:MOST_SLICES])
    yield _parallel(story, names[:MOST_RAILS])


def _rate(story: Story, winner: TrialSummary) -> Exhibit | Omission:
    title = "The effect of the learning rate"
    if RATE not in varying(story.space, story.trials):
        return Omission("search", title, "it did not vary")
    rated = [trial for trial in trained(story.trials) if RATE in trial.values]
    best = sorted(rated, key=last_accuracy, reverse=True)[: max(3, len(rated) // 4)]
    rates = [float(trial.values[RATE] or 0.0) for trial in best]
    seen = f"The best {len(best)} of {len(rated)} trials lie between {min(rates):.2g} and {max(rates):.2g}"
    seen += f", the winner at {float(winner.values[RATE] or 0.0):.2g}." if RATE in winner.values else "."
    by = KIND if isinstance(story.space.parameters.get(KIND), Choice) else None
    return Exhibit("search", "learning-rate", title, _by(story, "learning rate"), seen, "",
                   partial(space.learning_rate, story.trials, RATE, by))  # fmt: skip


def _slices(story: Story, winner: TrialSummary, names: list[str]) -> Exhibit:
    chosen = [f"{name} {value_text(winner.values[name])}" for name in names if name in winner.values]
    seen = f"The winner has {listed(chosen)}." if chosen else "The winner has none of these parameters."
    return Exhibit("search", "slices", "Value by value", _by(story, "the value of each parameter"), seen,
                   "These parameters stand out most, or come first where none does.",
                   partial(space.slices, story.space, story.trials, names, story.winner))  # fmt: skip


def _parallel(story: Story, names: list[str]) -> Exhibit:
    ranked, quarter = ranking(story.trials)
    seen = f"The best quarter, {quarter} trials, ends at {percent(ranked[quarter - 1], 1)} or above."
    return Exhibit("search", "parallel", "All at once", "Parallel coordinates of the parameters", seen,
                   "Each line is a trial; where the blue ones meet, good trials agree.",
                   partial(space.parallel, story.space, story.trials, names, story.winner))  # fmt: skip
