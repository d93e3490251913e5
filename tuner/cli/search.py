"""``tuner search``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tuner.cli.options import (
    Data,
    Json,
    Out,
    Quiet,
    Set,
    Storage,
    Workers,
    complete_space,
    complete_start,
    complete_study,
    read_workers,
)
from tuner.console.signals import signals
from tuner.errors import InterruptedByUser, SpaceError, UsageError

if TYPE_CHECKING:
    from tuner.search.request import Request


def search(  # noqa: PLR0913  # every option is one parameter
    space: Annotated[
        str | None,
        typer.Argument(
            help="A built-in space, a .toml file, or a KerasTuner hypermodel: FILE.py or FILE.py:NAME.  [default: cnn]",
            show_default=False,
            autocompletion=complete_space,
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(help="Name of the study.  [default: SPACE-N]", show_default=False, autocompletion=complete_study),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Total trials of the study.  [default: 30, unless --time]", show_default=False),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(help="Wall clock of the whole command: 45m, 1h30m, 600s.", metavar="TIME", show_default=False),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of a full trial.", show_default=False)] = None,
    data: Data = None,
    workers: Workers = None,
    executor: Annotated[
        Literal["local", "ray"] | None,
        typer.Option(
            help="Where workers run: here, or on a Ray cluster (--set search.ray_address=…).", show_default=False
        ),
    ] = None,
    sampler: Annotated[
        Literal["tpe", "random", "qmc", "grid"] | None, typer.Option(help="Which values next.", show_default=False)
    ] = None,
    metric: Annotated[
        Literal["val_accuracy", "val_balanced_accuracy"] | None,
        typer.Option(help="What trials are judged by: balanced counts every class alike.", show_default=False),
    ] = None,
    pruner: Annotated[
        Literal["asha", "hyperband", "median", "none"] | None,
        typer.Option(help="Which trials go on.", show_default=False),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="All randomness derives from it.", show_default=False)] = None,
    out: Out = "results",
    storage: Storage = None,
    refit_epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs that the winner trains.", show_default=False)
    ] = None,
    refit_seeds: Annotated[
        int | None, typer.Option(min=1, help="How often the winner trains.", show_default=False)
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="Judge so many of the best trials again from fresh seeds.", show_default=False),
    ] = None,
    no_refit: Annotated[bool, typer.Option("--no-refit", help="Search only: retrain and score nothing.")] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same study whatever the machine's timing; with --trials.")
    ] = False,
    keep: Annotated[
        int | None, typer.Option(min=0, help="Keep the checkpoints of so many of the best trials.", show_default=False)
    ] = None,
    start_with: Annotated[
        str | None,
        typer.Option(
            metavar="baselines|STUDY",
            help="Try first: the points nearest to the published networks, or the best 5 of a study.",
            show_default=False,
            autocompletion=complete_start,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a study that exists.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the space and what the search would cost, and train nothing.")
    ] = False,
    set_: Set = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Search a space, retrain the winner, score it once on the test set, and compare it with the baselines.

    Example: tuner search cnn --time 45m --seed 0
    """
    from tuner.console import screens
    from tuner.experiment import run_search
    from tuner.runs import Outputs, resume_command
    from tuner.search.request import Request

    if deterministic and time:
        raise UsageError("--deterministic --time: what fits into a time depends on the machine", hint="use --trials N")
    settings = {
        "trials": trials,
        "time": _seconds(time),
        "epochs": epochs,
        "workers": read_workers(workers),
        "executor": executor,
        "metric": metric,
        "sampler": sampler,
        "pruner": pruner,
        "seed": seed,
        "refit_epochs": refit_epochs,
        "refit_seeds": refit_seeds,
        "top": top,
        "deterministic": deterministic or None,
        "keep": keep,
    }
    request = Request(
        space=space,
        study=study,
        data=data,
        out=out,
        storage=storage,
        resume=resume,
        refit=not no_refit,
        changes=tuple(set_ or ()),
        settings=dict(settings),
        start_with=start_with,
    )
    if dry_run:
        _show_forecast(request, quiet=quiet, json=json)
        return
    with signals() as interruption, screens.progress(quiet=quiet or json) as observe:
        try:
            report = run_search(request, observe, interruption)
        except KeyboardInterrupt:
            again = "nothing was started"
            if observe.study:
                more = ["--no-refit"] if no_refit else []
                again = f"'{resume_command(Outputs.of(out, storage), observe.study, *more)}' goes on with it"
            raise InterruptedByUser(observe.summary("Interrupted."), hint=again) from None
    if json:
        screens.print_json(report)
    else:
        screens.show_result(report, str(Outputs.of(out, storage).run_folder(report["study"])))


def _show_forecast(request: Request, *, quiet: bool, json: bool) -> None:
    from tuner.console import screens
    from tuner.experiment.forecast import forecast

    found = forecast(request, screens.ignore if quiet or json else screens.say)
    if json:
        screens.print_json(found.as_document())
    else:
        screens.show_forecast(found)


def _seconds(text: str | None) -> float | None:
    from tuner.space.contents import parse_seconds

    try:
        return None if text is None else parse_seconds(text)
    except SpaceError as error:
        raise UsageError(f"--{error.message}", hint=error.hint) from None
