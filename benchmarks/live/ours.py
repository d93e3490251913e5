"""``tuner search cnn --no-refit --workers 2``, by the library's name for it, which tells each event."""

from __future__ import annotations

from pathlib import Path

import tuner
from benchmarks.live.events import SPACE, Told
from tuner import EpochEnded, Event, Note, TrialEnded, TrialStarted
from tuner.records import Values

WORKERS = 2
ENDLESS = 1_000_000
"""Trials: the budget ends the search, not their number."""


def search(told: Told, folder: Path, *, seed: int, epochs: int, train_images: int | None) -> None:
    """Search until the budget is spent. Raises Spent."""
    under_way: dict[int, Values] = {}

    def hear(event: Event) -> None:
        match event:
            case TrialStarted():
                under_way[event.number] = event.values
            case EpochEnded():
                if event.result.val_accuracy is None:
                    raise ValueError(f"epoch {event.result.epoch} was not validated")
                told.epoch(event.number, event.result.epoch, event.result.val_accuracy, under_way[event.number])
            case TrialEnded():
                told.ended(event.trial.number, event.trial.state, event.trial.val_accuracy, event.trial.values)
            case Note():
                print(event.text)
            case _:
                pass

    tuner.run_search(
        SPACE,
        refit=False,
        workers=WORKERS,
        trials=ENDLESS,
        epochs=epochs,
        seed=seed,
        out=folder / "out",
        storage=folder / "out" / "studies.db",  # whatever TUNER_STORAGE says
        set={} if train_images is None else {"search.train_images": train_images},
        progress=hear,
    )
