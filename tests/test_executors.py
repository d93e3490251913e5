"""What every executor promises, of worker processes that train on real images: one suite, on this machine and on Ray."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tuner.data.sources import Source
from tuner.records import EpochResult, Values
from tuner.search.executors import Executor, on_ray
from tuner.search.executors.local import LocalExecutor
from tuner.search.messages import (
    Beat,
    Built,
    Done,
    EpochReport,
    Failed,
    FromWorker,
    Go,
    Lost,
    Ready,
    Stop,
    Stuck,
    TrainJob,
)
from tuner.space.settings import SearchSettings
from tuner.training.checkpoint import read_checkpoint

VALUES: Values = {
    "blocks": 2, "filters_1": 4, "filters_2": 8, "dense_units": 16, "optimizer": "adam", "learning_rate": 5e-3, "batch_size": 32,
}  # fmt: skip
PATIENCE_SECONDS = 120.0


@dataclass
class Kit:
    """An executor with workers that are ready, and what a test needs of it."""

    executor: Executor
    logs: Path
    process_of: Callable[[int], int]
    """A worker's process, on this machine."""
    idle: list[int]

    def hear(self, seconds: float = PATIENCE_SECONDS) -> Iterator[tuple[int, FromWorker]]:
        """Yield what is heard, a worker's sign of life apart."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            yield from ((number, said) for number, said in self.executor.receive(0.5) if not isinstance(said, Beat))

    def log(self, worker: int) -> str:
        """Return what a worker has printed."""
        return (self.logs / f"worker-{worker}.log").read_text("utf-8")

    def worker(self) -> int:
        """Return a worker that is ready and has no job."""
        while not self.idle:
            self.executor.start()
            number, said = next(self.hear())
            assert isinstance(said, Ready), said
            self.idle.append(number)
        return self.idle.pop()

    def train(
        self, worker: int, job: TrainJob, answer: Callable[[FromWorker], object] = lambda _: None
    ) -> list[FromWorker]:
        """Hand ``job`` out and say Go to all that asks, unless ``answer`` returns another word; return what was heard."""
        self.executor.send(worker, job)
        heard: list[FromWorker] = []
        for number, said in self.hear():
            assert number == worker, said
            heard.append(said)
            if isinstance(said, Done | Failed | Lost):
                return heard
            word = answer(said)
            if isinstance(said, Built | EpochReport) and word != "nothing":
                self.executor.send(worker, word if isinstance(word, Stop) else Go(job.job))
        raise AssertionError(f"did not end: {heard}")


def local(folder: Path) -> tuple[Executor, Callable[[int], int]]:
    executor = LocalExecutor(folder)
    return executor, lambda worker: executor._workers[worker].process.pid


def on_two_nodes(folder: Path) -> tuple[Executor, Callable[[int], int]]:
    """Two nodes of one core each, which know of each other through Ray alone."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=2)
    executor = on_ray(SearchSettings(executor="ray", ray_address=cluster.address), folder)
    close = executor.close

    def close_all() -> None:
        close()
        cluster.shutdown()

    executor.close = close_all  # type: ignore[method-assign]
    return executor, lambda worker: executor._workers[worker].process  # type: ignore[attr-defined]


KINDS = {
    "local": (local, ""),
    "ray": (on_two_nodes, ""),
    "jax": (on_two_nodes, "jax"),
    "torch": (on_two_nodes, "torch"),
}
MARKS = {"ray": [pytest.mark.ray], **{name: [pytest.mark.ray, pytest.mark.backends] for name in ("jax", "torch")}}


@pytest.fixture(scope="module", params=[pytest.param(name, marks=MARKS.get(name, ())) for name in KINDS])
def kit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    folder = tmp_path_factory.mktemp(request.param)
    start, backend = KINDS[request.param]
    with pytest.MonkeyPatch.context() as patched:
        if backend:
            patched.setenv("KERAS_BACKEND", backend)
            patched.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))  # which takes it longer than training
            patched.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        executor, process_of = start(folder)
    with contextlib.closing(executor):
        for _ in range(2):
            executor.start()
        kit = Kit(executor, folder, process_of, [])
        for number, said in kit.hear():
            assert isinstance(said, Ready), said
            kit.idle.append(number)
            if len(kit.idle) == 2:
                break
        processes = [process_of(number) for number in kit.idle]
        yield kit
    deadline = time.monotonic() + 15
    while any(Path(f"/proc/{process}").exists() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{process}").exists() for process in processes), "close left a worker behind"


@pytest.fixture
def job(small: Source, tmp_path: Path) -> TrainJob:
    return TrainJob(
        number=3, values=VALUES, source=small, epochs=3, seed=5,
        checkpoints=str(tmp_path / "trial"), save_to=str(tmp_path / "model.keras"), job=1,
    )  # fmt: skip


def curve_of(heard: list[FromWorker]) -> list[EpochResult]:
    return [dataclasses.replace(said.result, seconds=0.0) for said in heard if isinstance(said, EpochReport)]


def state_of(path: Path) -> tuple[list[EpochResult], list[bytes]]:
    """A checkpoint's curve and the bits of its weights and slots."""
    curve, weights, slots = read_checkpoint(path)
    return [dataclasses.replace(row, seconds=0.0) for row in curve], [array.tobytes() for array in (*weights, *slots)]


def test_a_worker_that_is_ready_has_a_place_and_holds_memory(kit: Kit) -> None:
    worker = kit.worker()

    assert kit.executor.placed(worker)
    assert kit.executor.room() >= 1
    assert (kit.executor.memory(worker) or 0) > 100 << 20
    kit.idle.append(worker)


def test_an_epoch_that_is_heard_of_is_in_the_coordinators_folder_and_at_the_end_the_model_is(
    kit: Kit, job: TrainJob
) -> None:
    folder, there = Path(job.checkpoints or ""), []

    def look(said: FromWorker) -> None:
        if isinstance(said, EpochReport):
            there.append(sorted(path.name for path in folder.iterdir()))

    worker = kit.worker()
    heard = kit.train(worker, job, look)

    assert [type(said) for said in heard] == [Built, EpochReport, EpochReport, EpochReport, Done]
    assert there == [
        ["epoch-0001.ckpt"], ["epoch-0001.ckpt", "epoch-0002.ckpt"], ["epoch-0002.ckpt", "epoch-0003.ckpt"],
    ]  # fmt: skip
    assert state_of(folder / "epoch-0003.ckpt")[0] == curve_of(heard)
    assert Path(job.save_to or "").read_bytes().startswith(b"PK")
    kit.idle.append(worker)


def test_a_training_that_is_stopped_ends_and_its_worker_takes_the_next(kit: Kit, job: TrainJob) -> None:
    worker = kit.worker()

    stopped = kit.train(worker, job, lambda said: Stop(1) if isinstance(said, EpochReport) else None)
    whole = kit.train(worker, dataclasses.replace(job, number=4, job=2, checkpoints=None))

    assert [type(said) for said in stopped] == [Built, EpochReport, Done]
    assert [type(said) for said in whole][-1] is Done
    assert curve_of(whole)[:1] == curve_of(stopped)
    kit.idle.append(worker)


def test_a_worker_that_is_killed_is_reported_once_and_another_goes_on_at_its_epoch_to_the_same_bits(
    kit: Kit, job: TrainJob, tmp_path: Path
) -> None:
    undisturbed = dataclasses.replace(job, checkpoints=str(tmp_path / "undisturbed"), save_to=None)
    worker, other = kit.worker(), kit.worker()
    whole = kit.train(other, undisturbed)

    def kill(said: FromWorker) -> str | None:
        if not isinstance(said, EpochReport) or said.result.epoch < 2:
            return None
        os.kill(kit.process_of(worker), signal.SIGKILL)
        return "nothing"

    heard = kit.train(worker, dataclasses.replace(job, save_to=None), kill)
    again = kit.train(other, dataclasses.replace(job, save_to=None, job=2))

    assert [type(said) for said in heard] == [Built, EpochReport, EpochReport, Lost]
    assert heard[-1] == Lost("the worker process was ended by SIGKILL")
    assert kit.executor.memory(worker) is None
    assert list(kit.hear(1.5)) == []
    assert curve_of(again) == curve_of(whole)
    states = [state_of(Path(one.checkpoints or "") / "epoch-0003.ckpt") for one in (job, undisturbed)]
    assert states[0] == states[1]
    kit.idle.append(other)


def test_a_worker_that_the_coordinator_kills_says_nothing_more_even_if_it_hangs(kit: Kit, job: TrainJob) -> None:
    worker = kit.worker()
    process = kit.process_of(worker)
    kit.executor.send(worker, job)
    assert isinstance(next(kit.hear())[1], Built)
    os.kill(process, signal.SIGSTOP)
    with Path(f"/proc/{process}/fd/1").open("ab") as its_log:
        its_log.write(b"its last words\n")

    kit.executor.kill(worker)
    kit.executor.send(worker, Go(1))

    assert list(kit.hear(2.0)) == []
    deadline = time.monotonic() + 10
    while Path(f"/proc/{process}").exists() and time.monotonic() < deadline:
        kit.executor.receive(0.1)
    assert not Path(f"/proc/{process}").exists()
    assert not kit.executor.placed(worker)
    while "its last words" not in kit.log(worker) and time.monotonic() < deadline:
        kit.executor.receive(0.1)
    assert "its last words" in kit.log(worker)


def test_a_checkpoint_that_cannot_be_written_is_said_and_the_training_goes_on_when_it_can(
    kit: Kit, job: TrainJob, tmp_path: Path
) -> None:
    in_the_way = Path(job.checkpoints or "")
    in_the_way.write_text("a file where the folder is to be")

    def make_room(said: FromWorker) -> None:
        if isinstance(said, Stuck):
            in_the_way.unlink(missing_ok=True)

    worker = kit.worker()
    heard = kit.train(worker, dataclasses.replace(job, epochs=1), make_room)

    assert [type(said) for said in heard] == [Built, Stuck, EpochReport, Done]
    assert (in_the_way / "epoch-0001.ckpt").exists()
    kit.idle.append(worker)


def test_what_a_training_raises_is_said_and_its_traceback_is_in_the_workers_log(kit: Kit, job: TrainJob) -> None:
    worker = kit.worker()

    heard = kit.train(worker, dataclasses.replace(job, values={"baseline": "nosuch"}))

    assert [type(said) for said in heard] == [Failed]
    assert "Traceback" in kit.log(worker)
    assert kit.train(worker, dataclasses.replace(job, job=2, epochs=1))[-1] == Done(2)
    kit.idle.append(worker)
