"""The tables of docs/conformance.md: what the tests computed is what the document says, cell by cell.

With MKISOD_WRITE_CONFORMANCE=1 in the environment the tests write the cells that they compute into the document instead of comparing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.daemon import ROOT

PATH = ROOT / "docs" / "conformance.md"
_WRITE = "MKISOD_WRITE_CONFORMANCE"


class Table:
    """The table between `<!-- shown: NAME -->` and `<!-- end -->`: rows by their first cell, columns by their heading."""

    def __init__(self, name: str, rows: Sequence[str], columns: Sequence[str], path: Path = PATH) -> None:
        self._mark = re.compile(rf"(?<=<!-- shown: {name} -->\n).*?(?=<!-- end -->)", re.DOTALL)
        self._rows, self._columns, self._path = list(rows), list(columns), path

    def check_shape(self) -> None:
        """Every row and every column of the tests is in the document, and no other."""
        said = self._read()
        if os.environ.get(_WRITE):
            return
        assert ([*said], [*next(iter(said.values()), {})]) == (self._rows, self._columns[1:]), f"{_WRITE}=1 writes the table anew"

    def check_cell(self, row: str, column: str, found: str) -> None:
        said = self._read()
        if os.environ.get(_WRITE):
            self._write({**said, row: {**said.get(row, {}), column: found}})
        elif (shown := said.get(row, {}).get(column)) != found:
            pytest.fail(f"{row}, {column}: found {found!r}, and {self._path.name} says {shown!r}. {_WRITE}=1 writes what is found")

    def _read(self) -> dict[str, dict[str, str]]:
        match = self._mark.search(self._path.read_text(encoding="utf-8"))
        assert match, f"{self._path.name} has no place for this table"
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in match[0].splitlines() if line.startswith("|")]
        if not lines:
            return {}
        headings, _, *rows = lines
        return {row[0]: dict(zip(headings[1:], row[1:], strict=True)) for row in rows}

    def _write(self, cells: dict[str, dict[str, str]]) -> None:
        rows = [[row, *(cells.get(row, {}).get(column, "") for column in self._columns[1:])] for row in self._rows]
        lines = [self._columns, ["---"] * len(self._columns), *rows]
        text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        self._path.write_text(self._mark.sub(lambda _: text, self._path.read_text(encoding="utf-8")), encoding="utf-8")
