"""The start-up scan: every job goes on from where it was found, and every status says what is so.

Runs once, after the port is bound and the instance is locked, before anything is claimed. It is the only recovery there is: there is no
journal to replay, since the directory a job is found in says what had been done. On failure (OSError) the daemon does not start.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from structlog.typing import FilteringBoundLogger

from mkisod.job.lifecycle import Event
from mkisod.job.record import make_status
from mkisod.job.status import State
from mkisod.spool.claim import Claims
from mkisod.spool.durable import Disk
from mkisod.spool.jobs import Job, Jobs
from mkisod.spool.layout import JobDirectory
from mkisod.spool.outbox import Outbox


class Recovery:
    def __init__(
        self, jobs: Jobs, outbox: Outbox, claims: Claims, disk: Disk, *, now: Callable[[], datetime], log: FilteringBoundLogger
    ) -> None:
        self._jobs = jobs
        self._outbox = outbox
        self._claims = claims
        self._disk = disk
        self._now = now
        self._log = log

    def run(self) -> None:
        for directory in self._jobs.list_active():
            if not directory.record.exists():
                self._jobs.discard(directory)  # died before there was a job
            elif (job := self._load(directory)) is not None:
                self._recover(job)
        for directory in self._jobs.list_queued():
            self._disk.remove_tree(directory.drop)
            if (job := self._load(directory)) is not None:
                self._reconcile(job)
        for directory in self._jobs.list_held():
            if (job := self._load(directory)) is not None:
                self._reconcile(job)

    def _load(self, directory: JobDirectory) -> Job | None:
        """None where another daemon has taken it meanwhile, or where nobody can read it."""
        try:
            return self._jobs.load(directory)
        except FileNotFoundError:
            pass
        except ValueError as error:
            self._log.error("job_unreadable", directory=str(directory.path), error=str(error))  # noqa: TRY400 - no defect of ours
            self._jobs.set_aside(directory)
        return None

    def _recover(self, job: Job) -> None:
        """Go on with a job that a dead daemon had in hand."""
        directory = job.directory
        if directory.drop.is_symlink() or directory.drop.exists():
            state = self._claims.resume(job).job.record.state
        elif self._outbox.has_result(job.ticket, job.id):
            status = self._outbox.read_result(job.ticket, job.id)
            state = self._jobs.advance(job, Event.PUBLISHED, lambda _: status).record.state
        elif not directory.request.exists():
            self._jobs.discard(directory)  # died before the drop was claimed
            return
        else:
            accessions = self._jobs.read_request(job).accessions
            state = self._jobs.advance(job, Event.RECOVERED, lambda record: make_status(record, self._now(), accessions)).record.state
        self._log.info("job_recovered", ticket=job.ticket, job=job.id, state=state)

    def _reconcile(self, job: Job) -> None:
        """Say in the status what the directory says, unless a later request of the ticket has taken its place."""
        record = job.record
        status = self._outbox.read_status(job.ticket)
        if status is not None and (status.created > record.created or (status.job == job.id and status.state == record.state)):
            return
        accessions = () if record.state is State.FAILED else self._jobs.read_request(job).accessions
        self._outbox.write_status(make_status(record, self._now(), accessions))
        self._log.info("status_written_again", ticket=job.ticket, job=job.id, state=record.state)
