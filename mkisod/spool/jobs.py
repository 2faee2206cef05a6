"""The jobs in the spool: one directory each, in the directory that is its state.

Owns `work/`. Carries out the effects that `job.lifecycle` names, in their order; a job is in one place at any moment. On failure
(OSError) the effects so far stand, and the start-up scan goes on from there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator

from attrs import evolve, frozen

from mkisod.errors import Code, Permanent
from mkisod.job.lifecycle import Effect, Event, find_transition
from mkisod.job.record import JobRecord, decode_record, encode_record, is_job_id
from mkisod.job.request import PRIORITIES, Request, parse_request
from mkisod.job.status import State, Status
from mkisod.spool.durable import Disk
from mkisod.spool.layout import JobDirectory, Layout
from mkisod.spool.objects import Objects
from mkisod.spool.outbox import Outbox


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


MakeStatus = Callable[[JobRecord], Status]


class Jobs:
    """Used by several threads; each job is in the hands of one of them."""

    def __init__(self, layout: Layout, disk: Disk, outbox: Outbox) -> None:
        self._layout = layout
        self._disk = disk
        self._outbox = outbox
        self._priorities: dict[str, str] = {}  # of what is queued, so that a job.json is read once and not at each choice
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
                case Effect.MOVE_TO_ACTIVE:
                    job = self._move(job, JobDirectory(self._layout.active / job.id))
                case Effect.MOVE_TO_HELD:
                    job = self._move(job, JobDirectory(self._layout.held / job.id))
                case Effect.REMOVE_DROP:
                    self._disk.remove_tree(job.directory.drop)
                case Effect.DISCARD_OBJECTS:
                    self._disk.remove_tree(job.directory.objects)
                    self._disk.remove_tree(job.directory.result)
                case Effect.WRITE_STATUS:
                    self._outbox.write_status(make_status(job.record))
                case Effect.REMOVE_SUPERSEDED:
                    self._outbox.withdraw_superseded(job.directory, job.ticket, job.id)
                case Effect.REMOVE_JOB:
                    self._disk.remove_tree(job.directory.path)
        return job

    def _move(self, job: Job, target: JobDirectory) -> Job:
        if target != job.directory:
            self._disk.move(job.directory.path, target.path)
        return evolve(job, directory=target)

    def choose(self) -> Job | None:
        """The queued job that is next: by priority, then by age. It stays queued; `advance` with TAKEN takes it."""
        names = [name for name in os.listdir(self._layout.queued) if is_job_id(name)]
        self._priorities = {name: self._priorities.get(name) or self._read_priority(name) for name in names}
        for name in sorted(names, key=lambda name: (PRIORITIES.index(self._priorities[name]), name)):
            try:
                return self._load(JobDirectory(self._layout.queued / name))
            except FileNotFoundError:  # another daemon was first
                continue
            except ValueError:
                self.set_aside(JobDirectory(self._layout.queued / name))
        return None

    def _read_priority(self, name: str) -> str:
        try:
            priority = self._load(JobDirectory(self._layout.queued / name)).record.priority
        except (FileNotFoundError, ValueError):
            return PRIORITIES[-1]
        return priority if priority in PRIORITIES else PRIORITIES[-1]

    def list_active(self) -> Iterator[JobDirectory]:
        """What this instance has in hand: after a start, what a dead daemon left behind."""
        return (JobDirectory(self._layout.active / name) for name in sorted(os.listdir(self._layout.active)))

    def list_queued(self) -> Iterator[JobDirectory]:
        return (JobDirectory(self._layout.queued / name) for name in sorted(os.listdir(self._layout.queued)) if is_job_id(name))

    def list_held(self) -> Iterator[JobDirectory]:
        return (JobDirectory(self._layout.held / name) for name in sorted(os.listdir(self._layout.held)) if is_job_id(name))

    def load(self, directory: JobDirectory) -> Job:
        """Raises FileNotFoundError where the job is gone, ValueError where its record cannot be read."""
        return self._load(directory)

    @staticmethod
    def _load(directory: JobDirectory) -> Job:
        return Job(decode_record(directory.record.read_bytes()), directory)

    @staticmethod
    def read_request(job: Job) -> Request:
        """The request, which was valid when it was taken over."""
        return parse_request(job.directory.request.read_bytes())

    def open_objects(self, job: Job) -> Objects:
        return Objects(job.directory.objects, self._disk)

    def make_result_directory(self, job: Job) -> None:
        """An empty `result/`; what an earlier attempt left there goes."""
        self._disk.remove_tree(job.directory.result)
        self._disk.make_directory(job.directory.result)

    def set_aside(self, directory: JobDirectory) -> None:
        """Keep what cannot be read out of the way, for the operator."""
        target = self._layout.held / directory.path.name
        if directory.path != target:
            self._disk.move(directory.path, target)

    def discard(self, directory: JobDirectory) -> None:
        """Remove what never became a job."""
        self._disk.remove_tree(directory.path)
