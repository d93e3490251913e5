"""Write what is generated: tables in README.md and docs, docs/commands.md, the schema of spaces; ``--check`` compares.

README.md and docs/spaces.md hold tables between marks, ``<!-- NAME -->`` and ``<!-- /NAME -->``: the reference search,
the strategies as replayed, the published networks as measured, the commands, the settings. docs/commands.md holds the
help of every command, search_spaces/space.schema.json what a space may hold.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from tuner.cli import app
from tuner.reporting.sentences import compared, p_of, p_text, percent, spread
from tuner.space.schema import SCHEMA_NAME, docs_of, schema_text
from tuner.space.settings import SearchSettings
from tuner.training.configuration import FAMILIES

TOP = Path(__file__).resolve().parent.parent
HOUR = TOP / "results" / "reference" / "2026-11-21-hour" / "report.json"
STRATEGIES = TOP / "results" / "reference" / "2026-11-30-strategies" / "peers"
WIDTH = 100


def main() -> None:
    """Write the files, or check them."""
    made = {
        TOP / "README.md": _readme(),
        TOP / "docs" / "spaces.md": _filled(TOP / "docs" / "spaces.md", {"settings": _settings_table()}),
        TOP / "docs" / "commands.md": _commands_page(),
        TOP / "search_spaces" / SCHEMA_NAME: schema_text(FAMILIES),
    }
    if "--check" in sys.argv:
        stale = [path.name for path, text in made.items() if not path.exists() or path.read_text("utf-8") != text]
        sys.exit(f"{', '.join(stale)}: not as generated: python benchmarks/readme.py" if stale else 0)
    for path, text in made.items():
        path.write_text(text, "utf-8")


def _readme() -> str:
    tables = {
        "hour": _reached(json.loads(HOUR.read_text("utf-8"))),
        "strategies": _strategies(),
        "baselines": (TOP / "results" / "reference" / "baselines" / "table.md").read_text("utf-8"),
        "commands": _commands_table(),
    }
    return _filled(TOP / "README.md", tables)


def _filled(path: Path, tables: dict[str, str]) -> str:
    """Return a page with ``tables`` between their marks."""
    text = path.read_text("utf-8")
    for name, table in tables.items():
        marks = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text, found = re.subn(marks, lambda match, table=table: f"{match[1]}{table}{match[2]}", text, flags=re.DOTALL)
        if found != 1:
            sys.exit(f"{path.name} has {found} places for {name}, not 1")
    return text


def _reached(report: dict[str, Any]) -> str:
    """Return what the reference search has reached, beside the published networks on the same test images."""
    refit = report["refit"]
    low, high = (100 * bound for bound in refit["interval_95"])
    lines = [
        f"**{spread(refit['test_accuracy_mean'], refit['test_accuracy_sd'])} of the test images**, mean and standard "
        f"deviation of {len(refit['seeds'])} seeds; the exported model {percent(refit['test_accuracies'][0])}, "
        f"95 % interval {low:.2f} to {high:.2f} %.",
        "",
        "| published network | published | measured here | the search is better by | p, same images |",
        "|---|---|---|---|---|",
    ]
    for row in compared(report):
        measured, points = spread(row["measured_test_accuracy"], row["sd"]), 100 * row["difference"]
        published = percent(row["published_test_accuracy"])
        lines.append(f"| {row['name']} | {published} | {measured} | {points:.2f} | {p_text(p_of(row))} |")
    return "\n".join(lines) + "\n"


def _strategies() -> str:
    """Return what each strategy needed until its answer was near the best, in full trainings."""
    about = json.loads((STRATEGIES / "about.json").read_text("utf-8"))
    rows = list(csv.DictReader((STRATEGIES / "summary.csv").read_text("utf-8").splitlines()))
    near = list(about["near_the_best"])
    header = ["full trainings until within … of the best", *(f"{points} points" for points in near)]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for row in rows:
        cells = [_needed(row, points, about) for points in near]
        lines.append("| " + " | ".join([row["strategy"], *cells]) + " |")
    return "\n".join(lines) + "\n"


def _needed(row: Mapping[str, str], points: str, about: Mapping[str, Any]) -> str:
    low, median, high = (
        float(seconds) / about["full_training_seconds"] if (seconds := row[f"to_{points}_{which}"]) else None
        for which in ("low", "median", "high")
    )
    if median is None:
        return f"not in {about['budget_trainings']:.0f} ({100 * float(row[f'to_{points}_share']):.0f} % of the seeds)"
    return f"{median:.1f} ({low:.1f} to {'more' if high is None else f'{high:.1f}'})"


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command that can be typed, with its name."""

    def below(name: str, command: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  # Typer's own
        inner = getattr(command, "commands", {})
        if not inner or command.invoke_without_command:
            yield name, command
        for word, one in inner.items():
            yield from below(f"{name} {word}", one)

    yield from below("tuner", typer.main.get_command(app))


def help_of(name: str, command: Any) -> str:  # noqa: ANN401
    """Return what ``NAME --help`` prints at ``WIDTH`` columns."""
    context = command.context_class(command, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH)
    text: str = command.get_help(context)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _commands_table() -> str:
    rows = ["| command | what it does |", "|---|---|"]
    rows += [f"| `{name}` | {_first_sentence(command)} |" for name, command in commands()]
    return "\n".join(rows) + "\n"


def _settings_table() -> str:
    said, settings = docs_of(SearchSettings), vars(SearchSettings())
    rows = ["| setting | default | what |", "|---|---|---|"]
    for name, default in settings.items():
        value = "–" if default is None else f"`{default}`" if isinstance(default, str) else f"{default}".lower()
        rows.append(f"| `{name}` | {value} | {said[name].rstrip('.')} |")
    return "\n".join(rows) + "\n"


def _first_sentence(command: Any) -> str:  # noqa: ANN401
    return re.split(r"(?<=[.])\s|\n\n", " ".join((command.help or "").split()))[0]


def _commands_page() -> str:
    parts = ["# The commands", "Generated from the program by `python benchmarks/readme.py`; `make check` compares."]
    parts += [f"## {name}\n\n```\n{help_of(name, command)}\n```" for name, command in commands()]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
