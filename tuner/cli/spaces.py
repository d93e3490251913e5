"""``tuner spaces``: what can be searched."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.options import Json, Set, complete_space
from tuner.errors import EnvironmentProblem, UsageError

app = typer.Typer(invoke_without_command=True)
Space = Annotated[str, typer.Argument(help="A built-in space or a .toml file.", autocompletion=complete_space)]


@app.callback()
def list_spaces(context: typer.Context, json: Json = False) -> None:
    """List, show, check and copy search spaces; alone, it lists the built-in ones.

    Example: tuner spaces
    """
    if context.invoked_subcommand:
        return
    from tuner.console import screens
    from tuner.space.reader import builtin_names, read_space

    found = [read_space(name) for name in builtin_names()]
    if json:
        screens.print_json([{"name": file.space.name, "description": file.space.description} for file in found])
    else:
        screens.show_spaces(found)


@app.command()
def show(space: Space, set_: Set = None, json: Json = False) -> None:
    """Draw a space: its parameters, conditions, limits and search defaults.

    Example: tuner spaces show cnn
    """
    from tuner.console import screens
    from tuner.search.request import read_checked

    space_file = read_checked(space, tuple(set_ or ()))
    if json:
        screens.print_json(space_file.as_document())
    else:
        screens.show_space(space_file)


@app.command()
def check(space: Space, set_: Set = None, json: Json = False) -> None:
    """Check a space: read it, sample 200 configurations, and say how large their networks are.

    Example: tuner spaces check mine.toml
    """
    from tuner.console import screens
    from tuner.search.request import read_checked
    from tuner.search.task import survey

    found = survey(read_checked(space, tuple(set_ or ())).space)
    if json:
        screens.print_json(dataclasses.asdict(found))
    else:
        screens.show_check(space, found)


@app.command()
def copy(
    space: Annotated[str, typer.Argument(help="A built-in space.")],
    file: Annotated[Path, typer.Argument(help="The .toml file to write; it must not exist.")],
) -> None:
    """Start a space of your own from a built-in one.

    Example: tuner spaces copy cnn mine.toml
    """
    from tuner.console import screens
    from tuner.space.reader import builtin_text

    if file.suffix != ".toml":
        raise UsageError(f"{file}: a space file ends in .toml")
    text = builtin_text(space)
    try:
        with file.open("x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError:
        raise UsageError(f"{file} exists", hint="name another file, or remove it first") from None
    except OSError as error:
        raise EnvironmentProblem(f"{file}: cannot write there: {error.strerror}") from None
    screens.say(f"{file} is a copy of '{space}'. Edit it, then: tuner spaces check {file} && tuner search {file}")
