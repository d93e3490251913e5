"""The one owner of the study: asks for trials, hands them to workers, hears every epoch, tells results.

Workers never open the database, so seeds do not depend on timing, an enqueued trial is run once, and a trial in its
own process can be timed and stopped.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass, field

import optuna
from optuna.trial import TrialState

from tuner.errors import EnvironmentProblem, SearchError
from tuner.records import (
    Cost,
    EpochEnded,
    EpochResult,
    Note,
    Observer,
    SearchStarted,
    TrialEnded,
    TrialStarted,
    Values,
    seed_for,
)
from tuner.search.executors import Executor
from tuner.search.messages import Built, Done, EpochReport, Failed, FromWorker, Go, Lost, Ready, Stop, TrainJob
from tuner.search.samplers import GridPoints
from tuner.search.study import adopt, best_trial, summaries, summary_of
from tuner.search.task import SearchTask
from tuner.search.timekeeper import Timekeeper

MAX_REFUSALS_IN_A_ROW = 200
FAILURES_THAT_END_A_SEARCH = 5
WORKERS_THAT_MAY_DIE_AT_START = 4
TICK_SECONDS = 0.5


@dataclass
class _Running:
    """A trial that a worker has."""

    trial: optuna.Trial
    worker: int
    values: Values
    cost: Cost
    already: frozenset[int] = frozenset()
    """Epochs that a dead search had stored of it."""
    curve: list[EpochResult] = field(default_factory=list)
    stopped_by: str | None = None
    """``pruned`` or ``clock``, once it has been told to stop."""


class Coordinator:
    """Runs one search to its end: the trials, the clock, or a finished grid."""

    def __init__(
        self, study: optuna.Study, task: SearchTask, executor: Executor, time: Timekeeper, observe: Observer
    ) -> None:
        """Take the study as it is; RUNNING trials of a dead search are adopted, oldest first."""
        self._study, self._task, self._executor, self._time, self._observe = study, task, executor, time, observe
        self._idle: list[int] = []
        self._running: dict[int, _Running] = {}
        self._adopted = deque(adopt(study))
        self._ended = [trial for trial in summaries(study) if trial.state != "running"]
        self._asked_out = False
        self._ready: set[int] = set()
        self._lost_before_ready = 0

    def run(self) -> None:
        """Search. Raises SearchError when the first trials all fail, or nothing but refusals comes."""
        settings = self._task.settings
        self._observe(
            SearchStarted(
                self._study.study_name,
                self._task.space.name,
                self._task.workers,
                settings.epochs,
                settings.total_trials,
                self._time.limit,
                tuple(self._ended),
            )
        )
        while True:
            self._stop_at_the_deadline()
            self._hand_out()
            if not self._running and not self._more_to_ask():
                return
            for worker, message in self._executor.receive(TICK_SECONDS):
                self._handle(worker, message)

    @property
    def idle(self) -> list[int]:
        """Return the workers that are ready and have nothing to do."""
        return self._idle

    # Time.

    def _seconds_left(self) -> float:
        costs = [running.cost for running in self._running.values()]
        return self._time.search_seconds_left(best_trial(self._ended), costs)

    def _stop_at_the_deadline(self) -> None:
        if self._running and self._seconds_left() <= 0:
            for running in self._running.values():
                if running.stopped_by is None:
                    running.stopped_by = "clock"
                    self._executor.send(running.worker, Stop(running.trial.number))

    # Asking.

    def _more_to_ask(self) -> bool:
        if self._asked_out:
            return False
        if self._adopted:
            return self._seconds_left() > 0
        total = self._task.settings.total_trials
        counted = len(self._running) + sum(trial.state != "refused" for trial in self._ended)
        if total is not None and counted >= total:
            return False
        sampler = self._study.sampler
        if isinstance(sampler, GridPoints) and len(self._running) + len(self._ended) >= len(sampler.points):
            self._observe(Note(f"All {len(sampler.points)} points of the grid have been handed out."))
            self._asked_out = True
            return False
        return self._seconds_left() > self._time.shortest_useful(self._ended)

    def _hand_out(self) -> None:
        while self._idle and self._more_to_ask():
            running = self._next_trial()
            if running is None:
                return
            running.worker = self._idle.pop(0)
            number = running.trial.number
            self._running[number] = running
            enqueued = bool(running.trial.user_attrs.get("start_with"))
            self._observe(TrialStarted(number, running.values, running.cost, enqueued))
            settings = self._task.settings
            self._executor.send(
                running.worker,
                TrainJob(
                    job=number,
                    values=running.values,
                    source=self._task.source,
                    epochs=settings.epochs,
                    seed=seed_for(settings.seed, "trial", number),
                    train_images=settings.train_images,
                ),
            )

    def _next_trial(self) -> _Running | None:
        """Ask until a configuration is within the limits; refused ones are told at once."""
        reason, refusals = "", 0
        while refusals < MAX_REFUSALS_IN_A_ROW:
            if not self._more_to_ask():
                return None
            trial, already = self._adopted.popleft() if self._adopted else (self._study.ask(), frozenset())
            values = self._task.space.sample(trial)
            trial.set_user_attr("values", values)
            reason, excess, cost = self._judge(values)
            if cost is not None:
                trial.set_user_attr("parameters", cost.parameters)
                trial.set_user_attr("multiply_adds", cost.multiply_adds)
                if not reason:
                    return _Running(trial, -1, values, cost, already)
            trial.set_user_attr("stopped_by", "refused")
            trial.set_user_attr("reason", reason)
            # A violated constraint told PRUNED teaches TPE where not to look; told FAIL it would teach nothing.
            trial.set_constraint("limits", excess)
            self._end(trial, TrialState.PRUNED)
            refusals += not isinstance(self._study.sampler, GridPoints)  # a grid ends by itself
        said = f"{MAX_REFUSALS_IN_A_ROW} configurations in a row were refused, the last one because {reason}"
        if best_trial(self._ended) is None and not self._running:
            raise SearchError(said, hint="raise [limits], or narrow the space")
        self._observe(Note(f"The search ends: {said}."))
        self._asked_out = True
        return None

    def _judge(self, values: Values) -> tuple[str, float, Cost | None]:
        """Return why ``values`` are refused (or nothing), by how much relative to the limit, and their cost."""
        reason, excess, cost = self._task.judge(values)
        if cost is not None and not reason:
            reason, excess = self._time.refusal(cost)
        return reason, excess, cost

    # Hearing.

    def _handle(self, worker: int, message: FromWorker) -> None:
        match message:
            case Ready():
                self._ready.add(worker)
                self._idle.append(worker)
            case Built():
                self._answer(message.job)
            case EpochReport():
                self._hear_epoch(self._running[message.job], message.result)
            case Done():
                self._finish(self._running.pop(message.job))
            case Failed():
                self._fail(self._running.pop(message.job), message.reason)
            case Lost():
                self._replace(worker, message.reason)

    def _answer(self, job: int) -> None:
        running = self._running[job]
        if running.stopped_by is None:  # otherwise the Stop that was sent is the answer
            self._executor.send(running.worker, Go(job))

    def _hear_epoch(self, running: _Running, result: EpochResult) -> None:
        running.curve.append(result)
        self._time.learn(running.cost, result)
        trial = running.trial
        if result.epoch not in running.already:
            trial.report(result.val_accuracy or 0.0, result.epoch)
        self._observe(EpochEnded(trial.number, result))
        last = result.epoch >= self._task.settings.epochs
        # Where a dead search had a later epoch, it had said *go on* to this one.
        decided = result.epoch < max(running.already, default=0)
        if running.stopped_by is None and not last and not decided and trial.should_prune():
            running.stopped_by = "pruned"
            self._executor.send(running.worker, Stop(trial.number))
        else:
            self._answer(trial.number)

    def _finish(self, running: _Running) -> None:
        trial = running.trial
        if len(running.curve) >= self._task.settings.epochs:
            self._store_curve(running)
            self._end(trial, TrialState.COMPLETE, running.curve[-1].val_accuracy)
        else:
            epoch = len(running.curve)
            stopped_by = running.stopped_by or "pruned"
            why = "the clock ended the search" if stopped_by == "clock" else "behind the others at this rung"
            trial.set_user_attr("stopped_by", stopped_by)
            trial.set_user_attr("reason", f"stopped after epoch {epoch}: {why}")
            self._store_curve(running)
            self._end(trial, TrialState.PRUNED)
        self._idle.append(running.worker)

    def _fail(self, running: _Running, reason: str) -> None:
        running.trial.set_user_attr("reason", reason)
        self._store_curve(running)
        self._end(running.trial, TrialState.FAIL)
        self._idle.append(running.worker)
        self._check_failures(reason)

    def _check_failures(self, reason: str) -> None:
        judged = [trial.state for trial in self._ended if trial.state != "refused"]
        if len(judged) >= FAILURES_THAT_END_A_SEARCH and set(judged) == {"failed"}:
            raise SearchError(
                f"the first {len(judged)} trials all failed, the last one with: {reason}",
                hint="'tuner studies' keeps them; the workers' logs are in the run folder",
            )

    def _replace(self, worker: int, reason: str) -> None:
        """Fail what a lost worker was doing and start another one."""
        self._lost_before_ready += worker not in self._ready
        if self._lost_before_ready >= WORKERS_THAT_MAY_DIE_AT_START:
            raise EnvironmentProblem(f"workers die before they are ready: {reason}", hint="the log says why")
        if worker in self._idle:
            self._idle.remove(worker)
        replacement = self._executor.start()
        self._observe(Note(f"A worker was lost ({reason}); worker {replacement} takes its place."))
        for running in [running for running in self._running.values() if running.worker == worker]:
            del self._running[running.trial.number]
            running.trial.set_user_attr("reason", reason)
            self._store_curve(running)
            self._end(running.trial, TrialState.FAIL)
            self._check_failures(reason)

    def _store_curve(self, running: _Running) -> None:
        running.trial.set_user_attr("curve", [dataclasses.asdict(result) for result in running.curve])
        running.trial.set_user_attr("seconds", round(sum(result.seconds for result in running.curve), 2))

    def _end(self, trial: optuna.Trial, state: TrialState, value: float | None = None) -> None:
        summary = summary_of(self._study.tell(trial, value, state=state))
        self._ended.append(summary)
        self._observe(TrialEnded(summary, best_trial(self._ended)))
