"""What goes, and when: results, statuses and held jobs that are old, and finished results where room is short.

The daemon owns clean-up, so that no client has to. On failure (OSError) what is left goes the next time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from attrs import evolve, frozen
from structlog.typing import FilteringBoundLogger

from mkisod.job.lifecycle import Event
from mkisod.job.record import make_status
from mkisod.job.status import State, Status
from mkisod.spool.jobs import Jobs
from mkisod.spool.layout import JobDirectory, Layout
from mkisod.spool.outbox import Outbox

_DAY_S = 86400.0


@frozen
class RetentionRules:
    """The keys of `[spool]`."""

    retention_days: float
    status_days: float
    held_days: float
    min_free_mib: int
    free_finished: bool


class Retention:
    def __init__(
        self, layout: Layout, jobs: Jobs, outbox: Outbox, rules: RetentionRules, *, now: Callable[[], datetime], log: FilteringBoundLogger
    ) -> None:
        self._layout = layout
        self._jobs = jobs
        self._outbox = outbox
        self._rules = rules
        self._now = now
        self._log = log

    def has_room(self) -> bool:
        """Whether the file system of the spool has at least `min_free_mib` free."""
        status = os.statvfs(self._layout.root)
        return status.f_bavail * status.f_frsize >= self._rules.min_free_mib << 20

    def make_room(self) -> bool:
        """Remove finished results, the oldest first, until there is room. Whether there is."""
        if self.has_room() or not self._rules.free_finished:
            return self.has_room()
        for status in self._list_finished():
            if status.result is not None:
                self._remove_result(status, "room is short")
                if self.has_room():
                    return True
        return self.has_room()

    def remove_expired(self) -> None:
        oldest_s = min(self._rules.retention_days, self._rules.status_days) * _DAY_S
        for ticket in list(self._outbox.list_tickets()):
            # A status is opened only when its file is old enough for something to go; it is never older than its file.
            if self._age_s(self._layout.status(ticket)) >= oldest_s and (status := self._read(ticket)) is not None and status.finished:
                self._expire(status)
        for directory in self._jobs.list_held():
            if self._age_s(directory.record) >= self._rules.held_days * _DAY_S:
                self._remove_held(directory)

    def _expire(self, status: Status) -> None:
        age_days = (self._now() - status.updated).total_seconds() / _DAY_S
        if age_days >= self._rules.status_days:
            results = len(self._outbox.list_results(status.ticket))
            self._outbox.remove_ticket(status.ticket)
            log = self._log.bind(audit=True, owner_uid=status.owner_uid) if results else self._log
            log.info("status_deleted", ticket=status.ticket, job=status.job, results=results, reason="older than status_days")
        # Where a ticket was used again and that failed, an older result stands that no status speaks of.
        elif age_days >= self._rules.retention_days and self._outbox.list_results(status.ticket):
            self._remove_result(status, "older than retention_days")

    def _remove_held(self, directory: JobDirectory) -> None:
        try:
            job = self._jobs.load(directory)
        except (FileNotFoundError, ValueError):  # taken meanwhile, or nothing that can be judged
            return
        if job.record.state is State.FAILED:
            self._jobs.advance(job, Event.DROPPED, lambda record: make_status(record, self._now()))
            self._log.info(
                "job_dropped", audit=True, owner_uid=job.record.owner_uid, ticket=job.ticket, job=job.id, reason="older than held_days"
            )

    def _age_s(self, path: Path) -> float:
        """Since the file was written; nothing where there is none."""
        try:
            return self._now().timestamp() - os.stat(path).st_mtime
        except FileNotFoundError:
            return 0.0

    def _remove_result(self, status: Status, reason: str) -> None:
        self._outbox.write_status(evolve(status, result=None))
        results = self._outbox.remove_results(status.ticket)
        self._log.info(
            "result_deleted",
            audit=True,
            owner_uid=status.owner_uid,
            ticket=status.ticket,
            job=status.job,
            results=results,
            reason=reason,
        )

    def _list_finished(self) -> list[Status]:
        """Finished requests, the oldest first."""
        statuses = [self._read(ticket) for ticket in self._outbox.list_tickets()]
        return sorted((s for s in statuses if s is not None and s.finished), key=lambda s: s.updated)

    def _read(self, ticket: str) -> Status | None:
        try:
            return self._outbox.read_status(ticket)
        except ValueError:
            return None
