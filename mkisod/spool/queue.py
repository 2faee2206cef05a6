"""Which job is next: of those that wait for a worker, and of those that wait for their time.

Reads `work/queued/` and `work/deferred/`, whose names are the truth. Of each job one small file is read once, when its name is first seen
or its directory has changed since; a choice costs a listing of names, not an opening of everything that waits, nor a look at each.
"""

from __future__ import annotations

import bisect
import heapq
import os
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime

from attrs import frozen

from mkisod.job.record import is_job_id
from mkisod.job.request import PRIORITIES
from mkisod.spool.jobs import Job, Jobs
from mkisod.spool.layout import JobDirectory


@frozen
class _Line:
    """Those that wait for the same: a worker, or a worker and a slot at their PACS (None: the default one)."""

    retrieves: bool
    pacs: str | None


_Place = tuple[int, str]  # in a line: rank and name, so that the first comes first


class Queue:
    """Each of the two methods is called by one thread at a time."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._lines: dict[_Line, list[_Place]] = defaultdict(list)  # each sorted
        self._waiting: dict[str, tuple[_Line, _Place]] = {}  # by name
        self._due: dict[JobDirectory, tuple[int, datetime | None]] = {}

    def choose(
        self,
        has_slot: Callable[[str | None], bool] = lambda _pacs: True,
        may_begin: Callable[[str, str | None], bool] = lambda _job, _pacs: True,
    ) -> Job | None:
        """The queued job that is next: by priority, then by age. It stays queued; the event TAKEN takes it.

        `has_slot` is asked for each PACS, `may_begin` about each job that is to retrieve from one that has; who may not stands in nobody's
        way.
        """
        self._refresh()
        open_lines = [places for line, places in self._lines.items() if not line.retrieves or has_slot(line.pacs)]
        for place in heapq.merge(*open_lines):
            name = place[1]
            line, _ = self._waiting[name]
            if line.retrieves and not may_begin(name, line.pacs):
                continue
            if (job := self._load(self._jobs.get_queued(name))) is not None:
                self._forget(name)  # when it comes back to the queue, it may be another matter
                return job
        return None

    def _refresh(self) -> None:
        """Learn of those that have come, forget those that have gone."""
        names = set(self._jobs.list_queued_names())
        for name in self._waiting.keys() - names:
            self._forget(name)
        for name in filter(is_job_id, names - self._waiting.keys()):
            line, rank = self._read_waiting(self._jobs.get_queued(name))
            self._waiting[name] = line, (rank, name)
            bisect.insort(self._lines[line], (rank, name))

    def _forget(self, name: str) -> None:
        line, place = self._waiting.pop(name)
        places = self._lines[line]
        del places[bisect.bisect_left(places, place)]
        if not places:
            del self._lines[line]

    def list_due(self, now: datetime) -> tuple[list[Job], datetime | None]:
        """The deferred jobs whose time has come, and when the next one's comes (None: no other is waiting)."""
        due, waiting, seen = [], [], {}
        for directory in self._jobs.list_deferred():
            if (entry := self._read_retry_at(directory)) is None:
                continue
            seen[directory] = entry
            retry_at = entry[1]
            if retry_at is not None and retry_at > now:
                waiting.append(retry_at)
            elif (job := self._load(directory)) is not None:
                due.append(job)
        self._due = seen
        return due, min(waiting, default=None)

    def _read_waiting(self, directory: JobDirectory) -> tuple[_Line, int]:
        """Where a job belongs, and its rank there."""
        if (job := self._load(directory)) is None:
            return _Line(retrieves=False, pacs=None), len(PRIORITIES)
        record = job.record
        rank = PRIORITIES.index(record.priority) if record.priority in PRIORITIES else len(PRIORITIES)
        return _Line(retrieves=not record.published, pacs=record.pacs), rank

    def _read_retry_at(self, directory: JobDirectory) -> tuple[int, datetime | None] | None:
        try:
            changed_ns = os.stat(directory.path).st_mtime_ns
        except FileNotFoundError:
            return None
        if (entry := self._due.get(directory)) is not None and entry[0] == changed_ns:
            return entry
        job = self._load(directory)
        return None if job is None else (changed_ns, job.record.retry_at)

    def _load(self, directory: JobDirectory) -> Job | None:
        """None where another daemon was first. What nobody can read is put aside, so that it does not stand in the way."""
        try:
            return self._jobs.load(directory)
        except FileNotFoundError:
            return None
        except ValueError:
            self._jobs.set_aside(directory)
            return None
