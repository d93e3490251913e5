"""Which trial is trained next: RUNNING ones of a dead search, then what Optuna says; refusals and twins are told."""

from __future__ import annotations

import bisect
import itertools
import json
import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuner.data.splits import validation_counts
from tuner.errors import SearchError
from tuner.records import Cost, Note, Observer, TrialSummary, Value, Values
from tuner.search.asked import NAMES, Names
from tuner.search.gains import last_gain, standard_error
from tuner.search.ledger import Ledger
from tuner.search.running import Draft, Running
from tuner.search.samplers import GridPoints
from tuner.search.study import ENDS, ENTRY, UNTRAINED, best_trial, end_of, summaries, summary_of
from tuner.search.task import SearchTask
from tuner.search.timekeeper import Timekeeper
from tuner.space.asked import Asked

MAX_UNTRAINED_IN_A_ROW = 200
"""Refused or known configurations after which a search ends: its space is too large for its limits, or used up."""
MAX_REDRAWS = 20
"""After so many draws of values that are being trained already, a free worker waits until a training ends."""

Ended = Callable[[FrozenTrial], TrialSummary]
TRAINED = ("complete", "pruned", "failed")


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
        self._settled_by: int | None = None
        """The trial after which nothing more was gained, once that was said."""
        self._names = Names(ledger.study.get_trials(deepcopy=False))
        self.half_drawn: list[Draft] = []
        """Trials that a dead search had taken from the queue and not stored."""
        for trial in sorted(ledger.study.get_trials(deepcopy=False), key=_ended_at):
            if trial.state.is_finished():
                self.ended_one(summary_of(trial))
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
        if self._settled():
            return False
        return seconds_left > self._time.shortest_useful(self._sizes)

    def _settled(self) -> bool:
        """Tell whether nothing is left to gain, and say so once; a trial that runs on may still change it."""
        source, settings = self._task.source, self._task.settings
        if not settings.patience or self._counted < settings.patience:
            return False
        counts = source.train_class_counts if settings.folds > 1 else validation_counts(source)
        gained, after = last_gain(self.ended, counts, settings.metric)
        if gained is None or after < settings.patience:
            return False
        if self._settled_by != gained.number:
            self._settled_by = gained.number
            error = 100 * standard_error(gained.val_accuracy or 0.0, counts, settings.metric)
            said = f"{after} in a row were not better than trial {gained.number} by the {error:.2f} points"
            more = "'--resume --set search.patience=0' goes on without this end"
            self._observe(Note(f"No more trials: {said} that chance moves {sum(counts):,} validation images; {more}."))
        return True

    def tell_decided(self) -> None:
        """Tell the trials of which a dead search had stored how they end, and no more."""
        for trial in self._ledger.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if end_of(trial) in ENDS:
                self._tell(self._ledger.finish(trial.number))

    def adopt(self, now: int) -> list[Running]:
        """Return the trials that a dead search left RUNNING, as far as they still need training."""
        found: dict[int, Running] = {}
        for trial in self._ledger.left_running():
            if self._task.space.hypermodel and "parameters" not in trial.user_attrs:
                self.half_drawn.append(self._draft_of(trial, now))
                continue
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
        return self._counted_in(self._consider(self._ledger.ask(), now, running), running)

    def _counted_in(self, asked: Running | None, running: Mapping[int, Running]) -> Running | None:
        """Hear what became of a trial. Raises SearchError when nothing but refusals comes."""
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

    # Hypermodels: the values come one by one, and the cost at their end.

    def draft(self, now: int) -> Draft:
        """Ask for a trial whose values a worker will ask for.

        It is stored at once, for others may be stored before its network stands, and then it could not keep its number.
        """
        drawn = self._draft_of(self._ledger.ask(), now)
        number = self._ledger.keep(drawn.trial).number
        return drawn if number == drawn.number else self.begin_again(number, now)

    def begin_again(self, number: int, now: int) -> Draft:
        """Return a trial that is stored and whose values are asked for once more."""
        return self._draft_of(self._ledger.again(number), now)

    def _draft_of(self, trial: optuna.Trial, now: int) -> Draft:
        return Draft(trial, self._start(trial, now))

    def value_for(self, trial: optuna.Trial, values: Values, asked: Asked) -> Value:
        """Return the value of a trial that a hypermodel asks for, and note it in ``values`` and in memory."""
        given = bool(trial.user_attrs.get("start_with"))
        put = partial(self._ledger.put, trial) if given else None
        wanted = trial.user_attrs.get(ENTRY, {}).get(asked.name, asked.default)
        name, values[asked.name] = self._names.draw(asked, trial, put, wanted)
        if name != asked.name:
            trial.set_user_attr(NAMES, {**trial.user_attrs.get(NAMES, {}), asked.name: name})
        return values[asked.name]

    def more_for(self, running: Running, asked: Asked) -> Value:
        """Return a value that a ``fit`` asks for, which is stored before anybody trains with it."""
        trial = self._ledger.again(running.number)
        value = self.value_for(trial, running.values, asked)
        trial.set_user_attr("values", running.values)
        self._ledger.keep(trial)
        return value

    def built(self, draft: Draft, cost: Cost, running: Mapping[int, Running]) -> Running | None:
        """Hear that a draft's network stands. None when it is not trained: it has been told."""
        found = self._decide(draft.trial, draft.values, cost, draft.start, running)
        return self._counted_in(found, running)

    def give_up(self, draft: Draft, word: str, reason: str, *, by_machine: bool = False) -> None:
        """End a draft that is not built."""
        draft.trial.set_user_attr("values", draft.values)
        outcome: dict[str, Any] = {"reason": reason, **({"by_machine": True} if by_machine else {})}
        self._end(draft.trial, word, ENDS[word], outcome)

    def _consider(self, trial: optuna.Trial, now: int, running: Mapping[int, Running]) -> Running | None:
        """Complete a draft, or what a dead search left, in memory; it is stored when it is known what becomes of it."""
        attrs = trial.user_attrs
        if self._task.space.hypermodel:
            cost = Cost(attrs["parameters"], attrs["multiply_adds"])
            return self._decide(trial, attrs["values"], cost, self._start(trial, now), running)
        return self._decide(trial, self._task.space.sample(trial), None, self._start(trial, now), running)

    def _start(self, trial: optuna.Trial, now: int) -> int:
        """Return the virtual time at which a trial was asked for, which is kept with it."""
        if self._task.settings.deterministic:
            now = trial.user_attrs.get("start", now)
            trial.set_user_attr("start", now)
        return now

    def _decide(
        self, trial: optuna.Trial, values: Values, cost: Cost | None, now: int, running: Mapping[int, Running]
    ) -> Running | None:
        """Refuse a trial, tell it as a twin, or keep it for training. ``cost`` None is to be planned."""
        stored = frozenset(self._ledger.trial(trial.number).intermediate_values)
        trial.set_user_attr("values", values)
        reason, excess, cost = self._judge(values, cost)
        if cost is not None:
            trial.set_user_attr("multiply_adds", cost.multiply_adds)
            trial.set_user_attr("parameters", cost.parameters)  # last: where it stands, the other one does
        attrs = trial.user_attrs
        untrained = not stored or "twin_of" in attrs
        if cost is None or (reason and untrained):
            self._refuse(trial, reason, excess)
            return None
        own_fit = bool(self._task.rehearsed and self._task.rehearsed.own_fit)
        # What a fit of its own will ask for is not known yet: the same values so far make no twins.
        twins = untrained and not own_fit
        if twins and (self._told_as_twin(trial, values, stored) or self._redraw(trial, values, running)):
            return None
        number = self._ledger.keep(trial).number
        return Running(
            number, values, cost, now, self._epoch_cost(cost), handled=self._handled(stored),
            enqueued=bool(attrs.get("start_with")), lost=attrs.get("lost", 0), own_fit=own_fit,
        )  # fmt: skip

    def _judge(self, values: Values, cost: Cost | None) -> tuple[str, float, Cost | None]:
        """Return why ``values`` are refused (or nothing), by how much relative to the limit, and their cost."""
        reason, excess, cost = self._task.judge(values, cost)
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


def _ended_at(trial: FrozenTrial) -> float:
    return trial.datetime_complete.timestamp() if trial.datetime_complete else math.inf


def _has_result(trial: TrialSummary) -> bool:
    return trial.state in TRAINED and not trial.by_machine


def _key(values: Values) -> str:
    return json.dumps(values, sort_keys=True)


def _untrained_tail(trials: list[TrialSummary]) -> int:
    """Return how many of the last trials needed no training."""
    return sum(1 for _ in itertools.takewhile(lambda trial: trial.state in UNTRAINED, reversed(trials)))
