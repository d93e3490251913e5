"""Workers on a Ray cluster: an actor each, on whichever node has room, and a mailbox actor beside the coordinator.

The only module that imports Ray. What a worker has said lies in the mailbox, so that it outlives the worker and its
node. Files travel with the messages (``parcels``); beside each worker's process stands a ``Relay``.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import signal
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tuner.data.sources import Source
from tuner.errors import EnvironmentProblem
from tuner.runs import WORKER_BYTES, backend, cores, versions
from tuner.search.executors import environment, ray_address
from tuner.search.executors.deliveries import Deliveries
from tuner.search.executors.local import CLOSING_SECONDS, how_it_ended
from tuner.search.executors.mailbox import Mailbox
from tuner.search.executors.parcels import Ended, Incoming, Outgoing, training_files
from tuner.search.executors.relay import Relay
from tuner.search.messages import FromWorker, Lost, Ready, Shutdown, Stop, ToWorker, TrainJob
from tuner.space.settings import SearchSettings

TAKE_SECONDS = 30.0
"""A worker's question whether there is anything for it waits so long, and is asked again."""
MOST_QUESTIONS = 10_000
"""That the mailbox has at a time: one of each worker."""
KNOCK_SECONDS = 10.0
KILL_SECONDS = 5.0
"""A worker that is to end, and has not, is ended by Ray."""
ROUNDING = 1e-6
_PASSED_ON = ("TF_CPP_MIN_LOG_LEVEL",)
"""Of the coordinator's environment, is the workers'."""


@dataclass(frozen=True)
class _Post:
    """The mailbox as one worker sees it: a parcel has arrived before the next one leaves."""

    mailbox: Any
    worker: int

    def put(self, parcel: Incoming) -> None:
        ray.get(self.mailbox.put.remote(self.worker, parcel))

    def take(self) -> list[Outgoing]:
        taken: list[Outgoing] = ray.get(self.mailbox.take.remote(self.worker, TAKE_SECONDS))
        return taken


class WorkerActor:
    """One worker on a node."""

    def run(self, post: _Post, environment: dict[str, str], expected: dict[str, str]) -> Ended:
        """Serve until the worker's process ends; a node whose versions are not as ``expected`` starts none."""
        found = versions(environment.get("KERAS_BACKEND"))
        others = [f"{name} {found.get(name, 'missing')}" for name in expected if found.get(name) != expected[name]]
        if others:
            wanted = ", ".join(f"{name} {expected[name]}" for name in expected if found.get(name) != expected[name])
            return Ended(0, f"its node has {', '.join(others)}, and the search {wanted}", b"")
        return Relay(post, lambda images: ray.get(images[0]), environment).run()


@dataclass
class _Worker:
    actor: Any
    running: Any
    """What its ``run`` will return."""
    process: int | None = None
    """Its number on its node, when it has one."""
    memory: int | None = None
    deliveries: Deliveries = field(default_factory=Deliveries)


class RayExecutor:
    """Workers as Ray actors."""

    def __init__(self, log_folder: Path, settings: SearchSettings) -> None:
        """Join the cluster, or start a Ray of our own; what workers print goes to ``worker-N.log`` in ``log_folder``.

        Raises EnvironmentProblem when there is no such cluster.
        """
        self._log_folder, self._cpus, self._gpus = log_folder, settings.worker_cpus, settings.worker_gpus
        self._ours, alone = _connect(settings)
        if alone:
            self._check_machine()
        self._mailbox, self._mailbox_lost = _new_mailbox(), False
        self._environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        self._environment["KERAS_BACKEND"] = backend()  # a node's own keras.json may name another one
        self._versions = versions()
        self._environment["OMP_NUM_THREADS"] = "1"  # Ray says another number where a worker has more cores
        if not self._gpus:
            self._environment["CUDA_VISIBLE_DEVICES"] = ""  # it was given none
        self._workers: dict[int, _Worker] = {}
        self._ending: dict[int, tuple[_Worker, float]] = {}
        """Workers that were killed, and when Ray is to do it."""
        self._gone: list[int] = []
        """Workers whose last words may still be in the mailbox."""
        self._images: dict[str, Any] = {}
        self._started = 0

    def _check_machine(self) -> None:
        """Stop a Ray of our own on a machine that has no room for a worker: none will join."""
        have = ray.cluster_resources()
        shares = (("worker_cpus", self._cpus, "CPU"), ("worker_gpus", self._gpus, "GPU"))
        lacking = [f"{name} = {share:g}, and it has {have.get(what, 0):g}" for name, share, what in shares
                   if have.get(what, 0) + ROUNDING < share]  # fmt: skip
        if lacking:
            _leave()
            said = f"no worker fits into this machine: {'; '.join(lacking)}"
            raise EnvironmentProblem(said, hint="--set search.ray_address=HOST:PORT names a cluster")

    def start(self) -> int:
        """Ask for a worker and return its number at once; where there is no room, it waits for some."""
        number = self._started
        self._started += 1
        options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        actor = ray.remote(WorkerActor).options(**options).remote()
        running = actor.run.remote(_Post(self._mailbox, number), self._environment, self._versions)
        self._workers[number] = _Worker(actor, running)
        return number

    def send(self, worker: int, message: ToWorker) -> None:
        """Send, with the files that a job goes on from; a worker that is gone is reported by ``receive``."""
        if worker not in self._workers:
            return
        known, parcel = self._workers[worker], Outgoing(message)
        if isinstance(message, TrainJob):
            images = self._images_of(message.source) if message.epochs else None
            parcel = Outgoing(message, known.deliveries.expect(message), images)
        elif isinstance(message, Stop):
            known.deliveries.refuse(message.job)
        self._post(worker, parcel)

    def _images_of(self, source: Source) -> list[Any]:
        """Return where the images are in the object store, from which each node fetches them once."""
        if source.digest not in self._images:
            self._images[source.digest] = ray.put(training_files(source))
        return [self._images[source.digest]]

    def _post(self, worker: int, parcel: Outgoing) -> None:
        try:
            ray.get(self._mailbox.post.remote(worker, parcel))
        except ray.exceptions.RayActorError:
            self._mailbox_lost = True  # ``receive`` begins again

    def receive(self, timeout: float) -> list[tuple[int, FromWorker]]:
        """Return what has arrived, waiting at most ``timeout`` seconds for the first message."""
        tried = [(number, worker.deliveries.try_again()) for number, worker in self._workers.items()]
        heard: list[tuple[int, FromWorker]] = [(number, message) for number, message in tried if message]
        gone, self._gone = self._gone, []
        try:
            parcels = ray.get(self._mailbox.hear.remote(0.0 if heard or gone else timeout))
        except ray.exceptions.RayActorError:
            self._mailbox_lost = True
        if self._mailbox_lost:
            return [*heard, *self._begin_again()]
        for number, parcel in parcels:
            self._print(number, parcel.printed)  # also of those that are being ended
            if number in self._workers:
                message = self._hear(self._workers[number], parcel)
                heard += [(number, message)] if message else []
        heard += [(number, Lost(self._forget(number))) for number in gone if number in self._workers]
        self._look_for_the_dead()
        return heard

    def _hear(self, worker: _Worker, parcel: Incoming) -> FromWorker | None:
        worker.process, worker.memory = parcel.process, parcel.memory
        message = parcel.message
        if message is None or isinstance(message, Ready):
            return message
        return worker.deliveries.take(message, parcel)

    def _print(self, number: int, printed: bytes) -> None:
        if printed:
            with contextlib.suppress(OSError), self._log(number).open("ab") as log:
                log.write(printed)

    def _log(self, number: int) -> Path:
        return self._log_folder / f"worker-{number}.log"

    def _look_for_the_dead(self) -> None:
        """Note who is gone; it is told when the mailbox was emptied once more."""
        running = {worker.running: number for number, worker in self._workers.items()}
        self._gone = [running[done] for done in _done(list(running))]
        for number, (worker, deadline) in list(self._ending.items()):
            done = bool(_done([worker.running]))
            if done or time.monotonic() > deadline:
                if done:
                    with contextlib.suppress(ray.exceptions.RayError):
                        self._print(number, ray.get(worker.running).printed)
                ray.kill(worker.actor)
                self._mailbox.forget.remote(number)
                del self._ending[number]

    def _forget(self, number: int) -> str:
        """Let go of a worker that is gone, and return how it ended."""
        worker = self._workers.pop(number)
        self._mailbox.forget.remote(number)
        try:
            ended: Ended = ray.get(worker.running)
        except ray.exceptions.RayError as error:
            last = (str(error).strip().splitlines() or [""])[-1][:300]
            if not isinstance(error, ray.exceptions.RayActorError):
                return last
            return f"its node says: {last}" if error.actor_init_failed else "its Ray actor, or its node, is gone"
        finally:
            ray.kill(worker.actor)
        self._print(number, ended.printed)
        return ended.trouble or how_it_ended(ended.code, self._log(number))

    def _begin_again(self) -> list[tuple[int, FromWorker]]:
        """Lay out a new mailbox: what was in the old one is lost, and so are its workers."""
        lost = list(self._workers)
        for number in lost:
            ray.kill(self._workers.pop(number).actor)
        ray.kill(self._mailbox)  # it may only have been out of reach
        self._mailbox, self._mailbox_lost = _new_mailbox(), False
        return [(number, Lost("the mailbox was lost")) for number in lost]

    def placed(self, worker: int) -> bool:
        """Tell whether ``worker`` has a node."""
        return worker in self._workers and self._workers[worker].process is not None

    def room(self) -> int:
        """Return how many workers fit into the nodes that there are, whatever else runs there."""
        return sum(self._fit(node["Resources"]) for node in ray.nodes() if node["Alive"])

    def _fit(self, resources: dict[str, float]) -> int:
        wanted = {"CPU": self._cpus, "GPU": self._gpus, "memory": float(WORKER_BYTES)}
        return min(int(resources.get(name, 0.0) / share + ROUNDING) for name, share in wanted.items() if share)

    def kill(self, worker: int) -> None:
        """End a worker that does not answer, and say nothing more of it."""
        if worker in self._workers:
            known = self._workers.pop(worker)
            if known.process is None:
                ray.kill(known.actor)  # it waits for room
                return
            self._post(worker, Outgoing(None))
            self._ending[worker] = (known, time.monotonic() + KILL_SECONDS)

    def memory(self, worker: int) -> int | None:
        """Return the bytes that a worker held when it was heard last; None when it is gone."""
        return self._workers[worker].memory if worker in self._workers else None

    def close(self) -> None:
        """Ask every worker to end, wait a little, then kill; leave the cluster, and stop a Ray of our own."""
        if not ray.is_initialized():
            return
        with contextlib.suppress(ray.exceptions.RayError):
            there = [number for number, worker in self._workers.items() if worker.process is not None]
            for number in there:
                self._post(number, Outgoing(Shutdown()))
            running = [self._workers[number].running for number in there]
            running += [worker.running for worker, _ in self._ending.values()]
            _done(running, CLOSING_SECONDS)
            for worker in (*self._workers.values(), *(worker for worker, _ in self._ending.values())):
                ray.kill(worker.actor)
            ray.kill(self._mailbox)
        self._workers.clear()
        self._ending.clear()
        if self._ours:
            _leave()


def _done(running: list[Any], timeout: float = 0.0) -> list[Any]:
    if not running:
        return []
    done: list[Any] = ray.wait(running, num_returns=len(running), timeout=timeout)[0]
    return done


def _new_mailbox() -> Any:  # noqa: ANN401  # an actor's handle
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Mailbox).options(num_cpus=0, max_concurrency=MOST_QUESTIONS, scheduling_strategy=here).remote()


def _knock(address: str) -> None:
    """Raise OSError when nobody listens at HOST:PORT, for which Ray would wait minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()


def _connect(settings: SearchSettings) -> tuple[bool, bool]:
    """Join a cluster; return whether it is ours to leave, and whether we have started it. Raises EnvironmentProblem."""
    if ray.is_initialized():  # a program that uses the library has done it
        return False, False
    address = ray_address(settings)
    if address.startswith("ray://"):
        raise EnvironmentProblem(
            f"{address} is for Ray's client, and a search runs on a node of the cluster",
            hint="'tuner search' there, with HOST:6379 or 'auto'",
        )
    more: dict[str, Any] = {}
    if address == "local":
        wanted = 0 if settings.workers == "auto" else int(settings.workers) * settings.worker_cpus
        more = {"num_cpus": max(cores(), math.ceil(wanted)), "include_dashboard": False}
    try:
        _knock(address)
        with _our_signals(), environment(_for_us_alone() if address == "local" else {}):
            _read_anew()
            ray.init(address, log_to_driver=False, logging_level="ERROR", **more)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        _read_anew()
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = "'ray start --head' starts one; without an address tuner starts a Ray of its own"
        if "AuthToken" in "".join(traceback.format_exception(error)):
            said, hint = (
                "it wants its token",
                "export RAY_AUTH_MODE=token; the token is in ~/.ray/auth_token of its nodes",
            )
        raise EnvironmentProblem(f"{address}: no Ray cluster can be joined there: {said[:200]}", hint=hint) from None
    return True, address == "local"


def _leave() -> None:
    ray.shutdown()
    _read_anew()


def _for_us_alone() -> dict[str, str]:
    """Return what keeps others out of a Ray of our own; it would leave a token of its own in the home folder."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex()}


def _read_anew() -> None:
    """Let Ray look for its token: it reads the mode when it is loaded, the token once, and keeps both.

    In this order: whoever still talks is not to want a token that is not there.
    """
    ray._raylet.Config.initialize("")  # noqa: SLF001  # as Ray does in ray.init, and in its own tests
    loader = getattr(ray._raylet, "AuthenticationTokenLoader", None)  # noqa: SLF001
    if loader:  # an older Ray knows no tokens
        loader.instance().reset_cache()


@contextlib.contextmanager
def _our_signals() -> Iterator[None]:
    """Keep our handlers, of which Ray takes SIGTERM; and what it starts from ending with a terminal that is closed."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if main else {}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # not Python's
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
