"""Processes that are forks of one that has loaded Keras: what they are given, how they end, and who ends with whom."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tuner.search.budget import processor_seconds
from tuner.search.executors import children, forkserver
from tuner.search.executors.children import Child, cpu_seconds
from tuner.search.executors.local import worker_environment
from tuner.search.executors.processes import start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every process loads for itself")

PLAYERS = """
import os, sys, time

def tell(channel):
    import numpy
    print("said by a child", flush=True)
    loaded = "keras" in sys.modules
    channel.send((os.getpid(), os.getppid(), os.getcwd(), os.environ["CALLED"], numpy.random.random(), loaded))
    time.sleep(600)

def mask(channel):
    channel.send(os.umask(0))
    time.sleep(600)

def end(channel):
    sys.exit(channel.recv())

def fail(channel):
    raise ValueError("no such thing")

def leave(channel):
    import atexit
    atexit.register(print, "cleared up")
    channel.recv()

def work(channel):
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass

"""
Start = Callable[[str], tuple[Child, Connection]]


@pytest.fixture(scope="module")
def players(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("players")
    (folder / "players.py").write_text(PLAYERS, "utf-8")
    return folder


@pytest.fixture
def begin(players: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a function of ``PLAYERS``, which prints into ``log``."""
    monkeypatch.chdir(tmp_path)
    started = []

    def begin(name: str) -> tuple[Child, Connection]:
        environment = {**worker_environment(), "PYTHONPATH": _with(players), "CALLED": "by name"}
        with (tmp_path / "log").open("ab") as log:
            process, channel = start(f"players:{name}", log, environment)
        assert isinstance(process, Child)
        started.append((process, channel))
        return process, channel

    yield begin
    for process, channel in started:
        channel.close()
        process.kill()
        process.wait(10)


def _with(folder: Path) -> str:
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def _is_gone(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not Path(f"/proc/{pid}").exists()


def test_children_are_forks_of_one_process_that_has_loaded_and_are_given_what_a_new_one_would_be(
    begin: Start, tmp_path: Path
) -> None:
    (first, one), (second, other) = begin("tell"), begin("tell")

    told, told_too = one.recv(), other.recv()

    assert (told[0], told_too[0]) == (first.pid, second.pid)
    assert told[1] == told_too[1] != os.getpid()  # one parent, the server
    assert told[2:4] == told_too[2:4] == (str(tmp_path), "by name")
    assert told[4] != told_too[4], "children draw the same numbers"
    assert told[5] is told_too[5] is True
    assert (tmp_path / "log").read_text("utf-8") == "said by a child\n" * 2


def test_how_a_child_ends_is_told(begin: Start, tmp_path: Path) -> None:
    (with_code, its_channel), (killed, _), (failed, _) = begin("end"), begin("tell"), begin("fail")

    its_channel.send(7)
    with pytest.raises(subprocess.TimeoutExpired):
        killed.wait(0.2)
    assert killed.poll() is None
    os.kill(killed.pid, signal.SIGSTOP)
    killed.kill()

    assert with_code.wait(10) == 7
    assert killed.wait(10) == killed.poll() == -signal.SIGKILL
    assert failed.wait(10) == 1
    assert "ValueError: no such thing" in (tmp_path / "log").read_text("utf-8")


def test_a_child_clears_up_when_it_ends(begin: Start, tmp_path: Path) -> None:
    process, channel = begin("leave")
    channel.send(None)
    assert process.wait(timeout=30) == 0
    assert (tmp_path / "log").read_text("utf-8") == "cleared up\n"


def test_a_child_ends_when_its_channel_is_closed(begin: Start) -> None:
    process, channel = begin("tell")
    channel.recv()

    channel.close()

    assert process.wait(10) == 0


def test_what_a_child_costs_is_counted(begin: Start) -> None:
    process, _ = begin("work")
    before = cpu_seconds()

    process.wait(60)

    assert 0.3 <= cpu_seconds() - before < 20


def test_a_server_that_ends_is_told_of_once(begin: Start) -> None:
    process, _ = begin("work")
    process.wait(60)
    before, server = processor_seconds(), children._here
    assert server

    server._process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, server._process.pid, os.WEXITED | os.WNOWAIT)

    assert processor_seconds() == pytest.approx(before, abs=1.0)
    assert processor_seconds() == pytest.approx(before, abs=1.0)


def test_a_program_that_blocks_signals_and_hides_its_files_has_children_that_do_and_hears_of_their_end(
    begin: Start,
) -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    mask = os.umask(0o077)
    try:
        process, channel = begin("mask")
        told = channel.recv()
        process.kill()

        assert process.wait(10) == -signal.SIGKILL
        assert told == 0o077
    finally:
        os.umask(mask)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def test_where_no_process_can_be_started_that_child_fails_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", no_room)
    ours, control = socket.socketpair()
    line, theirs = socket.socketpair()
    with ours, control, theirs, (tmp_path / "log").open("wb") as log:
        socket.send_fds(ours, [b"."], [theirs.fileno(), log.fileno(), log.fileno()])
        assert forkserver._Forks(control)._begin()
        child = Child(cast("Any", SimpleNamespace(told_cpu_seconds=0.0)), line)

        assert (child.pid, child.wait(1)) == (0, 1)
    assert (tmp_path / "log").read_text() == "it could not be started: Resource temporarily unavailable\n"


def test_a_server_that_dies_while_it_loads_says_of_what(begin: Start, players: Path) -> None:
    (players / "sitecustomize.py").write_text(
        "import os, signal, sys\nif 'forkserver' in ' '.join(sys.orig_argv): os.kill(os.getpid(), signal.SIGILL)\n",
        "utf-8",
    )
    children._forget()

    process, _ = begin("tell")

    assert process.wait(20) == -signal.SIGILL
    (players / "sitecustomize.py").unlink()


def test_a_fork_of_a_users_program_knows_nothing_of_its_parents_server(begin: Start) -> None:
    begin("tell")

    pid = os.fork()
    if not pid:
        os._exit(int(children._here is not None))

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert children._here is not None


@pytest.mark.parametrize(("before", "after"), [(0, 500), (1000, 1000)], ids=["alone", "of Ray's"])
def test_a_child_is_what_the_kernel_ends_first_and_no_later_than_the_one_that_started_it(
    before: int, after: int
) -> None:
    program = (
        "from pathlib import Path\n"
        "from tuner.search.executors.processes import be_ended_first\n"
        "score = Path('/proc/self/oom_score_adj')\n"
        f"score.write_text(str(max({before}, int(score.read_text()))))\n"
        "be_ended_first()\n"
        "print(score.read_text())"
    )

    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert int(done.stdout) == max(after, int(Path("/proc/self/oom_score_adj").read_text("utf-8")))


def test_a_process_that_is_nobodys_fork_ends_with_its_parent_even_when_it_is_stopped(players: Path) -> None:
    program = (
        "import os, sys\n"
        "from tuner.search.executors.processes import start\n"
        "with open(os.devnull, 'ab') as log:\n"
        "    process, channel = start('players:tell', log, {**os.environ, 'CALLED': ''}, alone=True)\n"
        "print(channel.recv()[0], flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": _with(players)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as user:
        assert user.stdout is not None
        child = int(user.stdout.readline())
        os.kill(child, signal.SIGSTOP)
        while ") T " not in Path(f"/proc/{child}/stat").read_text("utf-8"):
            time.sleep(0.01)

        user.kill()

        assert _is_gone(child)


def test_a_child_that_is_killed_while_its_server_loads_never_begins(begin: Start, tmp_path: Path) -> None:
    children._forget()  # a new server, which loads for seconds
    begun = time.monotonic()
    process, _ = begin("tell")

    process.kill()

    assert process.wait() == -signal.SIGKILL
    assert time.monotonic() - begun < 2.0
    _, other = begin("tell")
    other.recv()
    assert (tmp_path / "log").read_text("utf-8") == "said by a child\n"


def test_children_of_a_server_that_died_are_told_as_killed_and_the_next_has_another(begin: Start) -> None:
    process, channel = begin("tell")
    _, server, *_ = channel.recv()

    os.kill(server, signal.SIGKILL)

    assert process.wait(10) == -signal.SIGKILL
    assert _is_gone(process.pid)
    _, another = begin("tell")
    assert another.recv()[1] != server


def test_another_environment_is_loaded_anew_and_who_runs_in_the_old_one_goes_on(
    begin: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    (process, channel), before = begin("tell"), children._here
    _, server, *_ = channel.recv()
    assert before

    monkeypatch.setenv("PYTEST_CURRENT_TEST", "which changes all the time")
    passing, _ = begin("end")
    same = children._here
    passing.kill()
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    _, other = begin("tell")

    assert same is before
    assert other.recv()[1] != server
    assert process.poll() is None
    channel.close()
    assert process.wait(10) == 0
    before._process.wait(10)  # nobody can ask it for anything


def test_where_loading_has_started_threads_a_child_is_a_new_program(begin: Start, players: Path) -> None:
    (players / "sitecustomize.py").write_text(
        "import sys, threading, time\n"
        "if 'forkserver' in ' '.join(sys.orig_argv):\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n",
        "utf-8",
    )
    children._forget()

    process, channel = begin("tell")

    pid, _, _, called, _, loaded = channel.recv()
    (players / "sitecustomize.py").unlink()
    children._forget()
    assert (pid, called, loaded) == (process.pid, "by name", False)


@pytest.mark.parametrize("loaded", [True, False], ids=["with a child", "while it loads"])
def test_nothing_is_left_of_a_program_that_is_killed(players: Path, tmp_path: Path, *, loaded: bool) -> None:
    program = (
        "import os, sys, time\n"
        "from tuner.search.executors import children\n"
        "from tuner.search.executors.local import worker_environment\n"
        "from tuner.search.executors.processes import start\n"
        "with open('log', 'ab') as log:\n"
        "    process, channel = start('players:tell', log, {**worker_environment(), 'CALLED': ''})\n"
        "helper = os.fork()\n"  # it holds copies of all that the program has open
        "if helper:\n"
        f"    print(channel.recv()[0] if {loaded} else 0, children._here._process.pid, helper, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": _with(players)},
        stdout=subprocess.PIPE,
    ) as user:
        assert user.stdout is not None
        child, server, helper = map(int, user.stdout.readline().split())

        user.kill()
        user.wait()

    assert _is_gone(server)
    assert not child or _is_gone(child)
    os.kill(helper, signal.SIGKILL)
