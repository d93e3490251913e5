"""A search on a Ray cluster of several nodes on this machine: nodes come and go, actors die, and the end is the same."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tuner.records import Event, Note
from tuner.runs import versions
from tuner.search import crew as crew_module
from tuner.search.crew import Crew
from tuner.search.executors import on_ray
from tuner.space.settings import SearchSettings

from .conftest import SMALL_SPACE, Done
from .faults.harness import Outcome, Running, Search, differences, start_anew

COMMON = ("--trials", 3, "--epochs", 20, "--pruner", "none", "--seed", 0, "--deterministic", "--keep", 100, "--workers", 2,
          "--refit-epochs", 1, "--refit-seeds", 1)  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head of one core; tests add nodes and take them away again."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_folder: Path) -> Outcome:
    """How the search ends to which nothing happens, on this machine."""
    search = start_anew(tmp_path_factory.mktemp("ray") / "whole", SMALL_SPACE, *COMMON, "--data", small_folder)
    assert search.run().code == 0
    return search.outcome()


@contextlib.contextmanager
def node_of(cluster: Any, **resources: int) -> Iterator[Any]:
    node = cluster.add_node(**resources)
    try:
        yield node
    finally:
        cluster.remove_node(node)


def on_cluster(folder: Path, cluster: Any, data: Path) -> Search:
    where = ("--executor", "ray", "--set", f"search.ray_address={cluster.address}")
    return start_anew(folder, SMALL_SPACE, *COMMON, "--data", data, *where)


def wait_until(what: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.1)


def shared_memory() -> set[Path]:
    """What lies in shared memory, but for what the PostgreSQL of tests beside has there."""
    return {path for path in Path("/dev/shm").iterdir() if not path.name.startswith("PostgreSQL.")}


def children(parents: set[int]) -> dict[int, bytes]:
    """Their processes, and what was typed to start each."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError, IndexError):
            if int(path.with_name("stat").read_text("utf-8").rpartition(")")[2].split()[1]) in parents:
                found[int(path.parent.name)] = path.read_bytes()
    return found


def _typed(process: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""


def actors(name: str, *nodes: Any) -> list[int]:
    """The processes of the actors of a class on some nodes of a cluster."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in nodes}
    return [process for process, line in children(raylets).items() if line.startswith(f"ray::{name}".encode())]


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_search_whose_node_goes_and_whose_actor_is_killed_ends_as_the_undisturbed_one_on_this_machine(
    cluster: Any, whole: Outcome, tmp_path: Path, small_folder: Path
) -> None:
    node = cluster.add_node(num_cpus=1)
    disturbed = on_cluster(tmp_path / "disturbed", cluster, small_folder)

    search = disturbed.start()
    search.wait_for("epoch 2", 120)
    assert len(actors("WorkerActor", node)) == 1
    cluster.remove_node(node, allow_graceful=False)
    with node_of(cluster, num_cpus=1) as other:
        wait_until(lambda: actors("WorkerActor", other))
        os.kill(actors("WorkerActor", cluster.head_node)[0], signal.SIGKILL)
        ended = search.ended()

    assert ended.code == 0, search.said
    assert disturbed.report()["workers_lost"] >= 2  # three where Ray first sends one to the node that has just gone
    assert differences(whole, disturbed.outcome()) == []
    assert disturbed.leftovers() == []


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_search_that_is_ended_leaves_no_worker_on_any_node_and_goes_on_to_the_same_end(
    cluster: Any, whole: Outcome, tmp_path: Path, small_folder: Path
) -> None:
    ended = on_cluster(tmp_path / "ended", cluster, small_folder)

    def end(search: Running, number: int) -> int:
        workers = children(set(actors("WorkerActor", cluster.head_node, node)))
        assert len(workers) == 2
        search.process.send_signal(number)
        code = search.ended().code
        wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), 10)
        wait_until(lambda: not actors("WorkerActor", cluster.head_node, node), 10)
        wait_until(lambda: not actors("Mailbox", cluster.head_node), 10)
        return code

    with node_of(cluster, num_cpus=1) as node:
        first = ended.start()
        first.wait_for("epoch 2", 120)
        assert end(first, signal.SIGINT) == 130
        second = ended.start(resume=True)
        second.wait_for("epoch 9", 120)
        assert end(second, signal.SIGKILL) == -signal.SIGKILL
    third = ended.run(resume=True, more=("--executor", "local"))

    assert "Stopping when the running epochs have ended" in first.said
    assert "tuner search --resume --study s" in first.said
    assert "Traceback" not in first.said
    assert third.code == 0, third.err
    assert differences(whole, ended.outcome()) == []
    assert ended.leftovers() == []


@pytest.mark.ray
def test_workers_share_gpus_by_the_fraction_that_each_was_given(cluster: Any, tmp_path: Path) -> None:
    def environments(gpus: float, count: int) -> list[dict[str, str]]:
        settings = SearchSettings(executor="ray", ray_address=cluster.address, worker_cpus=0.5, worker_gpus=gpus)
        with contextlib.closing(on_ray(settings, tmp_path)) as executor:
            workers = [executor.start() for _ in range(count)]
            wait_until(lambda: executor.receive(0.1) is not None and all(map(executor.placed, workers)))
            found = []
            for worker in workers:
                lines = Path(f"/proc/{executor._workers[worker].process}/environ").read_text("utf-8").split("\0")
                found.append(dict(line.partition("=")[::2] for line in lines))
                executor.kill(worker)
            return found

    with node_of(cluster, num_cpus=2, num_gpus=2):  # as it says: there is no GPU here
        halves, wholes, none = environments(0.5, 4), environments(1.0, 2), environments(0.0, 1)

    assert sorted(one["CUDA_VISIBLE_DEVICES"] for one in halves) == ["0", "0", "1", "1"]
    assert sorted(one["CUDA_VISIBLE_DEVICES"] for one in wholes) == ["0", "1"]
    assert none[0]["CUDA_VISIBLE_DEVICES"] == ""
    for one in halves:
        assert (one["TF_FORCE_GPU_ALLOW_GROWTH"], one["XLA_PYTHON_CLIENT_PREALLOCATE"]) == ("true", "false")
        assert one["OMP_NUM_THREADS"] == "1"


@pytest.mark.ray
def test_a_dry_run_counts_the_workers_that_the_cluster_has_room_for(
    cluster: Any, tuner: Callable[..., Done], space_path: Path, small_folder: Path
) -> None:
    with node_of(cluster, num_cpus=4):
        done = tuner("search", space_path, "--dry-run", "--executor", "ray", "--data", small_folder, "--json",
                     "--set", f"search.ray_address={cluster.address}", "--set", "search.worker_cpus=2")  # fmt: skip

    assert done.document["workers"] == 2, done.err  # none on the head, which has one core


@pytest.mark.ray
def test_a_node_with_other_versions_starts_no_worker() -> None:
    from tuner.search.executors.ray import WorkerActor

    ended = WorkerActor().run(None, {}, {**versions(), "keras": "2.0"})  # type: ignore[arg-type]  # nothing is said

    assert ended.trouble == f"its node has keras {versions()['keras']}, and the search keras 2.0"


@pytest.mark.ray
def test_workers_join_with_a_node_leave_with_it_and_start_anew_when_the_mailbox_is_killed(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "ROOM_SECONDS", 0.5)
    events: list[Event] = []
    settings = SearchSettings(executor="ray", ray_address=cluster.address)
    with contextlib.closing(on_ray(settings, tmp_path)) as executor:
        crew = Crew(executor, None, heartbeat=60.0, observe=events.append)
        assert crew.size == 1

        node = cluster.add_node(num_cpus=1)
        wait_until(lambda: crew.hear() or crew.free == 2)
        cluster.remove_node(node, allow_graceful=False)
        wait_until(lambda: crew.hear() or (crew.size == 1 and crew.free == 1))
        (mailbox,) = actors("Mailbox", cluster.head_node)
        os.kill(mailbox, signal.SIGKILL)
        wait_until(lambda: crew.hear() or crew.free == 0)
        wait_until(lambda: crew.hear() or crew.free == 1)

    said = [event.text for event in events if isinstance(event, Note)]
    assert "1 more worker(s): there is room for 2." in said
    assert any("its node, is gone" in text for text in said)
    assert any(text.startswith("A worker was lost (the mailbox was lost); worker") for text in said)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_without_an_address_a_ray_of_our_own_is_started_and_stopped(
    tmp_path: Path, small_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    alone = ("--executor", "ray", "--workers", 1, "--epochs", 20, "--pruner", "none", "--no-refit", "--data",
             small_folder)  # fmt: skip
    search = start_anew(tmp_path / "own", SMALL_SPACE, "--trials", 1, *alone)
    shared = shared_memory()

    running = search.start()
    running.wait_for("epoch 2", 120)
    for process in search.processes():  # as a terminal does that is closed
        os.kill(process, signal.SIGHUP)

    assert running.ended().code == 130, running.said
    assert search.run(resume=True).code == 0
    wait_until(lambda: not search.processes())
    assert shared_memory() <= shared
    running = search.start(resume=True, more=("--trials", "2"))
    wait_until(lambda: b"tuner.search.worker:main" in b"".join(_typed(process) for process in search.processes()))
    running.process.kill()
    assert running.ended().code == -signal.SIGKILL
    wait_until(lambda: not search.processes(), 150)  # two of Ray's own look for their head for a minute
    assert shared_memory() <= shared
    assert not (tmp_path / ".ray").exists()  # no token


@pytest.mark.ray
def test_a_ray_of_our_own_has_its_token_in_a_program_that_has_loaded_ray_and_the_next_search_another(
    tmp_path: Path,
) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("c" * 64)
    program = tmp_path / "program.py"
    program.write_text(TOKENS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}

    done = subprocess.run([sys.executable, program], env={**environment, "HOME": str(tmp_path)}, check=False,
                          capture_output=True, text=True, timeout=200)  # fmt: skip

    assert done.returncode == 0, done.stderr
    *ours, joined = [line.removeprefix("token ") for line in done.stdout.splitlines() if line.startswith("token ")]
    assert len(set(ours)) == len(ours) == 2
    assert "c" * 64 not in ours
    assert joined == "c" * 64  # of the cluster's nodes


TOKENS = """
import contextlib, os, sys
import ray
from pathlib import Path
from ray.cluster_utils import Cluster
from tuner.errors import EnvironmentProblem
from tuner.search.executors import on_ray
from tuner.space.settings import SearchSettings

def search(**more):
    before = dict(os.environ)
    with contextlib.closing(on_ray(SearchSettings(executor="ray", workers=1, **more), Path())):
        assert dict(os.environ) == before, set(os.environ) ^ set(before)
        print("token", ray.get(ray.remote(lambda: os.environ.get("RAY_AUTH_TOKEN", "c" * 64)).remote()))
    assert dict(os.environ) == before

search()
before = dict(os.environ)
with contextlib.suppress(EnvironmentProblem):
    on_ray(SearchSettings(executor="ray", workers=1, worker_gpus=64), Path())
    sys.exit("64 GPUs?")
assert dict(os.environ) == before
search()
os.environ["RAY_AUTH_MODE"] = "token"  # as one does for a cluster
ray._raylet.Config.initialize("")
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
search(ray_address=cluster.address)
cluster.shutdown()
"""


@pytest.mark.ray
def test_a_machine_on_which_no_worker_fits_is_one_line(
    tuner: Callable[..., Done], space_path: Path, small_folder: Path
) -> None:
    done = tuner("search", space_path, "--data", small_folder, "--executor", "ray", "--set", "search.worker_cpus=0.5",
                 "--set", "search.worker_gpus=2")  # fmt: skip

    assert done.code == 8
    assert "error: no worker fits into this machine: worker_gpus = 2, and it has" in done.err


@pytest.mark.ray
def test_a_cluster_that_is_not_there_is_one_line(
    tuner: Callable[..., Done], space_path: Path, small_folder: Path
) -> None:
    done = tuner("search", space_path, "--data", small_folder, "--set", "search.executor=ray",
                 "--set", "search.ray_address=127.0.0.1:1")  # fmt: skip

    assert done.code == 8
    assert "127.0.0.1:1: no Ray cluster can be joined there" in done.err
    assert "Traceback" not in done.err
