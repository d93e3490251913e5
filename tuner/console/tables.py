"""Results and lists, printed once. Every function takes the console and finished facts."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from tuner.console.words import duration, state_text
from tuner.data.sources import Place
from tuner.reporting.report import Document
from tuner.reporting.sentences import (
    averaged_sentence,
    compared,
    counts_sentence,
    headline,
    of_commands,
    origin_sentence,
    p_of,
    p_text,
    percent,
    spread,
    value_text,
)
from tuner.search.study import StudyRow
from tuner.search.task import Survey
from tuner.space.parameters import describe, describe_when
from tuner.space.reader import SpaceFile
from tuner.space.settings import SearchSettings


def _table(*headers: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        table.add_column(header)
    return table


def show_result(console: Console, report: Document, folder: str) -> None:
    """Print what a search found: the answer first."""
    best, refit, seconds = report["best_trial"], report["refit"], report["wall_seconds"]
    console.print(f"\n[bold green]{headline(report)[0].upper()}{headline(report)[1:]}[/]")
    if refit:
        low, high = refit["interval_95"]
        seeds = ", ".join(percent(accuracy) for accuracy in refit["test_accuracies"])
        console.print(
            f"Trial {best['number']} trained again on all training images, {refit['epochs']} epochs; "
            f"by seed: {seeds}.\n95 % interval of the exported model: {100 * low:.2f} to {100 * high:.2f} %."
        )
        if averaged_sentence(report):
            console.print(averaged_sentence(report))
        if refit["note"]:
            console.print(f"[yellow]Note: {refit['note']}.[/]")
    reached = f"validation {percent(best['val_accuracy'])} after {best['epochs']} epochs"
    console.print(f"In the search: {reached}. {origin_sentence(best)}")
    show_values(console, best)
    if compared(report):
        table = _table("baseline", "published", "measured here", "ours", "p", "")
        for row in compared(report):
            gain = 100 * row["difference"]
            colour = "green" if gain > 0 else "red"
            table.add_row(
                row["name"],
                percent(row["published_test_accuracy"]),
                spread(row["measured_test_accuracy"], row["sd"]),
                f"[{colour}]{gain:+.2f}[/]",
                p_text(p_of(row)),
                f"[dim]{row['note']}[/]",
            )
        console.print(table)
    console.print(f"\n{counts_sentence(report)}")
    console.print(
        f"Search {duration(seconds['search'])}, refit {duration(seconds['refit'])}, "
        f"in all {duration(seconds['total'])}{of_commands(report)}. Everything is in {escape(folder)}"
    )


def show_values(console: Console, best: Document) -> None:
    """Print the winner's values in three columns."""
    cells = [f"[dim]{name}[/] {escape(value_text(value))}" for name, value in best["values"].items()]
    cells += [f"[dim]{name}[/] {best[name]:,}" for name in ("parameters", "multiply_adds") if best[name]]
    grid = Table.grid(padding=(0, 4, 0, 2))
    for start in range(0, len(cells), 3):
        grid.add_row(*cells[start : start + 3])
    console.print()
    console.print(grid)
    console.print()


def show_best(console: Console, found: Document, folder: str) -> None:
    """Print a study's winner and how to have it again."""
    best, refit = found["best_trial"], found["refit"]
    console.print(
        f"[bold]{found['study']}, trial {best['number']}[/]: validation {percent(best['val_accuracy'])} "
        f"after {best['epochs']} epochs"
    )
    if refit:
        low, high = refit["interval_95"]
        console.print(f"[bold green]{headline(found)}[/], 95 % interval {100 * low:.2f} to {100 * high:.2f} %")
    else:
        console.print(f"[yellow]{found['missing']}[/]")
    show_values(console, best)
    console.print(f"Searched by: {escape(found['command'])}", soft_wrap=True)
    if refit:
        console.print(
            f"The model is {escape(folder)}/model.keras; 'tuner best {found['study']} --export DIR' takes it away."
        )


def show_spaces(console: Console, spaces: Sequence[SpaceFile]) -> None:
    """Print the built-in spaces."""
    table = _table("space", "parameters", "what it holds")
    for space_file in spaces:
        table.add_row(
            space_file.space.name, str(len(space_file.space.parameters)), escape(space_file.space.description)
        )
    console.print(table)
    console.print(
        "\n[dim]'tuner spaces show NAME' draws one; 'tuner spaces copy NAME mine.toml' starts one of your own.[/]"
    )


def show_space(console: Console, space_file: SpaceFile) -> None:
    """Draw a space: parameters, each under the conditions that wake it."""
    space = space_file.space
    tree = Tree(f"[bold]{escape(space.name)}[/] [dim]{escape(space.description)}[/]")
    for name, parameter in space.parameters.items():
        when = f"  [cyan]when {describe_when(parameter.when)}[/]" if parameter.when else ""
        tree.add(f"{name} [dim]{type(parameter).__name__.lower()}[/] {describe(parameter)}{when}")
    limits = {name: limit for name, limit in vars(space.limits).items() if limit is not None}
    if limits:
        tree.add("[bold]limits[/] " + ", ".join(f"{name} {limit:,}" for name, limit in limits.items()))
    if space.start_with:
        tree.add(f"[bold]start_with[/] {len(space.start_with)} known-good configuration(s)")
    defaults = vars(SearchSettings())
    changed = {name: value for name, value in vars(space_file.settings).items() if value != defaults[name]}
    if changed:
        tree.add("[bold]search[/] " + ", ".join(f"{name} {value}" for name, value in changed.items()))
    console.print(tree)


def show_check(console: Console, name: str, found: Survey) -> None:
    """Print what a checked space can make."""
    table = _table("", "parameters", "multiply-adds")
    for which, cost in (("smallest", found.smallest), ("largest", found.largest)):
        table.add_row(which, f"{cost.parameters:,}", f"{cost.multiply_adds:,}")
    refused = f"{found.refused} of them over the limits or impossible to build"
    console.print(f"[green]{escape(name)} is a good space.[/] {found.sampled} random configurations, {refused}.")
    console.print(table)


def show_studies(console: Console, rows: Sequence[StudyRow]) -> None:
    """Print the studies."""
    if not rows:
        console.print("There is no study yet. 'tuner search' makes one.")
        return
    table = _table("study", "space", "trials", "best validation", "started")
    for row in rows:
        trials = ", ".join(f"{count} {state_text(state)}" for state, count in row.trials.items()) or "none"
        started = f"{row.started:%Y-%m-%d %H:%M}" if row.started else "–"
        table.add_row(row.name, row.space, trials, percent(row.best_val_accuracy), started)
    console.print(table)


def show_baselines(console: Console, rows: Sequence[Document]) -> None:
    """Print the published networks: published beside measured, and what each published figure is of."""
    table = _table("baseline", "published", "measured here", "seeds", "epochs", "parameters")
    for row in rows:
        measured, seeds = spread(row["measured_test_accuracy"], row["sd"]), f"{row['seeds'] or '–'}"
        published = percent(row["published_test_accuracy"])
        table.add_row(row["name"], published, measured, seeds, f"{row['epochs']}", f"{row['parameters']:,}")
    console.print(table)
    console.print()
    for row in rows:
        if row["note"]:
            console.print(f"[dim]{row['name']}: {row['note']}.[/]")


def show_places(console: Console, places: Sequence[Place]) -> None:
    """Print where Fashion-MNIST was looked for."""
    table = _table("looked in", "folder", "found")
    for place in places:
        colour = "green" if place.found == "verified" else "dim"
        table.add_row(place.what, escape(str(place.folder or "")), f"[{colour}]{place.found}[/]")
    console.print(table)
    if not any(place.found == "verified" for place in places):
        console.print("\nFashion-MNIST is nowhere yet: 'tuner data fetch' downloads it, as the first search would.")
