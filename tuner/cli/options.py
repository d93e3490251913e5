"""Options that several commands share: they mean the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

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
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change anything of the space, e.g. parameters.flip=true.",
        show_default=False,
    ),
]
