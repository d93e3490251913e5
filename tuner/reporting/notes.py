"""What Optuna Dashboard shows of a study and of a trial in words: notes in Markdown, and attributes one can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tuner.data.sources import short_name
from tuner.evaluation.finals import winner_of
from tuner.records import EpochResult, TrialSummary, Value
from tuner.reporting.again import as_of_now
from tuner.reporting.attachments import Attachment
from tuner.reporting.best import not_here
from tuner.reporting.markdown import as_markdown, plain, table
from tuner.reporting.sentences import duration, of_validation, percent, sparkline, validation_word, value_text
from tuner.runs import Outputs, typed
from tuner.search.study import StudyFacts, why_no_winner

ROWS = 12
"""Of a trial's curve, first and last epoch included: the bars over it show all."""
WORDS = {
    "complete": "Complete",
    "pruned": "Pruned",
    "clock": "Ended by the clock",
    "failed": "Failed",
    "running": "Running",
    "refused": "Refused before training",
    "duplicate": "Not trained again",
    "redrawn": "Drawn again",
}


def study_note(
    outputs: Outputs, name: str, facts: StudyFacts, trials: Sequence[TrialSummary], shown: Mapping[str, Attachment]
) -> str:
    """Return what a study has to say now: report.md's sentences, what can be typed next, and the last report's figures.

    ``shown`` are the run folder's files by their addresses.
    """
    folder = outputs.run_folder(name)
    winner = winner_of(folder, facts, trials)
    if winner is None:
        said = f"# {plain(name)}: no result yet\n\nSo far {plain(why_no_winner(trials))}.\n\n{_code(*facts.commands)}"
    else:
        said = as_markdown(as_of_now(name, facts, list(trials), winner, folder)).rstrip()
    if not outputs.has_run(name, facts.identity):
        known = "its figures, its tables, and whether it was trained again and scored"
        said += f"\n\n{plain(not_here(outputs, name))}: {known} are known where it was searched."
    next_ones = [typed(outputs, "search", "--resume", "--study", name), typed(outputs, "report", name)]
    if winner is not None:
        next_ones.insert(0, typed(outputs, "best", name, "--export", "my-model"))
    return "\n\n".join([said, "## Next", _code(*next_ones), *_last_report(shown)]) + "\n"


def _last_report(shown: Mapping[str, Attachment]) -> Iterator[str]:
    """Yield what links a report's files, and its figures side by side: a note cannot say how wide one is."""
    if not shown:
        return
    others = [f"[{plain(one.path.name)}]({address})" for address, one in shown.items() if not one.title]
    yield f"## The last report\n\nIts files: {', '.join(others)}."
    titles = [f"**{one.title}**" for one in shown.values() if one.title]
    images = [_image(address, one) for address, one in shown.items() if one.title]
    rows = [row[place : place + 2] for place in range(0, len(images), 2) for row in (titles, images)]
    yield table(("", ""), rows)


def _image(address: str, figure: Attachment) -> str:
    """Return a figure whose caption a mouse shows: as text it would take width from the figure beside it."""
    quoted = figure.caption.replace('"', '\\"')
    return f'![{figure.title}]({address} "{quoted}")'


def trial_note(trial: TrialSummary, reported: Mapping[int, float]) -> str:
    """Return how a trial went; of a running one the study knows its ``reported`` values by epoch, and no curve yet."""
    known = trial.path or sorted(reported.items())
    reached = dict(known)
    paragraphs = [f"**{WORDS.get(trial.state, trial.state)}**{_how(trial, reached)}", _size(trial)]
    values = list(reached.values())
    if len(values) > 1:
        bars = sparkline(values, min(values), max(values))
        paragraphs.append(f"`{bars}` {percent(min(values))} to {of_validation(max(values), trial.metric)}, by epoch")
    paragraphs += [_curve(trial, reached), "All its values:"]
    paragraphs.append(
        table(("parameter", "value"), [(name, value_text(value)) for name, value in trial.values.items()])
    )
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def _how(trial: TrialSummary, reached: Mapping[int, float]) -> str:
    if trial.reason:
        said = f": {plain(trial.reason)}."
        return said + (f" It had reached {percent(trial.val_accuracy)}." if trial.curve else "")
    if trial.val_accuracy is None:
        return "."
    epochs = len(reached)
    return f": {of_validation(trial.val_accuracy, trial.metric)} after {epochs} epoch{'s' * (epochs != 1)}."


def _size(trial: TrialSummary) -> str:
    said = []
    if trial.cost:
        said.append(f"{trial.cost.parameters:,} parameters, {trial.cost.multiply_adds:,} multiply-adds an image")
    if trial.curve:
        said.append(f"trained for {duration(trial.seconds)}")
    if trial.peak_memory is not None:
        said.append(f"at most {trial.peak_memory:,} MiB of memory")
    if trial.attempts > 1:
        said.append(f"{trial.attempts} attempts")
    if trial.enqueued:
        said.append("one of the configurations that the space starts with")
    return "; ".join(said) + "." if said else ""


def _curve(trial: TrialSummary, reached: Mapping[int, float]) -> str:
    if trial.curve:
        header = ["epoch", validation_word(trial.metric), "training", "loss", "learning rate", "seconds"]
        rows = [_epoch_row(one, trial.metric) for one in trial.curve]
    else:
        header, rows = (
            ["epoch", validation_word(trial.metric)],
            [[epoch, percent(accuracy)] for epoch, accuracy in reached.items()],
        )
    if len(rows) > ROWS:
        rows = [rows[round(place * (len(rows) - 1) / (ROWS - 1))] for place in range(ROWS)]
    return table(header, rows) if rows else ""


def _epoch_row(one: EpochResult, metric: str) -> list[object]:
    rate, seconds = value_text(one.learning_rate), f"{one.seconds:.1f}"
    return [one.epoch, percent(one.judged(metric)), percent(one.accuracy), f"{one.loss:.4f}", rate, seconds]


def trial_attributes(trial: TrialSummary) -> dict[str, Value]:
    """Return what of a trial is worth a column, numbers as such: Optuna Dashboard sorts and draws by them."""
    return {
        "end": trial.state,
        **({"parameters": trial.cost.parameters, "multiply-adds": trial.cost.multiply_adds} if trial.cost else {}),
        **({"epochs": len(trial.curve), "seconds": round(trial.seconds, 1)} if trial.curve else {}),
        **({"peak memory (MiB)": trial.peak_memory} if trial.peak_memory is not None else {}),
        **({"attempts": trial.attempts} if trial.attempts > 1 else {}),
    }


def study_attributes(facts: StudyFacts) -> dict[str, Value]:
    """Return what a study was made with."""
    settings = facts.settings
    return {
        "space": facts.space_name,
        "images": short_name(facts.data_folder),
        "metric": settings.metric,
        "epochs": settings.epochs,
        "sampler": settings.sampler,
        "pruner": settings.pruner,
        "seed": settings.seed,
        "command": " && ".join(facts.commands),
    }


def _code(*lines: str) -> str:
    return "\n".join(["```", *lines, "```"])
