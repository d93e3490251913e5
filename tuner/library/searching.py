"""``run_search``: what ``tuner search`` does."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from tuner.library.process import AnyPath, as_it_was, watched, where
from tuner.library.result import Result, result_of
from tuner.records import Observer
from tuner.runs import Outputs, auto_workers, typed, without_password

if TYPE_CHECKING:
    from tuner.search.request import Request


@as_it_was()
def run_search(  # noqa: PLR0913  # the options of the command, by their names
    space: AnyPath | None = None,
    *,
    study: str | None = None,
    trials: int | None = None,
    time: float | str | None = None,
    epochs: int | None = None,
    data: AnyPath | None = None,
    workers: int | Literal["auto"] | None = None,
    executor: Literal["local", "ray"] | None = None,
    sampler: Literal["tpe", "random", "qmc", "grid"] | None = None,
    metric: Literal["val_accuracy", "val_balanced_accuracy"] | None = None,
    pruner: Literal["asha", "hyperband", "median", "none"] | None = None,
    seed: int | None = None,
    out: AnyPath | None = None,
    storage: AnyPath | None = None,
    refit_epochs: int | None = None,
    refit_seeds: int | None = None,
    top: int | None = None,
    refit: bool = True,
    deterministic: bool = False,
    keep: int | None = None,
    start_with: str | None = None,
    resume: bool = False,
    set: Mapping[str, object] | None = None,  # noqa: A002  # as the command calls it
    progress: bool | Observer = True,
) -> Result:
    """Search a space, retrain the winner, score it once on the test set, and compare it with the baselines.

    What is None is left to the space, or to the study that is resumed::

        result = tuner.run_search("cnn", time="45m", seed=0)

    ``space``         a built-in space, a .toml file, or a KerasTuner hypermodel: FILE.py or FILE.py:NAME; ``cnn``
    ``study``         name of the study; SPACE-N
    ``trials``        total trials of the study; 30, unless ``time`` is given
    ``time``          wall clock of the whole call: seconds, or ``"45m"``, ``"1h30m"``
    ``epochs``        of a full trial
    ``data``          images: a folder, an .npz, a CSV, class folders of pictures, ``keras:NAME``; Fashion-MNIST
    ``workers``       worker processes, one thread each; ``"auto"`` is one a core
    ``executor``      where they run: here, or on a Ray cluster
    ``sampler``       which values next
    ``metric``        what trials are judged by
    ``pruner``        which trials go on
    ``seed``          all randomness derives from it
    ``out``           folder for studies and runs; ``TUNER_OUT``, or ``results``
    ``storage``       an SQLite file or a PostgreSQL URL; ``TUNER_STORAGE``, or ``studies.db`` in ``out``
    ``refit_epochs``  that the winner trains; ``refit_seeds``: how often
    ``top``           judge so many of the best trials again from fresh seeds
    ``refit``         False only searches: nothing is retrained or scored
    ``deterministic`` the same study whatever the machine's timing; with ``trials``
    ``keep``          keep the checkpoints of so many of the best trials
    ``start_with``    what a new study tries first: ``"baselines"``, or the best of the study of that name
    ``resume``        go on with the study that exists, or the latest one
    ``set``           anything of the space by its dotted path: ``{"search.train_images": 10_000}``
    ``progress``      True shows what the command shows, False nothing; a function is called with each event

    Raises the errors of this package, and KeyboardInterrupt after Ctrl-C, between two epochs: nothing is lost, and
    ``resume=True`` goes on. An exception of ``progress`` ends the search in the same way, at once.
    """
    said = locals()
    from tuner.experiment import run_search as search
    from tuner.search.request import Request
    from tuner.space.overlay import change_text
    from tuner.space.settings import SearchSettings

    auto_workers.cache_clear()  # a notebook lives for days, and its memory fills
    names = [field.name for field in dataclasses.fields(SearchSettings) if field.name in said]
    folder, database = where(out, storage)
    request = Request(
        space=None if space is None else os.fspath(space),
        study=study,
        data=None if data is None else os.fspath(data),
        out=folder,
        storage=database,
        resume=resume,
        refit=refit,
        changes=tuple(change_text(path, value) for path, value in (set or {}).items()),
        settings={
            **{name: said[name] for name in names},
            "time": _seconds(time),
            "deterministic": deterministic or None,
        },
        start_with=start_with,
    )
    request = dataclasses.replace(request, command=_typed(request))
    with watched(progress) as (shown, observe, interruption):
        try:
            report = search(request, observe, interruption)
        except KeyboardInterrupt:
            again = f" run_search(study={shown.study!r}, resume=True, …) goes on with it." if shown.study else ""
            raise KeyboardInterrupt(shown.summary("Interrupted.") + again) from None
    return result_of(Outputs.of(folder, database), report)


def _seconds(time: float | str | None) -> float | None:
    from tuner.space.contents import parse_seconds

    return parse_seconds(time) if isinstance(time, str) else time


def _typed(request: Request) -> str:
    """Return the command that asks the same, which the study remembers."""
    words = ["search", *([request.space] if request.space else []), *(["--resume"] if request.resume else [])]
    options = {"study": request.study, "data": request.data, **request.settings, "start_with": request.start_with}
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is not None and value is not False:
            words += [option] if value is True else [option, f"{value}"]
    words += [word for change in request.changes for word in ("--set", change)]
    words += [] if request.refit else ["--no-refit"]
    return typed(Outputs.of(request.out, request.storage), *map(without_password, words))
