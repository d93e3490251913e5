"""Progress on a terminal: one screen that stays, redrawn four times a second."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuner.console.words import counts_line, duration, percent, sparkline, values_line
from tuner.records import (
    UNCOUNTED,
    EpochEnded,
    Event,
    Note,
    RefitEpochEnded,
    RefitStarted,
    SearchStarted,
    TrialEnded,
    TrialStarted,
    TrialSummary,
    Values,
)

REFRESHES_A_SECOND = 4
CURVE_WIDTH = 24


@dataclass
class _Row:
    """One training under way."""

    label: str
    values: Values
    epochs: int
    curve: list[float] = field(default_factory=list)
    epoch: int = 0
    accuracy: float | None = None


class LiveScreen:
    """An observer that keeps a screen; use it as a context manager."""

    def __init__(self, console: Console) -> None:
        """Draw on ``console`` from ``__enter__`` to ``__exit__``."""
        self._live = Live(self, console=console, refresh_per_second=REFRESHES_A_SECOND, transient=True)
        self._start = time.monotonic()
        self._search: SearchStarted | None = None
        self._rows: dict[str, _Row] = {}
        self._counts: dict[str, int] = {}
        self._best: TrialSummary | None = None
        self._refit: RefitStarted | None = None
        self._note = "Workers are loading TensorFlow …"

    def __enter__(self) -> Self:
        """Take the screen."""
        self._live.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        """Give the screen back, if it is still there."""
        with contextlib.suppress(OSError):
            self._live.__exit__(None, None, None)

    def __call__(self, event: Event) -> None:
        """Hear one event."""
        match event:
            case Note():
                self._note = event.text
            case SearchStarted():
                self._search = event
                for trial in (trial for trial in event.earlier if trial.state != "running"):
                    self._counts[trial.state] = self._counts.get(trial.state, 0) + 1
                    self._keep_best(trial)
            case TrialStarted():
                epochs = self._search.epochs if self._search else 0
                self._rows[f"{event.number}"] = _Row(f"trial {event.number}", event.values, epochs)
                self._note = ""
            case EpochEnded():
                self._show_epoch(f"{event.number}", event.result.epoch, event.result.val_accuracy)
            case TrialEnded():
                self._rows.pop(f"{event.trial.number}", None)
                self._counts[event.trial.state] = self._counts.get(event.trial.state, 0) + 1
                self._best = event.best
            case RefitStarted():
                self._refit, self._best, self._note = event, event.trial, ""
                self._rows = {
                    f"refit {seed}": _Row(f"refit seed {seed}", event.trial.values, event.epochs)
                    for seed in range(event.seeds)
                }
            case RefitEpochEnded():
                self._show_epoch(f"refit {event.seed}", event.result.epoch, event.result.accuracy)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:  # Rich's signature
        """Draw."""
        parts: list[RenderableType] = [self._headline(), self._table(), self._footer()]
        title = "tuner search" if not self._search else f"tuner search · {self._search.study}"
        yield Panel(Group(*parts), title=title, title_align="left", border_style="cyan")

    def _keep_best(self, trial: TrialSummary) -> None:
        best = self._best.val_accuracy if self._best else None
        if trial.state == "complete" and trial.val_accuracy is not None and (best is None or trial.val_accuracy > best):
            self._best = trial

    def _show_epoch(self, key: str, epoch: int, accuracy: float | None) -> None:
        if key in self._rows:
            row = self._rows[key]
            row.epoch, row.accuracy = epoch, accuracy
            row.curve = [*row.curve[: epoch - 1], accuracy or 0.0]

    def _headline(self) -> Table:
        elapsed = time.monotonic() - self._start
        limit = self._search.seconds if self._search else None
        trials = self._search.trials if self._search else None
        counted = sum(count for state, count in self._counts.items() if state not in UNCOUNTED)
        left = f"{duration(elapsed)} of {duration(limit)}" if limit else duration(elapsed)
        if self._refit:
            what = f"retraining the winner: {self._refit.seeds} seeds, {self._refit.epochs} epochs"
        else:
            what = f"searching: {counted} of {trials} trials done" if trials else f"searching: {counted} done"
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(ratio=1)
        grid.add_column(justify="right")
        grid.add_row(Text(what, style="bold"), Text(left))
        share = elapsed / limit if limit else (counted / trials if trials else None)
        if share is not None:
            grid.add_row(ProgressBar(total=1.0, completed=min(1.0, share)), Text(f"{100 * min(1.0, share):.0f} %"))
        return grid

    def _table(self) -> Table:
        table = Table(box=None, expand=True, padding=(0, 1), header_style="dim")
        for header in ("", "epoch", "training" if self._refit else "validation", "curve"):
            table.add_column(header, no_wrap=True)
        table.add_column(
            "" if self._refit else "differs from the best in" if self._best else "tries",
            ratio=1,
            overflow="ellipsis",
            no_wrap=True,
        )
        shares = [share for row in self._rows.values() for share in row.curve]
        high = max([*shares, (self._best.val_accuracy or 0.0) if self._best else 0.0])
        low = min([*shares, high])
        beside = self._best.values if self._best else None
        for row in self._rows.values():
            tries = Text("" if self._refit else values_line(row.values, beside))
            curve = Text(sparkline(row.curve[-CURVE_WIDTH:], low, high), style="green")
            table.add_row(row.label, f"{row.epoch}/{row.epochs}", percent(row.accuracy), curve, tries)
        return table

    def _footer(self) -> Group:
        lines: list[Text] = [Text()]
        if self._best:
            text = f"best: trial {self._best.number}, validation {percent(self._best.val_accuracy)}"
            lines.append(Text(text, style="bold green"))
        lines.append(Text(counts_line(self._counts), style="dim"))
        if self._note:
            lines.append(Text(self._note, style="yellow"))
        return Group(*lines)
