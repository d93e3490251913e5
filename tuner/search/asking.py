"""Which trial is trained next: RUNNING ones of a dead search, then what Optuna says; refusals and twins are told."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import TrialState

from tuner.errors import SearchError
from tuner.records import Cost, EpochResult, Note, Observer, TrialSummary, Values
from tuner.search.messages import EpochReport, Failed
from tuner.search.pruners import may_stop
from tuner.search.samplers import GridPoints
from tuner.search.study import best_trial, left_running, summaries
from tuner.search.task import SearchTask
from tuner.search.timekeeper import Timekeeper

MAX_REFUSALS_IN_A_ROW = 200
MAX_REDRAWS = 20
"""After so many draws of values that are being trained already, a free worker waits until a training ends."""

Tell = Callable[[optuna.Trial, TrialState, float | None], TrialSummary]


@dataclass
class Running:
    """A trial that is being trained, or waits for a worker to go on."""

    trial: optuna.Trial
    values: Values
    cost: Cost
    start: int
    """The virtual time at which it was asked for."""
    epoch_cost: int
    """Multiply-adds times images of one epoch: the virtual time that it takes."""
    stored: frozenset[int] = frozenset()
    """Epochs that a dead search had reported to the study."""
    handled: int = 0
    """Epochs that were reported and decided on: what they led to is not asked again."""
    curve: list[EpochResult] = field(default_factory=list)
    inbox: deque[EpochReport | Failed] = field(default_factory=deque)
    """Heard, not yet handled."""
    attempts: int = 0
    lost: int = 0
    peak: int = 0
    """Bytes."""

    @property
    def number(self) -> int:
        """Return the trial's number."""
        return self.trial.number

    @property
    def due(self) -> int:
        """Return the virtual time of the next epoch's end."""
        return self.start + (self.handled + 1) * self.epoch_cost


class Asker:
    """Asks the study for what comes next, and tells at once what needs no training."""

    def __init__(self, study: optuna.Study, task: SearchTask, time: Timekeeper, tell: Tell, observe: Observer) -> None:
        """Look at what the study holds."""
        self._study, self._task, self._time, self._tell, self._observe = study, task, time, tell, observe
        self.ended = [trial for trial in summaries(study) if trial.state != "running"]
        self._twins = {_key(trial.values): trial for trial in reversed(self.ended) if _has_result(trial)}
        self._refused_in_a_row = _tail(self.ended, "refused")
        self._redrawn = 0
        self._exhausted = False

    def clock(self) -> int:
        """Return the virtual time of the last thing that the study knows."""
        return max((self._seen_at(trial) for trial in self._study.get_trials(deepcopy=False)), default=0)

    def count_redraws(self, now: int) -> None:
        """Remember the redraws of a dead search at this virtual time."""
        self._redrawn = sum(
            trial.user_attrs.get("stopped_by") == "redrawn" and trial.user_attrs.get("start") == now
            for trial in self._study.get_trials(deepcopy=False)
        )

    def ended_one(self, trial: TrialSummary) -> None:
        """Hear that a trial has its result."""
        self.ended.append(trial)
        if _has_result(trial):
            self._twins.setdefault(_key(trial.values), trial)
            self._redrawn = 0

    def more(self, running: int, seconds_left: float) -> bool:
        """Tell whether another trial is to be asked for while ``running`` ones run."""
        if self._exhausted or self._redrawn >= MAX_REDRAWS:
            return False
        total = self._task.settings.total_trials
        if total is not None and running + sum(trial.counted for trial in self.ended) >= total:
            return False
        sampler = self._study.sampler
        if isinstance(sampler, GridPoints) and running + len(self.ended) >= len(sampler.points):
            self._observe(Note(f"All {len(sampler.points)} points of the grid have been handed out."))
            self._exhausted = True
            return False
        return seconds_left > self._time.shortest_useful(self.ended)

    def adopt(self, now: int) -> list[Running]:
        """Return the trials that a dead search left RUNNING, as far as they still need training."""
        found = [self._consider(trial, now, {}) for trial in left_running(self._study)]
        return [running for running in found if running is not None]

    def next(self, now: int, running: Mapping[int, Running]) -> Running | None:
        """Ask once. None when what came needs no training: it has been told.

        Raises SearchError when nothing but refusals comes.
        """
        asked = self._consider(self._study.ask(), now, running)
        if self._refused_in_a_row >= MAX_REFUSALS_IN_A_ROW and asked is None:
            last = self.ended[-1].reason
            said = f"{self._refused_in_a_row} configurations in a row were refused, the last one because {last}"
            if best_trial(self.ended) is None and not running:
                raise SearchError(said, hint="raise [limits], or narrow the space")
            self._observe(Note(f"The search ends: {said}."))
            self._exhausted = True
        return asked

    def _consider(self, trial: optuna.Trial, now: int, running: Mapping[int, Running]) -> Running | None:
        stored = frozenset(self._study.get_trials(deepcopy=False)[trial.number].intermediate_values)
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
        self._refused_in_a_row = 0
        if untrained and (self._told_as_twin(trial, values, stored) or self._redraw(trial, values, running)):
            return None
        return Running(
            trial, values, cost, now, self._epoch_cost(cost), stored,
            handled=self._handled(attrs, stored), attempts=attrs.get("attempts", 0), lost=attrs.get("lost", 0),
        )  # fmt: skip

    def _judge(self, values: Values) -> tuple[str, float, Cost | None]:
        """Return why ``values`` are refused (or nothing), by how much relative to the limit, and their cost."""
        reason, excess, cost = self._task.judge(values)
        if cost is not None and not reason:
            reason, excess = self._time.refusal(cost)
        return reason, excess, cost

    def _refuse(self, trial: optuna.Trial, reason: str, excess: float) -> None:
        # A violated constraint told PRUNED teaches TPE where not to look; told FAIL it would teach nothing.
        if "limits" not in self._study.get_trials(deepcopy=False)[trial.number].constraints:
            trial.set_constraint("limits", excess)
        self._end(trial, TrialState.PRUNED, "refused", reason)
        self._refused_in_a_row += not isinstance(self._study.sampler, GridPoints)  # a grid ends by itself

    def _told_as_twin(self, trial: optuna.Trial, values: Values, stored: frozenset[int]) -> bool:
        """Tell the result of a trial with the same values, if there is one."""
        twin = self._twins.get(_key(values))
        if twin is None:
            return False
        trial.set_user_attr("twin_of", twin.number)
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        if twin.state == "pruned" and twin.curve and twin.val_accuracy is not None and not stored:
            trial.report(twin.val_accuracy, twin.curve[-1].epoch)
        reason = f"the values of trial {twin.number}, which is {twin.state}; not trained again"
        self._end(trial, states[twin.state], "duplicate", reason, twin.val_accuracy)
        return True

    def _redraw(self, trial: optuna.Trial, values: Values, running: Mapping[int, Running]) -> bool:
        """Let a trial go whose values are being trained: the next draw is another one."""
        twin = next((other for other in running.values() if other.values == values), None)
        if twin is None:
            return False
        self._redrawn += 1
        # FAIL: a sampler learns nothing from it, and there is nothing to learn.
        self._end(trial, TrialState.FAIL, "redrawn", f"the values of trial {twin.number}, which is being trained")
        return True

    def _end(
        self, trial: optuna.Trial, state: TrialState, stopped_by: str, reason: str, value: float | None = None
    ) -> None:
        trial.set_user_attr("stopped_by", stopped_by)
        trial.set_user_attr("reason", reason)
        self._tell(trial, state, value if state == TrialState.COMPLETE else None)

    # What a dead search had done.

    def _handled(self, attrs: Mapping[str, Any], stored: Collection[int]) -> int:
        """Return the last epoch after which the trial was told to go on.

        Its last stored epoch may have died between report and decision; that one is handled again.
        """
        last = max(stored, default=0)
        undecided = may_stop(self._study.pruner, last) and attrs.get("went_on", 0) < last
        return last - 1 if last and (undecided or last >= self._task.settings.epochs) else last

    def _seen_at(self, trial: optuna.trial.FrozenTrial) -> int:
        attrs = trial.user_attrs
        if "start" not in attrs:
            return 0
        epochs = len(trial.intermediate_values)
        if attrs.get("stopped_by") in ("refused", "duplicate", "redrawn") or "multiply_adds" not in attrs:
            epochs = 0
        elif trial.state == TrialState.FAIL:
            epochs += 1
        elif trial.state == TrialState.RUNNING:
            epochs = self._handled(attrs, trial.intermediate_values)
        cost = Cost(attrs.get("parameters", 0), attrs.get("multiply_adds", 0))
        return int(attrs["start"]) + epochs * self._epoch_cost(cost)

    def _epoch_cost(self, cost: Cost) -> int:
        return cost.units * round(self._task.epoch_images)


def _has_result(trial: TrialSummary) -> bool:
    return trial.state in ("complete", "pruned", "failed")


def _key(values: Values) -> str:
    return json.dumps(values, sort_keys=True)


def _tail(ended: list[TrialSummary], state: str) -> int:
    """Return how many of the last trials are in ``state``."""
    count = 0
    for trial in reversed(ended):
        if trial.state != state:
            break
        count += 1
    return count
