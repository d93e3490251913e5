"""The page: whole in one file, readable by everybody, and safe whatever the names in it are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tuner.records import TrialSummary
from tuner.reporting.markdown import as_markdown
from tuner.reporting.sentences import SCALE, percent
from tuner.reporting.writing import write_everything
from tuner.space.settings import SearchSettings

from . import planted
from .conftest import chromium

IMAGES = 12 + 11 + 24
"""Mistakes, those of the most confused pairs, and samples of the planted run."""
VOID = {"meta", "link", "img", "br", "use", "path", "rect"}


class Page(HTMLParser):
    """What a page holds, read as a browser reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.unclosed: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and (not self._open or self._open.pop() != tag):
            self.unclosed.append(tag)

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a study with everything in its report."""
    folder = tmp_path_factory.mktemp("run")
    space, settings, trials = planted.realistic()
    planted.write_run(folder)
    report = planted.report_of(trials, settings, analysis=planted.analysis())
    write_everything(folder, report, trials, space, settings)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page((run / "report.html").read_text("utf-8"))


def _small(folder: Path, **changes: Any) -> str:
    """The page of the small study, with some of its report replaced."""
    report = planted.report_of(planted.SMALL_TRIALS, planted.SMALL_SETTINGS, **changes)
    path = write_everything(folder, report, planted.SMALL_TRIALS, planted.SMALL, planted.SMALL_SETTINGS)
    return path.read_text("utf-8")


def test_the_page_needs_no_other_file_and_no_network(run: Path, page: Page) -> None:
    text = (run / "report.html").read_text("utf-8")

    references = [a[key] for _, a in page.tags for key in ("src", "href", "srcset", "action") if key in a]

    assert all(one.startswith(("data:", "#")) for one in references)
    assert not re.search(r"url\((?!#)|@import|<script|https?://(?!www\.w3\.org/2000/svg\")", text)
    assert len(text.encode()) < 2_000_000


def test_ids_are_unique_and_every_link_within_the_page_leads_somewhere(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    linked = {attributes["href"][1:] for _, attributes in page.tags if attributes.get("href", "").startswith("#")}

    assert len(ids) == len(set(ids))
    assert linked <= set(ids)
    assert page.unclosed == []


def test_every_figure_and_image_says_what_it_shows(page: Page) -> None:
    figures, images = page.all("svg"), page.all("img")

    assert len(figures) == 13
    assert all(one["role"] == "img" and re.search(r"\d", one["aria-label"]) for one in figures)
    assert len(images) == IMAGES
    assert all(re.fullmatch(r"Test image \d+: .+, predicted .+, \d+ %", one["alt"]) for one in images)


def test_the_answer_comes_first_and_the_command_last(page: Page) -> None:
    words = " ".join(page.text.split())
    places = [words.index(said) for said in (
        "93.99 ± 0.07 %", "Above all 4 baselines (3 as measured here, 1 as published)", "94.19 ± 0.06 %", "93.54–94.47 %",
        "without that luck probably about", "The finalists", "T-shirt/top and Shirt are confused most", "The search, explained",
        "Not deterministic", "tuner search cnn --time 1h --seed 0",
    )]  # fmt: skip

    assert places == sorted(places)
    assert words.endswith("tuner search cnn --time 1h --seed 0")


def test_the_scale_of_accuracy_is_explained_once(run: Path, page: Page) -> None:
    markdown = (run / "report.md").read_text("utf-8")

    assert [" ".join(page.text.split()).count(SCALE), markdown.count(SCALE)] == [1, 1]
    assert page.text.index("Axes of accuracy") < page.text.index("In the search it reached")
    assert markdown.index("## Figures") < markdown.index(SCALE) < markdown.index("![")
    assert "log error" not in page.text + markdown


def test_captions_count_all_trials_that_trained(run: Path, page: Page) -> None:
    _, _, trials = planted.realistic()
    accuracies = sorted((trial.curve[-1].val_accuracy or 0.0 for trial in trials if trial.curve), reverse=True)
    quarter = len(accuracies) // 4

    said = f"The best quarter, {quarter} trials, ends at {100 * accuracies[quarter - 1]:.1f} % or above."

    assert said in (run / "report.md").read_text("utf-8")
    assert re.search(r"Trial \d+ won, with \d", page.text)


def test_the_same_rows_stand_in_the_page_and_in_the_markdown(run: Path, page: Page) -> None:
    markdown, words = (run / "report.md").read_text("utf-8"), page.text.replace("\xa0", " ")

    for cells in (
        ["trial 0", percent(0.93835), "93.79 %, 93.88 %"],
        ["T-shirt/top", "1,000"],
    ):
        assert "| " + " | ".join(cells) + " |" in markdown
        assert "".join(cells) in words


def test_right_and_wrong_images_differ_by_more_than_colour(page: Page) -> None:
    items = [attributes["class"] for attributes in page.all("li") if "class" in attributes]

    assert (page.text.count("✓") - 1, page.text.count("✗") - 1) == (items.count("right"), items.count("wrong"))


def test_names_are_never_markup(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>\"'&"
    space, settings, trials = planted.realistic(30)
    planted.write_run(tmp_path)
    names = (evil, *planted.FASHION[1:])
    rows = [{**planted.BASELINES[0], "name": evil, "note": evil}]
    analysis = planted.analysis(names)
    report = planted.report_of(
        trials, settings, study=evil, classes=list(names), analysis=analysis, baselines=rows, command=evil
    )

    write_everything(tmp_path, report, trials, space, settings)
    page = Page((tmp_path / "report.html").read_text("utf-8"))

    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert len(page.all("img")) == IMAGES
    assert page.text.count(evil) > 5
    markdown, _, code = (tmp_path / "report.md").read_text("utf-8").partition("```")
    assert "<img" not in markdown.replace("\\<img", "")
    assert evil in code


@pytest.mark.parametrize("examples", [True, False])
def test_a_run_without_images_says_so_in_one_sentence(tmp_path: Path, *, examples: bool) -> None:
    planted.write_run(tmp_path, examples=examples)

    text = _small(tmp_path, analysis=planted.analysis())

    assert ("Images: left out, this run kept none." in text) == (not examples)


def test_a_search_without_refit_tells_what_it_has(tmp_path: Path) -> None:
    baselines = [{**row, "difference": None, "mcnemar": None, "p_published": None} for row in planted.BASELINES]

    page = Page(_small(tmp_path, refit=None, averaged=None, finalists=None, analysis=None, baselines=baselines))

    assert "validation accuracy; the winner was not trained again yet" in page.text
    assert "no test image" not in page.text  # an earlier report, which is lost, may have had one
    assert [one["id"] for one in page.all("figure")] == [
        "figure-training", "figure-history", "figure-curves", "figure-compute", "figure-sizes", "figure-learning-rate",
        "figure-slices", "figure-parallel",
    ]  # fmt: skip
    assert "Which parameters matter: left out, 6 trained trials say too little about it" in page.text


def test_a_report_of_an_earlier_version_is_told_as_well(tmp_path: Path) -> None:
    report = planted.report_of(planted.SMALL_TRIALS, planted.SMALL_SETTINGS)
    for key in ("averaged", "finalists"):
        del report[key]
    del report["best_trial"]["corrected"]
    report["baselines"] = [
        {"name": "ruhi", "published_test_accuracy": 0.9133, "difference": 0.0142, "note": "re-split"}
    ]

    write_everything(tmp_path, report, planted.SMALL_TRIALS, planted.SMALL, planted.SMALL_SETTINGS)

    assert "| ruhi | 91.33 % | – | +1.42 | – | – | re-split |" in (tmp_path / "report.md").read_text("utf-8")
    assert "Above the one baseline (as published)." in (tmp_path / "report.html").read_text("utf-8").replace(
        "\xa0", " "
    )


def test_one_trial_is_enough_for_a_page(tmp_path: Path) -> None:
    alone = planted.SMALL_TRIALS[:1]
    report = planted.report_of(alone, planted.SMALL_SETTINGS, refit=None, baselines=[])

    path = write_everything(tmp_path, report, alone, planted.SMALL, planted.SMALL_SETTINGS)

    assert "no parameter varied" in path.read_text("utf-8")


def test_two_thousand_trials_make_a_page_that_a_phone_can_hold(tmp_path: Path) -> None:
    space, settings, trials = planted.realistic(2000)
    report = planted.report_of(trials, settings, refit=None, baselines=[])

    path = write_everything(tmp_path, report, trials, space, settings)

    assert path.stat().st_size < 2_000_000
    assert all(figure.stat().st_size < 200_000 for figure in (tmp_path / "figures").iterdir())


def test_figures_of_an_earlier_report_do_not_stay(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "confusion.png").write_bytes(b"old")

    _small(tmp_path, refit=None, baselines=[])

    assert not (tmp_path / "figures" / "confusion.png").exists()


def test_the_markdown_has_the_same_answer_its_tables_and_every_figure(run: Path) -> None:
    text = (run / "report.md").read_text("utf-8")

    assert text.startswith("# cnn-1: test accuracy 93.99 ± 0.07 %\n\nAbove all 4 baselines")
    assert text.rstrip().endswith("```\ntuner search cnn --time 1h --seed 0\n```")
    assert "| sadvisandhya | 93.68 % | 93.12 ± 0.21 % | +0.87 | < 0.001 | 0.31 |" in text
    linked = re.findall(r"\]\((figures/[a-z-]+\.png)\)", text)
    assert {run / one for one in linked} == set((run / "figures").iterdir())
    assert len(linked) == 16


def test_the_markdown_can_do_without_figures() -> None:
    report = planted.report_of(planted.SMALL_TRIALS, planted.SMALL_SETTINGS)

    assert "## Figures" not in as_markdown(report)


def test_folds_are_shown_with_their_spread(tmp_path: Path) -> None:
    settings = SearchSettings(epochs=2, folds=2, trials=1)
    trials = [planted.trial(0, "complete", [0.7, 0.80, 0.75, 0.84])]
    trials = [TrialSummary(**{**vars(trials[0]), "val_accuracy": 0.82})]
    report = planted.report_of(trials, settings, refit=None, baselines=[])

    path = write_everything(tmp_path, report, trials, planted.SMALL, settings)

    said = "82.00 % of the validation images as the mean of 2 folds (80.00 %, 84.00 %: 82.00 ± 2.83 %), 4 epochs"
    curve = (
        "In the search, on the first fold, the winner ended at 81.00 % of the training and 80.00 % of the validation"
    )
    assert said in path.read_text("utf-8").replace("\xa0", " ")
    assert curve in path.read_text("utf-8").replace("\xa0", " ")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 900)])
def test_a_browser_shows_the_whole_page(run: Path, browser: Any, width: int, height: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)

    opened.goto((run / "report.html").as_uri())
    sizes = opened.eval_on_selector_all(
        "figure svg, .images img", "all => all.map(one => one.getBoundingClientRect().toJSON())"
    )
    overflow = opened.evaluate("document.documentElement.scrollWidth - innerWidth")
    words = opened.eval_on_selector_all("svg text", "all => all.map(one => one.getBoundingClientRect().toJSON())")
    dark = opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
    context.close()

    assert said == []
    assert overflow <= 0
    assert len(sizes) == 13 + IMAGES
    assert all(size["width"] >= 50 and size["height"] >= 50 for size in sizes)
    assert all(size["left"] >= 0 and size["right"] <= width for size in sizes)
    assert all(word["left"] >= 0 and word["right"] <= width for word in words)
    assert dark == (scheme == "dark")
