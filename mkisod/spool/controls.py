"""The client's further words about a request: `<ticket>.cancel`, `.publish`, `.discard` in the inbox.

Each is empty or names the job that is meant. It counts only from the uid that dropped the request, from root or from the daemon's own
user; anybody else's is removed with a warning. A file is removed last, when what it asks for is done, so that a death in between asks
again. On failure (OSError) the file stays.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from attrs import evolve, frozen
from structlog.typing import FilteringBoundLogger

from mkisod.errors import Code
from mkisod.job.lifecycle import Event
from mkisod.job.record import make_status
from mkisod.job.status import State, Status
from mkisod.job.withdrawal import withdraw
from mkisod.spool.durable import Disk
from mkisod.spool.jobs import Job, JobGone, Jobs
from mkisod.spool.layout import Control, Layout
from mkisod.spool.outbox import Outbox

_MAX_BYTES = 64


@frozen
class ControlFile:
    ticket: str
    control: Control


class Verdict(StrEnum):
    DONE = "done"  # or there is nothing to do: the file goes
    LATER = "later"  # the file stays, and is looked at again
    FOREIGN = "foreign"  # not of one who may say so: the file goes, with a warning


class Controls:
    """`cancel_active` withdraws a job that a worker of this daemon has in hand; False where none has."""

    def __init__(
        self,
        layout: Layout,
        disk: Disk,
        jobs: Jobs,
        outbox: Outbox,
        *,
        now: Callable[[], datetime],
        cancel_active: Callable[[str], bool],
        log: FilteringBoundLogger,
    ) -> None:
        self._layout = layout
        self._disk = disk
        self._jobs = jobs
        self._outbox = outbox
        self._now = now
        self._cancel_active = cancel_active
        self._log = log

    def obey(self, file: ControlFile) -> None:
        path = self._layout.inbox / (file.ticket + file.control)
        try:
            uid, named = _read(path)
            try:
                verdict = self._judge(file, uid, named)
            except JobGone:  # a worker was first: it has the job in hand by now
                verdict = self._judge(file, uid, named)
        except FileNotFoundError:
            return
        except ValueError as error:
            self._log.warning("status_unreadable", ticket=file.ticket, reason=str(error))
            return
        log = self._log.bind(ticket=file.ticket, control=file.control, uid=uid)
        if verdict is Verdict.LATER:
            return
        if verdict is Verdict.FOREIGN:
            log.warning("control_refused", advice="Only who dropped the request may say this, root, or the user of the daemon.")
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            self._disk.remove(path)

    def _judge(self, file: ControlFile, uid: int, named: str) -> Verdict:
        status = self._outbox.read_status(file.ticket)
        if status is None:  # not claimed yet, perhaps
            return Verdict.LATER if self._layout.drop(file.ticket).exists() else Verdict.DONE
        if not may_control(status, uid):
            return Verdict.FOREIGN
        if named and named != status.job:
            return Verdict.DONE  # meant for a job that is over
        match file.control:
            case Control.CANCEL:
                return self._cancel(status)
            case Control.PUBLISH:
                return self._publish(status)
            case Control.DISCARD:
                return self._discard(status)

    def _cancel(self, status: Status) -> Verdict:
        if status.finished:
            return Verdict.DONE
        job = self._jobs.find(status.job)
        if job is None:
            self._cancel_active(status.job)  # ours or another daemon's; the status will tell when it is over
            return Verdict.LATER
        record, event = withdraw(job.record)
        self._advance(evolve(job, record=record), event)
        return Verdict.DONE

    def _publish(self, status: Status) -> Verdict:
        """Only what was deferred, or held for want of instances, can be published as partial; a running attempt is waited for."""
        if status.finished and not (status.state is State.FAILED and status.error and status.error.code is Code.INCOMPLETE):
            return Verdict.DONE
        if status.state is State.FORWARDING:  # it is published
            return Verdict.DONE
        job = self._jobs.find(status.job)
        if job is None or job.record.state is State.QUEUED:
            return Verdict.DONE if status.finished else Verdict.LATER
        record = evolve(job.record, allow_partial=True, retry_at=None, attempt=job.record.attempt + 1)
        self._advance(evolve(job, record=record), Event.DUE if job.record.state is State.DEFERRED else Event.RELEASED)
        return Verdict.DONE

    def _discard(self, status: Status) -> Verdict:
        if status.state is State.FORWARDING:  # once that is over
            return Verdict.LATER
        if not status.finished:
            self._log.warning("result_not_discarded", ticket=status.ticket, job=status.job, state=status.state)
            return Verdict.DONE
        if status.result is not None:
            # The status first: it must not speak of a result that is not there.
            self._outbox.write_status(evolve(status, result=None, updated=self._now()))
        removed = self._outbox.remove_results(status.ticket)
        job = self._jobs.find(status.job)
        if job is not None and job.record.state is State.FAILED:
            self._advance(job, Event.DROPPED)
        if removed:
            self._log.info(
                "result_deleted",
                audit=True,
                owner_uid=status.owner_uid,
                ticket=status.ticket,
                job=status.job,
                results=removed,
                reason="discarded by the client",
            )
        return Verdict.DONE

    def _advance(self, job: Job, event: Event) -> None:
        previous = self._outbox.read_status(job.ticket)
        # Raises JobGone where a worker was first: then the file stays, and is looked at again.
        job = self._jobs.advance(job, event, lambda record: make_status(record, self._now(), previous=previous))
        self._log.info(f"job_{event}", ticket=job.ticket, job=job.id, state=job.record.state, attempt=job.record.attempt)


def may_control(status: Status, uid: int) -> bool:
    """Who dropped the request, root, and the daemon's own user."""
    return status.owner_uid is None or uid in (status.owner_uid, 0, os.geteuid())


def _read(path: Path) -> tuple[int, str]:
    """The owner of the file, and the job that it names. What is no plain file names nothing, and is removed in its time all the same.

    Raises FileNotFoundError.
    """
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        return status.st_uid, ""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        return status.st_uid, ""
    try:
        return os.fstat(fd).st_uid, os.read(fd, _MAX_BYTES).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
