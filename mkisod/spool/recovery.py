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


def recover(jobs: Jobs, outbox: Outbox, claims: Claims, disk: Disk, *, now: Callable[[], datetime], log: FilteringBoundLogger) -> None:
    for directory in jobs.list_active():
        _recover_active(directory, jobs, outbox, claims, now, log)
    for directory in jobs.list_queued():
        disk.remove_tree(directory.drop)
        _reconcile(directory, jobs, outbox, now, log)
    for directory in jobs.list_held():
        _reconcile(directory, jobs, outbox, now, log)


def _recover_active(
    directory: JobDirectory, jobs: Jobs, outbox: Outbox, claims: Claims, now: Callable[[], datetime], log: FilteringBoundLogger
) -> None:
    try:
        job = jobs.load(directory)
    except FileNotFoundError:
        jobs.discard(directory)  # died before the drop was claimed
        return
    except ValueError as error:
        log.error("job_unreadable", directory=str(directory.path), error=str(error))
        jobs.set_aside(directory)
        return
    log = log.bind(ticket=job.ticket, job=job.id)
    if directory.drop.is_symlink() or directory.drop.exists():
        claimed = claims.resume(job)
        log.info("job_recovered", state=claimed.job.record.state)
    elif outbox.has_result(job.ticket, job.id):
        status = outbox.read_result(job.ticket, job.id)
        jobs.advance(job, Event.PUBLISHED, lambda _: status)
        log.info("job_recovered", state=status.state)
    elif not directory.request.exists():
        jobs.discard(directory)  # died before the drop was claimed
    else:
        accessions = jobs.read_request(job).accessions
        jobs.advance(job, Event.RECOVERED, lambda record: make_status(record, now(), accessions))
        log.info("job_recovered", state=State.QUEUED)


def _reconcile(directory: JobDirectory, jobs: Jobs, outbox: Outbox, now: Callable[[], datetime], log: FilteringBoundLogger) -> None:
    """Say in the status what the directory says, unless a later request of the ticket has taken its place."""
    try:
        job = jobs.load(directory)
    except FileNotFoundError:
        return  # another daemon took it meanwhile
    except ValueError as error:
        log.error("job_unreadable", directory=str(directory.path), error=str(error))
        jobs.set_aside(directory)
        return
    status = outbox.read_status(job.ticket)
    if status is not None and (status.created > job.record.created or (status.job == job.id and status.state == job.record.state)):
        return
    outbox.write_status(make_status(job.record, now(), _accessions(job, jobs)))
    log.info("status_written_again", ticket=job.ticket, job=job.id, state=job.record.state)


def _accessions(job: Job, jobs: Jobs) -> tuple[str, ...]:
    """None for a request that was refused."""
    return () if job.record.state is State.FAILED else jobs.read_request(job).accessions
