"""``tuner data``: where the images are, and what is in them."""

from __future__ import annotations

from typing import Annotated

import typer

from tuner.cli.options import DATA_HELP, Json

app = typer.Typer(invoke_without_command=True)


@app.callback()
def list_places(context: typer.Context, json: Json = False) -> None:
    """Where Fashion-MNIST was looked for, and whether what is there is the published data; 'fetch' downloads it.

    Example: tuner data
    """
    if context.invoked_subcommand:
        return
    from tuner.console import screens
    from tuner.data.sources import places

    found = places()
    if json:
        screens.print_json(
            [{"what": p.what, "folder": str(p.folder) if p.folder else None, "found": p.found} for p in found]
        )
    else:
        screens.show_places(found)


@app.command()
def check(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help=f"What --data takes: {DATA_HELP}", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Check images before a search: sizes, classes with their counts, the split, and what is odd about them.

    What cannot be searched is one line, and the exit code is 4.

    Example: tuner data check photos:32
    """
    from tuner.console import screens
    from tuner.data.sources import find
    from tuner.data.splits import validation_images

    source = find(data, lambda text: None if json else screens.say(text))
    if json:
        classes = zip(source.class_names, source.train_class_counts, source.test_class_counts, strict=True)
        screens.print_json(
            {
                "name": source.name,
                "folder": str(source.folder),
                "digest": source.digest,
                "verified": source.verified,
                "input_shape": list(source.input_shape),
                **source.as_document(),
                "n_validation": validation_images(source),
                "classes": [{"name": name, "train": train, "test": test} for name, train, test in classes],
            }
        )
    else:
        screens.show_data(source)


@app.command()
def fetch(json: Json = False) -> None:
    """Download Fashion-MNIST (30 MB), unless it is there already.

    Example: tuner data fetch
    """
    from tuner.console import screens
    from tuner.data.sources import FASHION_MNIST, find

    source = find(FASHION_MNIST, lambda text: None if json else screens.say(text))
    if json:
        screens.print_json({"name": source.name, "folder": str(source.folder), "verified": source.verified})
    else:
        screens.say(f"{source.name} in {source.folder}, {'verified' if source.verified else 'not the published data'}.")
