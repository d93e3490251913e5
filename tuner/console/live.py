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

from tuner.console.words import counts_line, duration, values_line
from tuner.records import (
    UNCOUNTED,
    VAL_ACCURACY,
    BaselineEpochEnded,
    BaselineEvent,
    BaselineScored,
    BaselinesStarted,
    EnsembleStarted,
    EpochEnded,
    Event,
    FinalEpochEnded,
    FinalEvent,
    FinalsStarted,
    FractionEpochEnded,
    FractionsStarted,
    MemberEpochEnded,
    Note,
    RefitEpochEnded,
    RefitStarted,
    SearchStarted,
    TrialEnded,
    TrialStarted,
    TrialSummary,
    Values,
)
from tuner.reporting.sentences import percent, sparkline, spread, validation_word

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
        self._metric = VAL_ACCURACY
        self._rows: dict[str, _Row] = {}
        self._counts: dict[str, int] = {}
        self._best: TrialSummary | None = None
        self._finals: FinalsStarted | None = None
        self._fractions: FractionsStarted | None = None
        self._refit: RefitStarted | None = None
        self._baselines: BaselinesStarted | None = None
        self._ensemble: EnsembleStarted | None = None
        self._trainings = 0
        self._scored: list[str] = []
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
                self._search, self._metric = event, event.metric
                for trial in (trial for trial in event.earlier if trial.state != "running"):
                    self._counts[trial.state] = self._counts.get(trial.state, 0) + 1
                    self._keep_best(trial)
            case TrialStarted():
                epochs = self._search.epochs if self._search else 0
                self._rows[f"{event.number}"] = _Row(f"trial {event.number}", event.values, epochs)
                self._note = ""
            case EpochEnded():
                self._show_epoch(f"{event.number}", event.result.epoch, event.result.judged(self._metric))
            case TrialEnded():
                self._rows.pop(f"{event.trial.number}", None)
                self._counts[event.trial.state] = self._counts.get(event.trial.state, 0) + 1
                self._best = event.best
            case BaselinesStarted() | BaselineEpochEnded() | BaselineScored():
                self._hear_of_baselines(event)
            case EnsembleStarted():
                self._ensemble, self._note = event, ""
                self._rows = {f"{trial}": _Row(f"trial {trial}", {}, event.epochs) for trial in event.trials}
            case MemberEpochEnded():
                self._show_epoch(f"{event.trial}", event.result.epoch, event.result.accuracy)
            case _:
                self._hear_of_finals(event)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:  # Rich's signature
        """Draw."""
        parts: list[RenderableType] = [self._headline(), self._table(), self._footer()]
        title = f"tuner search · {self._search.study}" if self._search else "tuner"
        title = "tuner best" if self._ensemble else title
        title = "tuner baselines" if self._baselines else "tuner report" if self._fractions else title
        yield Panel(Group(*parts), title=title, title_align="left", border_style="cyan")

    def _hear_of_finals(self, event: FinalEvent) -> None:
        match event:
            case FinalsStarted():
                self._finals, self._note = event, ""
                self._rows = {
                    f"final {trial} {seed}": _Row(f"trial {trial}, seed {seed}", {}, event.epochs)
                    for seed in range(event.seeds)
                    for trial in event.trials
                }
            case FinalEpochEnded():
                self._show_epoch(
                    f"final {event.trial} {event.seed}", event.result.epoch, event.result.judged(self._metric)
                )
            case FractionsStarted():
                self._fractions, self._note, self._metric = event, "", event.metric
                sizes = event.train_images
                self._rows = {f"{size}": _Row(f"{size:,} images", {}, event.epochs) for size in sizes}
            case FractionEpochEnded():
                self._show_epoch(f"{event.train_images}", event.result.epoch, event.result.judged(self._metric))
            case RefitStarted():
                self._refit, self._best, self._note = event, event.trial, ""
                self._rows = {
                    f"refit {seed}": _Row(f"refit seed {seed}", event.trial.values, event.epochs)
                    for seed in range(event.done, event.seeds)
                }
            case RefitEpochEnded():
                values, epochs = (self._refit.trial.values, self._refit.epochs) if self._refit else ({}, 0)
                key = f"refit {event.seed}"  # a seed that was dropped before, behind those that were not
                self._rows.setdefault(key, _Row(f"refit seed {event.seed}", values, epochs))
                self._show_epoch(key, event.result.epoch, event.result.accuracy)

    def _hear_of_baselines(self, event: BaselineEvent) -> None:
        match event:
            case BaselinesStarted():
                self._baselines = event
            case BaselineEpochEnded():
                key, result = f"{event.name} {event.seed}", event.result
                self._rows.setdefault(key, _Row(f"{event.name}, seed {event.seed}", {}, event.epochs))
                self._note = ""
                self._show_epoch(key, result.epoch, result.val_accuracy)
                if result.epoch >= event.epochs:
                    del self._rows[key]
                    self._trainings += 1
            case BaselineScored():
                seeds = "seed" if event.seeds == 1 else "seeds"
                self._scored.append(f"{event.name}: test {spread(event.mean, event.sd)}, {event.seeds} {seeds}")

    def _keep_best(self, trial: TrialSummary) -> None:
        best = self._best.val_accuracy if self._best else None
        if trial.state == "complete" and trial.val_accuracy is not None and (best is None or trial.val_accuracy > best):
            self._best = trial

    def _show_epoch(self, key: str, epoch: int, accuracy: float | None) -> None:
        if key in self._rows:
            row = self._rows[key]
            row.epoch, row.accuracy = epoch, accuracy
            row.curve = [*row.curve[: epoch - 1], accuracy or 0.0]

    @property
    def _after_the_search(self) -> bool:
        return any((self._baselines, self._finals, self._fractions, self._refit, self._ensemble))

    def _headline(self) -> Table:
        elapsed = time.monotonic() - self._start
        limit = self._search.seconds if self._search else None
        trials = self._search.trials if self._search else None
        counted = sum(count for state, count in self._counts.items() if state not in UNCOUNTED)
        left = f"{duration(elapsed)} of {duration(limit)}" if limit else duration(elapsed)
        if not self._search and not self._after_the_search:
            what = ""
        elif self._ensemble:
            what = f"retraining the {len(self._ensemble.trials)} members: {self._ensemble.epochs} epochs"
        elif self._fractions:
            what = "training the winner on parts of the images"
        elif self._baselines:
            trials, counted = self._baselines.trainings, self._trainings
            what = f"training the baselines: {counted} of {trials} trainings done"
        elif self._refit:
            what = f"retraining the winner: {self._refit.seeds} seeds, {self._refit.epochs} epochs"
        elif self._finals:
            what = f"judging the best {len(self._finals.trials)} again: {self._finals.seeds} fresh seeds each"
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
        for header in (
            "",
            "epoch",
            "training" if self._refit or self._ensemble else validation_word(self._metric),
            "curve",
        ):
            table.add_column(header, no_wrap=True)
        table.add_column(
            "" if self._after_the_search else "differs from the best in" if self._best else "tries",
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
            reached = f"{validation_word(self._best.metric)} {percent(self._best.val_accuracy)}"
            text = f"best: trial {self._best.number}, {reached}"
            lines.append(Text(text, style="bold green"))
        lines += [Text(line, style="green") for line in self._scored]
        if self._counts or not self._after_the_search:
            lines.append(Text(counts_line(self._counts), style="dim"))
        if self._note:
            lines.append(Text(self._note, style="yellow"))
        return Group(*lines)
