"""``tuner predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.options import Json
from tuner.errors import DataError, UsageError


def predict(  # noqa: PLR0913  # every option is one parameter
    model: Annotated[
        Path, typer.Argument(help="A folder that 'tuner best --export' wrote, or a .keras file.", show_default=False)
    ],
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...", help="Pictures, .npz and IDX files, or folders of them.", show_default=False
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="Classes to show of each image.")] = 3,
    invert: Annotated[
        bool | None,
        typer.Option(
            "--invert/--no-invert",
            help="Negate every image, or none.  [default: those that are dark on a bright background]",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="The array of an .npz.  [default: the first that can be images]", show_default=False),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="One row an image on stdout, nothing else.")] = False,
    json: Json = False,
) -> int:
    """Tell what is on pictures of any size and colour: the likeliest classes with the model's confidence.

    They are brought to the model's input as Fashion-MNIST was made: trimmed, centred, grey, bright on dark; a model
    that learnt from class folders takes them whole. An image of the model's own size is taken as it is. A file that
    cannot be read is told on stderr, and the exit code is 4.

    Example: tuner predict my-model photo.jpg pictures/
    """
    if csv and json:
        raise UsageError("--csv and --json contradict each other", hint="choose one of them")
    from tuner.console import screens
    from tuner.export.predict import predict as ask

    answer = ask(model, images, top=top, invert=invert, key=key)
    screens.complain("error", answer.broken)
    screens.complain("warning", answer.warnings)
    rows = [prediction.as_document() for prediction in answer.found]
    if not rows:
        return DataError.exit_code
    if json:
        screens.print_json(rows)
    elif csv:
        screens.print_csv(rows)
    else:
        screens.show_predictions(rows)
    return DataError.exit_code if answer.broken else 0
