"""Spaces on the screen: a list of them, one as a tree, and what a look over it found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from tuner.console.words import plain_table
from tuner.reporting.sentences import duration as in_words
from tuner.space.contents import written_seconds
from tuner.space.parameters import Parameter, Space, describe, describe_when, written
from tuner.space.reader import SpaceFile
from tuner.space.settings import SearchSettings

if TYPE_CHECKING:
    from tuner.experiment.checkup import CheckUp


def show_spaces(console: Console, spaces: Sequence[SpaceFile]) -> None:
    """Print the built-in spaces."""
    table = plain_table("space", "parameters", "what it holds")
    for space_file in spaces:
        table.add_row(
            space_file.space.name, str(len(space_file.space.parameters)), escape(space_file.space.description)
        )
    console.print(table)
    console.print(
        "\n[dim]'tuner spaces show NAME' draws one; 'tuner spaces copy NAME mine.toml' starts one of your own.[/]"
    )


def show_space(console: Console, space_file: SpaceFile) -> None:
    """Draw a space: each parameter under the one that wakes it."""
    space = space_file.space
    tree = Tree(f"[bold]{escape(space.name)}[/] [dim]{escape(space.description)}[/]")
    _grow(tree, space)
    limits = {name: limit for name, limit in vars(space.limits).items() if limit is not None}
    if limits:
        tree.add("[bold]limits[/] " + ", ".join(f"{name} {limit:,}" for name, limit in limits.items()))
    if space.start_with:
        tree.add(f"[bold]start_with[/] {len(space.start_with)} known-good configuration(s)")
    defaults = vars(SearchSettings())
    changed = {name: value for name, value in vars(space_file.settings).items() if value != defaults[name]}
    if changed:
        if space_file.settings.time is not None:
            changed["time"] = written_seconds(space_file.settings.time)
        tree.add("[bold]search[/] " + ", ".join(f"{name} {escape(written(value))}" for name, value in changed.items()))
    console.print(tree)
    for line in space_file.dropped:
        console.print(f"[yellow]{escape(line)}.[/]", soft_wrap=True)


def _grow(tree: Tree, space: Space) -> None:
    """Put the parameters into ``tree``: one with several conditions hangs on the last of its parents."""
    branches: dict[str, Tree] = {}
    for name, parameter in space.parameters.items():
        parent = max(parameter.when, key=list(space.parameters).index, default=None)
        branches[name] = (tree if parent is None else branches[parent]).add(_line(name, parameter))


def _line(name: str, parameter: Parameter) -> str:
    when = f"  [cyan]when {escape(describe_when(parameter.when))}[/]" if parameter.when else ""
    kind = type(parameter).__name__.lower()
    return f"{escape(name)} [dim]{kind}[/] {escape(describe(parameter))}{when}"


def show_check(console: Console, name: str, found: CheckUp) -> None:
    """Print what a space can make, and what never happens in it."""
    refused = f"{found.refused} of them over the limits or impossible to build"
    verdict = f"[green]{escape(name)} is a good space.[/]" if found.good else f"{escape(name)} can be searched."
    console.print(f"{verdict} {found.sampled} random configurations, {refused}.")
    table = plain_table("network", "parameters", "multiply-adds", "a trial", "a refit", "Keras built it")
    for one in found.networks:
        cost = one.estimate.cost
        built = "" if one.built_parameters is None else f"with {one.built_parameters:,} parameters"
        table.add_row(
            one.estimate.which, f"{cost.parameters:,}", f"{cost.multiply_adds:,}",
            in_words(one.estimate.trial_seconds), in_words(one.estimate.refit_seconds), built,
        )  # fmt: skip
    console.print(table)
    height, width, channels = found.input_shape
    console.print(
        f"Sizes, and seconds that are guessed, are for {escape(found.data)}: {found.n_train:,} images of "
        f"{height}x{width}x{channels}, {found.n_classes} classes. --data names others; "
        f"'tuner search {escape(name)} --dry-run' says what a search takes.",
        soft_wrap=True,
    )
    for line in _remarks(found):
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)


def _remarks(found: CheckUp) -> list[str]:
    """Return a line for each thing that never happens."""
    lines = [f"{text}." for text in found.dropped]
    lines += [f"{name} is never there: {why}." for name, why in found.never_there.items()]
    lines += [
        f"{one.name} {one.part}: refused in all of {one.tries} random configurations each, "
        f"even the nearest: {one.reason}."
        for one in found.always_refused
    ]
    return lines + [f"start_with entry {number} is refused: {why}." for number, why in found.refused_entries.items()]
