"""Which job is next: of those that wait for a worker, and of those that wait for their time.

The names in `work/queued/` and `work/deferred/` are the truth, and other daemons and operators change them. What is kept here is what the
last look at them has shown, so that a choice lists nothing, however many wait. It may be out of date, and that does no harm: a job that
has gone is found out when its record is read, which is before anything is done with it, and one that others have put there is found by the
next look. Of each job one small file is read once, when its name is first seen or its directory has changed since.
"""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from mkisod.job.record import JobRecord, is_job_id
from mkisod.job.request import PRIORITIES
from mkisod.spool.glance import Glance
from mkisod.spool.jobs import Job, Jobs
from mkisod.spool.layout import JobDirectory, Layout
from mkisod.spool.lines import Line, Lines

_DISTANCE_S = 0.005  # between two listings, for each hundred names: a small part of the time, however many there are
_NO_TIME = datetime.min.replace(tzinfo=UTC)


class Queue:
    """`look` and `list_due` are called by one thread, the rest by any."""

    def __init__(self, layout: Layout, jobs: Jobs) -> None:
        self._layout = layout
        self._jobs = jobs
        self._lock = threading.Lock()  # guards the lines
        self._lines = Lines()
        self._glances = Glance(layout.queued, _DISTANCE_S), Glance(layout.deferred, 4 * _DISTANCE_S)  # the latter are looked at one by one
        self._retry_at: dict[str, tuple[int, datetime]] = {}  # of deferred jobs: their directory's time of change, and theirs
        self._due: list[tuple[datetime, str]] = []  # the same as a heap

    @property
    def deferred(self) -> int:
        """How many jobs wait for their time, as the last look has shown."""
        return len(self._retry_at)

    def look(self, now_s: float) -> float | None:
        """Learn of those that have come, forget those that have gone. In how many seconds to look again, where it is too early to."""
        queued, deferred = self._glances
        if (names := queued.list_names(now_s)) is not None:
            self._compare_queued(frozenset(names))
        if (names := deferred.list_names(now_s)) is not None:
            self._compare_deferred(names)
        due_s = [glance.due_s for glance in self._glances if glance.due_s is not None]
        return min(due_s) - now_s if due_s else None

    def add(self, job: Job) -> None:
        """One that this daemon has put into the queue: it need not be looked for."""
        with self._lock:
            self._lines.add(job.id, _find_line(job.record))

    def choose(
        self,
        has_slot: Callable[[str | None], bool] = lambda _pacs: True,
        may_begin: Callable[[str, str | None], bool] = lambda _job, _pacs: True,
    ) -> Job | None:
        """The queued job that is next: by priority, then by age. It stays queued; the event TAKEN takes it, then `forget` it.

        `has_slot` is asked for each PACS, `may_begin` about each job that is to retrieve from one that has; who may not stands in nobody's
        way.
        """
        with self._lock:
            chosen, gone = None, []
            for name, line in self._lines.walk(lambda line: not line.retrieves or has_slot(line.pacs)):
                if line.retrieves and not may_begin(name, line.pacs):
                    continue
                if (chosen := self._load(self._layout.job(self._layout.queued, name))) is not None:
                    break
                gone.append(name)
            for name in gone:
                self._lines.remove(name)
            return chosen

    def forget(self, job_id: str) -> None:
        """It has been taken, by whomever. Said once it is not in the queue any more: when it comes back, it may be another matter."""
        with self._lock:
            self._lines.remove(job_id)

    def list_due(self, now: datetime) -> tuple[list[Job], datetime | None]:
        """The deferred jobs whose time has come, each once until it has changed, and when the next one's comes (None: no other waits)."""
        due = []
        while self._due and self._due[0][0] <= now:
            _, name = heapq.heappop(self._due)
            job = self._load(self._layout.job(self._layout.deferred, name))
            if job is None:
                continue
            if (retry_at := job.record.retry_at or _NO_TIME) <= now:
                due.append(job)
            else:  # it was deferred anew
                heapq.heappush(self._due, (retry_at, name))
        return due, self._due[0][0] if self._due else None

    def _compare_queued(self, names: frozenset[str]) -> None:
        with self._lock:
            new = names - self._lines.names
            for name in self._lines.names - names:
                if not os.path.lexists(self._layout.queued / name):  # it may have come after the listing
                    self._lines.remove(name)
        for name in sorted(filter(is_job_id, new)):
            if (job := self._load(self._layout.job(self._layout.queued, name))) is not None:
                self.add(job)

    def _compare_deferred(self, names: Iterable[str]) -> None:
        place = os.fspath(self._layout.deferred)
        seen = {name: entry for name in names if (entry := self._read_retry_at(place, name)) is not None}
        self._retry_at = seen
        self._due = [(retry_at, name) for name, (_, retry_at) in seen.items()]
        heapq.heapify(self._due)

    def _read_retry_at(self, place: str, name: str) -> tuple[int, datetime] | None:
        """None where there is no such job any more."""
        try:
            changed_ns = os.stat(f"{place}/{name}").st_mtime_ns
        except FileNotFoundError:
            return None
        if (entry := self._retry_at.get(name)) is not None and entry[0] == changed_ns:
            return entry
        job = self._load(self._layout.job(self._layout.deferred, name)) if is_job_id(name) else None
        return None if job is None else (changed_ns, job.record.retry_at or _NO_TIME)

    def _load(self, directory: JobDirectory) -> Job | None:
        """None where another daemon was first. What nobody can read is put aside, so that it does not stand in the way."""
        try:
            return self._jobs.load(directory)
        except FileNotFoundError:
            return None
        except (ValueError, NotADirectoryError):
            self._jobs.set_aside(directory)
            return None


def _find_line(record: JobRecord) -> Line:
    """Where a job belongs."""
    rank = PRIORITIES.index(record.priority) if record.priority in PRIORITIES else len(PRIORITIES)
    return Line(rank, retrieves=not record.published, pacs=record.pacs)
