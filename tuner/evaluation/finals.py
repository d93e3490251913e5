"""The best trials of a search once more, from fresh seeds: which of them is best when luck has had its turn.

The best of many trials on one set of validation images is partly the luckiest. Its seed is drawn anew here, for it and
for the runners-up alike, and the winner is chosen by the fresh figures alone.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from tuner.data.sources import Source
from tuner.data.splits import Cut
from tuner.evaluation.trainings import Trainings
from tuner.records import FinalEpochEnded, FinalsStarted, Note, Observer, TrialSummary, seed_for, value_of
from tuner.runs import DAMAGED, Interruption, write_json
from tuner.search.crew import Crew
from tuner.search.messages import TrainJob
from tuner.search.shelf import Shelf
from tuner.search.study import StudyFacts, best_trial
from tuner.space.settings import SearchSettings

FILE = "finals.json"


def finalists_of(trials: Sequence[TrialSummary], settings: SearchSettings) -> list[TrialSummary]:
    """Return the complete trials that are judged again, best first; none when the search's own best is enough."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.val_accuracy is not None]
    ranked = sorted(complete, key=lambda trial: (-(trial.val_accuracy or 0.0), trial.number))
    return ranked[: settings.top] if settings.top > 1 and len(ranked) > 1 else []


def winner_of(folder: Path, facts: StudyFacts, trials: Sequence[TrialSummary]) -> TrialSummary | None:
    """Return the finalist of the best fresh figures, or the best trial where there were no finals of these trials."""
    finalists = finalists_of(trials, facts.settings)
    found = read_finals(folder, facts, finalists) if finalists else {}
    if not found:
        return best_trial(trials)
    return max(finalists, key=lambda trial: (statistics.fmean(found[trial.number]), -trial.number))


def read_finals(folder: Path, facts: StudyFacts, finalists: Sequence[TrialSummary]) -> dict[int, list[float]]:
    """Return the fresh validation accuracies by trial; empty unless all of these finalists have one."""
    try:
        kept = json.loads((folder / FILE).read_text("utf-8"))
        if kept["study"] != facts.identity:
            return {}
        found = {int(number): [float(share) for share in shares] for number, shares in kept["val_accuracies"].items()}
    except DAMAGED:
        return {}
    return {trial.number: found[trial.number] for trial in finalists} if _all_in(finalists, found) else {}


def judge_finalists(  # noqa: PLR0913  # one verb with its whole sentence
    finalists: Sequence[TrialSummary],
    facts: StudyFacts,
    source: Source,
    folder: Path,
    *,
    shelf: Shelf,
    crew: Crew,
    left: Callable[[], float],
    once: float,
    patience: float,
    interruption: Interruption,
    observe: Observer,
) -> None:
    """Train each finalist ``top_seeds`` times from fresh seeds on the images of the search, and keep what it reached.

    What was interrupted goes on from its last epoch. When ``left()`` seconds are too few for a fresh figure of each,
    which takes about ``once`` seconds, nothing is trained or kept, and the search's own best wins. Raises SearchError,
    KeyboardInterrupt.
    """
    settings = facts.settings
    before = read_finals(folder, facts, finalists).get(finalists[0].number, [])
    if len(before) >= settings.top_seeds:
        observe(Note("The finalists are those of before: what they reached is kept."))
        return
    wins = "what they reached before is kept" if before else "the search's own best wins"
    if once > left():
        observe(Note(f"There is no time to judge every finalist again: {wins}."))
        return
    jobs: list[TrainJob] = []
    trial_of: dict[int, tuple[int, int]] = {}
    for seed in range(settings.top_seeds):  # every finalist once before any of them twice
        for trial in finalists:
            number = -1 - len(jobs)
            trial_of[number] = (trial.number, seed)
            jobs.append(
                TrainJob(
                    number=number,
                    values=trial.values,
                    source=source,
                    epochs=settings.epochs,
                    seed=seed_for(settings.seed, "final", trial.number, seed),
                    cut=Cut(settings.train_images),
                    folds=settings.folds,
                    checkpoints=str(shelf.folder / f"final-{trial.number}-{seed}"),
                    hypermodel=facts.hypermodel,
                )
            )
    observe(FinalsStarted(tuple(trial.number for trial in finalists), settings.trial_epochs, settings.top_seeds))
    shelf.folder.mkdir(parents=True, exist_ok=True)
    work = Trainings(
        jobs,
        crew,
        observe,
        name=lambda number: f"Finalist {trial_of[number][0]}, seed {trial_of[number][1]},",
        heard=lambda number, result: observe(FinalEpochEnded(*trial_of[number], result)),
        interruption=interruption,
        left=left,
        patience=patience,
    )
    work.run()
    found: dict[int, list[float]] = {}
    for job in jobs:
        if job.number not in work.dropped:
            curve = work.trained([job.number]).curves[0]
            found.setdefault(trial_of[job.number][0], []).append(value_of(curve, settings.epochs, settings.metric))
    if _all_in(finalists, found):
        write_json(folder / FILE, {"study": facts.identity, "val_accuracies": found})
    else:
        observe(Note(f"There was no time to judge every finalist again: {wins}."))
    shelf.clear_finals()


def _all_in(finalists: Sequence[TrialSummary], found: dict[int, list[float]]) -> bool:
    return all(found.get(trial.number) for trial in finalists)
