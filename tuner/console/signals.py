"""What Ctrl-C means while workers train."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuner.runs import Interruption

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What a command ends by: Ctrl-C, ``kill``, a terminal that is closed."""


@contextlib.contextmanager
def signals(numbers: tuple[signal.Signals, ...] = ENDING) -> Iterator[Interruption]:
    """Let these signals ask a run to end between two epochs, and end it at once the second time.

    Python gives signals to the main thread only: in another one nothing is changed, and nothing heard. Afterwards every
    signal means what it did before.
    """
    from tuner.runs import Interruption

    interruption = Interruption()

    def hear(_number: int, _frame: object) -> None:
        if interruption.asked or not interruption.heard:
            raise KeyboardInterrupt
        interruption.asked = True

    # What the parent ignores stays ignored: that is how nohup works. None is a handler that is not Python's.
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in numbers} if main else {}
    before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, hear)
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
