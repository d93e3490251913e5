"""Small phrases that the screens share, and how their tables look."""

from __future__ import annotations

from rich.table import Table

from tuner.records import TrialSummary, Values
from tuner.reporting.sentences import percent, validation_word, value_text


def duration(seconds: float) -> str:
    """Return seconds as a clock shows them.

    >>> duration(3725)
    '1:02:05'
    """
    whole = max(0, int(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def plain_table(*headers: str) -> Table:
    """Return an empty table without lines."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        table.add_column(header)
    return table


def values_line(values: Values, beside: Values | None = None) -> str:
    """Return ``name=value`` pairs; with ``beside`` only those that differ from it."""
    shown = {name: value for name, value in values.items() if beside is None or beside.get(name) != value}
    return " ".join(f"{name}={value_text(value)}" for name, value in shown.items()) or "the same values"


def reason_of(trial: TrialSummary) -> str:
    """Return how a trial ended, in a phrase."""
    if trial.state == "complete":
        return (
            f"complete: {validation_word(trial.metric)} {percent(trial.val_accuracy)} after {len(trial.curve)} epochs"
        )
    return f"{trial.state}: {trial.reason}" if trial.reason else trial.state


def state_text(state: str) -> str:
    """Return a trial's state as the screens name it."""
    return {"clock": "by the clock", "running": "unfinished"}.get(state, state)


def counts_line(counts: dict[str, int]) -> str:
    """Return the trials by state, those that users look for first always there."""
    always = {"complete": 0, "pruned": 0, "refused": 0, "failed": 0}
    return " · ".join(f"{count} {state_text(state)}" for state, count in {**always, **counts}.items())
