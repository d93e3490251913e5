"""What Ctrl-C means while workers train."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuner.runs import Interruption


@contextlib.contextmanager
def signals() -> Iterator[Interruption]:
    """Let Ctrl-C, SIGTERM and SIGHUP ask a run to end between two epochs, and end it at once the second time."""
    from tuner.runs import Interruption

    interruption = Interruption()

    def hear(_number: int, _frame: object) -> None:
        if interruption.asked or not interruption.heard:
            raise KeyboardInterrupt
        interruption.asked = True

    # What the parent ignores stays ignored: that is how nohup works.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.signal(n, hear) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
