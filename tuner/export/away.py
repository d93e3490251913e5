"""Take a model away: which one is meant, where it is, and what it is checked with."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.data.sources import FASHION_MNIST, Source
from tuner.data.splits import Cut, read_images
from tuner.errors import ExportError, SearchError, UsageError
from tuner.evaluation.analysis import analyse
from tuner.evaluation.apart import apart
from tuner.evaluation.ensemble import Ensemble, make_ensemble
from tuner.evaluation.score import read_score
from tuner.export.bring import Way, way_of
from tuner.export.formats import Written, export_model
from tuner.export.rebuild import rebuild
from tuner.export.runtimes import FILES, Pixels
from tuner.records import Observer
from tuner.reporting.again import images_here
from tuner.reporting.best import Known, best_document, known_study, not_here
from tuner.reporting.report import Document
from tuner.reporting.verdict import PREDICTIONS
from tuner.runs import AGAIN, Interruption, Outputs, make_writable, resume_command, versions
from tuner.search.shelf import Shelf
from tuner.search.storage import alone

CHECKED_IMAGES = 1000
"""Of the validation split: a format has to predict them as the trained model does."""


@dataclass(frozen=True)
class Wanted:
    """Which model of a study, and in which formats; by default the winner's first refit."""

    trial: int | None = None
    ensemble: int | None = None
    formats: tuple[str, ...] = ("keras",)


def find(
    outputs: Outputs, name: str | None, wanted: Wanted, interruption: Interruption, observe: Observer
) -> tuple[Known, Document]:
    """Return a study and the document of the model that is meant; an ensemble is made when there is none.

    Raises StudyError, SearchError, UsageError; KeyboardInterrupt when the ensemble's training was interrupted.
    """
    if wanted.trial is not None and wanted.ensemble is not None:
        raise UsageError("--trial and --ensemble: one model at a time")
    known = known_study(outputs, name)
    document = best_document(outputs, known, wanted.trial)
    if wanted.ensemble is None:
        return known, document
    _see_run_folder(outputs, known)
    source = _images_of(known)
    make_writable(known.folder)
    with alone(outputs, known.name):
        made = make_ensemble(
            known.trials,
            known.facts,
            source,
            known.folder,
            size=wanted.ensemble,
            interruption=interruption,
            observe=observe,
        )
    return known, _with_ensemble(document, known, made)


def take_away(  # noqa: PLR0913  # one verb with its whole sentence
    outputs: Outputs, known: Known, document: Document, wanted: Wanted, folder: Path, tell: Callable[[str], None]
) -> list[Written]:
    """Export the model that ``find`` found, and ``tell`` each step. Raises ExportError."""
    _see_run_folder(outputs, known)
    source = images_here(known.facts)
    images = None if source is None else read_images(source).val[:CHECKED_IMAGES]
    if source is not None and not document["classes"]:  # the search has not reported yet
        about = {
            "data": source.name,
            "images": source.as_document(),
            "classes": list(source.class_names),
            "input_shape": list(source.input_shape),
        }
        document = {**document, **about, "versions": versions(), "seed": known.facts.settings.seed}
    document = {**document, "bring": _bring(document, source, images)}
    code = known.facts.hypermodel
    if wanted.ensemble is not None:
        model = known.folder / f"ensemble-{wanted.ensemble}" / "model.keras"
        return export_model(model, document, folder, wanted.formats, images, tell, code)
    if document["refit"]:
        return export_model(known.folder / "model.keras", document, folder, wanted.formats, images, tell, code)
    if wanted.trial is None:
        raise ExportError(f"study '{known.name}' has no retrained model yet", hint=document["missing"])
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "model.keras"
        tell(f"rebuilding trial {wanted.trial} …")
        _rebuild(outputs, known, wanted.trial, model)
        return export_model(model, document, folder, wanted.formats, images, tell, code)


def _see_run_folder(outputs: Outputs, known: Known) -> None:
    if not outputs.has_run(known.name, known.facts.identity):
        hint = "--out names the folder that it was searched in; its models are there"
        raise ExportError(not_here(outputs, known.name), hint=hint)


def _bring(document: Document, source: Source | None, images: Pixels | None) -> Way | None:
    """Return how pictures are brought to the model's input; None of Fashion-MNIST, as ``tuner predict`` does it."""
    if source.verified if source else document["data"] == FASHION_MNIST:
        return None
    if images is None or (source and source.kind == "pictures"):
        return "whole"
    return way_of(images)


def _rebuild(outputs: Outputs, known: Known, number: int, to: Path) -> None:
    settings, trial = known.facts.settings, known.trial(number)
    place = Path(Shelf(known.folder / "checkpoints", settings.keep).place(number))
    place = place if settings.folds == 1 else place / "fold-0"
    if not any(place.glob("epoch-*.ckpt")):
        raise ExportError(
            f"trial {number}: its weights were not kept (this search kept those of its {settings.keep} best)",
            hint=f"--keep N keeps more: '{resume_command(outputs, known.name)} --keep N' from now on",
        )
    cut = Cut(settings.train_images) if settings.folds == 1 else Cut(settings.train_images, fold=(0, settings.folds))
    arguments = (trial.values, known.facts.hypermodel, place, _images_of(known), cut, to)
    try:
        apart(rebuild, *arguments, what=f"rebuilding trial {number}", again=AGAIN)
    except SearchError as error:
        raise ExportError(error.message, hint="damaged checkpoints cannot be mended: choose another trial") from None


def _images_of(known: Known) -> Source:
    source = images_here(known.facts)
    if source is None:
        raise ExportError(
            f"study '{known.name}': its images are not on this machine",
            hint="bring them back to where they were ('tuner data fetch' for Fashion-MNIST)",
        )
    return source


def _with_ensemble(document: Document, known: Known, made: Ensemble) -> Document:
    """Return the document of an ensemble: its own figures in place of the winner's."""
    score = read_score(made.model.parent / PREDICTIONS)
    costs = [cost for member in made.members if (cost := known.trial(member.trial).cost)]
    return {
        **document,
        "refit": None,
        "missing": None,
        "analysis": analyse(score.probabilities[0], score.labels, document["classes"]) if score else None,
        "ensemble": {
            "members": [vars(member) for member in made.members],
            "val_accuracy": made.val_accuracy,
            "epochs": made.epochs,
            "test_accuracy": made.test_accuracy,
            "interval_95": list(made.interval_95),
            "n_test": made.n_test,
            "parameters": sum(cost.parameters for cost in costs),
            "multiply_adds": sum(cost.multiply_adds for cost in costs),
        },
    }


def read_formats(text: str) -> tuple[str, ...]:
    """Return the formats in a list with commas, each once. Raises UsageError."""
    found: Sequence[str] = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in found if name not in FILES]
    if unknown or not found:
        raise UsageError(f"--format {text}: {unknown[0] if unknown else 'nothing'} is none of {', '.join(FILES)}")
    return tuple(found)
