"""The five published Fashion-MNIST CNNs that every result is set beside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One published system and its own figure."""

    name: str
    test_accuracy: float
    """A fraction, as published."""
    note: str
    """What the figure is of, where that differs from the official test set scored once."""


PUBLISHED = (
    Published("sadvisandhya", 0.9368, "code variant, 40 epochs; the README says 93.7 %"),
    Published("myamiri", 0.9214, "code variant, 50 epochs; the README's network has no figure"),
    Published("chaerim", 0.92, "stated without a recorded run"),
    Published("ruhi", 0.9133, "70,000 images merged and split anew: not the official test set"),
    Published("mahinmiyurcee", 0.9041, "10 epochs"),
)
"""From the systems' own repositories, read in November 2026; best first."""
