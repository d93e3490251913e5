"""What carries a worker elsewhere, without Ray: relays, parcels, and a crew whose workers come and go."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tuner import runs
from tuner.data.idx import TRAINING
from tuner.data.sources import Source
from tuner.errors import EnvironmentProblem, SpaceError
from tuner.records import EpochResult, Event, Note
from tuner.search import crew as crew_module
from tuner.search.crew import Crew
from tuner.search.executors import deliveries, on_ray, relay
from tuner.search.executors.deliveries import Deliveries
from tuner.search.executors.parcels import Incoming, Outgoing, images_here, put_file, training_files
from tuner.search.messages import Beat, EpochReport, Lost, Shutdown, Stuck, TrainJob
from tuner.space.settings import SearchSettings

from .scripted import ScriptedWorkers, good


def test_without_ray_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "tuner.search.executors.ray", raising=False)

    with pytest.raises(
        EnvironmentProblem, match=r"Ray is not installed \(pip install ray, or tuner with its extra \[ray\]\)"
    ):
        on_ray(SearchSettings(executor="ray"), tmp_path)


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"executor": "slurm"}, "one of local, ray"),
        ({"worker_cpus": 0.0}, "search.worker_cpus = 0.0 must be above 0"),
        ({"worker_gpus": -0.5}, "search.worker_gpus = -0.5 must not be negative"),
        ({"worker_gpus": 1.5}, "a part of one GPU, or whole ones"),
        ({"executor": "ray", "deterministic": True}, "needs a number of workers"),
    ],
)
def test_what_no_cluster_can_give_is_refused_before_anything_starts(said: dict[str, Any], what: str) -> None:
    with pytest.raises(SpaceError, match=what.replace("(", r"\(")):
        SearchSettings(**said)


def test_a_crew_follows_the_room_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "ROOM_SECONDS", 0.0)
    events: list[Event] = []
    executor = Waiting(good)
    executor.places = 1
    crew = Crew(executor, None, heartbeat=60.0, observe=events.append)
    sizes = [crew.size]

    executor.places, executor.waiting = 4, {3, 4}
    for _ in range(4):
        crew.hear(0.0)
    sizes.append(executor.started)
    executor.places = 2
    crew.hear(0.0)

    assert sizes == [1, 4]
    assert crew.size == 2
    assert executor.killed == [3, 4]  # those that waited; who has a place keeps it
    assert [event.text for event in events if isinstance(event, Note)] == [
        "3 more worker(s): there is room for 4.",
    ]


def test_a_worker_that_waits_for_room_is_said_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10**9, 1))
    monkeypatch.setattr(crew_module.time, "monotonic", lambda: float(next(ticks)))
    events: list[Event] = []
    executor = Waiting(good)
    executor.waiting = {2}
    crew = Crew(executor, 2, heartbeat=5.0, observe=events.append)

    present = [crew.present]
    for _ in range(400):
        crew.hear(0.0)
    present.append(crew.present)

    assert executor.started == 2
    assert present == [2, 1]  # with which --time reckons
    assert [event.text for event in events if isinstance(event, Note)] == [
        "1 of 2 worker(s) wait for room in the cluster."
    ]


def test_a_node_on_which_no_worker_starts_is_said_once_tried_again_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crew_module, "ROOM_SECONDS", 0.0)
    events: list[Event] = []
    executor = Unsuitable(good)
    crew = Crew(executor, 2, heartbeat=60.0, observe=events.append)

    for _ in range(40):
        crew.hear(0.0)
    tried, free = executor.started, crew.free
    executor.suitable = True
    for _ in range(3):
        crew.hear(0.0)

    said = [event.text for event in events if isinstance(event, Note)]
    assert tried > 15
    assert free == 1
    assert crew.free == 2
    assert crew.lost == len(said) - 1 == 3
    assert said[-1] == "Workers die before they are ready (no room): it is tried again while others work."


def test_where_the_only_good_worker_is_lost_its_successors_are_given_as_many_tries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crew_module, "ROOM_SECONDS", 0.0)
    executor = Unsuitable(good)
    crew = Crew(executor, 2, heartbeat=60.0, observe=lambda _: None)

    def hear() -> None:
        for _ in range(40):
            crew.hear(0.0)

    hear()
    executor._inbox.append((1, Lost("its node is gone")))
    while executor._inbox[0][0] != 1:
        crew.hear(0.0)
    before = executor.started
    with pytest.raises(EnvironmentProblem, match=r"workers die before they are ready: no room \(the log says why\)"):
        hear()

    assert executor.started - before >= crew_module.WORKERS_THAT_MAY_DIE_AT_START


class Unsuitable(ScriptedWorkers):
    """Workers of which the first alone is on a node that bears one."""

    suitable = False

    def start(self) -> int:
        number = super().start()
        if number > 1 and not self.suitable:
            self._inbox[-1] = (number, Lost("no room"))
        return number

    def placed(self, worker: int) -> bool:
        return worker == 1


class Waiting(ScriptedWorkers):
    """Workers of which some have no machine yet."""

    waiting: set[int] = set()  # noqa: RUF012  # replaced, never changed

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.killed: list[int] = []

    def start(self) -> int:
        number = super().start()
        if number in self.waiting:
            self._inbox.pop()
        return number

    def placed(self, worker: int) -> bool:
        return worker not in self.waiting

    def kill(self, worker: int) -> None:
        self.killed.append(worker)


def test_of_several_workers_on_a_node_one_fetches_the_images_and_damaged_ones_are_fetched_again(
    small: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fetched: list[int] = []
    found: list[Path] = []

    def fetch() -> dict[str, bytes]:
        fetched.append(1)
        time.sleep(0.2)
        return training_files(small)

    threads = [threading.Thread(target=lambda: found.append(images_here(small, fetch))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(fetched) == 1
    assert len(set(found)) == 1
    assert sorted(path.name for path in found[0].iterdir()) == sorted(TRAINING)  # no test image
    (found[0] / TRAINING[0]).write_bytes(b"torn")
    images_here(small, fetch)
    assert len(fetched) == 2


def test_a_report_whose_checkpoint_cannot_be_written_waits_whatever_is_heard_meanwhile(
    small: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "RETRY_SECONDS", 0.0)
    folder = tmp_path / "trial"
    folder.write_text("in the way")
    ours = Deliveries()
    assert ours.expect(TrainJob(0, {}, small, epochs=3, seed=1, checkpoints=str(folder), job=7)) == {}
    report = EpochReport(7, EpochResult(1, 1.0, 0.5, 1.0, 0.5, 0.1, 1.0, 0.5))
    parcel = Incoming(report, 0, 1, checkpoints={"epoch-0001.ckpt": b"bits"}, kept=frozenset({"epoch-0001.ckpt"}))

    heard = [ours.take(report, parcel), ours.take(Beat(7), Incoming(Beat(7), 0, 1)), ours.try_again()]
    folder.unlink()
    heard += [ours.try_again(), ours.try_again()]

    assert [type(one) for one in heard] == [Stuck, Beat, Stuck, EpochReport, type(None)]
    assert (folder / "epoch-0001.ckpt").read_bytes() == b"bits"
    folder.joinpath("epoch-0001.ckpt").unlink()
    ours.refuse(7)  # another worker has it now
    assert ours.take(report, parcel) == report
    assert list(folder.iterdir()) == []


def test_a_node_clears_up_after_its_own_workers_that_were_killed_and_after_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(socket, "gethostname", lambda: "node")
    gone = subprocess.Popen(["true"])
    gone.wait()
    names = (f"{gone.pid}@node@x", f"{os.getpid()}@node@x", f"{gone.pid}@node-2@x", f"{gone.pid}@node-gpu@x",
             f"{gone.pid}@node@2@x", "node-2-777777-x", "node-gpu-1-x", f"{'9' * 30}@node@x")  # fmt: skip
    for name in names:
        (tmp_path / f"tuner-worker-{name}").mkdir()

    with relay._scratch() as folder:
        assert folder.name.startswith(f"tuner-worker-{os.getpid()}@node@")
        left = {path.name for path in tmp_path.iterdir()} - {folder.name}

    assert left == {f"tuner-worker-{name}" for name in names[1:]}
    assert not folder.exists()


def test_a_checkpoint_that_a_worker_writes_anew_under_its_name_comes_back(
    small: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = TrainJob(0, {}, small, epochs=3, seed=1, checkpoints="there", job=7)
    parcel = Outgoing(job, {"epoch-0001.ckpt": b"torn", "epoch-0002.ckpt": b"whole"})
    beside, mailbox = a_relay_in(tmp_path, monkeypatch, write_the_first_anew, parcel)

    ended = beside.run()

    assert (ended.code, ended.trouble, ended.printed) == (0, "", b"")
    assert [parcel.checkpoints for parcel in mailbox.reports] == [{"epoch-0001.ckpt": b"anew"}, {}]
    assert {parcel.kept for parcel in mailbox.reports} == {frozenset({"epoch-0001.ckpt", "epoch-0002.ckpt"})}


def a_relay_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, worker: Callable[[Connection], None], parcel: Outgoing,
    fetch: Callable[[Any], Any] = lambda _: {},
) -> tuple[relay.Relay, OneJob]:  # fmt: skip
    """A node whose disks are in ``folder``, and on it what stands beside ``worker``, a function of this module."""
    (folder / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setattr(socket, "gethostname", lambda: "node-7")
    monkeypatch.setattr(relay, "WORKER", f"{__name__}:{worker.__name__}")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    mailbox = OneJob(parcel)
    return relay.Relay(mailbox, fetch, {}), mailbox


def test_a_worker_whose_nodes_disk_is_full_ends_and_no_other_starts_there(
    small: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = TrainJob(0, {}, small, epochs=3, seed=1, checkpoints="there", job=7)
    beside, mailbox = a_relay_in(tmp_path, monkeypatch, be_stuck, Outgoing(job))

    ended = beside.run()
    monkeypatch.setattr(relay, "ROOM_BYTES", 1 << 62)
    refused = beside.run()

    said = f"its node node-7 cannot write {tmp_path}/tmp/tuner-worker-{os.getpid()}@node-7@"
    for one in (ended, refused):
        assert one.trouble.startswith(said)
    assert ended.trouble.endswith(": No space left on device")
    assert not [parcel for parcel in mailbox.heard if isinstance(parcel.message, Stuck)]
    assert len({parcel.process for parcel in mailbox.heard}) == 1  # the second one never began
    assert list((tmp_path / "tmp").iterdir()) == []


def be_stuck(channel: Connection) -> None:
    """A worker whose checkpoint cannot be written."""
    channel.send(Stuck(channel.recv().job, "No space left on device"))
    channel.recv()


def test_a_node_that_cannot_keep_the_images_says_so(
    small: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> dict[str, bytes]:
        raise OSError(errno.ENOSPC, "No space left on device", "/cache/part")

    job = TrainJob(0, {}, small, epochs=3, seed=1, job=7)
    beside, _ = a_relay_in(tmp_path, monkeypatch, be_stuck, Outgoing(job, images=[1]), full)

    assert beside.run().trouble == "its node node-7 cannot write /cache/part: No space left on device"


def test_while_a_jobs_images_arrive_its_worker_is_not_silent(
    small: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_: object) -> dict[str, bytes]:
        time.sleep(0.5)
        return training_files(small)

    monkeypatch.setattr(relay, "SIGN_SECONDS", 0.05)
    job = TrainJob(0, {}, small, epochs=3, seed=1, job=7)
    beside, mailbox = a_relay_in(tmp_path, monkeypatch, report_two_epochs, Outgoing(job, images=[1]), slow)

    assert beside.run().trouble == ""

    said = [parcel.message for parcel in mailbox.heard if parcel.message]
    assert said.count(Beat(7)) == len(said) - 2 >= 3
    assert [type(message) for message in said[-2:]] == [EpochReport, EpochReport]


def report_two_epochs(channel: Connection) -> None:
    """A worker that is quick."""
    _report_two_epochs(channel, channel.recv())


def write_the_first_anew(channel: Connection) -> None:
    """A worker that does not like the first of its checkpoints, and reports two epochs."""
    job: TrainJob = channel.recv()
    put_file(Path(job.checkpoints) / "epoch-0001.ckpt", b"anew")  # type: ignore[arg-type]  # it has some
    _report_two_epochs(channel, job)


def _report_two_epochs(channel: Connection, job: TrainJob) -> None:
    for epoch in (1, 2):
        channel.send(EpochReport(job.job, EpochResult(epoch, 1.0, 0.5, 1.0, 0.5, 0.1, 1.0, 0.5)))
    channel.recv()


class OneJob:
    """Post for one worker, which is told to end when it has reported two epochs, and nothing after that."""

    def __init__(self, parcel: Outgoing) -> None:
        self._parcels = [Outgoing(Shutdown()), parcel]
        self._reported = threading.Event()
        self.reports: list[Incoming] = []
        self.heard: list[Incoming] = []

    def put(self, parcel: Incoming) -> None:
        self.heard.append(parcel)
        self.reports += [parcel] if isinstance(parcel.message, EpochReport) else []
        if len(self.reports) == 2:
            self._reported.set()

    def take(self) -> list[Outgoing]:
        if len(self._parcels) < 2:
            self._reported.wait()
        if not self._parcels:  # for ever: a thread that is answered asks again, for as long as the tests last
            threading.Event().wait()
        return [self._parcels.pop()]


def test_versions_are_those_of_the_backend_that_keras_would_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {**dict.fromkeys(runs.PACKAGES, "1"), "jax": "2", "jaxlib": "3", "torch": "4"}
    monkeypatch.setattr(runs.importlib.metadata, "version", known.__getitem__)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert (runs.backend(), {"jax", "torch"} & runs.versions().keys()) == ("tensorflow", set())

    (tmp_path / "keras.json").write_text('{"floatx": "float32", "backend": "torch"}')
    assert (runs.backend(), runs.versions()["torch"]) == ("torch", "4")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert (runs.backend(), runs.versions()["jaxlib"]) == ("jax", "3")
    assert runs.versions("torch").keys() - runs.versions("tensorflow").keys() == {"torch"}
