"""``tuner spaces``: what can be searched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.options import Data, Json, Set, complete_space

app = typer.Typer(invoke_without_command=True)
Space = Annotated[
    str,
    typer.Argument(
        help="A built-in space, a .toml file or a KerasTuner hypermodel (.py).", autocompletion=complete_space
    ),
]


@app.callback()
def list_spaces(context: typer.Context, json: Json = False) -> None:
    """List, show, check and copy search spaces; alone, it lists the built-in ones.

    Example: tuner spaces
    """
    if context.invoked_subcommand:
        return
    from tuner.console import screens
    from tuner.space.library import builtin_names
    from tuner.space.reader import read_space

    found = [read_space(name) for name in builtin_names()]
    if json:
        screens.print_json([{"name": file.space.name, "description": file.space.description} for file in found])
    else:
        screens.show_spaces(found)


@app.command()
def show(space: Space, set_: Set = None, data: Data = None, json: Json = False) -> None:
    """Draw a space: its parameters, conditions, limits and search defaults.

    Of a hypermodel, what 20 builds of it ask for, for Fashion-MNIST's images or those of --data.

    Example: tuner spaces show cnn
    """
    from tuner.console import screens
    from tuner.data.sources import find
    from tuner.search.rehearsal import NO_IMAGES, explored
    from tuner.search.request import read_checked

    space_file = read_checked(space, tuple(set_ or ()))
    if space_file.space.hypermodel:
        with screens.working(quiet=json or not screens.on_terminal()) as tell:
            source = NO_IMAGES if data is None else find(data, tell)
            tell(f"Building {space} with values of all kinds …")
            space_file, _ = explored(space_file, tell, source)
    if json:
        screens.print_json(space_file.as_document())
    else:
        screens.show_space(space_file)


@app.command()
def check(space: Space, data: Data = None, set_: Set = None, json: Json = False) -> None:
    """Check a space: plan 200 configurations, build those with fewest and most parameters, and name what never happens.

    A hypermodel is built 20 times. Fashion-MNIST itself is not needed.

    Example: tuner spaces check mine.toml
    """
    from tuner.console import screens
    from tuner.data.sources import find
    from tuner.experiment.checkup import check_up
    from tuner.search.rehearsal import NO_IMAGES
    from tuner.search.request import read_checked

    space_file = read_checked(space, tuple(set_ or ()))
    with screens.working(quiet=json or not screens.on_terminal()) as tell:
        source = NO_IMAGES if data is None else find(data, tell)
        tell(f"Looking {space} over …")
        found = check_up(space_file, tell, source)
    if json:
        screens.print_json(found.as_document(space))
    else:
        screens.show_check(space, found)


@app.command()
def copy(
    space: Annotated[str, typer.Argument(help="A built-in space.")],
    file: Annotated[Path, typer.Argument(help="The .toml file to write; it must not exist.")],
) -> None:
    """Start a space of your own from a built-in one; beside it comes space.schema.json, by which editors complete it.

    Example: tuner spaces copy cnn mine.toml
    """
    from tuner.console import screens
    from tuner.space.library import copy_builtin

    schema = copy_builtin(space, file)
    screens.say(f"{file} is a copy of '{space}'. Edit it, then: tuner spaces check {file} && tuner search {file}")
    if schema is None:
        screens.say("Editors do not know its keys: a space.schema.json that is not tuner's lies there.")
    else:
        screens.say(f"{schema} tells editors its keys.")
