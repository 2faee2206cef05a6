"""Which queued job may begin: no more than `max_moves` at once retrieve from one PACS, and no two retrieve one study.

Owns the list of jobs that retrieve. A job has its turn before a worker takes it, so that none waits in a worker's hands; that it needs a
study of another job is known only once it has asked, and then it goes back to the queue until the study is free. Nothing here outlives the
daemon: after a start every job simply asks again. The queue's own order (priority, then age) decides among those that may begin.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

from mkisod.config.settings import Config
from mkisod.pacs.expectations import Expectations


def count_slots(config: Config, pacs: str) -> int | None:
    """How many jobs may retrieve from a PACS at once; None: it is not configured, and a job that names it fails before it moves.

    By accession number alone one: nothing else tells whose an instance is.
    """
    if pacs not in config.pacs:
        return None
    return 1 if config.pacs[pacs].query == "none" else config.pacs[pacs].max_moves


class Turns:
    """Used by several threads."""

    def __init__(self, config: Config, expectations: Expectations) -> None:
        self._config = config
        self._expectations = expectations
        self._lock = threading.Lock()
        self._retrieving: dict[str, str] = {}  # by job, the PACS
        self._awaited: dict[str, frozenset[str]] = {}  # by job, the studies that were in use when it wanted them

    def renew(self, config: Config) -> None:
        """For jobs that begin from now on."""
        self._config = config

    def may_begin(self, job: str, pacs: str | None) -> bool:
        """`pacs`: as the request says, None for the default."""
        with self._lock:
            awaited = self._awaited.get(job, frozenset())
        return self.has_slot(pacs) and self._expectations.are_free(awaited)

    def has_slot(self, pacs: str | None) -> bool:
        """Whether another job may retrieve from this PACS."""
        name = pacs or self._config.default_pacs
        slots = count_slots(self._config, name)
        with self._lock:
            return slots is None or sum(other == name for other in self._retrieving.values()) < slots

    def begin(self, job: str, pacs: str | None) -> None:
        with self._lock:
            self._awaited.pop(job, None)
            self._retrieving[job] = pacs or self._config.default_pacs

    def end(self, job: str, awaited: Collection[str] = ()) -> None:
        """It retrieves no more; with `awaited` it wants to begin anew once these studies are free. May be said again."""
        with self._lock:
            self._retrieving.pop(job, None)
            if not self._retrieving:
                self._awaited.clear()  # all studies are free
            if awaited:
                self._awaited[job] = frozenset(awaited)
