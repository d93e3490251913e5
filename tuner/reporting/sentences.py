"""What a report says, sentence by sentence and row by row: the terminal, report.md and report.html use the same."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.evaluation.statistics import mean_and_sd
from tuner.records import METRICS, VAL_ACCURACY, Value
from tuner.reporting.report import Document

SURE = 0.05
"""A difference of a smaller p is called more than chance explains."""
SCALE = "Axes of accuracy are scaled by the logarithm of the error: 90, 99 and 99.9 % stand equally far apart."
SIZES = (("parameters", "parameters"), ("multiply-adds", "multiply_adds"))
BARS = "▁▂▃▄▅▆▇█"


def percent(share: float | None, digits: int = 2) -> str:
    """Return a fraction as per cent.

    >>> percent(0.9234)
    '92.34 %'
    """
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def spread(mean: float | None, sd: float | None) -> str:
    """Return a mean with its standard deviation, where there is one.

    >>> spread(0.9402, 0.0008)
    '94.02 ± 0.08 %'
    """
    if mean is None or sd is None:
        return percent(mean)
    return f"{100 * mean:.2f} ± {100 * sd:.2f} %"


def points(difference: float | None) -> str:
    """Return a difference of two accuracies in points, with its sign."""
    return "" if difference is None else f"{100 * difference:+.2f}"


def p_text(p: float | None) -> str:
    """Return a p-value as it is quoted.

    >>> p_text(0.0312), p_text(3e-9)
    ('0.031', '< 0.001')
    """
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.2g}"  # noqa: PLR2004  # smaller ones are quoted so


def value_text(value: Value) -> str:
    """Return one value, floats at four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Return seconds as one says them.

    >>> duration(45), duration(186), duration(2400), duration(3725)
    ('45 s', '3 min 06 s', '40 min', '1 h 02 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 10:  # noqa: PLR2004  # seconds count
        return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"  # noqa: PLR2004


def sparkline(shares: Sequence[float], low: float, high: float) -> str:
    """Return one bar a value, the lowest bar at ``low`` and the highest at ``high``.

    >>> sparkline([0.5, 0.7, 0.9], 0.5, 0.9)
    '▁▄█'
    """
    span = max(high - low, 1e-9)
    positions = (min(1.0, max(0.0, (share - low) / span)) for share in shares)
    return "".join(BARS[int(position * (len(BARS) - 1))] for position in positions)


def versions_sentence(report: Document) -> str:
    """Return what a result was made with: the versions, and the commit where it is known."""
    said = [f"{name} {version}" for name, version in (report["versions"] or {}).items()]
    return ", ".join(said + ([f"commit {report['commit']}"] if report.get("commit") else []))


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence lists them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def judged(best: Document) -> float:
    """Return what a report's winner reached in the search, by what its trials were judged by."""
    return float(best[best.get("metric", VAL_ACCURACY)])


def validation_word(metric: str) -> str:
    """Return what stands before a figure of the validation images.

    >>> validation_word("val_balanced_accuracy")
    'balanced validation'
    """
    return METRICS[metric].removesuffix(" accuracy")


def of_validation(share: float | None, metric: str = VAL_ACCURACY) -> str:
    """Return a figure of the validation images, as something that was reached.

    >>> of_validation(0.91), of_validation(0.91, "val_balanced_accuracy")
    ('91.00 % of the validation images', 'a balanced validation accuracy of 91.00 %')
    """
    if metric == VAL_ACCURACY:
        return f"{percent(share)} of the validation images"
    return f"a {METRICS[metric]} of {percent(share)}"


def headline(report: Document) -> str:
    """Return the answer in one phrase."""
    refit = report["refit"]
    if not refit:
        best = report["best_trial"]
        return f"{METRICS[best.get('metric', VAL_ACCURACY)]} {percent(judged(best))}, not yet retrained"
    said = f"test accuracy {spread(refit['test_accuracy_mean'], refit['test_accuracy_sd'])}"
    return f"{said}, balanced {balanced}" if (balanced := balanced_test(report)) else said


def balanced_test(report: Document) -> str:
    """Return the balanced test accuracy with its standard deviation, where trials were judged by it; or nothing."""
    found = (report["refit"] or {}).get("test_balanced_accuracies")
    if not found or report["best_trial"].get("metric", VAL_ACCURACY) == VAL_ACCURACY:
        return ""
    return spread(*mean_and_sd(found))


def data_sentence(report: Document) -> str:
    """Return where the test images come from when no test set came with the others, or nothing."""
    images = report.get("images")
    if not images or not images["held_out"]:
        return ""
    return (
        f"{report['data']} came without test images: {images['n_test']:,} of {images['n_train'] + images['n_test']:,}, "
        "every class in its proportion, were held out before the search, which never saw them."
    )


def refit_sentence(report: Document) -> str:
    """Return how the winner was trained again and what each seed reached."""
    refit, balanced = report["refit"], balanced_test(report)
    seeds = f"{len(refit['seeds'])} fresh seeds" if len(refit["seeds"]) > 1 else "a fresh seed"
    each = ", ".join(percent(accuracy) for accuracy in refit["test_accuracies"])
    return (
        f"The winner, trial {report['best_trial']['number']}, was trained again on all training images for "
        f"{refit['epochs']} epochs with {seeds}: {each} of the {refit['n_test']:,} test images are right"
        + (
            f"; balanced, every class counting alike: {', '.join(map(percent, refit['test_balanced_accuracies']))}."
            if balanced
            else "."
        )
    )


def interval_sentence(report: Document) -> str:
    """Return the exported model's interval."""
    low, high = (100 * bound for bound in report["refit"]["interval_95"])
    return f"The first seed's model is the one in model.keras; its 95 % interval (Wilson) is {low:.2f} to {high:.2f} %."


def averaged_sentence(report: Document) -> str:
    """Return what test-time averaging gave, or nothing where it was not tried."""
    found = report.get("averaged")
    if not found:
        return ""
    metric = report["best_trial"].get("metric", VAL_ACCURACY)
    on_validation = f"{of_validation(found['val_accuracy'], metric)} against "
    on_validation += f"{percent(found['val_accuracy_plain'])} without"
    if not found["how"]:
        return f"Averaging over altered copies of an image at test time was tried, and gave nothing ({on_validation})."
    reached = spread(found["test_accuracy_mean"], found["test_accuracy_sd"])
    if metric != VAL_ACCURACY and (balanced := found.get("test_balanced_accuracies")):
        reached += f", balanced {spread(*mean_and_sd(balanced))}"
    return (
        f"Averaged at test time ({found['how']}), as validation chose ({on_validation}): test accuracy {reached}. "
        "All other figures are without."
    )


def verdict(report: Document) -> str:
    """Return how the result stands to the published figures, or nothing where there is nothing to compare with."""
    rows = compared(report)
    if not rows:
        return ""
    above = [row for row in rows if row["difference"] > 0]
    below = [f"{row['name']} ({points(row['difference'])})" for row in rows if row["difference"] <= 0]
    measured = sum(row.get("measured_test_accuracy") is not None for row in rows)
    how = f"{measured} as measured here, {len(rows) - measured} as published"
    how = {0: "as published", len(rows): "as measured here"}.get(measured, how)
    if not above:
        return f"Not above {listed(below)} ({how})."
    count = f"{len(above)} of {len(rows)} baselines" if below else f"all {len(rows)} baselines"
    said = f"Above {count if len(rows) > 1 else 'the one baseline'} ({how})"
    if any(p_of(row) is not None for row in above):
        sure = sum(_surely_above(row, report["refit"]["test_accuracies"][0]) for row in above)
        said += f", {_how_many(sure, len(above))}by more than chance explains (p < {SURE})"
    return said + (f"; not above {listed(below)}." if below else ".")


def compared(report: Document) -> list[Document]:
    """Return the baselines that count: those that have a published figure, or all where none has.

    What a README describes beside them is weaker, and to be above it says nothing.
    """
    rows = [row for row in report["baselines"] if row["difference"] is not None]
    return [row for row in rows if row["published_test_accuracy"] is not None] or rows


def _surely_above(row: Document, test_accuracy: float) -> bool:
    """Tell whether the small p of a baseline is of a comparison that the exported model wins.

    The p is of that model alone, the difference of the mean of all seeds: they may point different ways.
    """
    p, paired = p_of(row), row.get("mcnemar")
    if p is None or p >= SURE:
        return False
    if paired:
        return bool(paired["only_ours"] > paired["only_theirs"])
    return bool(test_accuracy > row["published_test_accuracy"])


def _how_many(some: int, of_all: int) -> str:
    if some == of_all:
        return "each " if some > 1 else ""
    return f"{some or 'none'} of them " if of_all > 1 else "not "


def p_of(row: Document) -> float | None:
    """Return the p-value of one baseline: on the same images where it was measured, else against its figure."""
    paired: Document | None = row.get("mcnemar")
    p: float | None = paired["p_exact"] if paired else row.get("p_published")
    return p


def validation_sentence(report: Document) -> str:
    """Return what the winner reached in the search, and what of that the choice of the best explains."""
    best = report["best_trial"]
    images = f", on {best['train_images']:,} training images" if best["train_images"] else ""
    after = f"after {best['epochs']} epochs"
    if best.get("folds"):
        mean, sd = mean_and_sd(best["folds"])
        each = ", ".join(map(percent, best["folds"]))
        after = f"as the mean of {len(best['folds'])} folds ({each}: {spread(mean, sd)}), {best['epochs']} epochs"
    reached = of_validation(judged(best), best.get("metric", VAL_ACCURACY))
    said = f"In the search it reached {reached} {after}{images}."
    corrected = best.get("corrected")
    if corrected:
        said += (
            " The best of many looks better than it is: without that luck probably about "
            f"{percent(corrected['val_accuracy'])} ({100 * corrected['subtracted']:.2f} points less)."
        )
    return f"{said} {origin_sentence(best)}"


def origin_sentence(best: Document) -> str:
    """Return where the winner comes from, and what the search gained over the entries that it started with."""
    if best.get("by_finals"):
        started = "It is one of the configurations that the space starts with"
        found = started if best["origin"] == "start_with" else "The search found it"
        return f"{found}; fresh seeds chose it among the finalists."
    if best["origin"] == "start_with":
        return "It is one of the configurations that the space starts with: the search found nothing better."
    gain = best["gain_over_best_start_with"]
    if gain is None:
        return "The search found it."
    return f"The search found it, {100 * gain:.2f} points above the best configuration that the space starts with."


def mistakes_sentence(report: Document) -> str:
    """Return how often and how badly the exported model is wrong."""
    found = report["analysis"]
    return (
        f"The exported model is wrong about {found['n'] - found['correct']:,} of {found['n']:,} test images; macro F1 "
        f"{percent(found['macro_f1'])}, expected calibration error {percent(found['calibration']['ece'])}."
    )


def counts_sentence(report: Document) -> str:
    """Return what became of the trials."""
    clock = f" ({report['n_stopped_by_clock']} by the clock)" if report["n_stopped_by_clock"] else ""
    twins = f", {report['n_duplicate']} duplicates told their twin's result" if report["n_duplicate"] else ""
    return (
        f"{report['n_trials']} trials: {report['n_complete']} complete, {report['n_pruned']} pruned{clock}, "
        f"{report['n_failed']} failed{twins}; {report['n_refused']} refused before training. "
        f"The pruner saved {100 * report['compute_saved_by_pruning']:.0f} % of the compute."
    )


def conditions(report: Document) -> list[str]:
    """Return what the search met with, and what of it another one may not."""
    caps, peaks = report["caps"], report["peaks"]
    lines = [*(report.get("images") or {"warnings": []})["warnings"]]
    lines = [f"{line[0].upper()}{line[1:]}." for line in lines]
    lines += [
        "Deterministic: the same seed and the same number of workers give the same study, decisions included."
        if report["deterministic"]
        else "Not deterministic: with another timing of the workers, which trials are pruned and what the sampler "
        "proposes after them may differ; a trial's own curve does not (--deterministic fixes both)."
    ]
    if report["n_taken_up_again"] or report["workers_lost"]:
        lines.append(
            f"{report['n_taken_up_again']} trials were taken up again from their checkpoints; "
            f"{report['workers_lost']} workers were lost in the last run."
        )
    if report["n_redrawn"]:
        lines.append(f"{report['n_redrawn']} draws repeated values that were being trained, and were drawn again.")
    memory = "no cap" if caps["memory_mib"] is None else f"cap {caps['memory_mib']:,.0f}"
    seconds = "no cap" if caps["trial_seconds"] is None else f"cap {caps['trial_seconds']:,.0f}"
    held = "unknown" if peaks["memory_mib"] is None else f"{peaks['memory_mib']:,} MiB"
    lines.append(
        f"Most memory that a trial's worker held: {held} ({memory}); "
        f"longest trial: {peaks['trial_seconds']:,.0f} s ({seconds})."
    )
    if report.get("run_folder_bytes"):
        lines.append(f"The run folder holds {report['run_folder_bytes'] / 1e6:.1f} MB.")
    return lines


def seconds_sentence(report: Document) -> str:
    """Return what the whole took; nothing for a search that has not ended yet."""
    seconds = report["wall_seconds"]
    if not seconds:
        return "The search has not ended: this is what there is so far."
    cpu = report["cpu_seconds"]
    return (
        f"Search {duration(seconds['search'])}, refit {duration(seconds['refit'])}, in all "
        f"{duration(seconds['total'])} of wall clock{'' if cpu is None else f' and {duration(cpu)} of processor time'}"
        f"{of_commands(report)}."
    )


def of_commands(report: Document) -> str:
    """Return what the seconds of a study that was gone on with leave out, to end a sentence: interrupted commands."""
    return ", in the commands that ended" if " && " in report["command"] else ""


def size_rows(best: Document) -> list[tuple[str, str]]:
    """Return a trial's sizes, as far as they are known: name and number."""
    return [(name, f"{best[key]:,}") for name, key in SIZES if best[key] is not None]


def value_rows(best: Document) -> list[tuple[str, str]]:
    """Return a trial's values; one that is called like a size says what it is."""
    sizes = {name for pair in SIZES for name in pair}
    return [(f"value: {name}" if name in sizes else name, value_text(value)) for name, value in best["values"].items()]


def finalist_rows(report: Document) -> list[tuple[str, str, str]]:
    """Return the finalists: trial, mean on validation, and each fresh seed's figure."""
    return [
        (f"trial {row['number']}", percent(row["mean"]), ", ".join(map(percent, row["val_accuracies"])))
        for row in report.get("finalists") or ()
    ]


def pair_rows(report: Document) -> list[tuple[str, int, int, int]]:
    """Return the most confused pairs of classes: A and B, mistakes, A as B, B as A."""
    pairs = (report.get("analysis") or {}).get("confused_pairs", ())
    return [(listed(one["names"]), one["count"], one["first_as_second"], one["second_as_first"]) for one in pairs]


def class_rows(report: Document) -> list[tuple[str, ...]]:
    """Return the classes: name, test images, precision, recall and F1."""
    return [
        (row["name"], f"{row['count']:,}", *(percent(row[key], 1) for key in ("precision", "recall", "f1")))
        for row in (report.get("analysis") or {}).get("per_class", ())
    ]
