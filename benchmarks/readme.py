"""Put the generated tables into README.md, between their marks; with ``--check`` only say whether they are there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
TABLES = {"baselines": "results/reference/baselines/table.md"}


def main() -> None:
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``."""
    readme = TOP / "README.md"
    text = readme.read_text("utf-8")
    for name, path in TABLES.items():
        marks = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        table = (TOP / path).read_text("utf-8")
        text, found = re.subn(marks, lambda match, table=table: f"{match[1]}{table}{match[2]}", text, flags=re.DOTALL)
        if found != 1:
            sys.exit(f"README.md has {found} places for {name}, not 1")
    if "--check" in sys.argv:
        sys.exit(0 if text == readme.read_text("utf-8") else "README.md does not hold the tables: make baselines")
    readme.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
