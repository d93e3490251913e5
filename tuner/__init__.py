"""Hyperparameter search for Keras image classifiers, with an honest test score at the end.

``__all__`` is what programs may rely on (docs/library.md); a test holds the list. Everything behind it is imported when
it is first asked for, since the workers and ``tuner --help`` import this package too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuner.errors import (
        DataError,
        EnvironmentProblem,
        ExportError,
        SearchError,
        SpaceError,
        StudyError,
        TunerError,
        UsageError,
    )
    from tuner.export.predict import Prediction, Predictions
    from tuner.library.classifying import classify
    from tuner.library.result import Result, open_result
    from tuner.library.searching import run_search
    from tuner.records import (
        EnsembleStarted,
        EpochEnded,
        EpochResult,
        Event,
        FinalEpochEnded,
        FinalsStarted,
        MemberEpochEnded,
        Note,
        Observer,
        RefitEpochEnded,
        RefitStarted,
        SearchStarted,
        TrialEnded,
        TrialStarted,
        TrialSummary,
    )

_HOMES = ("errors", "records", "library.result", "library.searching", "library.classifying", "export.predict")
__all__ = [
    "DataError",
    "EnsembleStarted",
    "EnvironmentProblem",
    "EpochEnded",
    "EpochResult",
    "Event",
    "ExportError",
    "FinalEpochEnded",
    "FinalsStarted",
    "MemberEpochEnded",
    "Note",
    "Observer",
    "Prediction",
    "Predictions",
    "RefitEpochEnded",
    "RefitStarted",
    "Result",
    "SearchError",
    "SearchStarted",
    "SpaceError",
    "StudyError",
    "TrialEnded",
    "TrialStarted",
    "TrialSummary",
    "TunerError",
    "UsageError",
    "classify",
    "open_result",
    "run_search",
]

if not TYPE_CHECKING:  # a type checker would take it to have every name

    def __getattr__(name: str) -> object:
        """Import what the name stands for (PEP 562)."""
        for room in _HOMES if name in __all__ else ():
            found = vars(importlib.import_module(f"{__name__}.{room}")).get(name)
            if found is not None:
                return found
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

    def __dir__() -> list[str]:
        """Return what there is for programs."""
        return __all__
