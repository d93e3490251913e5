"""One figure of a report with its words, or why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Exhibit:
    """One figure with its words."""

    section: str
    """Where it stands: ``answer``, ``training``, ``errors``, ``images`` or ``search``."""
    name: str
    """Of its file, without the suffix, and of its place in the page."""
    title: str
    kind: str
    """What it is, for those who cannot see it."""
    seen: str
    """What it shows, in one sentence with its key number."""
    reading: str
    """How to read it, where that is not plain."""
    draw: Callable[[], Figure]

    @property
    def caption(self) -> str:
        """Return what stands under it."""
        return f"{self.seen} {self.reading}".strip()

    @property
    def label(self) -> str:
        """Return what is read aloud instead of it."""
        return f"{self.kind}. {self.seen}"


@dataclass(frozen=True)
class Omission:
    """A figure that there is not, and why."""

    section: str
    title: str
    reason: str
