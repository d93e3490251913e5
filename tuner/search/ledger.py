"""A study twice: in memory, where the sampler and the pruner look, and in its storage, where it lasts.

One coordinator is the study's only writer, so that memory knows what the storage holds without reading it again. A
trial is drawn in memory and stored whole, in one transaction: a search that dies leaves all of it or nothing.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from tuner.records import Value
from tuner.search.study import ENDS, end_of


class Ledger:
    """What the coordinator knows of its study, and everything that it stores in it, by trial number."""

    def __init__(self, study: optuna.Study) -> None:
        """Read the whole study, once."""
        self._of = study
        self._storage = study._storage  # noqa: SLF001  # a Study shows the storage that it was given no other way
        self._id = self._storage.get_study_id_from_name(study.study_name)
        self.readings = 0
        """How often the study was read: trials that were handed out before the last time are not in its memory."""
        self._read()

    def _read(self) -> None:
        self._memory = optuna.storages.InMemoryStorage()
        self.study = optuna.create_study(
            storage=self._memory,
            study_name=self._of.study_name,
            direction="maximize",
            sampler=self._of.sampler,
            pruner=self._of.pruner,
        )
        """The study in memory: it is asked, and read, and costs no transaction."""
        self._memory_id = self._memory.get_study_id_from_name(self._of.study_name)
        self._stored: dict[int, int] = {}
        """The storage's id of every trial that it holds."""
        for trial in self._storage.get_all_trials(self._id, deepcopy=False):
            self._memory.create_new_trial(self._memory_id, trial)
            self._stored[trial.number] = trial._trial_id  # noqa: SLF001  # Optuna's own way needs the id
        self.readings += 1

    def trial(self, number: int) -> FrozenTrial:
        """Return a trial as it is now."""
        return self._memory.get_trial(self._in_memory(number))

    # Asking.

    def ask(self) -> optuna.Trial:
        """Return the trial that has waited longest, or a new one, in memory alone until ``keep`` stores it."""
        while True:
            trial = self.study.ask()
            if trial.number not in self._stored or self._pop(trial.number):
                return trial
            self._read()  # somebody else has taken it

    def _pop(self, number: int) -> bool:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            return self._storage.set_trial_state_values(self._stored[number], TrialState.RUNNING)
        return False

    def left_running(self) -> Iterator[optuna.Trial]:
        """Yield the trials that a dead or interrupted search left RUNNING, by number: they are taken up as they are.

        One by one: each prepares the sampler for itself.
        """
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            yield self.again(trial.number)

    def again(self, number: int) -> optuna.Trial:
        """Return a trial that is stored, to ask it for more."""
        return optuna.Trial(self.study, self._in_memory(number))

    def put(self, trial: optuna.Trial, name: str, distribution: BaseDistribution, value: Value) -> Value:
        """Give a trial a value that no sampler drew, in memory, and return it; one that it has stays."""
        if name not in self.trial(trial.number).params:
            inner = distribution.to_internal_repr(value)
            self._memory.set_trial_param(self._in_memory(trial.number), name, inner, distribution)
        had: Value = self.trial(trial.number).params[name]
        return had

    def keep(self, trial: optuna.Trial) -> FrozenTrial:
        """Store what memory holds of a trial, and return it: under another number, if somebody else has added one."""
        drawn = self.trial(trial.number)
        if drawn.number in self._stored:
            self._store_the_rest(drawn)
            return drawn
        trial_id = self._storage.create_new_trial(self._id, drawn)
        with contextlib.suppress(KeyError):
            # The storage remembers the number that it gave: no transaction.
            if self._storage.get_trial_id_from_study_id_trial_number(self._id, drawn.number) == trial_id:
                self._stored[drawn.number] = trial_id
                return drawn
        self._read()
        return self.trial(next(number for number, stored in self._stored.items() if stored == trial_id))

    def _store_the_rest(self, trial: FrozenTrial) -> None:
        """Store a trial that waited in the queue, or was left half-written, piece by piece.

        What the sampler keeps for itself comes before the values, which it is not asked for again; a mark before the
        report that it explains; and how the trial ends comes last, for then only the telling is left.
        """
        trial_id = self._stored[trial.number]
        there = self._storage.get_trial(trial_id)
        for key, value in trial.system_attrs.items():
            if key not in there.system_attrs:
                self._storage.set_trial_system_attr(trial_id, key, value)
        for name, distribution in trial.distributions.items():
            if name not in there.params:
                value = distribution.to_internal_repr(trial.params[name])
                self._storage.set_trial_param(trial_id, name, value, distribution)
        end = end_of(trial)
        for key, value in trial.user_attrs.items():
            if key != end and there.user_attrs.get(key) != value:
                self._storage.set_trial_user_attr(trial_id, key, value)
        for epoch, value in trial.intermediate_values.items():
            if epoch not in there.intermediate_values:
                self._storage.set_trial_intermediate_value(trial_id, epoch, value)
        if end is not None:
            self._storage.set_trial_user_attr(trial_id, end, trial.user_attrs[end])
            self._storage.set_trial_state_values(trial_id, trial.state, trial.values)

    # While it runs.

    def note(self, number: int, key: str, value: Any) -> None:  # noqa: ANN401  # whatever JSON holds
        """Store a user attribute."""
        self._storage.set_trial_user_attr(self._stored[number], key, value)
        self._memory.set_trial_user_attr(self._in_memory(number), key, value)

    def stops(self, number: int, epoch: int, value: float) -> bool:
        """Tell whether the pruner would stop a trial that reports ``value``. Nothing is stored."""
        trial = copy.copy(self.trial(number))
        trial.intermediate_values = {**trial.intermediate_values, epoch: value}
        return self.study.pruner.prune(self.study, trial)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Store what an epoch showed, and with it that the trial goes on: one that stops has its end stored first."""
        if epoch not in self.trial(number).intermediate_values:
            self._storage.set_trial_intermediate_value(self._stored[number], epoch, value)
            self._memory.set_trial_intermediate_value(self._in_memory(number), epoch, value)

    # Its end.

    def end(self, number: int, word: str, outcome: dict[str, Any]) -> FrozenTrial:
        """Store how a trial ends, in one transaction that stands for all that follows, and tell it."""
        self.note(number, word, outcome)
        return self.finish(number)

    def finish(self, number: int) -> FrozenTrial:
        """Tell the end that is stored, with the last epoch's report if that is still missing."""
        word = end_of(self.trial(number)) or ""
        state = ENDS[word]
        outcome = self.trial(number).user_attrs[word]
        if "value" in outcome:
            self.report(number, outcome["curve"][-1]["epoch"], outcome["value"])
        trial = self.trial(number)
        # Not the last report, where there is a curve: a fit that began anew may have ended sooner than before.
        reached = outcome.get("value", trial.intermediate_values.get(trial.last_step or 0))
        values = None if reached is None or state == TrialState.FAIL else [reached]
        self._storage.set_trial_state_values(self._stored[number], state, values)
        self._memory.set_trial_state_values(self._in_memory(number), state, values)
        return self.trial(number)

    def _in_memory(self, number: int) -> int:
        return self._memory.get_trial_id_from_study_id_trial_number(self._memory_id, number)
