"""The operator's side of the spool, for `mkisod queue`, `release`, `drop` and `retry`.

Works by files, so it needs no socket and works while the daemon is down. Queued, deferred and held jobs change by the same transitions
as in the daemon; a job that a daemon has in hand is withdrawn through `<ticket>.cancel`. Where a daemon or another operator is first,
that is said (`Permanent`, `usage`), and nothing is lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime

from attrs import evolve, frozen

from mkisod.errors import Code, Permanent
from mkisod.job.crashes import Crashes
from mkisod.job.lifecycle import Event
from mkisod.job.record import JobRecord, is_job_id, make_status
from mkisod.job.retry import History
from mkisod.job.status import Progress, State
from mkisod.job.withdrawal import withdraw
from mkisod.spool.durable import Disk
from mkisod.spool.jobs import Job, JobGone, Jobs
from mkisod.spool.layout import Control, Layout
from mkisod.spool.outbox import Outbox


@frozen
class Listed:
    """A job as `mkisod queue` shows it; `place` is the directory it stands in."""

    record: JobRecord
    place: str
    progress: Progress


class Operator:
    """`report` is told of each step that a job has taken, for the journal."""

    def __init__(self, layout: Layout, *, now: Callable[[], datetime], report: Callable[[Event, Job], None] = lambda *_: None) -> None:
        self._layout = layout
        self._disk = Disk()
        self._outbox = Outbox(layout, self._disk)
        # No boot id: what an operator does never takes a job in hand.
        self._jobs = Jobs(layout, self._disk, self._outbox, boot_id="")
        self._now = now
        self._report = report

    def count(self) -> dict[str, int]:
        """How many jobs stand in each place. Costs a listing of each."""
        counts = {place.name: sum(map(is_job_id, os.listdir(place))) for place in self._layout.waiting_places}
        active = sum(sum(map(is_job_id, os.listdir(path))) for path in self._layout.list_active())
        return {"active": active, **counts}

    def list_jobs(self) -> Iterator[Listed]:
        """All jobs, those in hand first, the oldest first in each place; read one by one, as they are asked for."""
        for place, path in self._layout.list_places():
            for name in sorted(filter(is_job_id, os.listdir(path))):
                try:
                    record = self._jobs.load(self._layout.job(path, name)).record
                    status = self._outbox.read_status(record.ticket)
                except (FileNotFoundError, ValueError):  # gone on meanwhile, or put aside
                    continue
                progress = status.progress if status is not None and status.job == record.job else Progress()
                yield Listed(record, place, progress)

    def release(self, name: str) -> Job:
        """Let a held job go on, as if it had just been claimed."""
        job = self._find(name, State.FAILED)
        if not job.directory.request.exists() or os.path.lexists(job.directory.drop):
            raise Permanent(Code.USAGE, f"The request {name} was refused when it came in.", "Drop a corrected one under a new ticket.")
        status = self._outbox.read_status(job.ticket)
        if status is not None and status.job != job.id:
            raise Permanent(Code.USAGE, f"The ticket {job.ticket} has been used again since.", f"Remove the old job: mkisod drop {job.id}.")
        record = evolve(
            job.record,
            problem=None,
            attempt=job.record.attempt + 1,
            history=History(begun=self._now()),
            counted={},
            crashes=Crashes(),
        )
        return self._advance(evolve(job, record=record), Event.RELEASED)

    def retry(self, name: str) -> Job:
        """Try a deferred job again now."""
        job = self._find(name, State.DEFERRED)
        return self._advance(evolve(job, record=evolve(job.record, retry_at=None, attempt=job.record.attempt + 1)), Event.DUE)

    def drop(self, name: str) -> str:
        """Remove a job and keep its status; what was done, in words."""
        job = self._find_waiting(name)
        if job is None:
            ticket = self._find_active_ticket(name)
            self._disk.replace(self._layout.inbox / (ticket + Control.CANCEL), b"")
            return f"{ticket} is in hand; it is being cancelled."
        if job.record.state is State.FAILED:
            self._advance(job, Event.DROPPED)
            return f"{job.ticket} is removed; its status stays."
        record, event = withdraw(job.record)
        self._advance(evolve(job, record=record), event)
        return f"{job.ticket} is not forwarded any further; its disc stays." if record.published else f"{job.ticket} is cancelled."

    def list_deferred_names(self) -> list[str]:
        return [directory.path.name for directory in self._jobs.list_deferred()]

    def _find(self, name: str, state: State) -> Job:
        job = self._find_waiting(name)
        if job is None or job.record.state is not state:
            found = "in hand or finished" if job is None else str(job.record.state)
            raise Permanent(Code.USAGE, f"{name} is not {state}, but {found}.", "mkisod queue shows what there is.")
        return job

    def _find_waiting(self, name: str) -> Job | None:
        """By job id or by ticket."""
        if is_job_id(name):
            return self._jobs.find(name)
        status = self._outbox.read_status(name)
        if status is None:
            raise Permanent(Code.USAGE, f"There is no job and no ticket {name}.", "mkisod queue shows what there is.")
        return self._jobs.find(status.job)

    def _find_active_ticket(self, name: str) -> str:
        for path in self._layout.list_active():
            for job_id in filter(is_job_id, os.listdir(path)):
                record = self._jobs.load(self._layout.job(path, job_id)).record
                if name in (record.job, record.ticket):
                    return record.ticket
        raise Permanent(Code.USAGE, f"{name} is finished; there is no job left.", "mkisod status shows what became of it.")

    def _advance(self, job: Job, event: Event) -> Job:
        previous = self._outbox.read_status(job.ticket)
        accessions = self._jobs.read_request(job).accessions if event is not Event.DROPPED else ()
        try:
            advanced = self._jobs.advance(job, event, lambda record: make_status(record, self._now(), accessions, previous))
        except JobGone as error:
            raise Permanent(Code.USAGE, f"{job.ticket} has just been taken by the daemon.", "Look again with mkisod queue.") from error
        self._report(event, advanced)
        self.ring()
        return advanced

    def ring(self) -> None:
        """A file that comes and goes in the inbox: the daemon looks at once, and not when its timer rings."""
        bell = self._layout.inbox / f".bell-{os.getpid()}"
        self._disk.write(bell, b"")
        self._disk.remove(bell)
