"""The start-up scan: every job goes on from where it was found, and every status says what is so.

Runs once, after the port is bound and the instance is locked, before anything is claimed. It is the only recovery there is: there is no
journal to replay, since the directory a job is found in says what had been done. On failure (OSError) the daemon does not start.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime

from attrs import evolve
from structlog.typing import FilteringBoundLogger

from mkisod.job.crashes import note_death
from mkisod.job.lifecycle import Event
from mkisod.job.record import JobRecord, make_status
from mkisod.job.request import RequestRefused
from mkisod.job.status import State, Status
from mkisod.spool.claim import Claims
from mkisod.spool.jobs import Job, Jobs, MakeStatus
from mkisod.spool.layout import JobDirectory
from mkisod.spool.outbox import Outbox

_PHASES = {State.RETRIEVING: 0, State.ASSEMBLING: 1, State.PUBLISHING: 2, State.FORWARDING: 3}


class Recovery:
    def __init__(self, jobs: Jobs, outbox: Outbox, claims: Claims, *, now: Callable[[], datetime], log: FilteringBoundLogger) -> None:
        self._jobs = jobs
        self._outbox = outbox
        self._claims = claims
        self._now = now
        self._log = log

    def run(self) -> None:
        for directory in self._jobs.list_active():
            if not directory.record.exists():
                self._jobs.discard(directory)  # died before there was a job
            elif (job := self._load(directory)) is not None:
                self._recover(job)
        for directory in self._jobs.list_queued():
            self._jobs.remove_drop(directory)
        for directories in (self._jobs.list_queued(), self._jobs.list_deferred(), self._jobs.list_held()):
            for directory in directories:
                if (job := self._load(directory)) is not None:
                    self._reconcile(job)

    def _load(self, directory: JobDirectory) -> Job | None:
        """None where another daemon has taken it meanwhile, or where nobody can read it."""
        try:
            return self._jobs.load(directory)
        except FileNotFoundError:
            pass
        except ValueError as error:
            self._log.error("job_unreadable", directory=str(directory.path), reason=str(error))
            self._jobs.set_aside(directory)
        return None

    def _recover(self, job: Job) -> None:
        """Go on with a job that a dead daemon had in hand."""
        directory, record = job.directory, job.record
        has_drop = os.path.lexists(directory.drop)
        if has_drop and not record.is_judged:
            self._claims.resume(job)
        elif has_drop and record.state is State.FAILED:
            self._jobs.enter(job, Event.REFUSED, self._describe(job))
        elif (status := self._read_result(job)) is not None:
            self._recover_published(job, status)
        elif record.state is State.CANCELLED:
            self._advance(job, Event.CANCELLED)
        elif not directory.request.exists():
            self._jobs.discard(directory)  # died before the drop was claimed
            return
        else:
            self._jobs.remove_drop(directory)
            # Without a result nothing is published, whatever had been: it is made once more.
            self._advance(evolve(job, record=evolve(self._note_death(job), published=False)), Event.RECOVERED)
        self._log.info("job_recovered", ticket=job.ticket, job=job.id, found=record.state)

    def _note_death(self, job: Job) -> JobRecord:
        record = job.record
        crashes = note_death(record.crashes, self._jobs.count_progress(job), _PHASES.get(record.state, 0))
        return evolve(record, crashes=crashes, retry_at=None)

    def _recover_published(self, job: Job, status: Status) -> None:
        """Only the status is left to be written, and perhaps to forward. `status` is that in the result."""
        if not status.finished:
            told = self._read_status(job.ticket)
            previous = status if told is None or told.job != job.id or told.result is None else told
            record = evolve(self._note_death(job), state=State.PUBLISHING, published=True, problem=None)
            event = Event.PUBLISHED_TO_FORWARD
            self._jobs.advance(evolve(job, record=record), event, lambda record: make_status(record, self._now(), previous=previous))
            return
        event = Event.PUBLISHED_PARTIAL if status.state is State.PARTIAL else Event.PUBLISHED
        self._jobs.advance(evolve(job, record=evolve(job.record, state=State.PUBLISHING)), event, lambda _: status)

    def _reconcile(self, job: Job) -> None:
        """Finish what the record says and the directory does not, and say in the status what is so.

        Unless a later request of the ticket has taken its place.
        """
        record = job.record
        if record.state is State.CANCELLED:
            self._advance(job, Event.CANCELLED)
        elif record.state is State.QUEUED and self._jobs.is_deferred(job):
            self._advance(job, Event.DUE)
        elif record.state is State.QUEUED and self._jobs.is_held(job):
            self._advance(job, Event.RELEASED)
        else:
            status = self._read_status(job.ticket)
            if status is not None and (status.job != job.id or status.state == record.told_state):
                return
            self._outbox.write_status(self._describe(job)(record))
            self._log.info("status_written_again", ticket=job.ticket, job=job.id, state=record.state)

    def _advance(self, job: Job, event: Event) -> None:
        self._jobs.advance(job, event, self._describe(job))

    def _describe(self, job: Job) -> MakeStatus:
        """Reads the request now: when the status is written, the job may have moved."""
        was_refused = os.path.lexists(job.directory.drop)
        try:
            accessions = () if was_refused else self._jobs.read_request(job).accessions
        except RequestRefused:  # valid once, by the rules of another version; whoever takes the job will say so
            accessions = ()
        previous = self._read_status(job.ticket)
        return lambda record: make_status(record, self._now(), accessions, previous)

    def _read_result(self, job: Job) -> Status | None:
        """The final status of a job whose result stands already. A result that tells nothing is removed, and made once more."""
        if not self._outbox.has_result(job.ticket, job.id):
            return None
        try:
            return self._outbox.read_result(job.ticket, job.id)
        except (ValueError, FileNotFoundError) as error:
            self._log.error("result_unreadable", ticket=job.ticket, job=job.id, reason=str(error))
            self._outbox.remove_result(job.ticket, job.id)
            return None

    def _read_status(self, ticket: str) -> Status | None:
        try:
            return self._outbox.read_status(ticket)
        except ValueError as error:
            self._log.warning("status_unreadable", ticket=ticket, reason=str(error))
            return None
