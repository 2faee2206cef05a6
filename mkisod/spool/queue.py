"""Which job is next: of those that wait for a worker, and of those that wait for their time.

Reads `work/queued/` and `work/deferred/`, whose names are the truth. Of each job one small file is read once, when its name is first seen
or its directory has changed since; a choice costs a listing, not an opening of everything that waits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime

from attrs import frozen

from mkisod.job.request import PRIORITIES
from mkisod.spool.jobs import Job, Jobs
from mkisod.spool.layout import JobDirectory


@frozen
class _Waiting:
    """What the choice goes by."""

    rank: int
    pacs: str | None = None
    retrieves: bool = False


class Queue:
    """Each of the two methods is called by one thread at a time."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._waiting: dict[JobDirectory, _Waiting] = {}
        self._due: dict[JobDirectory, tuple[int, datetime | None]] = {}

    def choose(self, may_begin: Callable[[str, str | None], bool] = lambda _job, _pacs: True) -> Job | None:
        """The queued job that is next: by priority, then by age. It stays queued; the event TAKEN takes it.

        `may_begin` is asked about those that have to retrieve from a PACS, by job and PACS; one that may not stands in nobody's way.
        """
        directories = self._jobs.list_queued()
        self._waiting = {directory: self._waiting.get(directory) or self._read_waiting(directory) for directory in directories}
        for directory in sorted(self._waiting, key=lambda directory: (self._waiting[directory].rank, directory.path.name)):
            known = self._waiting[directory]
            if known.retrieves and not may_begin(directory.path.name, known.pacs):
                continue
            del self._waiting[directory]  # when it comes back to the queue, it may be another matter
            if (job := self._load(directory)) is not None:
                return job
        return None

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

    def _read_waiting(self, directory: JobDirectory) -> _Waiting:
        if (job := self._load(directory)) is None:
            return _Waiting(len(PRIORITIES))
        record = job.record
        rank = PRIORITIES.index(record.priority) if record.priority in PRIORITIES else len(PRIORITIES)
        return _Waiting(rank, record.pacs, retrieves=not record.published)

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
