"""``tuner report``."""

from __future__ import annotations

from typing import Annotated

import typer

from tuner.cli.options import Json, Out, Quiet, Storage, Study
from tuner.console.signals import signals
from tuner.errors import InterruptedByUser, UsageError


def report(  # noqa: PLR0913  # every option is one parameter
    study: Study = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STUDY",
            help="Set STUDY beside it, once or more often: writes OUT/reports/compare-NAMES.html and nothing else.",
            show_default=False,
        ),
    ] = None,
    fractions: Annotated[
        bool,
        typer.Option(
            "--fractions",
            help="First train the winner on 5, 10, 20, 50 and 100 % of the training images: how many does it need?",
        ),
    ] = False,
    out: Out = "results",
    storage: Storage = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write a study's report.html, report.md, report.json and figures anew. Only --fractions trains; nothing is scored.

    It tells what the study and its run folder hold, also while a search runs.

    Example: tuner report cnn-1 --compare cnn-2
    """
    from tuner.console import screens
    from tuner.reporting.again import find_stories, measure_fractions_of, write_anew
    from tuner.runs import AGAIN, Outputs, disk_trouble_in_one_line, make_writable

    outputs = Outputs.of(out, storage)
    if fractions:
        with signals() as interruption, screens.progress(quiet=quiet or json) as observe:
            try:
                with disk_trouble_in_one_line(outputs.folder, AGAIN):
                    measure_fractions_of(outputs, study, interruption, observe)
            except KeyboardInterrupt:
                raise InterruptedByUser("Interrupted.", hint=AGAIN) from None
    if compare:
        told = find_stories(outputs, [study, *compare])
        if len(told) == 1:
            raise UsageError(
                f"--compare {compare[0]}: that is the study itself", hint="'tuner studies' lists the others"
            )
        from tuner.reporting.compare import REPORTS, write_comparison

        make_writable(outputs.folder / REPORTS)
        with disk_trouble_in_one_line(outputs.folder, AGAIN):
            page, document = write_comparison(outputs, told)
    else:
        with disk_trouble_in_one_line(outputs.folder, AGAIN):
            page, document = write_anew(outputs, study)
    if json:
        screens.print_json(document)
    else:
        screens.say(f"wrote {page}")
