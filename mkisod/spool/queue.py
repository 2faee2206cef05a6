"""Which job is next: of those that wait for a worker, and of those that wait for their time.

Reads `work/queued/` and `work/deferred/`, whose names are the truth. Of each job one small file is read once, when its name is first seen
or its directory has changed since; a choice costs a listing, not an opening of everything that waits.
"""

from __future__ import annotations

import os
from datetime import datetime

from mkisod.job.request import PRIORITIES
from mkisod.spool.jobs import Job, Jobs
from mkisod.spool.layout import JobDirectory


class Queue:
    """Each of the two methods is called by one thread at a time."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._ranks: dict[JobDirectory, int] = {}
        self._due: dict[JobDirectory, tuple[int, datetime | None]] = {}

    def choose(self) -> Job | None:
        """The queued job that is next: by priority, then by age. It stays queued; the event TAKEN takes it."""
        directories = self._jobs.list_queued()
        ranks = {directory: self._ranks[directory] if directory in self._ranks else self._read_rank(directory) for directory in directories}
        self._ranks = ranks
        while ranks:
            first = min(ranks, key=lambda directory: (ranks[directory], directory.path.name))
            if (job := self._load(first)) is not None:
                return job
            del ranks[first]
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

    def _read_rank(self, directory: JobDirectory) -> int:
        job = self._load(directory)
        return PRIORITIES.index(job.record.priority) if job is not None and job.record.priority in PRIORITIES else len(PRIORITIES)

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
