"""Learning rates, step by step, as plain arithmetic."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tuner.training.configuration import Recipe

ONE_CYCLE_START, ONE_CYCLE_RISE = 1 / 25, 0.3
STEP_AT, STEP_FACTOR = (0.5, 0.75), 0.1


def learning_rates(recipe: Recipe, steps: int) -> npt.NDArray[np.float32]:
    """Return float32 (steps,): the learning rate of every step of a whole training.

    ``constant``; ``step``: a tenth after half and again after three quarters (He et al. 2016); ``cosine``: linear
    warm-up, then to zero (Loshchilov & Hutter 2017); ``onecycle``: linear up over 30 % of the steps and linear down
    to zero (Smith & Topin 2018).
    """
    factor: npt.NDArray[np.float64]
    at = (np.arange(steps) + 0.5) / steps
    match recipe.schedule:
        case "constant":
            factor = np.ones(steps)
        case "step":
            factor = STEP_FACTOR ** np.sum([at > bound for bound in STEP_AT], axis=0)
        case "cosine":
            rise = np.minimum(1.0, at / recipe.warmup) if recipe.warmup else np.ones(steps)
            fall = np.clip((at - recipe.warmup) / (1 - recipe.warmup), 0, 1)
            factor = rise * (1 + np.cos(np.pi * fall)) / 2
        case "onecycle":
            rise = ONE_CYCLE_START + (1 - ONE_CYCLE_START) * at / ONE_CYCLE_RISE
            factor = np.minimum(rise, (1 - at) / (1 - ONE_CYCLE_RISE))
        case _:
            raise AssertionError(recipe.schedule)
    return (recipe.learning_rate * factor).astype(np.float32)
