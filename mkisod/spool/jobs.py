"""The jobs in the spool: one directory each, in the directory that is its state.

Owns `work/`. Carries out the effects that `job.lifecycle` names, in their order; a job is in one place at any moment. On failure
(OSError) the effects so far stand, and the start-up scan goes on from there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from attrs import evolve, frozen

from mkisod.errors import Code, Permanent
from mkisod.job.lifecycle import Effect, Event, find_transition
from mkisod.job.record import JobRecord, decode_record, encode_record, is_job_id
from mkisod.job.request import Request, parse_request
from mkisod.job.status import State, Status
from mkisod.spool.durable import Disk
from mkisod.spool.forwarded import Forwarded
from mkisod.spool.layout import JobDirectory, Layout
from mkisod.spool.objects import Objects
from mkisod.spool.outbox import Outbox
from mkisod.spool.trash import remove
from mkisod.spool.writeback import sync_meanwhile


@frozen
class Job:
    """A job and where it stands. A value: a transition gives a new one."""

    record: JobRecord
    directory: JobDirectory

    @property
    def id(self) -> str:
        return self.record.job

    @property
    def ticket(self) -> str:
        return self.record.ticket


class JobGone(FileNotFoundError):
    """The job has moved on: a worker, a client, an operator or another daemon was first."""


MakeStatus = Callable[[JobRecord], Status]


class Jobs:
    """Used by several threads; each job is in the hands of one of them.

    `boot_id` is that of the running system; `note_queued` is told of each job that has been put into the queue here.
    """

    def __init__(
        self, layout: Layout, disk: Disk, outbox: Outbox, *, boot_id: str, note_queued: Callable[[Job], None] = lambda _: None
    ) -> None:
        self._layout = layout
        self._disk = disk
        self._outbox = outbox
        self._boot_id = boot_id
        self._note_queued = note_queued
        self._lock_fd: int | None = None

    def lock(self) -> None:
        """Hold this instance's directory for good. The kernel lets go of it when the process ends, however it ends."""
        fd = os.open(self._layout.active, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise Permanent(
                Code.INSTANCE_IN_USE, f"Another daemon serves the spool {self._layout.root} as instance {self._layout.instance}."
            ) from error
        self._lock_fd = fd

    def unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def advance(self, job: Job, event: Event, make_status: MakeStatus) -> Job:
        """Carry out what follows from the event. `make_status` is given the new record. Raises OSError, `ImpossibleTransition`."""
        return self._carry_out(job, job.record.state, event, make_status)

    def enter(self, job: Job, event: Event, make_status: MakeStatus) -> Job:
        """The same for what is not a job yet: a drop that has just been taken over."""
        return self._carry_out(job, None, event, make_status)

    def _carry_out(self, job: Job, state: State | None, event: Event, make_status: MakeStatus) -> Job:
        transition = find_transition(state, event)
        job = evolve(job, record=evolve(job.record, state=transition.next_state))
        for effect in transition.effects:
            match effect:
                case Effect.WRITE_RECORD:
                    self._disk.replace(job.directory.record, encode_record(job.record))
                case Effect.MOVE_TO_QUEUED:
                    job = self._move(job, JobDirectory(self._layout.queued / job.id))
                    self._note_queued(job)
                case Effect.MOVE_TO_ACTIVE:
                    job = self._move(job, JobDirectory(self._layout.active / job.id))
                case Effect.MOVE_TO_DEFERRED:
                    job = self._move(job, JobDirectory(self._layout.deferred / job.id))
                case Effect.MOVE_TO_HELD:
                    job = self._move(job, JobDirectory(self._layout.held / job.id))
                case Effect.REMOVE_DROP:
                    self._disk.remove_tree(job.directory.drop)
                case Effect.DISCARD_UNTRUSTED:
                    job = self._discard_untrusted(job)
                case Effect.DISCARD_OBJECTS:
                    self._discard_objects(job)
                case Effect.SYNC_OBJECTS:
                    job = self._sync_objects(job)
                case Effect.WRITE_RESULT:
                    self._outbox.write_result(make_status(job.record))
                case Effect.WRITE_STATUS:
                    self._outbox.write_status(make_status(job.record))
                case Effect.REMOVE_SUPERSEDED:
                    self._outbox.remove_results(job.ticket, keep=job.id)
                case Effect.REMOVE_JOB:
                    remove(self._layout, self._disk, job.directory.path)
        return job

    def _move(self, job: Job, target: JobDirectory) -> Job:
        if target != job.directory:
            try:
                self._disk.move(job.directory.path, target.path)
            except FileNotFoundError as error:
                raise JobGone(f"{job.id} is not in {job.directory.path.parent.name} any more") from error
        return evolve(job, directory=target)

    def _discard_untrusted(self, job: Job) -> Job:
        """After a reboot a name proves nothing about what is in the file. What goes is gone before the record has the new boot id."""
        record = job.record
        if record.boot_id not in ("", self._boot_id) and not record.objects_synced:
            self._discard_objects(job)
        return evolve(job, record=evolve(record, boot_id=self._boot_id, objects_synced=False))

    def _discard_objects(self, job: Job) -> None:
        self._disk.remove_tree(job.directory.objects)
        self._disk.remove_tree(job.directory.result)
        self._disk.sync(job.directory.path)

    def sync_meanwhile(self, paths: Iterable[Path]) -> AbstractContextManager[None]:
        """Make instances durable while something else is done; they are when the context has been left. Raises OSError there.

        An instance of which that is not sure is removed, so that it is fetched again.
        """
        return sync_meanwhile(paths, self._sync_instance)

    def _sync_instance(self, path: Path) -> None:
        try:
            self._disk.sync_once(path)
        except OSError:
            self._disk.remove(path)
            raise

    def _sync_objects(self, job: Job) -> Job:
        objects = job.directory.objects
        if objects.is_dir():
            with self.sync_meanwhile(sorted(objects.iterdir())):
                pass
            self._disk.sync(objects)
        return evolve(job, record=evolve(job.record, objects_synced=True))

    def list_active(self) -> Iterator[JobDirectory]:
        """What this instance has in hand: after a start, what a dead daemon left behind."""
        return (JobDirectory(self._layout.active / name) for name in sorted(os.listdir(self._layout.active)))

    def list_queued(self) -> Iterator[JobDirectory]:
        return self._list(self._layout.queued)

    def list_deferred(self) -> Iterator[JobDirectory]:
        return self._list(self._layout.deferred)

    def list_held(self) -> Iterator[JobDirectory]:
        return self._list(self._layout.held)

    @staticmethod
    def _list(place: Path) -> Iterator[JobDirectory]:
        """As they stood there when this was called."""
        return (JobDirectory(place / name) for name in sorted(os.listdir(place)) if is_job_id(name))

    @staticmethod
    def load(directory: JobDirectory) -> Job:
        """Raises FileNotFoundError where the job is gone, ValueError where its record cannot be read."""
        return Job(decode_record(directory.record.read_bytes()), directory)

    def find(self, job_id: str) -> Job | None:
        """A job that nobody has in hand, by its id: queued, deferred or held."""
        for place in (self._layout.queued, self._layout.deferred, self._layout.held):
            try:
                return self.load(JobDirectory(place / job_id))
            except FileNotFoundError:
                continue
        return None

    @staticmethod
    def read_request(job: Job) -> Request:
        """The request, which was valid when it was taken over. Raises `JobGone`, OSError, `RequestRefused`."""
        try:
            return parse_request(job.directory.request.read_bytes())
        except FileNotFoundError as error:
            if job.directory.path.exists():
                raise
            raise JobGone(f"{job.id} is not in {job.directory.path.parent.name} any more") from error

    def open_objects(self, job: Job) -> Objects:
        return Objects(job.directory.objects, self._disk)

    def make_result_directory(self, job: Job) -> None:
        """An empty `result/`; what an earlier attempt left there goes."""
        self.discard_result(job)
        self._disk.make_directory(job.directory.result)

    def discard_result(self, job: Job) -> None:
        """Remove a result that is not published."""
        self._disk.remove_tree(job.directory.result)

    def open_forwarded(self, job: Job) -> Forwarded:
        return Forwarded(job.directory.forwarded, self._disk)

    def count_progress(self, job: Job) -> int:
        """How many instances have been received, and sent to a destination: it grows as long as something is done."""
        received = sum(1 for _ in self.open_objects(job).list_paths()) if job.directory.objects.is_dir() else 0
        return received + len(self.open_forwarded(job).read())

    def remove_drop(self, directory: JobDirectory) -> None:
        """Remove what a death left between the claim and its end."""
        self._disk.remove_tree(directory.drop)

    def is_deferred(self, job: Job) -> bool:
        """By where it is, whatever its record says."""
        return job.directory.path.parent == self._layout.deferred

    def is_held(self, job: Job) -> bool:
        """By where it is, whatever its record says."""
        return job.directory.path.parent == self._layout.held

    def set_aside(self, directory: JobDirectory) -> None:
        """Keep what cannot be read out of the way, for the operator."""
        target = self._layout.held / directory.path.name
        if directory.path != target:
            self._disk.move(directory.path, target)

    def discard(self, directory: JobDirectory) -> None:
        """Remove what never became a job."""
        remove(self._layout, self._disk, directory.path)
