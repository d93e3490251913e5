"""Results and lists, printed once. Every function takes the console and finished facts."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tuner.console.spaces import show_space
from tuner.console.words import duration, state_text
from tuner.console.words import plain_table as _table
from tuner.data.sources import Place, Source
from tuner.data.splits import validation_images
from tuner.records import VAL_ACCURACY
from tuner.reporting.report import Document
from tuner.reporting.sentences import (
    averaged_sentence,
    compared,
    counts_sentence,
    data_sentence,
    headline,
    judged,
    listed,
    of_commands,
    origin_sentence,
    p_of,
    p_text,
    percent,
    spread,
    validation_word,
    value_rows,
)
from tuner.reporting.sentences import (
    duration as in_words,
)
from tuner.search.study import StudyRow

if TYPE_CHECKING:
    from tuner.experiment.forecast import Forecast
    from tuner.export.formats import Written


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
        if data_sentence(report):
            console.print(escape(data_sentence(report)))
        if averaged_sentence(report):
            console.print(averaged_sentence(report))
        if refit["note"]:
            console.print(f"[yellow]Note: {refit['note']}.[/]")
    reached = f"{_reached(best)} after {best['epochs']} epochs"
    console.print(f"In the search: {reached}. {origin_sentence(best)}")
    show_values(console, best)
    if compared(report):
        table = _table("baseline", "published", "measured here", "ours", "p")
        for row in compared(report):
            gain = 100 * row["difference"]
            colour = "green" if gain > 0 else "red"
            table.add_row(
                row["name"],
                percent(row["published_test_accuracy"]),
                spread(row["measured_test_accuracy"], row["sd"]),
                f"[{colour}]{gain:+.2f}[/]",
                p_text(p_of(row)),
            )
        console.print(table)
        _print_notes(console, compared(report))
    console.print(f"\n{counts_sentence(report)}")
    console.print(
        f"Search {duration(seconds['search'])}, refit {duration(seconds['refit'])}, "
        f"in all {duration(seconds['total'])}{of_commands(report)}. Everything is in {escape(folder)}"
    )


def _reached(best: Document) -> str:
    return f"{validation_word(best.get('metric', VAL_ACCURACY))} {percent(judged(best))}"


def show_values(console: Console, best: Document) -> None:
    """Print the winner's values in three columns."""
    cells = [f"[dim]{escape(name)}[/] {escape(value)}" for name, value in value_rows(best)]
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
    balanced = best.get("metric", VAL_ACCURACY) != VAL_ACCURACY
    if ensemble := found.get("ensemble"):
        low, high = (100 * bound for bound in ensemble["interval_95"])
        console.print(
            f"[bold]{found['study']}, ensemble of {len(ensemble['members'])}[/]: [bold green]test accuracy "
            f"{percent(ensemble['test_accuracy'])}[/], 95 % interval {low:.2f} to {high:.2f} %"
        )
        table = _table("member", "weight", "validation, alone")
        for member in ensemble["members"]:
            table.add_row(f"trial {member['trial']}", f"{member['weight']:.2f}", percent(member["val_accuracy"]))
        console.print(table)
        console.print(
            f"Together they get {percent(ensemble['val_accuracy'])} of the validation images right that chose them"
            f"{', every class counting alike' * balanced}; "
            f"each was trained again on all training images, {ensemble['epochs']} epochs."
        )
        return
    console.print(f"[bold]{found['study']}, trial {best['number']}[/]: {_reached(best)} after {best['epochs']} epochs")
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


def show_forecast(console: Console, found: Forecast) -> None:
    """Print a space and what a search of it would cost."""
    show_space(console, found.space_file)
    settings, survey = found.settings, found.survey
    console.print(
        f"\n{survey.sampled} random configurations, {survey.refused} of them over the limits or impossible to build. "
        f"{settings.trial_epochs} epochs a trial, {settings.refit_epochs} a refit; {found.workers} workers."
    )
    table = _table("network", "parameters", "multiply-adds", "a trial", "a refit")
    for one in found.estimates:
        table.add_row(
            one.which, f"{one.cost.parameters:,}", f"{one.cost.multiply_adds:,}",
            in_words(one.trial_seconds), in_words(one.refit_seconds) if one.refit_seconds else "–",
        )  # fmt: skip
    console.print(table)
    if found.trials is None:
        total = settings.total_trials or f"At least {settings.patience + 1}"
        trials = f"{total} trials, all typical and trained in full: about {in_words(found.seconds)}."
    else:
        trials = (
            f"Within {in_words(found.seconds)}: about {found.trials} full trials of the typical size, then the refit."
        )
    console.print(
        f"{trials} Pruning makes room for more. The seconds are guessed from the speed of a matrix product here."
    )


def show_exported(console: Console, written: Sequence[Written], beside: Sequence[str]) -> None:
    """Print what was written, how each file did when it was loaded again, and which files lie beside them."""
    table = _table("wrote", "size", "as the Keras model", "an image alone", "in a batch")
    for one in written:
        alone, together = (
            "–" if seconds is None else f"{1000 * seconds:.2f} ms"
            for seconds in (one.seconds_alone, one.seconds_together)
        )
        checked = "not checked: the images are not here" if one.agreement is None else percent(one.agreement)
        table.add_row(escape(one.path.name), f"{one.size / 1e6:.2f} MB", checked, alone, together)
    console.print(table)
    console.print(f"They are in {escape(str(written[0].path.parent))}, with {listed(beside)}.")


def show_studies(console: Console, rows: Sequence[StudyRow]) -> None:
    """Print the studies."""
    if not rows:
        console.print("There is no study yet. 'tuner search' makes one.")
        return
    table = _table("study", "space", "trials", "best validation", "started")
    for row in rows:
        trials = ", ".join(f"{count} {state_text(state)}" for state, count in row.trials.items()) or "none"
        started = f"{row.started:%Y-%m-%d %H:%M}" if row.started else "–"
        best = percent(row.best_val_accuracy) + " balanced" * (row.metric != VAL_ACCURACY)
        table.add_row(row.name, row.space, trials, best, started)
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
    _print_notes(console, rows)


def _print_notes(console: Console, rows: Sequence[Document]) -> None:
    """Print what is to be known of each published figure."""
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


MOST_CLASSES = 120


def show_data(console: Console, source: Source) -> None:
    """Print what a data set holds, class by class, and what is odd about it."""
    height, width, channels = source.input_shape
    console.print(
        f"[bold]{escape(source.name)}[/] ({source.kind}{', verified' if source.verified else ''}): "
        f"{height}x{width}, {'grey' if channels == 1 else 'in colour'}, {len(source.class_names)} classes, "
        f"digest {source.digest}"
    )
    validate = validation_images(source)
    held = ", held out here" if source.held_out else ""
    console.print(
        f"{source.n_train - validate:,} images train, {validate:,} validate, {source.n_test:,} test{held}. "
        f"They are read from {escape(str(source.folder))}",
        soft_wrap=True,
    )
    table = _table("class", "training file", "test")
    rows = list(zip(source.class_names, source.train_class_counts, source.test_class_counts, strict=True))
    for name, train, test in rows[:MOST_CLASSES]:
        table.add_row(escape(name), f"{train:,}", f"{test:,}")
    console.print(table)
    if len(rows) > MOST_CLASSES:
        console.print(f"… and {len(rows) - MOST_CLASSES:,} more; --json lists all.")
    for note in source.notes:
        console.print(f"[dim]{escape(note)}[/]", soft_wrap=True)
    for warning in source.warnings:
        console.print(f"[yellow]warning: {escape(warning)}[/]", soft_wrap=True)


MOST_ROWS = 100
NAME_WIDTH = 28
LABEL_WIDTH = 20


def show_predictions(console: Console, rows: Sequence[Document]) -> None:
    """Print each image's likeliest classes; of very many images the first ones, and how often each class came out."""
    table = _table("image", "class", "confidence", "then")
    shown = rows[:MOST_ROWS]
    names = [row["image"] if len(row["image"]) <= NAME_WIDTH else f"…{row['image'][1 - NAME_WIDTH :]}" for row in shown]
    labels = [textwrap.fill(row["label"], LABEL_WIDTH) for row in shown]
    taken = max(map(len, names)) + max(map(len, labels)) + len("confidence") + 8  # with what is between the columns
    for name, label, row in zip(names, labels, shown, strict=True):
        # Broken here, between classes: Rich breaks within them, also at spaces that say not to.
        rest = [f"{one['label']} {percent(one['confidence'], 1)}".replace(" ", "\u00a0") for one in row["top"][1:]]
        then = textwrap.fill(", ".join(rest), max(20, console.width - taken))
        share = percent(row["confidence"], 1)
        table.add_row(escape(name), f"[bold]{escape(label)}[/]", share, f"[dim]{escape(then)}[/]")
    console.print(table)
    if len(rows) > MOST_ROWS:
        counts = Counter(row["label"] for row in rows).most_common()
        said = ", ".join(f"{count:,} {escape(label)}" for label, count in counts)
        console.print(f"\n… and {len(rows) - MOST_ROWS:,} more; --csv and --json list all. In all: {said}.")
