"""``tuner best``, ``tuner studies`` and ``tuner dashboard``: looking at what searches found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.options import Json, Out, Storage, Study


def best(  # every option is one parameter
    study: Study = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write model.keras, labels.json and model_card.md there.", show_default=False),
    ] = None,
    out: Out = "results",
    storage: Storage = None,
    json: Json = False,
) -> None:
    """Show a study's winner: its values, its validation and test accuracy, and how to rebuild it.

    Example: tuner best cnn-1 --export my-model
    """
    from tuner.console import screens
    from tuner.export.formats import export_keras
    from tuner.reporting.best import find_best
    from tuner.runs import Outputs

    outputs = Outputs.of(out, storage)
    found = find_best(outputs, study)
    folder = outputs.run_folder(found["study"])
    written = [str(path) for path in export_keras(folder, found, export)] if export else []
    if json:
        screens.print_json({**found, "exported": written})
    else:
        screens.show_best(found, str(folder), written)


def studies(out: Out = "results", storage: Storage = None, json: Json = False) -> None:
    """List the studies: space, trials by state, best validation accuracy, start.

    Example: tuner studies --json
    """
    from tuner.console import screens
    from tuner.runs import Outputs
    from tuner.search.storage import open_storage
    from tuner.search.study import list_studies

    rows = list_studies(open_storage(Outputs.of(out, storage), create=False))
    if json:
        screens.print_json([row.as_document() for row in rows])
    else:
        screens.show_studies(rows)


def dashboard(
    study: Study = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; it has no password and can delete studies.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8080,
    out: Out = "results",
    storage: Storage = None,
) -> None:
    """Open Optuna Dashboard on the studies, also while a search runs.

    Example: tuner dashboard --port 8081
    """
    from tuner.console import screens
    from tuner.reporting.dashboard import check_port, serve
    from tuner.runs import Outputs
    from tuner.search.storage import open_storage
    from tuner.search.study import study_page

    opened = open_storage(Outputs.of(out, storage), create=False)
    page = study_page(opened, study)
    check_port(host, port)
    screens.say(f"Optuna Dashboard: http://{host}:{port}{page}   (Ctrl-C ends it)")
    if host not in ("127.0.0.1", "localhost", "::1"):
        screens.say("Warning: anyone who reaches this address can read and delete your studies.")
    serve(opened, host, port)
