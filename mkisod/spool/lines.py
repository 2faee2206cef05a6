"""The jobs that wait for a worker, in lines: a memory without a disk.

A choice costs a look at the head of each line, however long they are.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Iterator, KeysView

from attrs import define, field, frozen


@frozen
class Line:
    """Those that wait for the same: a worker, or a worker and a slot at their PACS (None: the default one). The lowest rank comes first."""

    rank: int
    retrieves: bool
    pacs: str | None


@define(eq=False)
class _Row:
    line: Line
    names: list[str] = field(factory=list)  # sorted, and so by age


class Lines:
    """Each job stands in one line, by its name."""

    def __init__(self) -> None:
        self._rows: dict[Line, _Row] = {}
        self._row_of: dict[str, _Row] = {}

    @property
    def names(self) -> KeysView[str]:
        return self._row_of.keys()

    def add(self, name: str, line: Line) -> None:
        """Put a job into a line, whatever line it stood in."""
        self.remove(name)
        row = self._row_of[name] = self._rows.setdefault(line, _Row(line))
        bisect.insort(row.names, name)

    def remove(self, name: str) -> None:
        """Nothing where it stands in none."""
        if (row := self._row_of.pop(name, None)) is not None:
            del row.names[bisect.bisect_left(row.names, name)]
            if not row.names:
                del self._rows[row.line]

    def walk(self, is_open: Callable[[Line], bool]) -> Iterator[tuple[str, Line]]:
        """Those in the lines that are open, by rank, then by age. Nothing may be added or removed meanwhile."""
        rows = [row for row in self._rows.values() if is_open(row.line)]
        for rank in sorted({row.line.rank for row in rows}):
            yield from heapq.merge(*(_label(row) for row in rows if row.line.rank == rank), key=lambda place: place[0])


def _label(row: _Row) -> Iterator[tuple[str, Line]]:
    return ((name, row.line) for name in row.names)
