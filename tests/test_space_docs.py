"""docs/spaces.md says what is so: every block of it is read or run, in its order."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuner.cli import run
from tuner.data.sources import Source
from tuner.search.request import read_checked
from tuner.space.draft import TOP
from tuner.space.hypermodel_file import HYPERMODEL
from tuner.space.kinds import KINDS

PAGE = (Path(__file__).parents[1] / "docs" / "spaces.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def _commands(block: str) -> Iterator[tuple[str, str]]:
    for one in block.removeprefix("$ ").split("\n$ "):
        command, _, expected = one.partition("\n")
        yield command, expected


def _says(expected: str, printed: str) -> bool:
    """Tell whether a command printed what the page shows, where ``[...]`` stands for anything and spaces do not count."""
    shown, said = (re.sub(r"[ \n]+", " ", text).strip() for text in (expected, printed))
    return (
        re.fullmatch(re.escape(shown).replace(r"\[\.\.\.\]", ".*").replace(r"\ .*", ".*"), said, re.DOTALL) is not None
    )


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    assert {kind for kind, _ in BLOCKS} == {"toml", "console"}
    assert PAGE.count("```") == 2 * len(BLOCKS)


def test_every_block_reads_and_every_command_prints_what_the_page_shows(
    fashion: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TUNER_DATA", str(fashion.folder))

    for number, (kind, block) in enumerate(BLOCKS):
        if kind == "toml":
            name = re.match(r"# (\S+\.toml)\n", block)
            path = Path(name[1] if name else f"block{number}.toml")
            path.write_text(block, "utf-8")
            if path.stem != "wrong":
                read_checked(str(path))
            continue
        for command, expected in _commands(block):
            program, *arguments = shlex.split(command)
            assert program == "tuner"
            code = run(arguments)
            printed = capsys.readouterr()
            assert _says(expected, printed.out + printed.err), printed.out + printed.err
            assert code == (3 if expected.startswith("error: ") else 0)


def test_the_reference_names_all_that_may_stand_in_a_file() -> None:
    rows = {
        cell
        for line in PAGE.splitlines()
        if line.startswith("| ")
        for cell in re.findall(r"`\[*(\w+)", line.split("|")[1])
    }

    assert rows >= {*TOP, *KINDS} - {HYPERMODEL}
