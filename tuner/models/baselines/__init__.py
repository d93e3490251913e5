"""The five published Fashion-MNIST CNNs that every result is set beside, a file a system.

From the systems' own repositories, read in November 2026. All divide pixels by 255, use 3x3 convolutions, ReLU, softmax
and cross-entropy, and Keras's default initial weights.
"""

from __future__ import annotations

import difflib

from tuner.errors import UsageError
from tuner.models.baselines import chaerim, mahinmiyurcee, myamiri, ruhi, sadvisandhya
from tuner.models.baselines.baseline import Baseline
from tuner.records import Values
from tuner.space.parameters import Space

BASELINES = {
    baseline.name: baseline
    for baseline in (
        sadvisandhya.CODE,
        myamiri.CODE,
        chaerim.CODE,
        ruhi.CODE,
        mahinmiyurcee.CODE,
        sadvisandhya.README,
        chaerim.README,
        myamiri.README,
    )
}
"""By name: those that made a published figure, best first, then the READMEs' other variants."""
PUBLISHED = tuple(baseline for baseline in BASELINES.values() if baseline.test_accuracy is not None)


def nearest_entries(space: Space) -> list[Values]:
    """Return the configurations of a ``cnn`` space that are nearest to the published networks."""
    return [space.nearest(baseline.point) for baseline in PUBLISHED]


def baseline_named(name: str) -> Baseline:
    """Return a baseline by its name. Raises UsageError."""
    if name not in BASELINES:
        close = difflib.get_close_matches(name, BASELINES, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(BASELINES)}"
        raise UsageError(f"there is no baseline '{name}'", hint=hint)
    return BASELINES[name]
