"""Everything that tells a result, written into its run folder: report.json, report.md, report.html and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tuner.records import TrialSummary
from tuner.reporting.markdown import as_markdown
from tuner.reporting.report import Document
from tuner.reporting.story import Story, read_story
from tuner.runs import write_json, write_text
from tuner.space.parameters import Space
from tuner.space.settings import SearchSettings

PAGE = "report.html"


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
    omitted = [one for one in found if isinstance(one, Omission)]
    write_text(folder / PAGE, as_page(story, drawn, omitted))
    return folder / PAGE
