"""The doors that the command line knocks at: one function a screen, printing to the terminal or the pipe."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from tuner.console import spaces, tables
from tuner.console.live import LiveScreen
from tuner.console.plain import PlainLines
from tuner.console.words import counts_line
from tuner.data.sources import Place, Source
from tuner.records import Event, Observer, SearchStarted, TrialEnded, TrialStarted, TrialSummary, count_states
from tuner.reporting.report import Document
from tuner.reporting.sentences import percent, validation_word
from tuner.search.study import StudyRow, best_trial
from tuner.space.reader import SpaceFile

if TYPE_CHECKING:
    from tuner.experiment.checkup import CheckUp
    from tuner.experiment.forecast import Forecast
    from tuner.export.formats import Written


class Progress:
    """An observer that passes events on, and can sum up when the search is interrupted."""

    def __init__(self, show: Observer) -> None:
        """Pass every event on to ``show``."""
        self._show = show
        self._ended: list[TrialSummary] = []
        self._under_way: set[int] = set()
        self.study: str | None = None

    def __call__(self, event: Event) -> None:
        """Hear one event. A terminal that is gone does not end the search."""
        match event:
            case SearchStarted():
                self.study = event.study
                self._ended += [trial for trial in event.earlier if trial.state != "running"]
                self._under_way.update(trial.number for trial in event.earlier if trial.state == "running")
            case TrialStarted():
                self._under_way.add(event.number)
            case TrialEnded():
                self._under_way.discard(event.trial.number)
                self._ended.append(event.trial)
            case _:
                pass
        with contextlib.suppress(OSError):
            self._show(event)

    def summary(self, opening: str) -> str:
        """Return ``opening``, what became of the trials, and the best so far, in one line."""
        if not self.study:
            return opening
        counts = counts_line(count_states(self._ended))
        waiting = f" · {len(self._under_way)} to be taken up again" if self._under_way else ""
        best = best_trial(self._ended)
        said = (
            f" Best so far: trial {best.number}, {validation_word(best.metric)} {percent(best.val_accuracy)}."
            if best
            else ""
        )
        return f"{opening} {counts}{waiting}.{said}"


@contextlib.contextmanager
def progress(*, quiet: bool) -> Iterator[Progress]:
    """Yield the observer that fits: a live screen on a terminal or in a notebook, plain lines on a pipe, or nothing."""
    console = _console()
    if quiet:
        yield Progress(lambda _event: None)
    elif console.is_terminal or (console.is_jupyter and importlib.util.find_spec("ipywidgets")):
        with LiveScreen(console) as screen:
            yield Progress(screen)
    else:
        yield Progress(PlainLines(say))


@contextlib.contextmanager
def working(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yield what tells of the step in hand: beside a spinner on a terminal, a line on a pipe, nothing when quiet."""
    console = _console()
    if quiet:
        yield ignore
    elif console.is_terminal:
        with console.status("") as status:
            yield lambda text: status.update(escape(text))
    else:
        yield say


def on_terminal() -> bool:
    """Tell whether somebody looks on."""
    return _console().is_terminal


def say(text: str) -> None:
    """Print one plain line."""
    print(text, flush=True)  # noqa: T201  # this is where printing happens


def ignore(text: str) -> None:
    """Print nothing."""


def show_forecast(found: Forecast) -> None:
    """Print what a search would do."""
    tables.show_forecast(_console(), found)


def print_json(document: object) -> None:
    """Print one JSON document."""
    say(json.dumps(document, indent=2, ensure_ascii=False))


def print_text(text: str) -> None:
    """Print text that ends with its own line's end."""
    sys.stdout.write(text)


def show_result(report: Document, folder: str) -> None:
    """Print what a search found."""
    tables.show_result(_console(), report, folder)


def show_best(best: Document, folder: str, written: Sequence[Written], beside: Sequence[str]) -> None:
    """Print a study's winner, and what was exported, with what lies beside it."""
    tables.show_best(_console(), best, folder)
    if written:
        tables.show_exported(_console(), written, beside)


def show_spaces(found: list[SpaceFile]) -> None:
    """Print the built-in spaces."""
    spaces.show_spaces(_console(), found)


def show_space(space_file: SpaceFile) -> None:
    """Draw one space."""
    spaces.show_space(_console(), space_file)


def show_check(name: str, found: CheckUp) -> None:
    """Print what a space can make, and what never happens in it."""
    spaces.show_check(_console(), name, found)


def show_studies(rows: list[StudyRow]) -> None:
    """Print the studies."""
    tables.show_studies(_console(), rows)


def show_baselines(rows: list[Document]) -> None:
    """Show the published networks: published beside measured."""
    tables.show_baselines(_console(), rows)


def show_places(found: list[Place]) -> None:
    """Print where Fashion-MNIST was looked for."""
    tables.show_places(_console(), found)


def show_data(source: Source) -> None:
    """Print what a data set holds."""
    tables.show_data(_console(), source)


def show_predictions(rows: Sequence[Document]) -> None:
    """Show what a model said of each image."""
    tables.show_predictions(_console(), rows)


def print_csv(rows: Sequence[Document]) -> None:
    """Print one row an image: its name, and each likely class with the model's confidence."""
    n_top = len(rows[0]["top"])
    rest = [f"{what}_{place}" for place in range(2, n_top + 1) for what in ("label", "confidence")]
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["image", "label", "confidence", *rest])
    for row in rows:
        table.writerow([row["image"], *(cell for one in row["top"] for cell in (one["label"], one["confidence"]))])


def complain(what: str, lines: Sequence[str]) -> None:
    """Print lines on stderr that begin with ``what``: ``error`` or ``warning``."""
    for line in lines:
        print(f"{what}: {' '.join(line.split())}", file=sys.stderr)  # noqa: T201  # this is where printing happens


def _console() -> Console:
    return Console(highlight=False)
