"""Taking over a drop: from `inbox/<ticket>.req` to a job.

Owns the step at which a request stops being the client's and becomes ours. **One rename is the claim**, also between daemons: whoever
renames the drop has it. Only then is it opened, as the hostile file that it may be, copied, and the copy validated, since the client may
still hold the original open. If the daemon dies in between, `resume` does the same again from the drop. On failure (OSError) the drop is
either still in the inbox or in the job's directory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from attrs import evolve, frozen

from mkisod.errors import Code, MkisodError, Permanent
from mkisod.job.lifecycle import Event
from mkisod.job.record import JobRecord, encode_record, make_job_id, make_status
from mkisod.job.request import MAX_REQUEST_BYTES, Request, parse_request
from mkisod.spool.durable import Disk
from mkisod.spool.jobs import Job, Jobs
from mkisod.spool.layout import JobDirectory, Layout


@frozen
class Claimed:
    """A drop that was taken over, what it asks for, and why it was refused if it was."""

    job: Job
    accessions: tuple[str, ...]
    refused: MkisodError | None


class Claims:
    """`check` raises `MkisodError` for a valid request that cannot be carried out here (an unknown PACS, say)."""

    def __init__(
        self, layout: Layout, disk: Disk, jobs: Jobs, *, require_end: bool, check: Callable[[Request], None], now: Callable[[], datetime]
    ) -> None:
        self._layout = layout
        self._disk = disk
        self._jobs = jobs
        self._require_end = require_end
        self._check = check
        self._now = now

    def claim(self, ticket: str, random_bytes: bytes) -> Claimed | None:
        """Take over the drop of this ticket; None where it is gone (another daemon was first, or the client withdrew it).

        None also where it is a directory that somebody else owns: to move one its own permission is needed.
        """
        now = self._now()
        job_id = self._make_free_id(now, random_bytes)
        directory = JobDirectory(self._layout.active / job_id)
        record = JobRecord(job=job_id, ticket=ticket, created=now)
        # The ticket has to be on the disk before the drop is: a drop in a job's directory no longer knows whose it is.
        self._disk.make_directory(directory.path)
        self._disk.replace(directory.record, encode_record(record))
        self._disk.sync(self._layout.active)
        try:
            self._disk.rename(self._layout.drop(ticket), directory.drop)
        except (FileNotFoundError, PermissionError):
            self._jobs.discard(directory)
            return None
        self._disk.sync(directory.path)
        self._disk.sync(self._layout.inbox)
        return self.resume(Job(record, directory))

    def _make_free_id(self, now: datetime, random_bytes: bytes) -> str:
        """Of thousands claimed in a few minutes two may draw the same letters, and no job can be moved to where another one stands."""
        number = int.from_bytes(random_bytes)
        while True:
            job_id = make_job_id(now, number.to_bytes(len(random_bytes)))
            if not any(os.path.lexists(place / job_id) for place in (self._layout.active, *self._layout.waiting_places)):
                return job_id
            number = (number + 1) % 256 ** len(random_bytes)

    def resume(self, job: Job) -> Claimed:
        """Make a job of the drop in its directory: queued, or held with the reason."""
        job = evolve(job, record=evolve(job.record, owner_uid=os.lstat(job.directory.drop).st_uid))
        try:
            data = _read_drop(job.directory.drop)
            self._disk.write(job.directory.request, data)
            self._disk.sync(job.directory.request)
            self._disk.sync(job.directory.path)
            request = parse_request(data, require_end=self._require_end)
            self._check(request)
        except MkisodError as error:
            job = evolve(job, record=evolve(job.record, problem=error.problem))
            return Claimed(self._jobs.enter(job, Event.REFUSED, lambda record: make_status(record, self._now())), (), error)
        job = evolve(job, record=evolve(job.record, priority=request.priority, pacs=request.pacs))
        job = self._jobs.enter(job, Event.CLAIMED, lambda record: make_status(record, self._now(), request.accessions))
        return Claimed(job, request.accessions, None)


def _read_drop(path: Path) -> bytes:
    """The bytes of a drop, at most one more than allowed. Raises `Permanent` where it is no plain file."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise Permanent(Code.REQUEST_MALFORMED, "The request is not a regular file.", "Write a plain file and rename it into the inbox.")
    try:
        # Not followed if it became a link just now, and not waited for if it became a FIFO.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise Permanent(
            Code.REQUEST_MALFORMED, "The request cannot be read by the daemon.", "Give the file mode 0640, then rename it into the inbox."
        ) from error
    except OSError as error:
        raise Permanent(Code.REQUEST_MALFORMED, f"The request cannot be opened: {error.strerror}.") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise Permanent(
                Code.REQUEST_MALFORMED, "The request is not a regular file with one name.", "Write a new file and rename it into the inbox."
            )
        chunks: list[bytes] = []
        left = MAX_REQUEST_BYTES + 1
        while left and (chunk := os.read(fd, left)):
            chunks.append(chunk)
            left -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)
