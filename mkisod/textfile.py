"""When the metrics are written, and what is read for it: how the spool stands, and who is connected.

Written after each round through the spool, so at every claim, at the end of every job, and at least every `scan_interval_s`. A file that
cannot be written is a warning, once, and never a failure: the work goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from mkisod.spool.census import take_census
from mkisod.spool.layout import Layout
from mkisod.system.metrics import Metrics, Readings


class Textfile:
    """Used by one thread. `path`: [metrics] textfile; empty, and nothing is read or written."""

    def __init__(
        self,
        path: str,
        metrics: Metrics,
        layout: Layout,
        log: FilteringBoundLogger,
        *,
        min_free_mib: int,
        count_associations: Callable[[], int],
        clock_s: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._path = path
        self._metrics = metrics
        self._layout = layout
        self._log = log
        self._min_free_mib = min_free_mib
        self._count_associations = count_associations
        self._clock_s = clock_s
        self._now = now
        self._failed = False

    def write(self) -> float | None:
        """In how many seconds to call again, if that is before anything else happens."""
        if not self._path:
            return None
        try:
            due_s = self._metrics.update(Path(self._path), self._clock_s(), self._read)
        except OSError as error:
            if not self._failed:
                advice = "Give the daemon a directory that it may write to."
                self._log.warning("metrics_not_written", path=self._path, reason=error.strerror, advice=advice)
            self._failed = True
            return None
        self._failed = self._failed and due_s is not None  # too early is neither
        return due_s

    def _read(self) -> Readings:
        census = take_census(self._layout, self._now())
        associations = self._count_associations()
        return Readings(census.waiting, census.oldest_queued_s, associations, census.free_bytes, self._min_free_mib << 20)
