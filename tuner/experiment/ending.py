"""After the search: the finalists, the refit, the one scoring."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.data.splits import Cut
from tuner.evaluation import finals
from tuner.evaluation.averaging import Winner
from tuner.evaluation.refit import Refitted, refit
from tuner.evaluation.score import keys_in, score
from tuner.records import Note, Observer, RefitStarted, TrialSummary
from tuner.reporting.best import kept_refit
from tuner.reporting.report import Document, Facts, write_refit_curves
from tuner.reporting.verdict import PREDICTIONS
from tuner.runs import Interruption, draft_of, write_json
from tuner.search.budget import END_SECONDS, REFIT_MARGIN, Clock, RefitPlan, plan_refit
from tuner.search.crew import Crew
from tuner.search.request import Request
from tuner.search.shelf import Shelf
from tuner.search.study import StudyFacts
from tuner.search.timekeeper import Timekeeper
from tuner.training.checkpoint import epochs_kept

REPORT_SECONDS = 8.0
"""Of ``--time``, for the report and its figures after the test set was scored."""


@dataclass(frozen=True)
class Ending:
    """What comes between a search's last trial and its report."""

    facts: Facts
    request: Request
    folder: Path
    clock: Clock
    timekeeper: Timekeeper
    shelf: Shelf
    observe: Observer

    def judge_finalists(self, trials: Sequence[TrialSummary], crew: Crew, interruption: Interruption) -> None:
        """Train the best trials again from fresh seeds, if that is asked for."""
        finalists = finals.finalists_of(trials, self.facts.study_facts.settings)
        if not finalists:
            return
        after = END_SECONDS + self.timekeeper.refit_seconds(finalists[0]) if self.request.refit else 0.0
        once = self.timekeeper.finals_wave(finalists)
        finals.judge_finalists(
            finalists,
            self.facts.study_facts,
            self.facts.source,
            self.folder,
            shelf=self.shelf,
            crew=crew,
            left=lambda: self.clock.left() - after,
            once=once,
            patience=max(self.timekeeper.beat_seconds(trial.cost) for trial in finalists if trial.cost),
            interruption=interruption,
            observe=self.observe,
        )

    def refit(
        self, winner: TrialSummary, crew: Crew, interruption: Interruption
    ) -> tuple[Document | None, Refitted | None]:
        """Retrain the winner on the workers that searched.

        Returns the refit of before, as far as it stays, and what was trained now: nothing when the one of before is as
        good, only the further seeds when it had fewer of the same length.
        """
        settings = self.facts.study_facts.settings

        def left() -> float:
            return self.clock.left() - END_SECONDS

        epoch_seconds = REFIT_MARGIN * self.timekeeper.refit_epoch_seconds(winner)
        plan = plan_refit(settings, epoch_seconds=epoch_seconds, workers=self.timekeeper.workers, left=left())
        before = kept_refit(self.folder, self.facts.study_facts, winner)
        if before and (not self.request.refit or _as_good(before, plan)):
            self.observe(Note("The winner is the one of before: its refit and its test score are kept."))
            return before, None
        if not self.request.refit:
            return before, None
        scored = self._scored(before) if before and before["epochs"] == plan.epochs else ()
        if before and scored:
            self.observe(Note(f"The winner is the one of before: {len(scored)} refit seeds of it are kept."))
            before["trainings"] = list(scored)
        else:
            before = None
            plan = self._begun_plan(winner, plan, epoch_seconds=epoch_seconds, left=left())
        if plan.note:
            self.observe(Note(f"Note: {plan.note}."))
        done = before["seeds"] if before else []
        self.observe(RefitStarted(winner, plan.epochs, plan.seeds, len(done)))
        return before, refit(
            winner.values,
            self.facts.source,
            plan,
            hypermodel=self.facts.study_facts.hypermodel,
            study_seed=settings.seed,
            shelf=self.shelf,
            crew=crew,
            # What is kept back for slow epochs is spent before seeds are dropped.
            left=lambda: left() + self.clock.grace / 2,
            patience=self.timekeeper.beat_seconds(winner.cost) if winner.cost else 0.0,
            interruption=interruption,
            observe=self.observe,
            done=done,
        )

    def score(self, winner: TrialSummary, refitted: Refitted, before: Document | None) -> Document:
        """Score the test set once per seed and keep the first seed's model, whatever the others scored.

        The scores in ``before``, an earlier refit of the same winner, stay.
        """
        settings = self.facts.study_facts.settings
        place, folds = Path(self.shelf.place(winner.number)), settings.folds
        cut = Cut(settings.train_images) if folds == 1 else Cut(settings.train_images, fold=(0, folds))
        place, hypermodel = place if folds == 1 else place / "fold-0", self.facts.study_facts.hypermodel
        result = score(
            refitted,
            self.facts.source,
            self.folder / PREDICTIONS,
            examples=self.folder / "examples.npz",
            winner=Winner(winner.values, self.facts.source, cut, place, settings.metric, hypermodel),
            hypermodel=hypermodel,
            seconds=self.clock.left() - REPORT_SECONDS,
            after=before["trainings"] if before else (),
        )
        if result.averaging is None:
            self.observe(Note("Test-time averaging was not tried: there was no time, or no checkpoint of the winner."))
        write_refit_curves(self.folder, refitted, len(before["seeds"]) if before else 0)
        mean, sd = result.mean_and_sd
        if before is None:
            with draft_of(self.folder / "model.keras") as draft:
                shutil.copyfile(refitted.models[0], draft)
        return {
            "trial": winner.number,
            "epochs": refitted.epochs,
            "seeds": [*(before["seeds"] if before else ()), *refitted.seeds],
            "trainings": [*(before["trainings"] if before else ()), *refitted.keys],
            "test_accuracies": result.accuracies,
            "test_accuracy_mean": mean,
            "test_accuracy_sd": sd,
            "test_balanced_accuracies": result.balanced_accuracies,
            "interval_95": list(result.interval_95),
            "n_test": len(result.labels),
            "seconds": round(refitted.seconds + (before["seconds"] if before else 0.0), 1),
            "note": refitted.note,
        }

    def _scored(self, before: Document) -> tuple[str, ...]:
        """Return the keys of an earlier refit's trainings, one a seed, when their predictions are kept; or nothing."""
        keys = keys_in(self.folder / PREDICTIONS)[: len(before["seeds"])]
        if list(keys) == before.get("trainings", list(keys)) and len(keys) == len(before["seeds"]):
            return keys
        self.observe(Note(f"{PREDICTIONS} does not hold the earlier refit's scores: it is trained again."))
        return ()

    def _begun_plan(self, winner: TrialSummary, plan: RefitPlan, *, epoch_seconds: float, left: float) -> RefitPlan:
        """Return the plan of an interrupted refit of the same winner where that is as good; or keep ``plan``.

        As good: no shorter than what is planned now, with epochs behind it, and with time for the rest. A schedule that
        has begun cannot be given other epochs.
        """
        facts: StudyFacts = self.facts.study_facts
        file = self.shelf.folder / "refit.json"
        asked = {"study": facts.identity, "trial": winner.number}
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            before = json.loads(file.read_text("utf-8"))
            begun = RefitPlan(**before["plan"])
            done = epochs_kept(Path(self.shelf.place(-1)))
            in_time = (begun.epochs - done) * epoch_seconds <= left
            longest = facts.settings.refit_epochs
            if before["asked"] == asked and done and plan.epochs <= begun.epochs <= longest and in_time:
                return dataclasses.replace(begun, seeds=min(begun.seeds, facts.settings.refit_seeds))
        write_json(file, {"asked": asked, "plan": dataclasses.asdict(plan)})
        return plan


def _as_good(document: Document, plan: RefitPlan) -> bool:
    """Tell whether an earlier refit of the same winner is what would be done now: the test set is scored once.

    A longer one is better than any number of seeds of what there is time for now.
    """
    longer = document["epochs"] > plan.epochs
    return bool(longer or (document["epochs"] == plan.epochs and len(document["seeds"]) >= plan.seeds))
