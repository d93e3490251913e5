"""``tuner baselines``: the published networks, trained and scored here."""

from __future__ import annotations

from typing import Annotated

import typer

from tuner.cli.options import Data, Json, Out, Quiet, Workers, read_workers
from tuner.console.signals import signals
from tuner.errors import InterruptedByUser


def baselines(  # noqa: PLR0913  # every option is one parameter
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Which ones; all when left out.", show_default=False),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs to train.  [default: as published]", show_default=False)
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Trainings of each.  [default: 3, or 1 where one takes long]", show_default=False),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List them with what is measured; train nothing.")] = False,
    data: Data = None,
    workers: Workers = None,
    out: Out = "results",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train the five published CNNs under their own settings, and score them on the official test set.

    What was measured already is kept, an interrupted training goes on where it was, and reports compare with it.

    Example: tuner baselines ruhi mahinmiyurcee --seeds 3
    """
    from tuner.console import screens
    from tuner.data.sources import find
    from tuner.evaluation.baselines import measure_baselines
    from tuner.evaluation.measured import folder_of, known_baselines
    from tuner.models.baselines import BASELINES, baseline_named
    from tuner.reporting.baselines import baseline_documents, write_table_of
    from tuner.runs import AGAIN, Outputs, disk_trouble_in_one_line

    chosen = [baseline_named(name) for name in dict.fromkeys(names or BASELINES)]
    outputs = Outputs.of(out, None)
    if list_:
        source = find(data, lambda text: None if json or quiet else screens.say(text))
        found = known_baselines(folder_of(outputs), source)
    else:
        with signals() as interruption, screens.progress(quiet=quiet or json) as observe:
            try:
                source, found = measure_baselines(
                    chosen,
                    outputs,
                    data,
                    epochs=epochs,
                    seeds=seeds,
                    workers=read_workers(workers) or "auto",
                    interruption=interruption,
                    observe=observe,
                )
            except KeyboardInterrupt:
                raise InterruptedByUser("Interrupted.", hint=AGAIN) from None
        with disk_trouble_in_one_line(folder_of(outputs), AGAIN):
            write_table_of(known_baselines(folder_of(outputs), source), folder_of(outputs), source)
    documents = baseline_documents(chosen, found, source)
    if json:
        screens.print_json(documents)
    else:
        screens.show_baselines(documents)
