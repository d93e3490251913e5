"""Everything that tells a result, written into its run folder: report.json, report.md, report.html and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tuner.records import TrialSummary
from tuner.reporting.markdown import as_markdown
from tuner.reporting.report import Document
from tuner.reporting.story import Story, read_story
from tuner.runs import write_json, write_table, write_text
from tuner.space.parameters import Space
from tuner.space.settings import SearchSettings

PAGE = "report.html"
CLASSES, MISTAKES = TABLES = ("errors_by_class.csv", "worst_mistakes.csv")


def write_everything(
    folder: Path, report: Document, trials: Sequence[TrialSummary], space: Space, settings: SearchSettings
) -> Path:
    """Write ``report`` and all that it shows into the run folder, and return the page. Nothing is trained or scored."""
    return write_story(folder, read_story(folder, report, trials, space, settings))


def write_story(folder: Path, story: Story, *, document: bool = True) -> Path:
    """Write report.json, report.md, figures and report.html anew, and return the page.

    The document comes first: whatever happens to a figure, the result is kept. Without ``document`` it is left to the
    search that is about to write it.
    """
    from tuner.reporting.exhibit import Exhibit, Omission
    from tuner.reporting.figures.style import as_svg, write_png
    from tuner.reporting.model_exhibits import model_exhibits
    from tuner.reporting.page import Drawn, as_page
    from tuner.reporting.search_exhibits import search_exhibits

    if document:
        write_json(folder / "report.json", story.report)
    found = [*model_exhibits(story), *search_exhibits(story)]
    shown = [one for one in found if isinstance(one, Exhibit)]
    write_text(folder / "report.md", as_markdown(story.report, shown))
    drawn = []
    for exhibit in shown:
        figure = exhibit.draw()
        if exhibit.section != "images":  # the page has the images themselves
            drawn.append((exhibit.section, Drawn.of(exhibit, as_svg(figure, exhibit.name, exhibit.label))))
        write_png(figure, folder / "figures" / f"{exhibit.name}.png")
    names = {exhibit.name for exhibit in shown}
    for stale in (folder / "figures").glob("*.png"):  # of a report that had more to show
        if stale.stem not in names:
            stale.unlink(missing_ok=True)
    _write_errors(folder, story)
    omitted = [one for one in found if isinstance(one, Omission)]
    write_text(folder / PAGE, as_page(story, drawn, omitted))
    return folder / PAGE


def _write_errors(folder: Path, story: Story) -> None:
    """Write what the exported model gets wrong as tables, shares as fractions; none where that is not known."""
    analysis, names = story.report.get("analysis"), story.report["classes"]
    tables: dict[str, tuple[Sequence[str], list[list[object]]]] = {}
    if analysis:
        header = ["class", "images", "wrong", "precision", "recall", "f1", "most often taken for", "times"]
        tables[CLASSES] = header, [_class_row(analysis, place) for place in range(len(analysis["per_class"]))]
    if mistakes := story.examples.get("mistakes"):
        header = ["test image", "class", "predicted", "confidence"]
        tables[MISTAKES] = (
            header,
            [[m.index, names[m.label], names[m.predicted], _share(m.confidence)] for m in mistakes],
        )
    for name in TABLES:
        if name in tables:
            write_table(folder / name, *tables[name])
        else:
            (folder / name).unlink(missing_ok=True)  # of a report that had more to show


def _class_row(analysis: Document, place: int) -> list[object]:
    row, said = analysis["per_class"][place], analysis["confusion"][place]
    wrong = [0 if other == place else times for other, times in enumerate(said)]
    worst = max(wrong)
    taken = analysis["per_class"][wrong.index(worst)]["name"] if worst else None
    shares = [_share(row[key]) for key in ("precision", "recall", "f1")]
    return [row["name"], row["count"], sum(wrong), *shares, taken, worst or None]


def _share(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
