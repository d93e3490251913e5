"""The one owner of the study: asks for trials, hands them to workers, hears every epoch, tells results.

Workers never open the database, so seeds do not depend on timing, an enqueued trial is run once, and a trial in its
own process can be timed, stopped and taken up again. Whatever is decided is in the study before anybody acts on it:
a search that dies anywhere is gone on with from there.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from tuner.errors import SearchError
from tuner.records import (
    VAL_ACCURACY,
    EpochEnded,
    Note,
    Observer,
    SearchStarted,
    TrialEnded,
    TrialStarted,
    TrialSummary,
    fold_values,
    value_of,
)
from tuner.runs import Interruption
from tuner.search.asking import Asker
from tuner.search.building import Building
from tuner.search.crew import MIB, Crew, Heard
from tuner.search.ledger import Ledger
from tuner.search.messages import Built, Done, EpochReport, Failed, Lost, Suggest, TrainJob
from tuner.search.pruners import folds_behind, may_stop
from tuner.search.running import Draft, Running
from tuner.search.shelf import Shelf
from tuner.search.study import summaries, summary_of
from tuner.search.task import SearchTask
from tuner.search.timekeeper import Timekeeper

FAILURES_THAT_END_A_SEARCH = 5
ANEW = "begins anew: its hypermodel has a fit of its own, which cannot be gone on with"
PAUSING = "Stopping when the running epochs have ended; Ctrl-C again stops at once."


class Coordinator:
    """Runs one search to its end: the trials, the clock, a finished grid, or an interruption."""

    def __init__(  # noqa: PLR0913  # each is somebody else's part
        self,
        study: optuna.Study,
        task: SearchTask,
        crew: Crew,
        timekeeper: Timekeeper,
        observe: Observer,
        *,
        shelf: Shelf,
        interruption: Interruption,
    ) -> None:
        """Take the study as it is; RUNNING trials of a dead search are adopted when the search runs."""
        self._study, self._task, self._crew, self._time, self._observe = study, task, crew, timekeeper, observe
        self._shelf, self._interruption = shelf, interruption
        self._settings = task.settings
        self._ledger = Ledger(study)
        self._asker = Asker(self._ledger, task, timekeeper, self._ended, observe)
        self._building = Building(
            self._asker, crew, task.settings.retries, self._job_of_draft, self._check_failures, observe
        )
        self._readings = self._ledger.readings
        self._running: dict[int, Running] = {}
        self._waiting: deque[int] = deque()
        """Trials that need a worker: new ones, and those to be taken up again."""
        self._now = 0
        """Virtual time, in multiply-adds times images; only ``deterministic`` looks at it."""
        self._pausing = False

    def run(self) -> None:
        """Search. Raises SearchError when the first trials all fail, or nothing but refusals comes.

        An interruption ends it between epochs; trials that it finds RUNNING stay so, and the next search takes them up.
        """
        self._observe(
            SearchStarted(
                self._study.study_name,
                self._task.space.name,
                self._task.workers,
                self._settings.trial_epochs,
                self._settings.total_trials,
                self._time.limit,
                tuple(summaries(self._ledger.study)),
                self._settings.metric,
            )
        )
        self._adopt()
        while True:
            self._heed_interruption()
            self._stop_at_the_deadline()
            self._ask_and_hand_out()
            if self._over():
                break
            for number, message in self._crew.hear():
                if number in self._running:
                    self._hear(self._running[number], message)
                elif number in self._building:
                    self._hear_of_draft(number, message)
            while running := self._next_to_handle():
                self._handle(running)
                self._ask_and_hand_out()
            self._check_caps()
        self._shelf.tidy(self._asker.ended)

    def _over(self) -> bool:
        if self._pausing:
            return not self._crew.training
        return not self._running and not self._building and not self._more_to_ask()

    # Time and interruptions.

    def _seconds_left(self) -> float:
        costs = [running.cost for running in self._running.values()]
        return self._time.search_seconds_left(self._asker.best, costs)

    def _stop_at_the_deadline(self) -> None:
        if not (self._running or self._building) or self._seconds_left() > 0:
            return
        self._building.end("the clock ended the search before its network stood")
        for number in self._crew.training:
            running = self._running[number]
            reason = f"stopped after epoch {len(running.curve)}: the clock ended the search"
            self._end(running, "clock", reason)
        # Those that no worker has stay RUNNING: a search with more time takes them up.
        self._running.clear()
        self._waiting.clear()

    def _heed_interruption(self) -> None:
        if not self._interruption.asked:
            return
        if not self._pausing:
            self._pausing = True
            self._observe(Note(PAUSING))
        self._crew.drop_those_that_wait()

    # Asking.

    def _more_to_ask(self) -> bool:
        return self._asker.more(len(self._running) + len(self._building), self._seconds_left())

    def _adopt(self) -> None:
        self._asker.tell_decided()
        self._now = self._asker.clock()
        for running in self._asker.adopt(self._now):
            self._running[running.number] = running
            self._waiting.append(running.number)
            if running.own_fit and running.handled:
                self._observe(Note(f"Trial {running.number} {ANEW}."))
        for draft in self._asker.half_drawn:
            self._building.add(draft)
        self._shelf.tidy(self._asker.ended)

    def _ask_and_hand_out(self) -> None:
        if self._pausing or self._crew.stuck:
            return
        while self._wants_another() and self._more_to_ask() and not self._interruption.asked:
            if self._task.space.hypermodel:
                self._building.add(self._asker.draft(self._now))
                if self._ledger.readings != self._readings:
                    self._readings = self._ledger.readings
                    self._building.begin_again()
                continue
            running = self._asker.next(self._now, self._running)
            if running is not None:
                self._running[running.number] = running
                self._waiting.append(running.number)
        while self._waiting and self._crew.free:
            self._hand_out(self._running[self._waiting.popleft()])
        self._building.hand_out()

    def _wants_another(self) -> bool:
        if self._settings.deterministic:  # whether or not a process is ready for it: that is a matter of timing
            # One hypermodel at a time asks for values, and the study stands still meanwhile.
            return len(self._running) < self._task.workers and not self._building
        return self._crew.free > len(self._waiting) + self._building.waiting

    def _hand_out(self, running: Running) -> None:
        running.attempts += 1
        if running.attempts > 1:
            self._ledger.note(running.number, "attempts", running.attempts)
        self._tell_started(running)
        job = self._task.job(running.number, running.values, self._shelf.place(running.number))
        self._crew.hand(job, patience=self._time.beat_seconds(running.cost))

    def _job_of_draft(self, draft: Draft) -> TrainJob:
        return self._task.job(draft.number, {}, self._shelf.place(draft.number))

    def _tell_started(self, running: Running) -> None:
        self._observe(TrialStarted(running.number, running.values, running.cost, running.enqueued, running.attempts))

    def _hear_of_draft(self, number: int, message: Heard) -> None:
        """Hear of a trial that is being built, and let it train when its network stands."""
        if self._pausing:  # it is drawn again, when the search goes on
            self._crew.drop(number)
            return
        running = self._building.hear(number, message, self._running)
        if running is not None:
            self._running[number] = running
            running.attempts = 1
            self._tell_started(running)
            self._crew.go_on(number, patience=self._time.beat_seconds(running.cost))

    # Hearing: as it comes.

    def _hear(self, running: Running, message: Heard) -> None:
        match message:
            case Suggest():
                self._crew.tell(running.number, self._asker.more_for(running, message.asked))
            case Built():
                self._answer(running.number)
            case EpochReport():
                self._hear_epoch(running, message)
            case Failed():
                running.inbox.append(message)
            case Done():
                if running.own_fit:  # which decides for itself how long it trains
                    running.inbox.append(message)
            case Lost():
                self._retry(running, message.reason)

    def _hear_epoch(self, running: Running, message: EpochReport) -> None:
        epoch = message.result.epoch
        if epoch <= len(running.curve) + len(running.inbox):  # heard from the worker that was lost
            self._answer(running.number)
        elif epoch <= running.handled:  # heard by the search that died
            running.curve.append(message.result)
            self._observe(EpochEnded(running.number, message.result))
            self._answer(running.number)
        else:
            self._note_gain(running, epoch)
            running.inbox.append(message)
            if self._pausing or not self._decides_at(epoch):
                self._answer(running.number)

    def _note_gain(self, running: Running, epoch: int) -> None:
        """Count lost workers anew with each epoch that is new: they are the machines', not the trial's."""
        if epoch <= running.furthest:
            return
        running.furthest = epoch
        if running.lost:
            running.lost = 0
            self._ledger.note(running.number, "lost", 0)

    def _decides_at(self, epoch: int) -> bool:
        epochs = self._settings.epochs
        return epoch % epochs == 0 or (epoch < epochs and may_stop(self._study.pruner, epoch))

    def _answer(self, number: int) -> None:
        (self._crew.drop if self._pausing else self._crew.go_on)(number)

    def _retry(self, running: Running, reason: str) -> None:
        """Let another worker take the trial up from its checkpoint."""
        running.inbox.clear()  # what was heard and not handled comes again
        running.lost += 1
        self._ledger.note(running.number, "lost", running.lost)
        if running.lost > self._settings.retries:
            times = f", {running.lost} times" if running.lost > 1 else ""
            self._end(running, "failed", f"{reason}{times}", by_machine=True)
            self._check_failures(reason)
        else:
            goes_on = ANEW if running.own_fit else f"goes on from epoch {len(running.curve)}"
            self._observe(Note(f"Trial {running.number} {goes_on}: {reason}."))
            if running.own_fit:
                running.handled, running.curve = max(running.handled, len(running.curve)), []
            self._waiting.appendleft(running.number)

    def _check_caps(self) -> None:
        for number in self._crew.training:
            running = self._running.get(number)
            if running is None:
                continue
            now, peak = self._crew.memory(number)
            running.peak = max(running.peak, peak)
            heard = [message.result for message in running.inbox if isinstance(message, EpochReport)]
            seconds = sum(result.seconds for result in [*running.curve, *heard]) + self._crew.busy_seconds(number)
            memory, trial_time = self._settings.memory, self._settings.trial_time
            reason = ""
            if memory is not None and now > memory * MIB:
                reason = f"held {now / MIB:,.0f} MiB, over memory = {memory:,.0f}"
            elif trial_time is not None and seconds > trial_time:
                reason = f"trained {seconds:.0f} s, over trial_time = {trial_time:.0f}"
            if reason:
                self._crew.kill(number, reason)  # it may hang, and gives no memory back
                self._end(running, "failed", reason, by_machine=True)
                self._check_failures(reason)

    # Handling: in order.

    def _next_to_handle(self) -> Running | None:
        """Return a trial whose oldest unhandled message is to be handled now.

        ``deterministic``: only the one whose message comes next in virtual time, however long it takes to arrive; and
        none while nothing can be asked for, because a trial that is due then would be asked for too late.
        """
        if not self._settings.deterministic:
            return next((running for running in self._running.values() if running.inbox), None)
        if self._interruption.asked or self._crew.stuck or self._building:
            return None
        first = min(self._running.values(), key=lambda running: (running.due, running.number), default=None)
        return first if first and first.inbox else None

    def _handle(self, running: Running) -> None:
        self._now = max(self._now, running.due)
        message = running.inbox.popleft()
        if isinstance(message, Failed):
            self._end(running, "failed", message.reason)
            self._check_failures(message.reason)
            return
        if isinstance(message, Done):
            self._end(running, "complete")
            return
        result = message.result
        running.curve.append(result)
        running.handled = result.epoch
        self._time.learn(running.cost, result)
        self._observe(EpochEnded(running.number, result))
        value = value_of(running.curve, self._settings.epochs, self._settings.metric)
        if result.epoch >= self._settings.trial_epochs:
            self._end(running, "complete")
        elif reason := self._reason_to_stop(running, value):
            self._end(running, "pruned", f"stopped after epoch {result.epoch}: {reason}")
        else:
            self._ledger.report(running.number, result.epoch, value)
            if self._decides_at(result.epoch):
                self._answer(running.number)

    def _reason_to_stop(self, running: Running, value: float) -> str:
        """Return why the trial is not worth its next epoch, or nothing."""
        epoch, epochs = len(running.curve), self._settings.epochs
        if not self._decides_at(epoch):
            return ""
        if epoch < epochs:
            return "behind the others at this rung" if self._ledger.stops(running.number, epoch, value) else ""
        metric = self._settings.metric
        best = fold_values(self._asker.best.curve, epochs, metric) if self._asker.best else []
        return folds_behind(fold_values(running.curve, epochs, metric), best)

    def _check_failures(self, reason: str) -> None:
        judged = [trial.state for trial in self._asker.ended if trial.counted]
        if len(judged) >= FAILURES_THAT_END_A_SEARCH and set(judged) == {"failed"}:
            raise SearchError(
                f"the first {len(judged)} trials all failed, the last one with: {reason}",
                hint="'tuner studies' keeps them; the workers' logs are in the run folder",
            )

    # Telling.

    def _end(self, running: Running, word: str, reason: str = "", *, by_machine: bool = False) -> None:
        """Store how a trial ends, tell it, and let its worker go."""
        outcome: dict[str, Any] = {"reason": reason} if reason else {}
        if by_machine:
            outcome["by_machine"] = True
        outcome["seconds"] = round(sum(result.seconds for result in running.curve), 2)
        if running.peak:
            outcome["peak_memory"] = running.peak // MIB
        if self._settings.metric != VAL_ACCURACY:
            outcome["metric"] = self._settings.metric
        outcome["curve"] = [dataclasses.asdict(result) for result in running.curve]
        if running.curve:
            outcome["value"] = value_of(running.curve, self._settings.epochs, self._settings.metric)
        summary = self._ended(self._ledger.end(running.number, word, outcome))
        del self._running[running.number]
        self._crew.drop(running.number)
        self._shelf.put(summary)

    def _ended(self, trial: FrozenTrial) -> TrialSummary:
        """Hear that a trial has ended, and is stored."""
        summary = summary_of(trial)
        self._asker.ended_one(summary)
        self._observe(TrialEnded(summary, self._asker.best))
        return summary
