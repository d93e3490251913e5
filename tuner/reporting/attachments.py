"""The files of a run folder as Optuna Dashboard lists them: artifacts of their study, where they lie."""

from __future__ import annotations

import contextlib
import mimetypes
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from optuna.artifacts import FileSystemArtifactStore

from tuner.reporting.report import Document, read_report
from tuner.reporting.writing import PAGE, TABLES
from tuner.search.study import StudyFacts

_FIGURE = re.compile(r"!\[(?P<title>.*?)\]\(figures/(?P<name>[\w-]+\.png)\)\n\n\*\*.*?\*\* (?P<caption>.*)")
"""As ``markdown.as_markdown`` writes it."""


@dataclass(frozen=True)
class Attachment:
    """One file."""

    key: str
    """Another one whenever the file is written anew: no browser shows an old figure."""
    path: Path
    title: str = ""
    """Of a figure, in Markdown."""
    caption: str = ""

    @property
    def kind(self) -> str:
        """Return its MIME type."""
        return mimetypes.guess_type(self.path.name)[0] or "application/octet-stream"

    def address(self, study_id: int) -> str:
        """Return where the dashboard serves it."""
        return f"/artifacts/{study_id}/{self.key}"

    def as_document(self) -> Document:
        """Return what the dashboard lists of it."""
        return {"artifact_id": self.key, "filename": self.path.name, "mimetype": self.kind, "encoding": None}


def attachments_of(folder: Path, facts: StudyFacts) -> list[Attachment]:
    """Return what a run folder has to show of this very study: figures in the report's order, tables, the page.

    There is none before the report. Each file is written as a whole or not at all.
    """
    report = read_report(folder)
    if report is None or report.get("study_identity") != facts.identity:
        return []
    text = ""
    with contextlib.suppress(OSError, ValueError):
        text = (folder / "report.md").read_text("utf-8")
    figures = [(folder / "figures" / one["name"], one["title"], one["caption"]) for one in _FIGURE.finditer(text)]
    found = []
    for path, title, caption in (*figures, *((folder / name, "", "") for name in (*TABLES, PAGE))):
        with contextlib.suppress(OSError):
            stat = path.stat()
            content = f"{facts.identity}/{path.name}/{stat.st_mtime_ns}/{stat.st_size}"
            found.append(Attachment(str(uuid.uuid5(uuid.NAMESPACE_URL, content)), path, title, caption))
    return found


class Uploads(FileSystemArtifactStore):
    """What users upload in the dashboard, in a folder that the first of it makes."""

    def __init__(self, folder: Path) -> None:
        """Keep it in ``folder``."""
        super().__init__(folder)
        self._folder = folder

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keep one file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        super().write(artifact_id, content_body)
