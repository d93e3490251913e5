"""Options that several commands share: they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.errors import UsageError

Out = Annotated[str, typer.Option("--out", envvar="TUNER_OUT", help="Folder for studies and runs.")]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        envvar="TUNER_STORAGE",
        help="Studies: an SQLite file, or postgresql+psycopg://USER@HOST/DATABASE.  [default: OUT/studies.db]",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]


def complete_study(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the studies that begin so, for the shell; nothing where there are none to be read."""
    from tuner.errors import TunerError
    from tuner.runs import Outputs
    from tuner.search.storage import open_storage
    from tuner.search.study import study_names

    out, storage = context.params.get("out") or "results", context.params.get("storage")
    try:
        return [
            name
            for name in study_names(open_storage(Outputs.of(out, storage), create=False))
            if name.startswith(incomplete)
        ]
    except TunerError:
        return []


def complete_start(context: typer.Context, incomplete: str) -> list[str]:
    """Return what ``--start-with`` can name, for the shell."""
    return [*(["baselines"] if "baselines".startswith(incomplete) else []), *complete_study(context, incomplete)]


def complete_space(incomplete: str) -> list[str]:
    """Return the built-in spaces and the .toml and .py files here that begin so, for the shell."""
    from tuner.space.library import builtin_names

    names = [*builtin_names(), *(str(path) for kind in ("toml", "py") for path in sorted(Path().glob(f"*.{kind}")))]
    return [name for name in names if name.startswith(incomplete)]


Study = Annotated[
    str | None,
    typer.Argument(help="The study; the latest one when left out.", show_default=False, autocompletion=complete_study),
]
Name = Annotated[str, typer.Argument(help="The study.", autocompletion=complete_study)]
DATA_HELP = (
    "a folder of IDX files, an .npz, train.csv[,test.csv], class folders of pictures (FOLDER[:HEIGHTxWIDTH][:grey]), "
    "keras:cifar10; Fashion-MNIST when left out."
)
Data = Annotated[str | None, typer.Option("--data", metavar="DATA", help=f"Images: {DATA_HELP}", show_default=False)]
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
