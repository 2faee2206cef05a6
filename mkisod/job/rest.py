"""What is left to move of one round, and what becomes of a list that fails.

Pure. At some archives one instance that cannot be sent ends the whole move (measured: Orthanc), so in the last round of a list that fails
and brings nothing each half is tried, and so on. Some take no lists at all (measured: qrscp): where two that failed together come one by
one, no more lists are tried.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from attrs import evolve

from mkisod.job.moves import Move

_MOST_FRUITLESS = 16  # in a row, before it is believed that no part of a list can be had; enough to find one among thousands


class Rest:
    """The C-MOVEs of one round that are still to come. `in_parts`: of a list that fails the parts are tried."""

    def __init__(self, moves: list[Move], *, in_parts: bool) -> None:
        self._left = moves[::-1]  # the next one is the last
        self._in_parts = in_parts
        self._fruitless = 0
        self._failed_together: frozenset[str] = frozenset()

    def take(self) -> Move | None:
        """The next one; None: there is none, or it is of no use to go on."""
        return self._left.pop() if self._left and self._fruitless < _MOST_FRUITLESS else None

    def note(self, move: Move, *, failed: bool, has_sent: bool, missing: AbstractSet[str]) -> None:
        """What became of the move that was taken. `has_sent`: an instance came; `missing`: the SOP Instance UIDs that have not come."""
        uids = move.sop_instance_uids
        has_brought = has_sent if not uids else any(uid not in missing for uid in uids)  # what is sent once more brings nothing
        if has_brought:
            self._fruitless = 0
        if self._failed_together and self._failed_together.isdisjoint(missing):
            self._failed_together = frozenset()
            self._left = [single for left in self._left for single in left.split()]
        if not failed or not self._in_parts:
            return
        rest = evolve(move, sop_instance_uids=tuple(uid for uid in uids if uid in missing))
        if has_brought:
            self._left += [rest] if rest.sop_instance_uids else []
            return
        self._fruitless += 1
        self._left += rest.halve()[::-1]
        self._failed_together = frozenset(rest.sop_instance_uids if len(rest.sop_instance_uids) == 2 else ())
