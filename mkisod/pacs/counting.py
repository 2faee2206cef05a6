"""How much comes in: a reception that reports each instance that was kept, and a count of those of today."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import date

from attrs import frozen

from mkisod.pacs.reception import Arrival, Offer, Reception


@frozen
class Counted:
    """`report_arrival` is told the size in bytes of each instance that is whole under its final name; called from many threads."""

    reception: Reception
    report_arrival: Callable[[int], None]

    def admit(self, offer: Offer) -> Arrival:
        return _CountedArrival(self.reception.admit(offer), self.report_arrival)


@frozen
class _CountedArrival:
    arrival: Arrival
    report_arrival: Callable[[int], None]

    @property
    def fd(self) -> int | None:
        return self.arrival.fd

    def commit(self, size_bytes: int) -> None:
        self.arrival.commit(size_bytes)
        self.report_arrival(size_bytes)

    def abort(self, error: OSError | None = None) -> None:
        self.arrival.abort(error)


class DayCount:
    """How many came since midnight. `today` is the date where the daemon runs."""

    def __init__(self, today: Callable[[], date]) -> None:
        self._today = today
        self._lock = threading.Lock()  # guards the two below
        self._day = today()
        self._count = 0

    def add(self) -> None:
        with self._lock:
            self._turn()
            self._count += 1

    def read(self) -> int:
        with self._lock:
            self._turn()
            return self._count

    def _turn(self) -> None:
        if (day := self._today()) != self._day:
            self._day, self._count = day, 0
