"""The library as its users have it: a script without a guard, a notebook, a type checker, the page that describes it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from PIL import Image

import tuner

ROOT = Path(__file__).parents[1]
PAGE, README = ((ROOT / name).read_text("utf-8") for name in ("docs/library.md", "README.md"))
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def _start(script: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    (folder / "script.py").write_text(script, "utf-8")
    return subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509  # no threads here
    )


def _run(script: str, folder: Path, **environment: str) -> str:
    with _start(script, folder, **environment) as process:
        out, err = process.communicate(timeout=250)
    assert process.returncode == 0, err
    return out


SCRIPT = """
print("read")
import os, sys, tuner
before = (dict(os.environ), os.getcwd(), sys.argv[:])
result = tuner.run_search("small.toml", trials=1, epochs=1, workers=1, refit=False, data=os.environ["IMAGES"])
assert before == (dict(os.environ), os.getcwd(), sys.argv[:])
assert not {"keras", "tensorflow"} & set(sys.modules)
print(result)
"""


def test_a_script_needs_no_main_guard(space_path: Path, small_folder: Path) -> None:
    out = _run(SCRIPT, space_path.parent, IMAGES=str(small_folder))

    assert out.startswith("read\n[   0:0")
    assert out.count("read\n") == 1  # no worker has run it again
    assert "trial 0 complete: validation" in out
    assert re.search(r"^small-1: validation accuracy \d\d\.\d\d %, not yet retrained$", out, re.MULTILINE)


@pytest.mark.slow
def test_ctrl_c_in_a_script_is_a_keyboard_interrupt_and_leaves_nobody(space_path: Path, small_folder: Path) -> None:
    script = """
import os, tuner
try:
    tuner.run_search("small.toml", trials=9, epochs=8, workers=2, data=os.environ["IMAGES"], pruner="none")
except KeyboardInterrupt as stop:
    print("stopped:", stop)
result = tuner.run_search(resume=True, trials=2, workers=2, refit_seeds=1, refit_epochs=1, progress=False)
print(result)
"""
    with _start(script, space_path.parent, IMAGES=str(small_folder)) as process:
        assert process.stdout is not None
        assert any("epoch 2" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=250)

    assert process.returncode == 0, err
    assert re.search(
        r"^stopped: Interrupted\..* run_search\(study='small-1', resume=True, …\) goes on", out, re.MULTILINE
    )
    assert "small-1: test accuracy" in out


@pytest.mark.slow
def test_everything_on_the_page_runs(tmp_path: Path, small_folder: Path, boot: Image.Image) -> None:
    (tmp_path / "photos").mkdir()
    boot.save(tmp_path / "photos" / "boot.png")

    out = _run("\n".join(BLOCKS), tmp_path, TUNER_DATA=str(small_folder))

    assert re.search(r"^tiny-1: test accuracy [\d.± ]+ %; 95 % interval of the exported model", out, re.MULTILINE)
    assert re.search(r"^photos/boot.png \S.* \d+%$", out, re.MULTILINE)
    assert "search.trials = 0 must be above 0, and finite" in out


def test_the_readme_has_the_ten_lines_of_the_page() -> None:
    assert f"```python\n{BLOCKS[0]}```" in README
    assert len(BLOCKS[0].splitlines()) <= 10


def test_the_page_names_everything_that_there_is() -> None:
    missing = [name for name in tuner.__all__ if f"`{name}" not in PAGE]
    missing += [name for name in vars(tuner.Result) if not name.startswith("_") and f"`{name}" not in PAGE]

    assert missing == []


@pytest.mark.slow
def test_a_type_checker_knows_the_installed_package(tmp_path: Path) -> None:
    source, site = tmp_path / "source", _installed_beside_the_dependencies(tmp_path)
    for name in ("tuner", "search_spaces", "results/reference/baselines"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [
        *pip,
        "wheel",
        str(source),
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "--wheel-dir",
        str(tmp_path),
    ]
    subprocess.run(build, check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True)
    assert (site / "tuner" / "py.typed").exists()

    right = _checked("\n".join(BLOCKS), tmp_path)
    wrong = _checked(
        """
import tuner

result = tuner.run_search("cnn", trials="9", sampler="bayes", epoch=3)
print(result.accuracy, result.test_accuracy + 1)
tuner.run_serch()
tuner.run_search(progress=lambda event: event.nothing)
result.export("model", formats=("pickle",))
""",
        tmp_path,
    )

    assert right == []
    kinds = dict.fromkeys(re.sub(r".*\[([\w-]+)\]$", r"\1", line) for line in wrong)
    assert list(kinds) == ["call-arg", "arg-type", "attr-defined", "operator", "union-attr"]
    assert {line.split(":")[1] for line in wrong} == {"4", "5", "6", "7", "8"}  # every line of it


def _installed_beside_the_dependencies(folder: Path) -> Path:
    """Make an environment that has what this one has, and return where it has what comes before that."""
    venv.create(folder / "venv", symlinks=True)
    (site,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    here = {str(Path(module.__file__ or "").parents[1]) for module in (pytest, Image)}
    (site / "here.pth").write_text("\n".join(here), "utf-8")
    return site


def _checked(script: str, folder: Path) -> list[str]:
    """Return the errors that mypy finds in a user's script, far from this repository."""
    (folder / "user.py").write_text(script, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--python-executable",
         str(folder / "venv" / "bin" / "python"), "user.py"],
        cwd=folder, env={name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")},
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if ": error: " in line]


@pytest.mark.notebook
@pytest.mark.parametrize("widgets", [True, False], ids=["widgets", "lines"])
def test_a_notebook_shows_progress_and_the_result(
    widgets: bool, space_path: Path, small_folder: Path, monkeypatch: pytest.MonkeyPatch  # noqa: FBT001
) -> None:  # fmt: skip
    import nbclient
    import nbformat

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    hidden = (
        ""
        if widgets
        else "import importlib.util as u; f = u.find_spec; u.find_spec = lambda n: n != 'ipywidgets' and f(n)\n"
    )
    cells = [
        f"{hidden}import tuner, asyncio\nassert asyncio.get_running_loop()",
        f"result = tuner.run_search('small.toml', trials=2, epochs=2, workers=1, refit=False, data={str(small_folder)!r})",
        "result",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])

    nbclient.NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(space_path.parent)}}).execute()

    _, searched, shown = (cell.outputs for cell in notebook.cells)
    lines = "".join(output.get("text", "") for output in searched)
    assert "validation accuracy" in shown[0]["data"]["text/html"]
    assert ("trial 1 complete" in lines) is not widgets
    assert all(output.get("name") != "stderr" for output in searched), searched
