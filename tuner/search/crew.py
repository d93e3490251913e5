"""The workers of a search: who is free, who has which training, who has fallen silent, who holds how much memory.

Coordinator and refit speak of trainings by their number; which worker has one is the crew's affair. Time is counted
while the crew listens, tick by tick on the monotonic clock: neither a jump of the system's clock nor a pause of this
process itself makes a worker look silent.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TypeAlias

from tuner.errors import EnvironmentProblem
from tuner.records import Note, Observer, Value
from tuner.search.executors import Executor
from tuner.search.hindrances import DISK_PATIENCE_SECONDS
from tuner.search.member import Member
from tuner.search.messages import (
    Beat,
    Built,
    Done,
    EpochReport,
    Failed,
    FromJob,
    FromWorker,
    Go,
    Lost,
    Ready,
    Shutdown,
    Stop,
    Stuck,
    Suggest,
    Suggested,
    TrainJob,
)

TICK_SECONDS = 0.5
WORKERS_THAT_MAY_DIE_AT_START = 4
"""In a row; while none is ready, twice as many as there are to be: a machine that goes takes all of its workers along.
Those that die after them leave their places empty for a while: it may be one machine of several that bears none."""
ROOM_SECONDS = 5.0
"""How often it is looked at how many workers there is room for, where their number follows that."""
GROWN_BYTES = 2 << 30
"""A worker that holds this much more than when it was ready is replaced between two trainings; under a cap, one that
holds more than half of what the cap leaves it. The next training is not to pay for the last one's memory."""
MIB = 1 << 20

Heard: TypeAlias = Suggest | Built | EpochReport | Failed | Done | Lost
"""What a training's owner hears of it; ``Lost`` says that it is nobody's any more, and why."""


class Crew:
    """A number of workers that stays the same, or follows the room that there is: who is lost is replaced."""

    def __init__(  # noqa: PLR0913  # each is somebody else's part
        self,
        executor: Executor,
        size: int | None,
        *,
        heartbeat: float,
        observe: Observer,
        memory: float | None = None,
        again: str = "'--resume' goes on",
    ) -> None:
        """Start ``size`` workers, or None for as many as there is room for, now and as that changes.

        One that trains and says nothing for ``heartbeat`` seconds is given up.

        ``memory`` is the cap in MiB that its owner holds trainings to; ``again`` what the user can do after an error.
        """
        self._again = again
        self._executor, self._heartbeat, self._observe = executor, heartbeat, observe
        self._cap = None if memory is None else int(memory * MIB)
        self._fixed_size = size
        self.size = self._wanted()
        """How many workers there are to be."""
        self._members = {worker: Member(worker) for worker in (executor.start() for _ in range(self.size))}
        self._jobs = 0
        self._listened = self._looked = time.monotonic()
        self._said_waiting = 0
        self._lost_at_start, self._others_were_ready, self._gaps_said = 0, False, False
        self.lost = 0
        """Workers that had to be replaced."""

    # What can be asked.

    @property
    def free(self) -> int:
        """Return how many workers are ready and have nothing to do."""
        return sum(member.free for member in self._members.values())

    @property
    def present(self) -> int:
        """Return how many workers there are, without those that wait in vain for a machine; at least one."""
        return max(1, sum(not member.surplus and not member.waits for member in self._members.values()))

    @property
    def training(self) -> list[int]:
        """Return the numbers of the trainings that workers have."""
        return [member.job.number for member in self._members.values() if member.job]

    @property
    def stuck(self) -> bool:
        """Tell whether a checkpoint cannot be written: nothing new is to be started."""
        return any(member.stuck is not None for member in self._members.values())

    def waits(self, number: int) -> bool:
        """Tell whether the training's worker waits: for an answer, or for room on the disk."""
        return any(member.answers_due or member.stuck is not None for member in self._of(number))

    def busy_seconds(self, number: int) -> float:
        """Return for how long the training has been running since it was last told to go on."""
        return sum(member.busy for member in self._of(number))

    def memory(self, number: int) -> tuple[int, int]:
        """Return the bytes that the training's worker holds now, and the most that it was seen to hold."""
        for member in self._of(number):
            now = self._executor.memory(member.worker) or 0
            member.peak = max(member.peak, now)
            return now, member.peak
        return 0, 0

    # What can be told.

    def hand(self, job: TrainJob, patience: float = 0.0) -> None:
        """Give ``job`` to a free worker, which may say nothing for ``patience`` seconds if the heartbeat is shorter."""
        member = next(member for member in self._members.values() if member.free)
        self._jobs += 1
        numbered = dataclasses.replace(job, job=self._jobs)
        member.take(numbered, patience)
        self._executor.send(member.worker, numbered)

    def go_on(self, number: int, patience: float | None = None) -> None:
        """Answer the training's report: another epoch. ``patience``, as in ``hand``, stays what it was when None."""
        for member in self._of(number):
            member.answers_due, member.silence, member.busy = False, 0.0, 0.0
            member.patience = member.patience if patience is None else patience
            self._executor.send(member.worker, Go(member.job.job))  # type: ignore[union-attr]  # _of saw it

    def tell(self, number: int, value: Value) -> None:
        """Give a hypermodel the value that it has asked for."""
        for member in self._of(number):
            member.answers_due, member.silence = False, 0.0
            self._executor.send(member.worker, Suggested(member.job.job, value))  # type: ignore[union-attr]

    def drop(self, number: int) -> None:
        """Take the training from its worker, which is free again when it has heard so."""
        for member in self._of(number):
            member.dropped, member.job = member.job.job, None  # type: ignore[union-attr]
            member.silence, member.answers_due, member.stuck = 0.0, False, None
            self._executor.send(member.worker, Stop(member.dropped))

    def drop_those_that_wait(self) -> None:
        """Take the trainings whose workers wait, for an answer or for room: they have nothing unsaved."""
        for number in self.training:
            if self.waits(number):
                self.drop(number)

    def kill(self, number: int, reason: str) -> None:
        """End the training's worker, for its training's sake: it may not hear anything else."""
        for member in self._of(number):
            self._executor.kill(member.worker)
            del self._members[member.worker]
            replacement = self._start_another()
            self._observe(Note(f"Worker {member.worker} was ended ({reason}); worker {replacement} takes its place."))

    # Listening.

    def hear(self, timeout: float = TICK_SECONDS) -> list[tuple[int, Heard]]:
        """Return what the trainings' owner has to know, waiting at most ``timeout`` seconds for the first message.

        Raises EnvironmentProblem when workers cannot start, or the disk stays full.
        """
        heard: list[tuple[int, Heard]] = []
        messages = self._executor.receive(timeout)
        for worker, message in messages:
            if worker in self._members:
                heard += self._hear_one(self._members[worker], message)
        now = time.monotonic()
        # However long this process itself was away: a worker's words may still be waiting in the channel.
        listened, self._listened = min(now - self._listened, 2 * TICK_SECONDS), now
        self._check_disk()
        self._follow_the_room(now)
        return heard + self._count_silence(listened)

    def _hear_one(self, member: Member, message: FromWorker) -> list[tuple[int, Heard]]:
        if not isinstance(message, Beat) or member.dropped is None:  # who is to drop a training says more than that
            member.silence = 0.0
        match message:
            case Ready():
                member.waited = 0.0
                member.ready, member.ready_size = True, self._executor.memory(member.worker) or 0
                self._lost_at_start, self._gaps_said = 0, False
            case Lost():
                return self._replace(member, message)
            case _:
                return self._hear_of_job(member, message)
        return []

    def _hear_of_job(self, member: Member, message: FromJob) -> list[tuple[int, Heard]]:
        ended = isinstance(message, Done | Failed)
        if member.job is None or message.job != member.job.job:  # of a training that moved on
            if not ended:
                self._executor.send(member.worker, Stop(message.job))
            elif message.job == member.dropped:
                member.dropped = None
                self._between_jobs(member)
            return []
        number = member.job.number
        if isinstance(message, Beat):
            return []
        self._note_stuck(member, message)
        if isinstance(message, Stuck):
            return []
        member.answers_due = isinstance(message, Suggest | Built | EpochReport)
        if ended:
            member.job = None
            self._between_jobs(member)
        return [(number, message)]

    def _note_stuck(self, member: Member, message: FromJob) -> None:
        before = self.stuck
        if not isinstance(message, Stuck):
            member.stuck = None
        elif member.stuck is None:
            member.stuck = 0.0
        if self.stuck and not before:
            reason = message.reason if isinstance(message, Stuck) else ""
            self._observe(Note(f"A checkpoint cannot be written: {reason}. Nothing new starts; waiting for room …"))
        elif before and not self.stuck:
            self._observe(Note("Checkpoints can be written again: going on."))

    def _check_disk(self) -> None:
        if max((member.stuck or 0.0 for member in self._members.values()), default=0.0) > DISK_PATIENCE_SECONDS:
            raise EnvironmentProblem(
                f"a checkpoint could not be written for {DISK_PATIENCE_SECONDS:.0f} s",
                hint=f"nothing is lost: make room on the disk of --out, then {self._again}",
            )

    def _between_jobs(self, member: Member) -> None:
        """Let a worker go that is not needed any more, or that has grown."""
        grown_by = (self._executor.memory(member.worker) or 0) - member.ready_size
        grown = grown_by > GROWN_BYTES or (self._cap is not None and 2 * grown_by > self._cap - member.ready_size)
        if grown and not member.surplus:
            self._start_another()
        if grown or member.surplus:
            member.surplus = True
            self._executor.send(member.worker, Shutdown())

    def _count_silence(self, seconds: float) -> list[tuple[int, Heard]]:
        heard: list[tuple[int, Heard]] = []
        for member in list(self._members.values()):
            if member.free or member.answers_due:
                continue
            member.count(seconds, placed=self._executor.placed(member.worker))
            limit = member.limit(self._heartbeat)
            if member.silence <= limit:
                continue
            if member.job is not None:
                # It may come back (a stopped process, a hanging disk): it has as long again to hear that it is to drop
                # its training. Its place is filled now.
                number = member.job.number
                self.drop(number)
                member.surplus = True
                self._start_another()
                self.lost += 1
                heard.append((number, Lost(f"its worker said nothing for {limit:.0f} s")))
            else:
                self._give_up(member)
        return heard

    def _give_up(self, member: Member) -> None:
        self._executor.kill(member.worker)
        self._replace(member, Lost("it did not answer and was ended"))

    def _replace(self, member: Member, message: Lost) -> list[tuple[int, Heard]]:
        """Fill the place of a worker that is gone."""
        del self._members[member.worker]
        if member.surplus:
            return []
        if not member.ready:
            alike = self._others_were_ready == self._anyone_ready  # else it is no matter of those beside it any more
            self._lost_at_start, self._others_were_ready = self._lost_at_start * alike + 1, self._anyone_ready
        self.size = self._wanted()  # it may have gone with its machine
        if not member.ready and self._too_many_die:
            self._leave_a_gap(message.reason)
            return []
        self.lost += 1
        then = f"{self.size} are left"
        if self._active < self.size:
            then = f"worker {self._start_another()} takes its place"
        self._observe(Note(f"A worker was lost ({message.reason}); {then}."))
        return [(member.job.number, message)] if member.job else []

    @property
    def _anyone_ready(self) -> bool:
        return any(member.ready and not member.surplus for member in self._members.values())

    @property
    def _too_many_die(self) -> bool:
        limit = WORKERS_THAT_MAY_DIE_AT_START
        return self._lost_at_start >= (limit if self._anyone_ready else max(limit, 2 * self.size))

    def _leave_a_gap(self, reason: str) -> None:
        """Leave the place of a worker empty that could not start. Raises EnvironmentProblem when none of them can."""
        others = [member for member in self._members.values() if not member.surplus]
        if not any(self._executor.placed(member.worker) for member in others):  # loading, or ready
            raise EnvironmentProblem(f"workers die before they are ready: {reason}", hint="the log says why")
        if not self._gaps_said:
            self._gaps_said = True
            self._observe(Note(f"Workers die before they are ready ({reason}): it is tried again while others work."))

    # As many as there is room for.

    def _wanted(self) -> int:
        return max(1, self._executor.room()) if self._fixed_size is None else self._fixed_size

    @property
    def _active(self) -> int:
        return sum(not member.surplus for member in self._members.values())

    def _follow_the_room(self, now: float) -> None:
        """Say who waits for a machine; let workers join, fill places that were left empty, let nobody wait in vain."""
        if now - self._looked < ROOM_SECONDS:
            return
        self._looked = now
        self.size = self._wanted()
        more = self.size - self._active
        if self._anyone_ready or not self._too_many_die:
            for _ in range(more):
                self._start_another()
            if more > 0 and not self._gaps_said:
                self._observe(Note(f"{more} more worker(s): there is room for {self.size}."))
        for member in [m for m in self._members.values() if not self._executor.placed(m.worker)][: max(0, -more)]:
            self._executor.kill(member.worker)
            del self._members[member.worker]
        waiting = sum(member.waits for member in self._members.values())
        if waiting > self._said_waiting:
            self._observe(Note(f"{waiting} of {self.size} worker(s) wait for room in the cluster."))
        self._said_waiting = waiting

    def _start_another(self) -> int:
        worker = self._executor.start()
        self._members[worker] = Member(worker)
        return worker

    def _of(self, number: int) -> list[Member]:
        """Return the worker that has the training, if one has."""
        return [member for member in self._members.values() if member.job and member.job.number == number]
