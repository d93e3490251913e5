"""Optuna Dashboard with our material: made when it is asked for, never stored, and never in a search's way."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from tuner.data.sources import Source
from tuner.reporting import attached
from tuner.reporting.attached import Attached
from tuner.reporting.dashboard import listen, open_browser
from tuner.reporting.notes import trial_note
from tuner.reporting.writing import write_everything
from tuner.runs import IDENTITY
from tuner.search.messages import TrainJob
from tuner.search.storage import open_storage
from tuner.search.study import FACTS, create_study, keep_facts, load_study, summaries
from tuner.space.settings import SearchSettings

from . import planted
from .conftest import chromium
from .scripted import Bench, good, values_of

SETTINGS = SearchSettings(epochs=4, trials=10, startup_trials=2)
COMMAND = "tuner search small.toml --trials 10"


def script(job: TrainJob) -> list[float | str]:
    return ["fail"] if job.number == 3 else good(job)


class Browser:
    """Asks the application as a browser does, without a network."""

    def __init__(self, bench: Bench) -> None:
        self.app = Attached(open_storage(bench.outputs, create=False), bench.outputs)

    def ask(self, path: str, method: str = "GET", document: object = None) -> tuple[int, str, bytes]:
        said: list[Any] = []
        sent = json.dumps(document).encode() if document is not None else b""
        path, _, query = path.partition("?")
        environ = {
            "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "SERVER_NAME": "x", "SERVER_PORT": "1",
            "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(sent)), "HTTP_ACCEPT_ENCODING": "",
            "wsgi.input": io.BytesIO(sent), "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http",
        }  # fmt: skip
        parts = self.app(environ, lambda status, headers, error=None: said.extend((status, dict(headers))))
        with contextlib.closing(parts) if hasattr(parts, "close") else contextlib.nullcontext():
            body = b"".join(parts)
        assert int(said[1].get("Content-Length", len(body))) == len(body)
        return int(said[0].split()[0]), said[1].get("Content-Type", ""), body

    def study(self, number: int = 1, after: int = 0) -> Any:
        status, _, body = self.ask(f"/api/studies/{number}?after={after}")
        assert status == 200
        return json.loads(body)

    def names(self) -> list[str]:
        return [one["filename"] for one in self.study()["artifacts"]]


def write_report(bench: Bench, study: optuna.Study, name: str = "s") -> Path:
    """Write the report of a study that a Bench has searched, with everything in it."""
    _, facts = load_study(open_storage(bench.outputs, create=False), name)
    facts = dataclasses.replace(facts, commands=(COMMAND,))
    keep_facts(study, facts)
    folder, trials = bench.outputs.run_folder(name), summaries(study)
    planted.write_run(folder)
    (folder / IDENTITY).write_text(facts.identity, "utf-8")
    report = planted.report_of(
        trials, SETTINGS, study=name, study_identity=facts.identity, command=COMMAND, analysis=planted.analysis(),
        finalists=None,
    )  # fmt: skip
    write_everything(folder, report, trials, planted.SMALL, SETTINGS)
    return folder


@pytest.fixture(scope="module")
def told(small: Source, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A study of ten trials, one of them failed, with a report."""
    bench = Bench(tmp_path_factory.mktemp("told"), small)
    study, _ = bench.search(SETTINGS, script)
    write_report(bench, study)
    return bench


@pytest.fixture(scope="module")
def shown(told: Bench) -> Any:
    return Browser(told).study()


def test_a_studys_note_is_its_report_with_what_to_type_next(shown: Any, told: Bench) -> None:
    note = shown["note"]["body"]

    assert note.startswith("# s: test accuracy 93.99 ± 0.07 %\n\nAbove all 4 baselines")
    assert "| sadvisandhya | 93.68 % | 93.12 ± 0.21 % | +0.87 | < 0.001 | 0.31 |" in note
    assert f"```\n{COMMAND}\n```" in note
    assert f"tuner best s --export my-model --out {told.outputs.folder}" in note
    assert f"tuner search --resume --study s --out {told.outputs.folder}" in note
    assert "has not ended" not in note


def test_figures_tables_and_the_page_are_artifacts_served_as_they_are(shown: Any, told: Bench) -> None:
    folder, browser = told.outputs.run_folder("s"), Browser(told)

    served = {}
    for one in shown["artifacts"]:
        status, kind, body = browser.ask(f"/artifacts/1/{one['artifact_id']}")
        assert (status, kind) == (200, one["mimetype"])
        served[one["filename"]] = body

    figures = re.findall(r"\]\(figures/(.*?)\)", (folder / "report.md").read_text("utf-8"))
    assert [*served] == [*figures, "errors_by_class.csv", "worst_mistakes.csv", "report.html"]
    assert len(figures) > 10
    for name, body in served.items():
        assert body == (folder / ("figures" if name.endswith(".png") else ".") / name).read_bytes()
    assert served["confusion.png"].startswith(b"\x89PNG")
    linked = re.findall(r"\]\(/artifacts/1/([0-9a-f-]+)[ )]", shown["note"]["body"])
    assert set(linked) == {one["artifact_id"] for one in shown["artifacts"]}


def test_the_tables_say_what_the_figures_show(told: Bench) -> None:
    folder = told.outputs.run_folder("s")
    classes = (folder / "errors_by_class.csv").read_text("utf-8").splitlines()
    mistakes = (folder / "worst_mistakes.csv").read_text("utf-8").splitlines()

    assert classes[0] == "class,images,wrong,precision,recall,f1,most often taken for,times"
    shirt = next(line.split(",") for line in classes if line.startswith("Shirt,"))
    assert shirt[1] == "1000"
    assert shirt[6] == "T-shirt/top"
    assert (
        sum(int(line.split(",")[2]) for line in classes[1:]) == planted.analysis()["n"] - planted.analysis()["correct"]
    )
    assert mistakes[0] == "test image,class,predicted,confidence"
    confidences = [float(line.split(",")[3]) for line in mistakes[1:]]
    assert len(mistakes) == 1 + 12
    assert confidences == sorted(confidences, reverse=True)


def test_a_trials_note_tells_its_end_its_curve_and_its_values(shown: Any, told: Bench) -> None:
    trials = summaries(load_study(open_storage(told.outputs, create=False), "s")[0])
    notes = {row["number"]: row["note"]["body"] for row in shown["trials"]}
    best = max((t for t in trials if t.state == "complete"), key=lambda t: t.val_accuracy or 0)
    pruned = next(t for t in trials if t.state == "pruned")

    assert notes[best.number].startswith(
        f"**Complete**: {100 * (best.val_accuracy or 0):.2f} % of the validation images"
    )
    assert "after 4 epochs" in notes[best.number]
    assert "`▁" in notes[best.number]
    assert notes[best.number].count("| 50.00 % |") == 4
    assert f"| filters_1 | {best.values['filters_1']} |" in notes[best.number]
    assert notes[3].startswith("**Failed**: ValueError: no.")
    assert "behind the others at this rung. It had reached" in notes[pruned.number]
    assert notes[shown["best_trials"][0]["number"]] == shown["best_trials"][0]["note"]["body"]


def test_attributes_and_metric_can_be_read(shown: Any) -> None:
    trial = shown["trials"][0]
    attributes = {one["key"]: one["value"] for one in trial["user_attrs"]}
    columns = {one["key"]: one["sortable"] for one in shown["union_user_attrs"]}

    assert shown["objective_names"] == ["validation accuracy"]
    assert attributes == {
        "end": "complete", "parameters": "10610", "multiply-adds": "235360", "epochs": "4", "seconds": "4.0",
        "start_with": "True",
    }  # fmt: skip
    assert columns["seconds"]
    assert columns["multiply-adds"]
    assert not columns["end"]
    assert not set(columns) & (attached.MACHINERY - {"parameters"})
    study = {one["key"]: one["value"] for one in shown["user_attrs"]}
    assert (study["space"], study["pruner"], study["command"]) == ("small", "asha", COMMAND)
    assert FACTS not in study


def test_the_list_of_studies_can_be_read_and_others_studies_stay_as_they_are(bench: Bench) -> None:
    bench.study(SETTINGS)
    theirs = optuna.create_study(storage=f"sqlite:///{bench.outputs.database}", study_name="theirs")
    theirs.set_user_attr("mine", 1)
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    browser = Browser(bench)

    rows = json.loads(browser.ask("/api/studies")[2])["study_summaries"]
    other = browser.study(2)

    assert [row["study_name"] for row in rows] == ["s", "theirs"]
    assert {"key": "space", "value": "small"} in rows[0]["user_attrs"]
    assert rows[1]["user_attrs"] == [{"key": "mine", "value": "1"}]
    assert (other["note"]["body"], other["artifacts"], other["trials"][0]["note"]["body"]) == ("", [], "")
    assert "objective_names" not in other


def test_a_study_that_runs_tells_what_there_is_so_far(bench: Bench) -> None:
    study, _ = bench.study(SETTINGS)
    browser = Browser(bench)
    before = browser.study()["note"]["body"]
    running = study.ask()
    running.suggest_int("filters_1", 4, 12, step=4)
    running.report(0.41, 1)
    running.report(0.55, 2)

    now = browser.study()

    assert before.startswith("# s: no result yet\n\nSo far no trial was trained to its last epoch (none was started).")
    assert "(1 running)" in now["note"]["body"]
    note = now["trials"][0]["note"]["body"]
    assert note.startswith("**Running**: 55.00 % of the validation images after 2 epochs.")
    assert "| 2 | 55.00 % |" in note

    bench.search(SETTINGS, script)
    after = browser.study()
    assert re.match(r"# s: validation accuracy \d\d.\d\d %, not yet retrained", after["note"]["body"])
    assert after["trials"][0]["note"]["body"].startswith("**Complete**")


def test_a_long_curve_is_a_short_table() -> None:
    trial = planted.trial(0, "complete", [k / 100 for k in range(1, 51)])

    rows = [line for line in trial_note(trial, {}).splitlines() if re.match(r"\| \d+ \| \d+\.", line)]

    assert len(rows) == 12
    assert rows[0].startswith("| 1 |")
    assert rows[-1].startswith("| 50 |")


def test_names_and_reasons_are_never_markup() -> None:
    evil = "<img src=x onerror=alert(1)> *b* `c` | [d](e)"
    trial = dataclasses.replace(planted.trial(0, "failed", [], optimizer=evil), reason=evil)

    note = trial_note(trial, {})

    assert not re.search(r"(?<!\\)<img", note)
    assert "\\*b\\* \\`c\\` | \\[d\\](e)" in note


def contents(bench: Bench) -> tuple[list[str], dict[str, int]]:
    """Everything that a study's database holds, and the files beside it with their times."""
    assert bench.outputs.database is not None
    with contextlib.closing(sqlite3.connect(bench.outputs.database)) as database:
        dump = list(database.iterdump())
    files = {str(path): path.stat().st_mtime_ns for path in bench.outputs.folder.rglob("*") if path.is_file()}
    return dump, {path: when for path, when in files.items() if "studies.db" not in path}


def test_looking_writes_nothing(told: Bench) -> None:
    before = contents(told)

    browser = Browser(told)
    browser.ask("/api/studies")
    for one in browser.study()["artifacts"]:
        browser.ask(f"/artifacts/1/{one['artifact_id']}")
    browser.ask("/csv/1")

    assert contents(told) == before


def test_a_poll_tells_again_only_what_may_have_changed(told: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    monkeypatch.setattr(attached, "trial_note", lambda trial, _: counted.append(trial.number) or "told")
    browser = Browser(told)

    browser.study()
    first = list(counted)
    again = browser.study(after=4)

    assert first == list(range(10))
    assert counted == first
    assert [row["number"] for row in again["trials"]] == list(range(4, 10))


def test_a_users_own_note_is_shown_instead_until_it_is_emptied(bench: Bench) -> None:
    bench.search(SETTINGS, script)
    browser = Browser(bench)
    ours, trial = browser.study()["note"], browser.study()["trials"][0]
    assert ours["version"] == trial["note"]["version"] == 0

    for path in ("/api/studies/1/note", f"/api/studies/1/{trial['trial_id']}/note"):
        assert browser.ask(path, "PUT", {"version": 1, "body": "my own"})[0] == 204
    theirs = browser.study()
    assert browser.ask("/api/studies/1/note", "PUT", {"version": 2, "body": ""})[0] == 204

    assert theirs["note"] == {"version": 1, "body": "my own"}
    assert theirs["trials"][0]["note"] == {"version": 1, "body": "my own"}
    assert browser.study()["note"] == {"version": 2, "body": ours["body"]}


def test_a_file_of_the_run_folder_cannot_be_removed_and_a_users_own_can(bench: Bench) -> None:
    study, _ = bench.search(SETTINGS, script)
    folder = write_report(bench, study)
    browser = Browser(bench)
    ours = browser.study()["artifacts"]

    status, _, said = browser.ask(f"/api/artifacts/1/{ours[0]['artifact_id']}", "DELETE")
    file = "data:text/plain;base64," + base64.b64encode(b"mine").decode()
    uploaded = json.loads(browser.ask("/api/artifacts/1", "POST", {"file": file, "filename": "mine.txt"})[2])

    assert status == 403
    assert "stays there" in json.loads(said)["reason"]
    assert (folder / "figures" / ours[0]["filename"]).exists()
    assert [one["filename"] for one in uploaded["artifacts"]] == [*(one["filename"] for one in ours), "mine.txt"]
    assert browser.names()[-1] == "mine.txt"
    assert (bench.outputs.folder / "artifacts" / uploaded["artifact_id"]).read_bytes() == b"mine"
    assert browser.ask(f"/artifacts/1/{uploaded['artifact_id']}")[2] == b"mine"
    assert browser.ask(f"/api/artifacts/1/{uploaded['artifact_id']}", "DELETE")[0] == 204
    assert browser.names() == [one["filename"] for one in ours]


def test_half_a_report_is_not_shown(bench: Bench) -> None:
    study, _ = bench.search(SETTINGS, script)
    folder = write_report(bench, study)
    whole = Browser(bench).names()

    (folder / "figures" / "training.png").rename(folder / "figures" / ".training.1.draft.png")
    without = Browser(bench).names()
    (folder / "report.json").write_text('{"study"', "utf-8")

    assert without == [name for name in whole if name != "training.png"]
    assert Browser(bench).names() == []
    assert Browser(bench).study()["note"]["body"].startswith("# s: validation accuracy")


def test_a_figure_that_is_drawn_anew_has_a_new_address(bench: Bench) -> None:
    study, _ = bench.search(SETTINGS, script)
    folder, browser = write_report(bench, study), Browser(bench)
    before = {one["filename"]: one["artifact_id"] for one in browser.study()["artifacts"]}

    os.utime(folder / "figures" / "training.png", ns=(1, 1))
    after = {one["filename"]: one["artifact_id"] for one in browser.study()["artifacts"]}

    assert [name for name in before if before[name] != after[name]] == ["training.png"]
    assert browser.ask(f"/artifacts/1/{before['training.png']}")[0] == 404


def test_a_study_made_anew_under_an_old_name_and_number_shows_nothing_of_the_old_one(bench: Bench) -> None:
    study, space_file = bench.study(SETTINGS)
    bench.search(SETTINGS, script)
    write_report(bench, study)
    browser = Browser(bench)
    assert len(browser.study()["trials"]) == 10
    storage = open_storage(bench.outputs, create=False)
    _, facts = load_study(storage, "s")

    optuna.delete_study(study_name="s", storage=storage)
    create_study(storage, "s", dataclasses.replace(facts, identity="another"), space_file.space)
    bench.search(dataclasses.replace(SETTINGS, trials=2, seed=5), good)
    now = browser.study()

    assert storage.get_study_id_from_name("s") == 1
    assert [row["number"] for row in now["trials"]] == [0, 1]
    assert now["artifacts"] == []
    assert now["note"]["body"].startswith("# s: validation accuracy")


def test_a_study_renamed_in_the_dashboard_keeps_what_the_search_stored(bench: Bench) -> None:
    study, _ = bench.search(SETTINGS, script)
    before, attributes = values_of(study), [trial.user_attrs for trial in study.trials]

    status, _, _ = Browser(bench).ask("/api/studies/1/rename", "POST", {"study_name": "other"})

    renamed, _ = load_study(open_storage(bench.outputs, create=False), "other")
    assert status == 201
    assert values_of(renamed) == before
    assert [trial.user_attrs for trial in renamed.trials] == attributes


def test_a_study_that_is_not_there_is_not_found(told: Bench) -> None:
    assert Browser(told).ask("/api/studies/7")[0] == 404
    assert Browser(told).ask("/artifacts/1/00000000-0000-0000-0000-000000000000")[0] == 404


def test_an_idle_connection_keeps_nobody_waiting() -> None:
    server = listen("127.0.0.1", 0)

    def hello(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"hello"]

    server.set_app(hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with server, socket.create_connection(server.server_address[:2]):
        with urllib.request.urlopen(server.address, timeout=5) as answer:
            assert answer.read() == b"hello"
        server.shutdown()


def test_a_browser_is_opened_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    done = threading.Event()
    monkeypatch.setattr("webbrowser.open", lambda address: (opened.append(address), done.set()))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)

    open_browser("http://nowhere")
    monkeypatch.setenv("DISPLAY", ":0")
    open_browser("http://here")

    assert done.wait(5)
    assert opened == ["http://here"]


@contextlib.contextmanager
def dashboard(bench: Bench, *arguments: str) -> Iterator[str]:
    """Serve a Bench's studies as a user does; yields the address that is printed."""
    command = [
        sys.executable,
        "-m",
        "tuner",
        "dashboard",
        *arguments,
        "--port",
        "0",
        "--out",
        str(bench.outputs.folder),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[2]
        finally:
            process.terminate()
            _, said = process.communicate()
    assert said == ""


@pytest.mark.browser
def test_a_browser_shows_the_study_its_note_its_figures_and_a_trial(told: Bench) -> None:
    from playwright.sync_api import sync_playwright

    figures = list((told.outputs.run_folder("s") / "figures").iterdir())
    said: list[str] = []
    with dashboard(told, "s") as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(request.url))

        page.goto(address)  # the study
        page.get_by_text("validation accuracy").first.wait_for()
        figure = page.get_by_alt_text("confusion.png")
        figure.wait_for()
        _wait_until_drawn(page, "img[alt$='.png']")
        assert page.locator("img[alt$='.png']").count() == len(figures)
        page.get_by_label("show artifact table").first.click()
        page.get_by_text("most often taken for").wait_for()

        page.goto(f"{address}/note")  # its note
        page.get_by_role("heading", name="s: test accuracy 93.99 ± 0.07 %").wait_for()
        page.get_by_role("cell", name="93.12 ± 0.21 %").wait_for()
        _wait_until_drawn(page, "img[src^='/artifacts/1/']")
        widths = page.eval_on_selector_all(
            "img[src^='/artifacts/1/']", "all => all.map(one => one.getBoundingClientRect().width)"
        )
        assert len(widths) == len(figures)
        assert min(widths) > 500

        page.goto(f"{address}/trials?numbers=3")  # a trial, which failed
        page.get_by_text("Failed: ValueError: no.").wait_for()
        page.get_by_role("cell", name="batch_size").wait_for()
        page.get_by_text("multiply-adds 59744").wait_for()
        browser.close()

    assert said == []


def _wait_until_drawn(page: Any, selector: str) -> None:
    page.wait_for_function(
        "selector => { const all = [...document.querySelectorAll(selector)];"
        " return all.length && all.every(one => one.complete && one.naturalWidth > 300); }",
        arg=selector,
    )
