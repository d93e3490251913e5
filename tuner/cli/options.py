"""Options that several commands share: they mean the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from tuner.errors import UsageError

Out = Annotated[str, typer.Option("--out", envvar="TUNER_OUT", help="Folder for studies and runs.")]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        envvar="TUNER_STORAGE",
        help="Study storage: an SQLite file or an SQLAlchemy URL.  [default: OUT/studies.db]",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Study = Annotated[str | None, typer.Argument(help="The study; the latest one when left out.", show_default=False)]
Data = Annotated[
    str | None,
    typer.Option("--data", help="A folder of four IDX files; Fashion-MNIST when left out.", show_default=False),
]
Workers = Annotated[
    str | None,
    typer.Option(help="Worker processes, one thread each; auto is one a core.", metavar="N|auto", show_default=False),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only the result.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change anything of the space, e.g. parameters.flip=true.",
        show_default=False,
    ),
]


def read_workers(text: str | None) -> int | str | None:
    """Return what ``--workers`` says. Raises UsageError."""
    if text is None or text == "auto":
        return text
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--workers {text}: neither a number above 0 nor 'auto'")
    return int(text)
