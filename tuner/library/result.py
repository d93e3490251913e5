"""What a search found, and the model taken away."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tuner.library.process import AnyPath, as_it_was, watched, where
from tuner.records import Observer, Values
from tuner.runs import Outputs


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """What a search found. Accuracies are fractions; those of the test set are None where nothing was retrained."""

    study: str
    folder: Path
    """The run folder, absolute: ``report.html``, ``trials.csv``, the figures and the rest."""
    report: dict[str, Any]
    """The document of ``report.json``: everything that is known of the result."""
    _outputs: Outputs

    @property
    def values(self) -> Values:
        """Return the winner's values by parameter name."""
        found: Values = self.report["best_trial"]["values"]
        return found

    @property
    def val_accuracy(self) -> float:
        """Return what the winner reached in the search, on images that it was not trained on, but was chosen by."""
        return float(self.report["best_trial"]["val_accuracy"])

    @property
    def test_accuracies(self) -> tuple[float, ...]:
        """Return the test accuracy of each refit seed, the exported model's first."""
        refit = self.report["refit"]
        return tuple(refit["test_accuracies"]) if refit else ()

    @property
    def test_accuracy(self) -> float | None:
        """Return the mean test accuracy over the refit seeds."""
        refit = self.report["refit"]
        return refit["test_accuracy_mean"] if refit else None

    @property
    def test_accuracy_sd(self) -> float | None:
        """Return the standard deviation over the refit seeds; None where there is one seed only."""
        refit = self.report["refit"]
        return refit["test_accuracy_sd"] if refit else None

    @property
    def interval_95(self) -> tuple[float, float] | None:
        """Return the 95 % interval (Wilson) of the exported model's test accuracy."""
        refit = self.report["refit"]
        return (refit["interval_95"][0], refit["interval_95"][1]) if refit else None

    @property
    def model(self) -> Path | None:
        """Return the retrained winner, first seed, as a Keras file: raw uint8 pixels in, probabilities out."""
        return self.folder / "model.keras" if self.report["refit"] else None

    @property
    def predictions(self) -> Path | None:
        """Return the .npz of the test ``probabilities`` (seeds, images, classes) and ``labels`` (images,)."""
        return self.folder / "predictions.npz" if self.report["refit"] else None

    @as_it_was()
    def export(
        self,
        to: AnyPath,
        formats: Sequence[Literal["keras", "saved-model", "onnx", "litert"]] = ("keras",),
        *,
        trial: int | None = None,
        ensemble: int | None = None,
        progress: bool | Observer = True,
    ) -> list[Path]:
        """Write the model into the folder ``to``, as ``tuner best --export`` does, and return the files.

        Beside it come ``labels.json`` and ``model_card.md``. Each format is loaded again by its own runtime, and has to
        say what the trained model says. ``trial`` is another complete trial than the winner, as the search left it;
        ``ensemble`` trains at most so many of the kept configurations again and joins them into one model. Raises
        ExportError, StudyError, UsageError.
        """
        from tuner.console import screens
        from tuner.export.away import Wanted, find, read_formats, take_away
        from tuner.export.formats import CARD
        from tuner.export.runtimes import LABELS
        from tuner.runs import AGAIN, disk_trouble_in_one_line

        folder, wanted = Path(to), Wanted(trial, ensemble, read_formats(",".join(formats)))
        watching = watched(ensemble is not None and progress)
        with watching as (_, observe, interruption), disk_trouble_in_one_line(self._outputs.folder, AGAIN):
            known, found = find(self._outputs, self.study, wanted, interruption, observe)
        with screens.working(quiet=progress is not True) as tell:
            written = take_away(self._outputs, known, found, wanted, folder, tell)
        return [*(one.path for one in written), folder / LABELS, folder / CARD]

    def __str__(self) -> str:
        """Return the answer in one sentence."""
        from tuner.reporting.sentences import headline, percent

        if self.interval_95 is None:
            return f"{self.study}: {headline(self.report)}"
        low, high = map(percent, self.interval_95)
        return f"{self.study}: {headline(self.report)}; 95 % interval of the exported model {low} to {high}"

    def __repr__(self) -> str:
        """Return the same, as a list shows it."""
        return f"<{self}>"

    def _repr_html_(self) -> str:
        """Return the answer and the winner's values, for a notebook."""
        from tuner.reporting.sentences import refit_sentence, validation_sentence, value_text

        said = [*([refit_sentence(self.report)] if self.report["refit"] else []), validation_sentence(self.report)]
        cells = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(value_text(value))}</td></tr>"
            for name, value in self.values.items()
        )
        return (
            f"<p><b>{html.escape(str(self))}</b><br>{html.escape(' '.join(said))}</p>"
            f"<details><summary>The winner's values</summary><table>{cells}</table></details>"
            f"<p>Everything is in {html.escape(str(self.folder))}</p>"
        )


@as_it_was()
def open_result(study: str | None = None, *, out: AnyPath | None = None, storage: AnyPath | None = None) -> Result:
    """Return the result of a study as of now, the latest study when none is named; also while it is searched.

    Raises StudyError when there is no such study, SearchError when none of its trials is complete.
    """
    from tuner.reporting.again import find_stories

    outputs = Outputs.of(*where(out, storage))
    (told,) = find_stories(outputs, [study])
    return result_of(outputs, told.story.report)


def result_of(outputs: Outputs, report: dict[str, Any]) -> Result:
    """Return a result that is found again from another working folder."""
    storage = f"sqlite:///{outputs.database.absolute()}" if outputs.database else outputs.storage
    there = Outputs(outputs.folder.absolute(), storage)
    return Result(report["study"], there.run_folder(report["study"]), report, there)
