"""``tuner studies``: what was searched, and housekeeping."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from tuner.cli.options import Json, Name, Out, Storage
from tuner.errors import UsageError

app = typer.Typer(invoke_without_command=True)


class Format(StrEnum):
    """What ``tuner studies export`` writes."""

    csv = "csv"
    json = "json"


@app.callback()
def list_all(context: typer.Context, out: Out = "results", storage: Storage = None, json: Json = False) -> None:
    """List, rename, delete and export studies; alone, it lists them: space, trials by state, best accuracy, start.

    Example: tuner studies --json
    """
    if context.invoked_subcommand:
        return
    from tuner.console import screens
    from tuner.runs import Outputs
    from tuner.search.storage import open_storage
    from tuner.search.study import list_studies

    rows = list_studies(open_storage(Outputs.of(out, storage), create=False))
    if json:
        screens.print_json([row.as_document() for row in rows])
    else:
        screens.show_studies(rows)


@app.command()
def rename(
    study: Name,
    to: Annotated[str, typer.Argument(help="Its new name.")],
    out: Out = "results",
    storage: Storage = None,
) -> None:
    """Give a study and its run folder another name.

    Example: tuner studies rename cnn-3 coats-again
    """
    from tuner.console import screens
    from tuner.experiment.housekeeping import rename_study
    from tuner.runs import Outputs

    outputs = Outputs.of(out, storage)
    rename_study(outputs, study, to)
    folder = outputs.run_folder(to)
    where = f"its run is in {folder}" if folder.is_dir() else "its run folder is not here: where it is, rename it, too"
    screens.say(f"{study} is now {to}; {where}")


@app.command()
def delete(
    study: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,  # an option
    out: Out = "results",
    storage: Storage = None,
) -> None:
    """Delete a study and its run folder: trials, checkpoints, model and report. Nothing brings them back.

    Example: tuner studies delete cnn-3
    """
    from tuner.console import screens
    from tuner.experiment.housekeeping import delete_study, what_goes
    from tuner.runs import Outputs

    outputs = Outputs.of(out, storage)
    what = what_goes(outputs, study)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"this would delete {what}", hint="--yes does it without asking")
        typer.confirm(f"Delete {what}?", abort=True)
    delete_study(outputs, study)
    screens.say(f"deleted {what}")


@app.command()
def export(
    study: Name,
    format_: Annotated[Format, typer.Option("--format", help="A table of trials, or all with curves.")] = Format.csv,
    out: Out = "results",
    storage: Storage = None,
) -> None:
    """Print a study's trials: one row a trial as CSV, or JSON with every epoch.

    Example: tuner studies export cnn-1 > trials.csv
    """
    from tuner.console import screens
    from tuner.experiment.housekeeping import exported
    from tuner.runs import Outputs

    screens.print_text(exported(Outputs.of(out, storage), study, as_json=format_ is Format.json))
