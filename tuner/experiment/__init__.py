"""The whole road: search, refit, score, report. What ``tuner search`` and the library call."""

from tuner.experiment.road import run_search

__all__ = ["run_search"]
