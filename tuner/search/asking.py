"""Which trial is trained next: RUNNING ones of a dead search, then what Optuna says; refusals and twins are told."""

from __future__ import annotations

import bisect
import itertools
import json
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuner.errors import SearchError
from tuner.records import Cost, EpochResult, Note, Observer, TrialSummary, Values
from tuner.search.ledger import Ledger
from tuner.search.messages import EpochReport, Failed
from tuner.search.samplers import GridPoints
from tuner.search.study import ENDS, UNTRAINED, best_trial, end_of, summaries
from tuner.search.task import SearchTask
from tuner.search.timekeeper import Timekeeper

MAX_UNTRAINED_IN_A_ROW = 200
"""Refused or known configurations after which a search ends: its space is too large for its limits, or used up."""
MAX_REDRAWS = 20
"""After so many draws of values that are being trained already, a free worker waits until a training ends."""

Ended = Callable[[FrozenTrial], TrialSummary]
TRAINED = ("complete", "pruned", "failed")


@dataclass
class Running:
    """A trial that is being trained, or waits for a worker to go on."""

    number: int
    values: Values
    cost: Cost
    start: int
    """The virtual time at which it was asked for."""
    epoch_cost: int
    """Multiply-adds times images of one epoch: the virtual time that it takes."""
    handled: int = 0
    """Epochs that were reported and decided on: what they led to is not asked again."""
    curve: list[EpochResult] = field(default_factory=list)
    inbox: deque[EpochReport | Failed] = field(default_factory=deque)
    """Heard, not yet handled."""
    enqueued: bool = False
    attempts: int = 0
    lost: int = 0
    peak: int = 0
    """Bytes."""

    @property
    def due(self) -> int:
        """Return the virtual time of the next epoch's end."""
        return self.start + (self.handled + 1) * self.epoch_cost


class Asker:
    """Asks the study for what comes next, and tells at once what needs no training."""

    def __init__(self, ledger: Ledger, task: SearchTask, time: Timekeeper, ended: Ended, observe: Observer) -> None:
        """Look at what the study holds; ``ended`` hears of every trial that ends here."""
        self._ledger, self._task, self._time, self._tell, self._observe = ledger, task, time, ended, observe
        self.ended: list[TrialSummary] = []
        self.best: TrialSummary | None = None
        """The best complete trial so far."""
        self._counted = 0
        self._sizes: list[int] = []
        """Multiply-adds of the trials that were trained, in order of size."""
        self._twins: dict[str, TrialSummary] = {}
        self._results = 0
        self._redrawn = 0
        """Those that were drawn again since the last result."""
        self._untrained_in_a_row = 0
        self._exhausted = False
        for trial in summaries(ledger.study):
            if trial.state != "running":
                self.ended_one(trial)
        drawn_again = (trial.user_attrs.get("redrawn") for trial in ledger.study.get_trials(deepcopy=False))
        self._redrawn = sum(end is not None and end["results"] == self._results for end in drawn_again)

    def clock(self) -> int:
        """Return the virtual time of the last thing that the study knows."""
        return max((self._seen_at(trial) for trial in self._ledger.study.get_trials(deepcopy=False)), default=0)

    def ended_one(self, trial: TrialSummary) -> None:
        """Hear that a trial has its result."""
        self.ended.append(trial)
        self.best = best_trial([*([self.best] if self.best else []), trial])
        self._counted += trial.counted
        if trial.cost and trial.curve:
            bisect.insort(self._sizes, trial.cost.multiply_adds)
        if _has_result(trial):
            self._twins.setdefault(_key(trial.values), trial)
        if trial.state in TRAINED:
            self._results += 1
            self._redrawn = 0

    def more(self, running: int, seconds_left: float) -> bool:
        """Tell whether another trial is to be asked for while ``running`` ones run."""
        if self._exhausted or self._redrawn >= MAX_REDRAWS:
            return False
        total = self._task.settings.total_trials
        if total is not None and running + self._counted >= total:
            return False
        sampler = self._ledger.study.sampler
        if isinstance(sampler, GridPoints) and running + len(self.ended) >= len(sampler.points):
            self._observe(Note(f"All {len(sampler.points)} points of the grid have been handed out."))
            self._exhausted = True
            return False
        return seconds_left > self._time.shortest_useful(self._sizes)

    def tell_decided(self) -> None:
        """Tell the trials of which a dead search had stored how they end, and no more."""
        for trial in self._ledger.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if end_of(trial) in ENDS:
                self._tell(self._ledger.finish(trial.number))

    def adopt(self, now: int) -> list[Running]:
        """Return the trials that a dead search left RUNNING, as far as they still need training."""
        found: dict[int, Running] = {}
        for trial in self._ledger.left_running():
            running = self._consider(trial, now, found)
            if running is not None:
                running.attempts = trial.user_attrs.get("attempts", 1)
                found[running.number] = running
        self._untrained_in_a_row = _untrained_tail(summaries(self._ledger.study))
        return list(found.values())

    def next(self, now: int, running: Mapping[int, Running]) -> Running | None:
        """Ask once. None when what came needs no training: it has been told.

        Raises SearchError when nothing but refusals comes.
        """
        asked = self._consider(self._ledger.ask(), now, running)
        self._untrained_in_a_row = 0 if asked else self._untrained_in_a_row + 1
        # A grid ends by itself.
        grid = isinstance(self._ledger.study.sampler, GridPoints)
        if self._untrained_in_a_row >= MAX_UNTRAINED_IN_A_ROW and not grid:
            last = self.ended[-1].reason
            said = (
                f"{self._untrained_in_a_row} configurations in a row were refused or known, the last one because {last}"
            )
            if self.best is None and not running:
                raise SearchError(said, hint="raise [limits], or narrow the space")
            self._observe(Note(f"The search ends: {said}."))
            self._exhausted = True
        return asked

    def _consider(self, trial: optuna.Trial, now: int, running: Mapping[int, Running]) -> Running | None:
        """Complete a draft, or what a dead search left, in memory; it is stored when it is known what becomes of it."""
        stored = frozenset(self._ledger.trial(trial.number).intermediate_values)
        values = self._task.space.sample(trial)
        trial.set_user_attr("values", values)
        if self._task.settings.deterministic:
            now = trial.user_attrs.get("start", now)
            trial.set_user_attr("start", now)
        reason, excess, cost = self._judge(values)
        if cost is not None:
            trial.set_user_attr("multiply_adds", cost.multiply_adds)
            trial.set_user_attr("parameters", cost.parameters)  # last: where it stands, the other one does
        attrs = trial.user_attrs
        untrained = not stored or "twin_of" in attrs
        if cost is None or (reason and untrained):
            self._refuse(trial, reason, excess)
            return None
        if untrained and (self._told_as_twin(trial, values, stored) or self._redraw(trial, values, running)):
            return None
        number = self._ledger.keep(trial).number
        return Running(
            number, values, cost, now, self._epoch_cost(cost), handled=self._handled(stored),
            enqueued=bool(attrs.get("start_with")), lost=attrs.get("lost", 0),
        )  # fmt: skip

    def _judge(self, values: Values) -> tuple[str, float, Cost | None]:
        """Return why ``values`` are refused (or nothing), by how much relative to the limit, and their cost."""
        reason, excess, cost = self._task.judge(values)
        if cost is not None and not reason:
            reason, excess = self._time.refusal(cost)
        return reason, excess, cost

    def _refuse(self, trial: optuna.Trial, reason: str, excess: float) -> None:
        if "limits" not in trial.constraints:
            trial.set_constraint("limits", excess)
        self._end(trial, "refused", ENDS["refused"], {"reason": reason})

    def _told_as_twin(self, trial: optuna.Trial, values: Values, stored: frozenset[int]) -> bool:
        """Tell the result of a trial with the same values, if there is one."""
        twin = self._twins.get(_key(values))
        if twin is None:
            return False
        trial.set_user_attr("twin_of", twin.number)
        if twin.state == "pruned" and twin.curve and twin.val_accuracy is not None and not stored:
            trial.report(twin.val_accuracy, twin.curve[-1].epoch)
        reason = f"the values of trial {twin.number}, which is {twin.state}; not trained again"
        value = twin.val_accuracy if twin.state == "complete" else None
        self._end(trial, "duplicate", ENDS[twin.state], {"reason": reason}, value)
        return True

    def _redraw(self, trial: optuna.Trial, values: Values, running: Mapping[int, Running]) -> bool:
        """Let a trial go whose values are being trained: the next draw is another one."""
        twin = next((other for other in running.values() if other.values == values), None)
        if twin is None:
            return False
        self._redrawn += 1
        reason = f"the values of trial {twin.number}, which is being trained"
        self._end(trial, "redrawn", ENDS["redrawn"], {"reason": reason, "results": self._results})
        return True

    def _end(
        self, trial: optuna.Trial, word: str, state: TrialState, outcome: dict[str, Any], value: float | None = None
    ) -> None:
        """End a trial that is not trained, in memory, and store it as it is then."""
        trial.set_user_attr(word, outcome)
        self._ledger.study.tell(trial, value, state=state)
        self._tell(self._ledger.keep(trial))

    # What a dead search had done.

    def _handled(self, stored: Collection[int]) -> int:
        """Return the last epoch after which the trial went on: its report was stored only when that was decided."""
        return min(max(stored, default=0), self._task.settings.trial_epochs - 1)

    def _seen_at(self, trial: FrozenTrial) -> int:
        attrs = trial.user_attrs
        if "start" not in attrs:
            return 0
        epochs = len(trial.intermediate_values)
        if end_of(trial) in UNTRAINED or "multiply_adds" not in attrs:
            epochs = 0
        elif trial.state == TrialState.FAIL:
            epochs += 1
        cost = Cost(attrs.get("parameters", 0), attrs.get("multiply_adds", 0))
        return int(attrs["start"]) + epochs * self._epoch_cost(cost)

    def _epoch_cost(self, cost: Cost) -> int:
        return cost.units * round(self._task.epoch_images)


def _has_result(trial: TrialSummary) -> bool:
    return trial.state in TRAINED and not trial.by_machine


def _key(values: Values) -> str:
    return json.dumps(values, sort_keys=True)


def _untrained_tail(trials: list[TrialSummary]) -> int:
    """Return how many of the last trials needed no training."""
    return sum(1 for _ in itertools.takewhile(lambda trial: trial.state in UNTRAINED, reversed(trials)))
