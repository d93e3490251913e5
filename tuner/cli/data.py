"""``tuner data``: where the images are."""

from __future__ import annotations

import typer

from tuner.cli.options import Json

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
def fetch(json: Json = False) -> None:
    """Download Fashion-MNIST (30 MB), unless it is there already.

    Example: tuner data fetch
    """
    from tuner.console import screens
    from tuner.data.sources import find

    source = find(None, lambda text: None if json else screens.say(text))
    if json:
        screens.print_json({"name": source.name, "folder": str(source.folder), "verified": source.verified})
    else:
        screens.say(f"{source.name} in {source.folder}, {'verified' if source.verified else 'not the published data'}.")
