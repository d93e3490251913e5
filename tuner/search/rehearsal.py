"""A hypermodel built before anything is searched: whether it can be, what it makes, and which values it asks for."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import optuna

from tuner.data.sources import FASHION_CLASSES, FASHION_MNIST, Source
from tuner.errors import SearchError, SpaceError
from tuner.records import Cost, Note, Observer, Value, Values
from tuner.search.asked import Names
from tuner.search.crew import Crew
from tuner.search.executors.local import LocalExecutor
from tuner.search.messages import Built, Failed, Lost, Suggest, TrainJob
from tuner.search.task import FASHION_SHAPE, Drawn, Rehearsed
from tuner.space.asked import Asked
from tuner.space.parameters import Parameter, Space
from tuner.space.reader import SpaceFile
from tuner.space.settings import SearchSettings

REHEARSAL = -1
DRAWS = 20
"""Random configurations that are built to learn a hypermodel's space."""
NO_IMAGES = Source(
    FASHION_MNIST, Path(), "", FASHION_SHAPE, FASHION_CLASSES, 60_000, 10_000, (1000,) * 10, (6000,) * 10
)
"""What stands for the images where a network is built, and nothing trained."""


def by_default(asked: Asked) -> Value:
    """Return the value that a hypermodel names itself."""
    return asked.default


def rehearse(crew: Crew, space: Space, source: Source, answer: Callable[[Asked], Value] = by_default) -> Rehearsed:
    """Let a worker build ``space``'s hypermodel once. Raises SpaceError when it cannot be built, SearchError."""
    while not crew.free:
        crew.hear()
    crew.hand(TrainJob(REHEARSAL, {}, source, epochs=0, seed=0, hypermodel=space.hypermodel))
    values: Values = {}
    while True:
        for number, message in crew.hear():
            if number != REHEARSAL:
                continue
            match message:
                case Suggest():
                    values[message.asked.name] = answer(message.asked)
                    crew.tell(REHEARSAL, values[message.asked.name])
                case Built():
                    crew.drop(REHEARSAL)
                    return Rehearsed(values, message.cost or Cost(0, 0), message.own_fit, message.contract)
                case Failed():
                    raise SpaceError(message.reason, hint=message.hint)
                case Lost():
                    raise SearchError(f"{space.name} cannot be built: {message.reason}", hint="is it too large?")
                case _:
                    pass


def check_settings(rehearsed: Rehearsed, settings: SearchSettings) -> None:
    """Raise SpaceError when a hypermodel cannot be searched as it is asked for."""
    if not rehearsed.own_fit:
        return
    if settings.folds > 1:
        said = "a hypermodel with a fit of its own decides how long it trains: its folds cannot be told apart"
        raise SpaceError(said, hint="--set search.folds=1")
    if settings.deterministic:
        said = "a hypermodel with a fit of its own asks for values while it trains: that is a matter of timing"
        raise SpaceError(said, hint="leave --deterministic out")


def explored(
    space_file: SpaceFile, tell: Callable[[str], None], source: Source = NO_IMAGES
) -> tuple[SpaceFile, list[Drawn]]:
    """Return a hypermodel's space with the parameters that some builds ask for, and what became of the builds.

    The first build is of its defaults, the others of random values. Raises SpaceError when the first cannot be built.
    """
    found: dict[str, Parameter] = {}
    names, random = Names(), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn: list[Drawn] = []
    with tempfile.TemporaryDirectory() as logs, contextlib.closing(LocalExecutor(Path(logs))) as executor:
        crew = Crew(executor, 1, heartbeat=SearchSettings().heartbeat, observe=_notes_to(tell))
        for number in range(DRAWS):
            trial = random.ask() if number else None

            def answer(asked: Asked, trial: optuna.Trial | None = trial) -> Value:
                name = asked.name if found.get(asked.name, asked.parameter) == asked.parameter else asked.key
                found[name] = asked.parameter
                return asked.default if trial is None else names.draw(asked, trial)[1]

            try:
                built = rehearse(crew, space_file.space, source, answer)
                drawn.append(Drawn(built.values, built.cost, space_file.space.limits.broken_by(built.cost)[0]))
            except SpaceError as error:
                if trial is None:
                    raise
                drawn.append(Drawn({}, None, error.message))
    return space_file.with_parameters(found), drawn


def _notes_to(tell: Callable[[str], None]) -> Observer:
    return lambda event: tell(event.text) if isinstance(event, Note) else None
