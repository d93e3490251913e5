"""Faults, for processes that have this folder on their PYTHONPATH: the product itself has no hooks.

The file that ``TUNER_FAULTS`` names lists faults as JSON tables. A fault stands ``at`` a ``module:Qualified.name``, is
looked at ``when`` that function is entered (``before``, which is meant when nothing is said) or has returned
(``after``), and then does what ``do`` says, ``kill`` when nothing is said:

    {"name": "before the report", "at": "tuner.search.worker:Worker._send", "when": "before", "do": "kill",
     "kind": "EpochReport", "trial": 3, "nth": 2}

Every other key narrows it: see ``_fits``. ``nth`` counts, per process, the calls that fit. A fault happens once in all
processes and restarts together: who claims its file beside the list has it, and the file tells the test that it did.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import threading
import time
from typing import Any

MOST_ALLOCATED_MIB = 6000
_ALLOCATED: list[bytearray] = []


class _Now:
    """What this process is at."""

    trial: int | None = None
    """The training that this worker has."""
    shift_seconds = 0.0


def _fits(fault: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    given = [*args, *kwargs.values()]
    told = {
        # The class of an argument: a message, or what is in a pair of (worker, message).
        "kind": lambda name: any(type(one).__name__ == name for one in given),
        # The key of a user attribute.
        "key": lambda key: key in [one for one in given if isinstance(one, str)],
        # The state that a trial is told.
        "state": lambda name: any(getattr(one, "name", None) == name for one in given),
        # The training that this worker has; None is none.
        "trial": lambda number: _Now.trial == number,
        # The end of the name of a file that is worked on.
        "path": lambda end: str(args[0]).endswith(end),
        # The epoch of a report.
        "epoch": lambda epoch: any(getattr(getattr(one, "result", None), "epoch", None) == epoch for one in given),
        # Whether something was found.
        "result": lambda wanted: bool(result) == wanted,
        # The function that called.
        "caller": lambda name: sys._getframe(5).f_code.co_name == name,
        # Nothing arrives for so many seconds: the worker idles.
        "quiet": lambda seconds: not args[0]._channel.poll(seconds),
    }
    return all(told[key](fault[key]) for key in told.keys() & fault.keys())


def _claim(fault: dict[str, Any]) -> bool:
    try:
        handle = os.open(_claim_file(fault), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    os.write(handle, str(os.getpid()).encode())
    os.close(handle)
    return True


def _claim_file(fault: dict[str, Any]) -> str:
    return os.path.join(os.path.dirname(os.environ["TUNER_FAULTS"]), f"{fault['name']}.fired")  # noqa: PTH118, PTH120


def _signal(process: int, number: int, delay: float) -> None:
    def send() -> None:
        time.sleep(delay)
        os.kill(process, number)

    if delay:
        threading.Thread(target=send, daemon=True).start()
    else:
        os.kill(process, number)


def _halve(draft: Any) -> None:
    """Die as if the draft's write were under way."""
    os.truncate(draft, os.stat(draft).st_size // 2)  # noqa: PTH116
    _signal(os.getpid(), signal.SIGKILL, 0.0)


def _wait_for(name: str) -> None:
    """Hold until another fault has happened."""
    deadline = time.monotonic() + 60
    while not os.path.exists(_claim_file({"name": name})) and time.monotonic() < deadline:  # noqa: PTH110
        time.sleep(0.05)


def _loop() -> None:
    while True:
        pass


def _allocate() -> None:
    while len(_ALLOCATED) < MOST_ALLOCATED_MIB / 100:
        _ALLOCATED.append(bytearray(b"x") * (100 << 20))
        time.sleep(0.05)
    time.sleep(60)


def _fail() -> None:
    raise RuntimeError("this layer cannot be built")


def _shift_the_clock(seconds: float) -> None:
    _Now.shift_seconds += seconds


def _happen(fault: dict[str, Any], args: tuple[Any, ...], result: Any) -> Any:
    """Do it, and return what the function is to return."""
    does = fault.get("do", "kill")
    if does == "nan":
        return (float("nan"), *result[1:])
    {
        "kill": lambda: _signal(os.getpid(), signal.SIGKILL, fault.get("delay", 0.0)),
        "stop": lambda: _signal(os.getpid(), signal.SIGSTOP, 0.0),
        "halve": lambda: _halve(args[0]),
        "sleep": lambda: time.sleep(fault["seconds"]),
        "wait": lambda: _wait_for(fault["for"]),
        "loop": _loop,
        "allocate": _allocate,
        "fail": _fail,
        "shift the clock": lambda: _shift_the_clock(fault["seconds"]),
    }[does]()
    return result


def _wrapped(function: Any, faults: list[dict[str, Any]]) -> Any:
    counts = dict.fromkeys(range(len(faults)), 0)

    def look(when: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
        for number, fault in enumerate(faults):
            every = fault.get("nth") == "every"
            if fault.get("when", "before") != when or (os.path.exists(_claim_file(fault)) and not every):  # noqa: PTH110
                continue
            if not _fits(fault, args, kwargs, result):
                continue
            counts[number] += 1
            if every or (counts[number] == fault.get("nth", 1)):
                claimed = _claim(fault)
                if claimed or every:
                    result = _happen(fault, args, result)
        return result

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        look("before", args, kwargs, None)
        return look("after", args, kwargs, function(*args, **kwargs))

    wrapper.__wrapped__ = function  # type: ignore[attr-defined]
    wrapper.__name__ = getattr(function, "__name__", "wrapper")
    return wrapper


def _tracking(serve: Any) -> Any:
    def serve_and_say(worker: Any, job: Any) -> Any:
        _Now.trial = job.number
        try:
            return serve(worker, job)
        finally:
            _Now.trial = None

    return serve_and_say


def _change(module: Any, faults: list[dict[str, Any]]) -> None:
    """Put the faults of a module into it."""
    for name in dict.fromkeys(fault["at"].partition(":")[2] for fault in faults):
        here = [fault for fault in faults if fault["at"].partition(":")[2] == name]
        *path, last = name.split(".")
        owner = module
        for part in path:
            owner = getattr(owner, part)
        if here[0].get("do") == "assign":
            getattr(owner, last)  # it is there
            setattr(owner, last, here[0]["value"])
            _claim(here[0])
        else:
            setattr(owner, last, _wrapped(getattr(owner, last), here))
    if module.__name__ == "tuner.search.worker":
        module.Worker._serve = _tracking(module.Worker._serve)


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any, faults: list[dict[str, Any]]) -> None:
        self._loader, self._faults = loader, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._loader.exec_module(module)
        _change(module, self._faults)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, faults: dict[str, list[dict[str, Any]]]) -> None:
        self._faults = faults

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in self._faults:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader, self._faults[name])
                return spec
        return None


def _let_the_clock_jump() -> None:
    """Shift what time.time and datetime say, as a step of the system's clock does; the monotonic clock knows of none."""
    import datetime as dt

    true_time, true_datetime = time.time, dt.datetime

    class Shifted(true_datetime):  # type: ignore[valid-type, misc]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return true_datetime.now(tz) + dt.timedelta(seconds=_Now.shift_seconds)

        @classmethod
        def utcnow(cls) -> Any:
            return true_datetime.utcnow() + dt.timedelta(seconds=_Now.shift_seconds)

    time.time = lambda: true_time() + _Now.shift_seconds
    dt.datetime = Shifted  # type: ignore[misc]


def _install(file: str) -> None:
    with open(file, encoding="utf-8") as text:  # noqa: PTH123
        faults = json.load(text)
    by_module: dict[str, list[dict[str, Any]]] = {"tuner.search.worker": []}
    for fault in faults:
        by_module.setdefault(fault["at"].partition(":")[0], []).append(fault)
    if any(fault.get("do") == "shift the clock" for fault in faults):
        _let_the_clock_jump()
    for name in [name for name in by_module if name in sys.modules]:
        _change(sys.modules[name], by_module.pop(name))
    sys.meta_path.insert(0, _Finder(by_module))


if os.environ.get("TUNER_FAULTS"):
    _install(os.environ["TUNER_FAULTS"])
