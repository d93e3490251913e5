"""``tuner best`` and ``tuner dashboard``: looking at what searches found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.options import Json, Out, Quiet, Storage, Study
from tuner.console.signals import signals
from tuner.errors import InterruptedByUser


def best(  # noqa: PLR0913  # every option is one parameter
    study: Study = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the model, labels.json and model_card.md there.", show_default=False),
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAMES",
            help="What to write, with commas: keras, saved-model, onnx, litert. Each is loaded again and checked.",
        ),
    ] = "keras",
    trial: Annotated[
        int | None,
        typer.Option(min=0, help="Another complete trial than the best, as the search left it.", show_default=False),
    ] = None,
    ensemble: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="K",
            help="Train at most K of the kept configurations again and join them: a vote, scored once.",
            show_default=False,
        ),
    ] = None,
    out: Out = "results",
    storage: Storage = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Show a study's winner: its values, its validation and test accuracy, and how to rebuild it; or take it away.

    Example: tuner best cnn-1 --export my-model --format keras,onnx
    """
    from tuner.console import screens
    from tuner.export.away import Wanted, find, read_formats, take_away
    from tuner.export.formats import beside_models
    from tuner.runs import AGAIN, Outputs, disk_trouble_in_one_line

    outputs, wanted = Outputs.of(out, storage), Wanted(trial, ensemble, read_formats(format_))
    silent = quiet or json
    with signals() as interruption, screens.progress(quiet=silent or ensemble is None) as observe:
        try:
            with disk_trouble_in_one_line(outputs.folder, AGAIN):
                known, found = find(outputs, study, wanted, interruption, observe)
        except KeyboardInterrupt:
            raise InterruptedByUser("Interrupted.", hint=AGAIN) from None
    written, beside = [], []
    if export:
        with screens.working(quiet=silent) as tell:
            written = take_away(outputs, known, found, wanted, export, tell)
        beside = beside_models(export)
    if json:
        files = [str(one.path) for one in written] + [str(export / name) for name in beside if export]
        screens.print_json({**found, "exported": files, "formats": [one.as_document() for one in written]})
    else:
        screens.show_best(found, str(known.folder), written, beside)


def dashboard(  # noqa: PLR0913  # every option is one parameter
    study: Annotated[
        str | None, typer.Argument(help="The study; all of them when left out.", show_default=False)
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; it has no password and can delete studies.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 is a free one.")] = 8080,
    browser: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    out: Out = "results",
    storage: Storage = None,
) -> None:
    """Open Optuna Dashboard on a study, or on all, with notes, figures and tables; also while a search runs.

    Example: tuner dashboard cnn-1 --open
    """
    from tuner.console import screens
    from tuner.reporting.dashboard import listen, open_browser, serve
    from tuner.runs import Outputs
    from tuner.search.storage import open_storage
    from tuner.search.study import study_page

    outputs = Outputs.of(out, storage)
    opened = open_storage(outputs, create=False)
    page = study_page(opened, study)
    server = listen(host, port)
    screens.say(f"Optuna Dashboard: {server.address}{page}   (Ctrl-C ends it)")
    if host not in ("127.0.0.1", "localhost", "::1"):
        screens.say("Warning: anyone who reaches this address can read and delete your studies.")
    if browser:
        open_browser(server.address + page)
    serve(server, opened, outputs)
