"""The wall-clock promise: what of ``--time`` is left for the search when the winner's refit is kept back."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from tuner.errors import SearchError
from tuner.records import Cost, EpochResult, TrialSummary
from tuner.search.budget import END_SECONDS, REFIT_MARGIN, STOP_SECONDS, Clock, Pace
from tuner.search.task import SearchTask

LONGEST_REFIT_SHARE = 0.6
"""Of --time: a configuration whose refit would take more is refused, because it could win and not be delivered.

The cheapest known configuration is never refused for that."""
UNMEASURED_ALLOWANCE = 4
"""Until an epoch was measured the pace is a guess, and this many times the share is allowed."""
LONGEST_REFIT_PART = 0.7
"""Of what --time leaves beside scoring and stopping, kept for the refit at the most: on a slow machine the refit is
cut, so that a search remains."""


IMAGES_BETWEEN_QUESTIONS = 2048
"""As ``training.pipeline`` has it, which loads TensorFlow; a test compares them."""


class Timekeeper:
    """Measures epochs, and from them answers every question about time."""

    def __init__(
        self, task: SearchTask, clock: Clock, pace: Pace, *, refit: bool = True, size: Callable[[], int] | None = None
    ) -> None:
        """Know the task, the clock that runs, a first guess of the pace, and whether a refit follows.

        ``size`` tells how many workers there are now, where that changes.
        """
        self._task, self._clock, self._pace, self._refit = task, clock, pace, refit
        self._size = size or (lambda: task.workers)
        self._cheapest = task.cheapest_known()

    @property
    def limit(self) -> float | None:
        """Return the seconds of the whole command; None is no limit."""
        return self._clock.limit

    @property
    def workers(self) -> int:
        """Return how many trainings run side by side."""
        return self._size()

    def learn(self, cost: Cost, result: EpochResult) -> None:
        """Hear that a trial's epoch has ended."""
        self._pace.learn(cost, self._task.epoch_images, result)

    def check_budget(self) -> None:
        """Say before any training when --time cannot hold one trial and its refit. Raises SearchError."""
        if self._clock.limit is None:
            return
        epochs = self._task.settings.trial_epochs
        trial = self._pace.seconds(self._cheapest, self._task.epoch_images, epochs)
        refit = self._refit_epoch(self._cheapest) if self._refit else 0.0
        if trial + refit + END_SECONDS > self._clock.left():
            raise SearchError(
                f"--time {self._clock.limit:.0f}s cannot hold one trial: about {trial:.0f} s for its {epochs} epochs, "
                f"{refit:.0f} s for one refit epoch, {END_SECONDS:.0f} s to score and report",
                hint="more --time, fewer --epochs, or --set search.train_images=N",
            )

    def refusal(self, cost: Cost) -> tuple[str, float]:
        """Return why a configuration at ``cost`` cannot be refitted in time, and by how much; or an empty reason."""
        if self._clock.limit is None or not self._refit or cost.multiply_adds <= self._cheapest.multiply_adds:
            return "", 0.0
        refit = self._task.settings.refit_epochs * self._refit_epoch(cost)
        allowed = LONGEST_REFIT_SHARE * self._clock.limit * (1 if self._pace.measured else UNMEASURED_ALLOWANCE)
        excess = refit / allowed - 1
        return (f"its refit would take about {refit:.0f} s of --time", excess) if excess > 0 else ("", 0.0)

    def search_seconds_left(self, best: TrialSummary | None, running: Sequence[Cost]) -> float:
        """Return the seconds until the search must end so that ``best`` (or what runs) can still be refitted."""
        if self._clock.limit is None:
            return math.inf
        if not self._refit:
            return self._clock.left() - STOP_SECONDS - self.finals_seconds(best)
        if best is not None:
            epoch = self.refit_epoch_seconds(best)
        else:
            epoch = max(self._refit_epoch(cost) for cost in (running or [self._cheapest]))
        settings = self._task.settings
        fixed = END_SECONDS + STOP_SECONDS
        most = LONGEST_REFIT_PART * max(0.0, self._clock.limit - fixed)
        waves = math.ceil(settings.refit_seeds / self.workers)
        after = REFIT_MARGIN * waves * settings.refit_epochs * epoch + self.finals_seconds(best)
        return self._clock.left() - fixed - min(after, most)

    def refit_seconds(self, trial: TrialSummary) -> float:
        """Return what the refit of ``trial`` takes, if it is not cut."""
        settings = self._task.settings
        waves = math.ceil(settings.refit_seeds / self.workers)
        return REFIT_MARGIN * waves * settings.refit_epochs * self.refit_epoch_seconds(trial)

    def finals_seconds(self, best: TrialSummary | None) -> float:
        """Return the seconds in which the finalists are trained again, if they are about as large as ``best``."""
        settings = self._task.settings
        if settings.top == 1 or best is None:
            return 0.0
        return REFIT_MARGIN * math.ceil(settings.top * settings.top_seeds / self.workers) * best.seconds

    def finals_wave(self, finalists: Sequence[TrialSummary]) -> float:
        """Return the seconds in which each finalist is trained again once."""
        waves = math.ceil(len(finalists) / self.workers)
        return waves * max(trial.seconds for trial in finalists)

    def shortest_useful(self, sizes: Sequence[int]) -> float:
        """Return the seconds in which a typical trial reaches its first rung: less is not worth starting one.

        ``sizes`` are the multiply-adds of the trials that were trained.
        """
        if self._clock.limit is None or not sizes:
            return 0.0
        epochs = min(self._task.settings.first_rung, self._task.settings.epochs)
        return self._pace.seconds(Cost(0, int(statistics.median(sizes))), self._task.epoch_images, epochs)

    def beat_seconds(self, cost: Cost) -> float:
        """Return how long a worker may say nothing for the size of its network alone: the questions' distance, x 10."""
        return 10 * self._pace.seconds(cost, IMAGES_BETWEEN_QUESTIONS, 1)

    def refit_epoch_seconds(self, trial: TrialSummary) -> float:
        """Return what an epoch on all images takes one worker, measured on the trial itself where it can be."""
        if len(trial.curve) > 1:
            own = statistics.median(result.seconds for result in trial.curve[1:])
            return own * self._task.source.n_train / self._task.epoch_images
        return self._refit_epoch(trial.cost or self._cheapest)

    def _refit_epoch(self, cost: Cost) -> float:
        return self._pace.seconds(cost, self._task.source.n_train, 1)
