"""Write the winner where the user wants it: the file that was scored, its class names, and its card."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

from tuner.errors import ExportError
from tuner.export.card import model_card
from tuner.reporting.report import Document
from tuner.runs import draft_of, write_text

FILES = ("model.keras", "labels.json", "model_card.md")


def export_keras(run_folder: Path, found: Document, folder: Path) -> list[Path]:
    """Write ``model.keras``, ``labels.json`` and ``model_card.md`` into ``folder`` and return their paths.

    ``found`` is what ``reporting.best.find_best`` returns. Raises ExportError when there is no retrained model, or the
    folder cannot be written.
    """
    model = run_folder / "model.keras"
    if found["refit"] is None:
        raise ExportError(f"study '{found['study']}' has no retrained model yet", hint=found["missing"])
    if not zipfile.is_zipfile(model):
        raise ExportError(
            f"{model}: not a Keras model: damaged?", hint=f"'tuner search --resume --study {found['study']}'"
        )
    for name in FILES:
        if (folder / name).exists():
            raise ExportError(f"{folder / name} exists", hint="choose another folder, or remove it first")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with draft_of(folder / "model.keras") as draft:
            shutil.copyfile(model, draft)
        write_text(folder / "labels.json", json.dumps(found["classes"], ensure_ascii=False) + "\n")
        write_text(folder / "model_card.md", model_card(found))
    except OSError as error:
        where = error.filename or folder
        raise ExportError(f"{where}: cannot be written: {error.strerror}", hint="choose another folder") from None
    return [folder / name for name in FILES]
