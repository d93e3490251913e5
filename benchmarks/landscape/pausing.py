"""Asynchronous successive halving as Li et al. 2020 published it: a trial pauses at a rung, and may go on later.

Our pruner stops for good what is not among the best at its rung when it comes there. Here it waits, and a free worker
first looks whether one that waits is among the best by now. The real sampler draws; to it a trial that waits, or that
goes on, is one that was pruned at its last rung (running ones repel TPE). Unlike in the product it hears of a refused
configuration no constraint, and of a duplicate not what its twin was told.
"""

from __future__ import annotations

import contextlib
import heapq
import json
from collections.abc import Callable

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from benchmarks.landscape.account import Account, Run, Spent, Training
from benchmarks.landscape.strategies import Ours
from tuner.records import Values
from tuner.search.pruners import rungs
from tuner.search.samplers import make_sampler
from tuner.search.study import queue_entries
from tuner.space.parameters import Space


class Overwritten(InMemoryStorage):
    """A storage whose trials may be told again how they ended."""

    def told_again(self, number: int, state: TrialState, curve: dict[int, float]) -> None:
        """Replace a trial's end and its intermediate values."""
        (study_id,) = self._studies
        trial = self._studies[study_id].trials[number]
        trial.state, trial.intermediate_values = state, dict(curve)
        trial.values = [curve[max(curve)]] if state == TrialState.COMPLETE else None


def search(ours: Ours, space: Space, account: Account) -> Run:
    """Search until the account's budget is spent."""
    searched = ours.space(space)
    settings = ours.settings(account.seed, account.last_epoch)
    storage = Overwritten()
    study = optuna.create_study(storage=storage, direction="maximize", sampler=make_sampler(settings, searched))
    queue_entries(study, searched)
    halving = Rungs(rungs(settings.first_rung, settings.reduction, account.last_epoch), settings.reduction)
    trainings: dict[int, tuple[Training, dict[int, float]]] = {}
    known = set[str]()
    due: list[tuple[float, int]] = []
    """The ends of the running trials' epochs. Each is paid for when it has ended."""

    def begin(now: float) -> None:
        number = halving.promoted()
        if number is None:
            number, values = drawn(study, searched, known, account.refused)
            trainings[number] = account.begin(values, number), {}
        else:
            account.go_on()
        heapq.heappush(due, (now + trainings[number][0].epoch_seconds, number))

    with contextlib.suppress(Spent):
        for _ in range(ours.workers):
            begin(0.0)
        while True:
            now, number = heapq.heappop(due)
            training, curve = trainings[number]
            epoch = len(curve) + 1
            curve[epoch] = training.epoch(epoch)
            if epoch == account.last_epoch:
                account.found(training, curve[epoch])
                storage.told_again(number, TrialState.COMPLETE, curve)
            elif epoch in halving.epochs:
                halving.arrived(number, epoch, curve[epoch])
                storage.told_again(number, TrialState.PRUNED, curve)
            else:
                heapq.heappush(due, (now + training.epoch_seconds, number))
                continue
            begin(now)
    return account.run()


class Rungs:
    """Who has come to each rung, and who has gone on from there."""

    def __init__(self, epochs: list[int], reduction: int) -> None:
        """Lay out the rungs."""
        self.epochs, self._reduction = epochs, reduction
        self._at: dict[int, dict[int, float]] = {epoch: {} for epoch in epochs}
        self._gone: dict[int, set[int]] = {epoch: set() for epoch in epochs}

    def arrived(self, number: int, epoch: int, value: float) -> None:
        """Hear of a trial at a rung."""
        self._at[epoch][number] = value

    def promoted(self) -> int | None:
        """Return the best trial that waits and is among the best 1/reduction of its rung, the highest rung first.

        As in our pruner the first ``reduction`` - 1 at a rung all go on.
        """
        for epoch in reversed(self.epochs):
            there, gone = self._at[epoch], self._gone[epoch]
            enough = len(there) // self._reduction if len(there) >= self._reduction else len(there)
            ranked = sorted(there, key=lambda number: (-there[number], number))
            waits = next((number for number in ranked[:enough] if number not in gone), None)
            if waits is not None:
                gone.add(waits)
                return waits
        return None


def drawn(study: optuna.Study, space: Space, known: set[str], refused: Callable[[Values], bool]) -> tuple[int, Values]:
    """Return the next trial that may be trained, its number and values; it is told pruned until it has reported."""
    while True:
        trial = study.ask()
        values = space.sample(trial)
        key = json.dumps(values, sort_keys=True)
        untrained = "refused" if refused(values) else "duplicate" if key in known else ""
        if untrained:
            trial.set_user_attr(untrained, {})
        study.tell(trial, state=TrialState.PRUNED)
        if not untrained:
            known.add(key)
            return trial.number, values
