"""The command line. A command reads, makes one call, and hands the result to the console.

Nothing heavy is imported before a command runs: ``tuner --help`` loads neither TensorFlow nor Optuna, and a test
looks at ``sys.modules``.
"""

from __future__ import annotations

import sys

import typer

from tuner.cli import baselines, data, predict, report, results, search, spaces, studies
from tuner.errors import InterruptedByUser, TunerError, UsageError

app = typer.Typer(
    help="Hyperparameter search for Keras image classifiers, with an honest test score at the end.",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("search")(search.search)
app.command("best")(results.best)
app.command("predict")(predict.predict)
app.command("report")(report.report)
app.command("dashboard")(results.dashboard)
app.command("baselines")(baselines.baselines)
app.add_typer(studies.app, name="studies")
app.add_typer(spaces.app, name="spaces")
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command line; every error that a user can mend is one line and its own exit code.

    All that is wrong with a space file is a heading and a line each.
    """
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        outcome = app(arguments or ["--help"], prog_name="tuner", standalone_mode=False)
    except typer.TyperException as error:  # a usage error, or a file that cannot be opened
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "tuner"
        text = error.format_message() if hasattr(error, "format_message") else str(error)
        problem: TunerError = UsageError(f"{where}: {text.rstrip('.')}", hint=f"'{where} --help' lists what there is")
    except (typer.Abort, KeyboardInterrupt):
        problem = InterruptedByUser("Interrupted.")
    except typer.Exit as stop:
        return int(stop.exit_code)
    except TunerError as error:
        problem = error
    else:
        return outcome if isinstance(outcome, int) else 0
    first, *others = (" ".join(line.split()) for line in problem.lines)
    said = [first if isinstance(problem, InterruptedByUser) else f"error: {first}", *(f"  {line}" for line in others)]
    print("\n".join(said), file=sys.stderr)  # noqa: T201
    return problem.exit_code
