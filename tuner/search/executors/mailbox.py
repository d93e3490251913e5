"""The post between a coordinator and its workers: one queue in, and one out for each worker.

Whatever runs it, as an actor or in a test, runs all of it in one event loop.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib

from tuner.search.executors.parcels import Incoming, Outgoing


class Mailbox:
    """What workers have said, and what they are to hear."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._incoming: list[tuple[int, Incoming]] = []
        self._outgoing: dict[int, list[Outgoing]] = collections.defaultdict(list)
        self._arrived = asyncio.Event()
        self._posted: dict[int, asyncio.Event] = collections.defaultdict(asyncio.Event)

    async def put(self, worker: int, parcel: Incoming) -> None:
        """Take in what ``worker`` says."""
        self._incoming.append((worker, parcel))
        self._arrived.set()

    async def hear(self, seconds: float) -> list[tuple[int, Incoming]]:
        """Return what has come in, waiting at most ``seconds`` for the first."""
        await _at_most(seconds, self._arrived)
        self._arrived.clear()
        heard, self._incoming = self._incoming, []
        return heard

    async def post(self, worker: int, parcel: Outgoing) -> None:
        """Lay ready what ``worker`` is to hear."""
        self._outgoing[worker].append(parcel)
        self._posted[worker].set()

    async def take(self, worker: int, seconds: float) -> list[Outgoing]:
        """Return what ``worker`` is to hear, waiting at most ``seconds`` for the first."""
        await _at_most(seconds, self._posted[worker])
        self._posted[worker].clear()
        return self._outgoing.pop(worker, [])

    async def forget(self, worker: int) -> None:
        """Keep nothing for a worker that is gone."""
        self._outgoing.pop(worker, None)
        self._posted.pop(worker, None)


async def _at_most(seconds: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
