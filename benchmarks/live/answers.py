"""The final answers of the runs, retrained by our own refit and scored once, through the evaluation room's own door."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.live.events import ANSWER, EVENTS, Trial, read_events
from benchmarks.live.tables import whole_runs
from tuner.console.plain import PlainLines
from tuner.console.signals import signals
from tuner.data.sources import Source, find
from tuner.errors import SearchError, UsageError
from tuner.evaluation.refit import refit
from tuner.evaluation.score import score
from tuner.records import Note, Observer
from tuner.runs import Interruption, auto_workers, commit, versions, write_json
from tuner.search.budget import RefitPlan
from tuner.search.crew import Crew
from tuner.search.executors.local import LocalExecutor
from tuner.search.shelf import Shelf
from tuner.space.settings import SearchSettings

AGAIN = "the same command goes on"
REFIT_SEED = 0
"""What the seeds of every refit derive from: a configuration is worth the same, whichever run has found it."""


def finish(runs: Sequence[Path], plan: RefitPlan) -> None:
    """Retrain and score the answer of every run that has none yet, one after another.

    One that was interrupted goes on from its last epoch; one that another run has found too is trained once. Raises
    SearchError at the end when some cannot be scored, UsageError, and KeyboardInterrupt after Ctrl-C.
    """
    observe = PlainLines(print)
    source = find(None, lambda text: observe(Note(text)))
    failed = []
    with signals() as interruption:
        for folder in runs:
            if _scored(folder, plan):
                print(f"{folder.name}: its answer is scored already")
                continue
            print(f"{folder.name}:")
            try:
                _finish_one(folder, plan, source, observe, interruption)
            except SearchError as error:
                print(f"{folder.name}: {error}")
                failed.append(f"{folder.name}: {error}")
    if failed:
        raise SearchError(f"{len(failed)} of {len(runs)} answers are not scored: {'; '.join(failed)}")


def _scored(folder: Path, plan: RefitPlan) -> bool:
    """Tell whether a run's answer is scored. Raises UsageError when it was trained in another way than is asked for."""
    if not (folder / ANSWER).exists():
        return False
    answer = json.loads((folder / ANSWER).read_text("utf-8"))
    epochs, seeds = answer["epochs"], len(answer["test_accuracies"])
    if (epochs, seeds) != (plan.epochs, plan.seeds):
        raise UsageError(
            f"{folder.name}: its answer was trained for {epochs} epochs from {seeds} seeds, not {plan.epochs} from "
            f"{plan.seeds}",
            hint=f"--refit-epochs {epochs} --refit-seeds {seeds}, so that all are comparable",
        )
    return True


def _finish_one(folder: Path, plan: RefitPlan, source: Source, observe: Observer, interruption: Interruption) -> None:
    answer = read_events(folder / EVENTS).answer()
    if answer is None:
        raise SearchError("no trial was complete within its budget")
    if same := _found_before(folder, answer, plan):
        print(f"{folder.name}: the answer of {same['run']}, which is scored")
        _write(folder, answer, plan, same["test_accuracies"], same["run"])
        return
    shelf = Shelf(folder / "refit", 0)
    with contextlib.closing(LocalExecutor(folder)) as executor:
        size = min(auto_workers(), plan.seeds)
        crew = Crew(executor, size, heartbeat=SearchSettings().heartbeat, observe=observe, again=AGAIN)
        with interruption.listening():
            trained = refit(
                answer.values,
                source,
                plan,
                study_seed=REFIT_SEED,
                shelf=shelf,
                crew=crew,
                left=lambda: math.inf,
                patience=0.0,
                interruption=interruption,
                observe=observe,
            )
    scored = score(trained, source, folder / "predictions.npz", again=AGAIN)
    _write(folder, answer, plan, scored.accuracies, folder.name)
    shelf.clear_refit()
    print(f"{folder.name}: test accuracy {', '.join(f'{100 * one:.2f} %' for one in scored.accuracies)}")


def _found_before(folder: Path, answer: Trial, plan: RefitPlan) -> dict[str, Any] | None:
    """Return the scored answer of another run beside ``folder`` that has the same values and was trained alike."""
    for other in whole_runs(folder.parent):
        if (other / ANSWER).exists():
            found: dict[str, Any] = json.loads((other / ANSWER).read_text("utf-8"))
            alike = (answer.values, plan.epochs, plan.seeds)
            if (found["values"], found["epochs"], len(found["test_accuracies"])) == alike:
                return found
    return None


def _write(folder: Path, answer: Trial, plan: RefitPlan, test_accuracies: Sequence[float], run: str) -> None:
    """Write a scored answer; ``run`` is the one that it was trained for."""
    write_json(
        folder / ANSWER,
        {
            "trial": answer.trial,
            "value": answer.value,
            "values": answer.values,
            "epochs": plan.epochs,
            "test_accuracies": test_accuracies,
            "run": run,
            "versions": versions(),
            "commit": commit(),
        },
    )
