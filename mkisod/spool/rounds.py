"""The daemon's round through the spool: scan the inbox, obey control files, claim, wake what is due, clean up.

One thread goes on its round when the doorbell rings or a time has come. A full disk ends no round for good: it is logged once, nothing is
claimed, and the next round tries again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime

from attrs import evolve
from structlog.typing import FilteringBoundLogger

from mkisod.job.lifecycle import Event
from mkisod.job.record import make_status
from mkisod.spool.claim import Claims
from mkisod.spool.controls import Controls, may_control
from mkisod.spool.inbox import Found, Inbox, Leave
from mkisod.spool.jobs import Job, JobGone, Jobs
from mkisod.spool.outbox import Outbox
from mkisod.spool.queue import Queue
from mkisod.spool.retention import Retention

_CLEANING_INTERVAL_S = 600.0
_FULL_INTERVAL_S = 5.0  # between looks whether there is room again


class Rounds:
    """Used by one thread. `report_queued` is called when a job has been queued; `is_stopping` ends a round early."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        claims: Claims,
        controls: Controls,
        jobs: Jobs,
        queue: Queue,
        outbox: Outbox,
        retention: Retention,
        now: Callable[[], datetime],
        clock_s: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        report_queued: Callable[[], None],
        is_stopping: Callable[[], bool],
        log: FilteringBoundLogger,
    ) -> None:
        self._inbox = inbox
        self._claims = claims
        self._controls = controls
        self._jobs = jobs
        self._queue = queue
        self._outbox = outbox
        self._retention = retention
        self._now = now
        self._clock_s = clock_s
        self._random_bytes = random_bytes
        self._report_queued = report_queued
        self._is_stopping = is_stopping
        self._log = log
        self._clean_at_s = 0.0
        self._was_full = False

    def go(self, moved: set[str]) -> float | None:
        """One round, a short one: of many drops the first ones are claimed, the rest in the next.

        `moved`: names reported as moved into place. Returns the seconds until something is due; None: nothing is.
        """
        if self._clock_s() >= self._clean_at_s:
            self._retention.remove_expired()
            self._clean_at_s = self._clock_s() + _CLEANING_INTERVAL_S
        found = self._inbox.scan(self._clock_s(), moved, self._ask_leave)
        for name in found.strange:
            self._log.warning("inbox_file_ignored", name=name.encode("ascii", "backslashreplace").decode()[:300])
        # Operators and other daemons may have queued something too, and so may whoever ran here before: each has its place in the line.
        next_look_s = self._queue.look(self._clock_s())
        claimed = 0
        for ticket in found.ready:
            if self._is_stopping() or not self._has_room():
                break
            claimed += self._claim(ticket)
        for file in found.controls:
            self._controls.obey(file)
        waits = [self._clean_at_s - self._clock_s(), found.next_look_s, next_look_s, self._wake_due(), self._wait_for_more(found, claimed)]
        return max(0.0, min(wait for wait in waits if wait is not None))

    def _wait_for_more(self, found: Found, claimed: int) -> float | None:
        """Until the next drops are claimed. Where none could be, of many, those that come next have their turn in a later round."""
        if self._was_full:
            return _FULL_INTERVAL_S
        return 0.0 if found.has_more and claimed else None

    def _has_room(self) -> bool:
        has_room = self._retention.make_room()
        if has_room is self._was_full:
            self._was_full = not has_room
            if has_room:
                self._log.info("spool_has_room")
            else:
                advice = "Nothing is claimed until min_free_mib is free again. Free space on the spool's file system."
                self._log.error("spool_full", advice=advice)
        return has_room

    def _claim(self, ticket: str) -> bool:
        claimed = self._claims.claim(ticket, self._random_bytes(6))
        if claimed is None:
            return False
        record = claimed.job.record
        log = self._log.bind(ticket=ticket, job=record.job, owner_uid=record.owner_uid)
        if claimed.refused is None:
            log.info("job_claimed", state=record.state, accessions=claimed.accessions)
            self._report_queued()
        else:
            problem = claimed.refused
            log.warning("job_refused", state=record.state, error=problem.code, message=problem.message, advice=problem.advice)
        return True

    def _ask_leave(self, ticket: str, uid: int) -> Leave:
        try:
            status = self._outbox.read_status(ticket)
        except ValueError as error:
            self._log.warning("status_unreadable", ticket=ticket, reason=str(error))
            return Leave.CLAIM
        if status is None:
            return Leave.CLAIM
        if not may_control(status, uid):
            return Leave.FOREIGN
        return Leave.CLAIM if status.finished else Leave.WAIT

    def _wake_due(self) -> float | None:
        """Queue the deferred jobs whose time has come; the seconds until the next one's does."""
        due, next_at = self._queue.list_due(self._now())
        for job in due:
            with contextlib.suppress(JobGone):  # another daemon was first
                self._queue_again(job)
        return None if next_at is None else (next_at - self._now()).total_seconds()

    def _queue_again(self, job: Job) -> None:
        try:
            previous = self._outbox.read_status(job.ticket)
        except ValueError as error:
            self._log.warning("status_unreadable", ticket=job.ticket, reason=str(error))
            previous = None
        job = evolve(job, record=evolve(job.record, attempt=job.record.attempt + 1, retry_at=None))
        job = self._jobs.advance(job, Event.DUE, lambda record: make_status(record, self._now(), previous=previous))
        self._log.info("job_due", ticket=job.ticket, job=job.id, state=job.record.state, attempt=job.record.attempt)
        self._report_queued()
