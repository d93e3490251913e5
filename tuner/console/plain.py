"""Progress where no terminal is: one plain line an event."""

from __future__ import annotations

import time
from collections.abc import Callable

from tuner.console.words import duration, reason_of, values_line
from tuner.records import (
    VAL_ACCURACY,
    BaselineEpochEnded,
    BaselineEvent,
    BaselineScored,
    BaselinesStarted,
    EnsembleEvent,
    EnsembleStarted,
    EpochEnded,
    EpochResult,
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
)
from tuner.reporting.sentences import percent, spread, validation_word


class PlainLines:
    """An observer that writes one line an event, each with the time since it began."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """Write each line with ``write``."""
        self._write = write
        self._start = time.monotonic()
        self._metric = VAL_ACCURACY

    def __call__(self, event: Event) -> None:
        """Hear one event."""
        if isinstance(event, SearchStarted | FractionsStarted):
            self._metric = event.metric
        self._write(f"[{duration(time.monotonic() - self._start):>7}] {line_of(event, self._metric)}")


def line_of(event: Event, metric: str = VAL_ACCURACY) -> str:
    """Return one event as one line; ``metric`` is what trials are judged by."""
    match event:
        case Note():
            return event.text
        case BaselinesStarted() | BaselineEpochEnded() | BaselineScored():
            return _line_of_baselines(event)
        case EnsembleStarted() | MemberEpochEnded():
            return _line_of_ensembles(event)
        case SearchStarted():
            total = f"{event.trials} trials" if event.trials else "as many trials as fit"
            limit = f" within {duration(event.seconds)}" if event.seconds else ""
            earlier = f", {len(event.earlier)} there already" if event.earlier else ""
            return (
                f"Study {event.study}: space {event.space}, {total}{limit}{earlier}, "
                f"{event.epochs} epochs each, {event.workers} workers."
            )
        case TrialStarted():
            origin = ", start_with" if event.enqueued else ""
            if event.attempt > 1:
                return f"trial {event.number} is taken up again, attempt {event.attempt}"
            size = f"{event.cost.parameters:,} parameters"
            return f"trial {event.number} starts ({size}{origin}): {values_line(event.values)}"
        case EpochEnded():
            result = event.result
            return (
                f"trial {event.number} epoch {result.epoch}: {_reached(result, metric)}, "
                f"loss {result.loss:.3f}, {result.seconds:.1f} s"
            )
        case TrialEnded():
            trial, best = event.trial, event.best
            so_far = f"; best so far {percent(best.val_accuracy)}, trial {best.number}" if best else ""
            return f"trial {trial.number} {reason_of(trial)}{so_far}"
        case _:
            return _line_of_finals(event, metric)


def _reached(result: EpochResult, metric: str) -> str:
    return f"{validation_word(metric)} {percent(result.judged(metric))}"


def _line_of_finals(event: FinalEvent, metric: str) -> str:
    match event:
        case FinalsStarted():
            numbers = ", ".join(str(number) for number in event.trials)
            return f"Judging trials {numbers} again: {event.epochs} epochs, {event.seeds} fresh seeds each."
        case FinalEpochEnded():
            result = event.result
            return (
                f"trial {event.trial} seed {event.seed} epoch {result.epoch}: "
                f"{_reached(result, metric)}, loss {result.loss:.3f}, {result.seconds:.1f} s"
            )
        case FractionsStarted():
            parts = ", ".join(f"{size:,}" for size in event.train_images)
            return f"Training the winner on {parts} images, {event.epochs} epochs each."
        case FractionEpochEnded():
            result = event.result
            return f"{event.train_images:,} images epoch {result.epoch}: {_reached(result, metric)}"
        case RefitStarted():
            return (
                f"Retraining trial {event.trial.number} on all training images: "
                f"{event.epochs} epochs, {event.seeds} seeds."
            )
        case RefitEpochEnded():
            result = event.result
            return f"refit seed {event.seed} epoch {result.epoch}: loss {result.loss:.3f}, {result.seconds:.1f} s"


def _line_of_ensembles(event: EnsembleEvent) -> str:
    match event:
        case EnsembleStarted():
            numbers = ", ".join(str(number) for number in event.trials)
            return f"Retraining trials {numbers} on all training images: {event.epochs} epochs each."
        case MemberEpochEnded():
            result = event.result
            return f"trial {event.trial} epoch {result.epoch}: loss {result.loss:.3f}, {result.seconds:.1f} s"


def _line_of_baselines(event: BaselineEvent) -> str:
    match event:
        case BaselinesStarted():
            return f"{event.baselines} baselines, {event.trainings} trainings to be done."
        case BaselineEpochEnded():
            result = event.result
            return (
                f"{event.name} seed {event.seed} epoch {result.epoch} of {event.epochs}: "
                f"validation {percent(result.val_accuracy)}, loss {result.loss:.3f}, {result.seconds:.1f} s"
            )
        case BaselineScored():
            return f"{event.name}: test accuracy {spread(event.mean, event.sd)} ({event.seeds} seeds)"
