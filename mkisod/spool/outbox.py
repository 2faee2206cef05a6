"""What the client reads: one directory a ticket, with the status and the result.

Owns `outbox/`. Promises that a status is replaced whole, and that a result appears under its name whole and durable, before any status
speaks of it. On failure (OSError) nothing of the new state can be seen.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mkisod.job.record import is_job_id
from mkisod.job.request import is_ticket
from mkisod.job.status import Status, decode_status, encode_status
from mkisod.spool.durable import Disk
from mkisod.spool.layout import RESULT_RECORD, JobDirectory, Layout
from mkisod.spool.trash import remove


class Outbox:
    def __init__(self, layout: Layout, disk: Disk) -> None:
        self._layout = layout
        self._disk = disk

    def write_status(self, status: Status) -> None:
        self._make_ticket(status.ticket)
        self._disk.replace(self._layout.status(status.ticket), encode_status(status))

    def read_status(self, ticket: str) -> Status | None:
        """None where there is none. Raises ValueError where the file is none of this version's."""
        try:
            return decode_status(self._layout.status(ticket).read_bytes())
        except FileNotFoundError:
            return None

    def has_result(self, ticket: str, job: str) -> bool:
        return self._layout.result(ticket, job).is_dir()

    def publish(self, directory: JobDirectory, status: Status) -> None:
        """Put the job's result under `outbox/<ticket>/<job>`, its final status inside: a crash before the status loses nothing.

        The instances in it are links to the job's objects, which `Jobs.sync_meanwhile` has made durable. To sync them again would make the
        disk flush its cache for each of them, although there is nothing to write.
        """
        self._disk.write(directory.result / RESULT_RECORD, encode_status(status))
        self._disk.sync_tree(directory.result, is_durable=_is_link)
        self._make_ticket(status.ticket)
        self._disk.move(directory.result, self._layout.result(status.ticket, status.job))

    def read_result(self, ticket: str, job: str) -> Status:
        """The final status in a published result."""
        return decode_status((self._layout.result(ticket, job) / RESULT_RECORD).read_bytes())

    def write_result(self, status: Status) -> None:
        """Put another final status into a published result. Where it has been removed there is nothing to do."""
        if self.has_result(status.ticket, status.job):
            self._disk.replace(self._layout.result(status.ticket, status.job) / RESULT_RECORD, encode_status(status))

    def remove_results(self, ticket: str, *, keep: str | None = None) -> int:
        """Take the results of this ticket out of the outbox, but for the job to keep; how many there were.

        Each is renamed away before it is removed, so that nobody finds half of one.
        """
        jobs = [job for job in self.list_results(ticket) if job != keep]
        for job in jobs:
            self.remove_result(ticket, job)
        return len(jobs)

    def remove_result(self, ticket: str, job: str) -> None:
        remove(self._layout, self._disk, self._layout.result(ticket, job))

    def list_results(self, ticket: str) -> list[str]:
        """The jobs of this ticket whose results stand in the outbox."""
        return [name for name in os.listdir(self._layout.ticket(ticket)) if is_job_id(name)]

    def remove_ticket(self, ticket: str) -> None:
        """Forget a ticket: its status, and what else is there."""
        remove(self._layout, self._disk, self._layout.ticket(ticket))

    def list_tickets(self) -> Iterator[str]:
        return (entry.name for entry in os.scandir(self._layout.outbox) if entry.is_dir(follow_symlinks=False) and is_ticket(entry.name))

    def _make_ticket(self, ticket: str) -> None:
        with contextlib.suppress(FileExistsError):
            self._disk.make_directory(self._layout.ticket(ticket))
            self._disk.sync(self._layout.outbox)


def _is_link(path: Path) -> bool:
    """Whether it is a file that has another name."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_nlink > 1
