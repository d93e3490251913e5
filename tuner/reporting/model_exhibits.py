"""What a report shows of the winner: beside the baselines, in training, and what it gets wrong."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tuner.reporting.examples import Example
from tuner.reporting.exhibit import Exhibit, Omission
from tuner.reporting.figures import images, model
from tuner.reporting.sentences import listed, of_validation, percent
from tuner.reporting.story import Story


def model_exhibits(story: Story) -> Iterator[Exhibit | Omission]:
    """Yield every figure of the winner in its order, or why it is left out."""
    report, analysis = story.report, story.report.get("analysis")
    if report["refit"] and any(row["difference"] is not None for row in report["baselines"]):
        yield _forest(story)
    if story.winner_curve:
        yield _training(story)
    if report.get("fractions"):
        yield _fractions(story)
    if not report["refit"]:
        yield Omission("errors", "Error analysis", "the winner was not trained again yet")
    elif not analysis:
        yield Omission("errors", "Error analysis", "the run's predictions are not there")
    else:
        yield _confusion(story)
        yield _per_class(story)
        yield _reliability(story)
        if not story.examples:
            yield Omission("images", "Images", "this run kept none")
        groups = {
            "mistakes": ("The most confident mistakes", list(story.examples.get("mistakes", ()))),
            "pairs": ("The most confused classes", [example for _, shown in story.pairs for example in shown]),
            "samples": ("A sample, right and wrong as they come", list(story.examples.get("samples", ()))),
        }
        yield from (_images(story, name, title, shown) for name, (title, shown) in groups.items() if shown)


def _forest(story: Story) -> Exhibit:
    refit = story.report["refit"]
    ours = {"mean": refit["test_accuracy_mean"], "sd": refit["test_accuracy_sd"], "interval": refit["interval_95"]}
    rows = [row for row in story.report["baselines"] if row["difference"] is not None]
    near = min(rows, key=lambda row: row["difference"])
    which = "as measured here" if near.get("measured_test_accuracy") is not None else "as published"
    seen = f"The strongest, {near['name']} {which}, is {abs(100 * near['difference']):.2f} points "
    seen += f"{'below' if near['difference'] > 0 else 'above'} this search."
    reading = "The grey band is the 95 % interval of the exported model."
    kind, title = "Test accuracies side by side", "Beside the published networks"
    return Exhibit("answer", "baselines", title, kind, seen, reading,
                   partial(model.forest, story.report["baselines"], ours))  # fmt: skip


def _training(story: Story) -> Exhibit:
    last = story.winner_curve[-1]
    gap = 100 * abs(last.accuracy - (last.val_accuracy or 0.0))
    where = "In the search, on the first fold," if story.settings.folds > 1 else "In the search"
    seen = (
        f"{where} the winner ended at {percent(last.accuracy)} of the training and "
        f"{percent(last.val_accuracy)} of the validation images, {gap:.2f} points apart."
    )
    if story.refit_curves:
        ends = [curve[-1].accuracy for curve in story.refit_curves]
        seen += f" The refit ended at {percent(sum(ends) / len(ends))} of the training images."
    reading = "Training accuracy is counted while the epoch runs, with dropout and augmentation on."
    return Exhibit("training", "training", "How the winner trained", "Accuracy and loss by epoch", seen, reading,
                   partial(model.training_curves, story.winner_curve, story.refit_curves))  # fmt: skip


def _fractions(story: Story) -> Exhibit:
    points = story.report["fractions"]
    least, most = points[0], points[-1]
    reached = of_validation(least["val_accuracy"], story.settings.metric)
    seen = (
        f"{reached[0].upper()}{reached[1:]} with {least['train_images']:,} training images, "
        f"{percent(most['val_accuracy'])} with {most['train_images']:,}."
    )
    kind = f"{story.judged_by.capitalize()} by training images"
    return Exhibit("training", "fractions", "How many images it needs", kind, seen,
                   "The winner's values, trained as long as a trial.",
                   partial(model.fractions, points, story.judged_by))  # fmt: skip


def _confusion(story: Story) -> Exhibit:
    analysis = story.report["analysis"]
    wrong, pairs = analysis["n"] - analysis["correct"], analysis["confused_pairs"]
    seen = "No image is taken for another class's."
    if pairs:
        seen = f"{listed(pairs[0]['names'])} are confused most: {pairs[0]['count']} of the {wrong:,} mistakes."
    names = [row["name"] for row in analysis["per_class"]]
    reading = "Rows are the true classes; blue is right, and the deeper the red, the larger the share of its row."
    return Exhibit("errors", "confusion", "What is taken for what", "Confusion matrix", seen, reading,
                   partial(model.confusion, analysis["confusion"], names))  # fmt: skip


def _per_class(story: Story) -> Exhibit:
    rows = [row for row in story.report["analysis"]["per_class"] if row["f1"] is not None]
    weak, strong = (pick(rows, key=lambda row: row["f1"]) for pick in (min, max))
    seen = f"The weakest class is {weak['name']} with F1 {percent(weak['f1'], 1)}, the strongest {strong['name']} with "
    seen += f"{percent(strong['f1'], 1)}."
    return Exhibit("errors", "classes", "Class by class", "Precision, recall and F1 of each class", seen, "",
                   partial(model.per_class, rows))  # fmt: skip


def _reliability(story: Story) -> Exhibit:
    analysis = story.report["analysis"]
    bins = analysis["calibration"]["bins"]
    sure = sum(row["count"] * (row["confidence_mean"] or 0.0) for row in bins) / analysis["n"]
    which = "more sure than right" if sure > analysis["accuracy"] else "less sure than right"
    seen = (
        f"The expected calibration error is {percent(analysis['calibration']['ece'], 1)}: with a mean confidence of "
        f"{percent(sure, 1)} the model is {which} ({percent(analysis['accuracy'], 1)})."
    )
    return Exhibit("errors", "calibration", "How sure it is", "Reliability diagram", seen, "",
                   partial(model.reliability, bins))  # fmt: skip


def _images(story: Story, name: str, title: str, shown: list[Example]) -> Exhibit:
    right = sum(example.right for example in shown)
    seen = f"{right} of these {len(shown)} are right." if right else f"None of these {len(shown)} is right."
    reading = "Under each stand the predicted class and its confidence, blue and ✓ when right, red and ✗ when not."
    return Exhibit("images", name, title, "Test images with what was predicted", seen, reading,
                   partial(images.grid, shown, story.report["classes"]))  # fmt: skip
