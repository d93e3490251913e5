"""Write a model where the user wants it: in the formats asked for, each checked after writing, with labels and card."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuner.errors import ExportError
from tuner.evaluation.apart import apart
from tuner.export.bring import PICTURES, as_document
from tuner.export.card import model_card
from tuner.export.convert import convert
from tuner.export.runtimes import (
    FILES,
    LABELS,
    NEEDED,
    Pixels,
    Probabilities,
    install_hint,
    own_classes,
    probe,
)
from tuner.reporting.report import Document
from tuner.runs import folder_bytes, write_text
from tuner.space.hypermodel_file import HypermodelFile

CARD = "model_card.md"
NAMES = {"saved-model": "tf_saved_model", "onnx": "onnx", "litert": "litert"}
"""What Keras calls the formats that it converts to."""
CONVERTERS = {"onnx": ("onnx", "tf2onnx")}
"""What has to be installed to write a format, beside what it takes to use it."""
KERAS_LOADS = ("keras", "saved-model")
"""The formats whose runtime comes with Keras; those of the others are to run without it."""
NOTHING_LEFT = "nothing was left in the folder"
LARGEST_DIFFERENCE = 1e-3
"""Of a probability, between a format and the Keras model: more is another model. Measured: below 1e-6."""


@dataclass(frozen=True)
class Written:
    """One format in the folder, and how it did when it was loaded again by its own runtime."""

    format: str
    path: Path
    size: int
    """In bytes."""
    agreement: float | None
    """The share of the checked images of which it says the Keras model's class; None where no images were there."""
    largest_difference: float | None
    """Of a probability."""
    seconds_alone: float | None
    """An image by itself, median."""
    seconds_together: float | None
    """An image of a batch, median."""

    def as_document(self) -> dict[str, object]:
        """Return what ``--json`` prints of it."""
        return {**vars(self), "path": str(self.path)}


def export_model(  # noqa: PLR0913  # one verb with its whole sentence
    model: Path,
    found: Document,
    folder: Path,
    formats: Sequence[str],
    images: Pixels | None,
    tell: Callable[[str], None],
    hypermodel: HypermodelFile | None = None,
) -> list[Written]:
    """Write ``model`` (a Keras file) into ``folder`` in each of ``formats``, with ``labels.json`` and a model card.

    ``pictures.json`` beside them tells ``tuner predict`` how pictures are brought to its input, as ``found`` says, and
    beside a model of layers of a user's own lies the ``hypermodel``'s file, which defines them.

    Each is loaded again by its own runtime in a process of its own and has to predict ``images`` (uint8, of the
    validation split) as the Keras model does; None leaves that check out. ``found`` is for the card, as
    ``reporting.best.best_document`` returns it; each step is ``tell``-ed. Nothing is overwritten and no file is left
    half written. Raises ExportError.
    """
    if not zipfile.is_zipfile(model):
        raise ExportError(
            f"{model}: not a Keras model: damaged?", hint=f"'tuner search --resume --study {found['study']}'"
        )
    _check_packages(formats)
    own = own_classes(model) if hypermodel else ()
    layers = Path(hypermodel.path).name if hypermodel and own and "keras" in formats else None
    for name in (*(FILES[kind] for kind in formats), LABELS, CARD, PICTURES, *([layers] if layers else [])):
        if (folder / name).exists():
            raise ExportError(f"{folder / name} exists", hint="choose another folder, or remove it first")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _drafts(folder) as drafts:
            code = []
            if hypermodel and own:
                code = [str((drafts / "hypermodel.json").absolute())]
                write_text(Path(code[0]), json.dumps(dataclasses.asdict(hypermodel)))
            for kind in formats:
                tell(f"writing {FILES[kind]} …")
                _convert(model, kind, drafts / FILES[kind], code)
            written = _checked(model, drafts, formats, images, tell, code)
            for kind in formats:
                (drafts / FILES[kind]).replace(folder / FILES[kind])
        write_text(folder / LABELS, json.dumps(found["classes"], ensure_ascii=False) + "\n")
        if found.get("bring"):
            write_text(folder / PICTURES, json.dumps(as_document(found["bring"])) + "\n")
        if hypermodel and layers:
            write_text(folder / layers, hypermodel.text)
            found = {**found, "own_layers": {"file": layers, "classes": list(own)}}
        done = [Written(**{**vars(one), "path": folder / one.path.name}) for one in written]
        write_text(folder / CARD, model_card(found, done))
    except OSError as error:
        where = error.filename2 or error.filename or folder  # of a copy, the first is where it comes from
        raise ExportError(f"{where}: cannot be written: {error.strerror}", hint="choose another folder") from None
    return done


def beside_models(folder: Path) -> list[str]:
    """Return what lies in ``folder`` beside the models that were exported into it."""
    return [name for name in (LABELS, PICTURES, CARD) if (folder / name).exists()]


def _check_packages(formats: Sequence[str]) -> None:
    for kind in formats:
        wanted = dict.fromkeys(NEEDED[kind] + CONVERTERS.get(kind, ()))
        missing = [name for name in wanted if importlib.util.find_spec(name) is None]
        if missing:
            raise ExportError(
                f"--format {kind} needs {' and '.join(missing)}, not installed here", hint=install_hint(missing)
            )


@contextlib.contextmanager
def _drafts(folder: Path) -> Iterator[Path]:
    """Yield a folder on the same disk, which is gone afterwards with whatever is still in it."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".draft-") as name:
        yield Path(name)


def _convert(model: Path, kind: str, to: Path, code: Sequence[str] = ()) -> None:
    """Write ``model`` as ``kind``; ``code`` names the file, if any, that holds where its layers are from."""
    if kind == "keras":
        shutil.copyfile(model, to)
    else:
        arguments = [str(model.absolute()), NAMES[kind], str(to), *code]
        apart(convert, *arguments, what=f"writing {kind}", again=NOTHING_LEFT, error=ExportError, alone=True)


def _checked(  # noqa: PLR0913  # one verb with its whole sentence
    model: Path,
    drafts: Path,
    formats: Sequence[str],
    images: Pixels | None,
    tell: Callable[[str], None],
    code: Sequence[str],
) -> list[Written]:
    """Return how each draft predicts beside the model that was trained. Raises ExportError when one differs."""
    reference = None
    if images is not None:
        tell("asking the trained model …")
        reference = _probed("keras", model, images, code)[0]
    written = []
    for kind in formats:
        path = drafts / FILES[kind]
        size = folder_bytes(path) if path.is_dir() else path.stat().st_size
        if images is None or reference is None:
            written.append(Written(kind, path, size, None, None, None, None))
            continue
        tell(f"checking {FILES[kind]}: loaded again, {len(images):,} validation images …")
        probabilities, alone, together = _probed(kind, path, images, code)
        agreement = float((probabilities.argmax(axis=1) == reference.argmax(axis=1)).mean())
        difference = float(np.abs(probabilities - reference).max())
        if not difference <= LARGEST_DIFFERENCE:  # nor where it is no number
            raise ExportError(
                f"{kind}: what was written is another model: probabilities differ by up to {difference:.2g}",
                hint="please report it; nothing was left in the folder",
            )
        written.append(Written(kind, path, size, agreement, difference, alone, together))
    return written


def _probed(kind: str, path: Path, images: Pixels, code: Sequence[str]) -> tuple[Probabilities, float, float]:
    """Return the probabilities and the seconds an image, by the format's own runtime in a process of its own."""
    return apart(
        probe,
        str(path.absolute()),
        images,
        *code,
        what=f"loading {path.name} again",
        again=NOTHING_LEFT,
        error=ExportError,
        alone=kind not in KERAS_LOADS,
    )
