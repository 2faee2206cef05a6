"""The guards of the spool, taken out one at a time. With any of them gone the checker must find something, or it proves nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from attrs import evolve, frozen

from mkisod.job import lifecycle
from mkisod.job.lifecycle import TRANSITIONS, Effect, Event
from mkisod.job.record import encode_record
from mkisod.job.status import State, Status, encode_status
from mkisod.spool.jobs import Job, Jobs
from mkisod.spool.layout import RESULT_RECORD, JobDirectory
from mkisod.spool.outbox import Outbox
from mkisod.spool.recovery import Recovery
from mkisod.spool.spool import Spool
from tests.crash.disk import CrashDisk

Removal = Callable[[], contextlib.AbstractContextManager[object]]


@frozen
class Guard:
    """`scenario` is the life in which it is missed; `twice`: one death is not enough to miss it."""

    name: str
    remove: Removal
    scenario: str = "done"
    twice: bool = False


def _publish_unsynced(self: Outbox, directory: JobDirectory, status: Status) -> None:
    self._disk.write(directory.result / RESULT_RECORD, encode_status(status))
    self._make_ticket(status.ticket)
    self._disk.move(directory.result, self._layout.result(status.ticket, status.job))


_publish = Outbox.publish


def _publish_after_status(self: Outbox, directory: JobDirectory, status: Status) -> None:
    self.write_status(status)
    _publish(self, directory, status)


_sync = CrashDisk.sync


def _sync_no_directory(self: CrashDisk[object], path: Path) -> None:
    if not path.is_dir():
        _sync(self, path)


_discard_untrusted = Jobs._discard_untrusted


def _trust_first(self: Jobs, job: Job) -> Job:
    record = evolve(job.record, boot_id=self._boot_id, objects_synced=False)
    self._disk.replace(job.directory.record, encode_record(record))
    return _discard_untrusted(self, job)


_rename = CrashDisk.rename


def _copy_the_drop(self: CrashDisk[object], source: Path, target: Path) -> None:
    if target.name != "drop":
        _rename(self, source, target)
        return
    self.write(target, source.read_bytes())
    self.sync(target)
    self.remove(source)


def _skip_sweep(self: Spool) -> None:
    self.recovery.run()


def _leave_the_request_unsynced(self: CrashDisk[object], path: Path) -> None:
    if path.name != "request":
        _sync(self, path)


def _change(state: State | None, event: Event, *effects: Effect) -> Removal:
    """Another order of effects, or fewer."""
    transition = evolve(TRANSITIONS[state, event], effects=effects)

    @contextlib.contextmanager
    def change() -> Iterator[None]:
        with mock.patch.dict(lifecycle.TRANSITIONS, {(state, event): transition}):
            yield

    return change


def _patch(owner: object, name: str, replacement: object) -> Removal:
    return lambda: mock.patch.object(owner, name, replacement)


_IN_PLACE = (Effect.WRITE_RECORD, Effect.WRITE_STATUS)

GUARDS = (
    Guard("the result is synced", _patch(Outbox, "publish", _publish_unsynced)),
    Guard("the status comes after the result", _patch(Outbox, "publish", _publish_after_status)),
    Guard("directories are synced", _patch(CrashDisk, "sync", _sync_no_directory)),
    Guard("what was in hand is recovered", _patch(Jobs, "list_active", lambda _: iter(()))),
    Guard("untrusted objects go before the record has the new boot id", _patch(Jobs, "_discard_untrusted", _trust_first), twice=True),
    Guard("a claim is a rename", _patch(CrashDisk, "rename", _copy_the_drop)),
    # And some that stand in the design, if not in that list.
    Guard("objects of an earlier boot are discarded", _patch(Jobs, "_discard_untrusted", lambda _, job: job)),
    Guard(
        "what is kept of an incomplete job is synced",
        _patch(Jobs, "_sync_objects", lambda _, job: evolve(job, record=evolve(job.record, objects_synced=True))),
        scenario="incomplete, and published in part",
    ),
    Guard("the request is synced before it counts", _patch(CrashDisk, "sync", _leave_the_request_unsynced)),
    Guard(
        "a job goes after its status",
        _change(State.PUBLISHING, Event.PUBLISHED, Effect.REMOVE_JOB, Effect.WRITE_STATUS, Effect.REMOVE_SUPERSEDED),
    ),
    Guard(
        "what is cancelled is written down first",
        _change(State.RETRIEVING, Event.CANCELLED, Effect.MOVE_TO_ACTIVE, Effect.WRITE_STATUS, Effect.REMOVE_JOB),
        scenario="cancelled while it retrieves",
    ),
    Guard(
        "what failed is written down before it is said",
        _change(State.RETRIEVING, Event.FAILED, Effect.WRITE_STATUS, Effect.WRITE_RECORD, Effect.MOVE_TO_HELD, Effect.DISCARD_OBJECTS),
        scenario="failed",
    ),
    Guard(
        "the end of forwarding is said before the job goes",
        _change(State.FORWARDING, Event.FORWARDED, Effect.REMOVE_JOB, Effect.WRITE_RESULT, Effect.WRITE_STATUS),
        scenario="forwarded",
    ),
    Guard(
        "what is to be forwarded outlives every reboot",
        _change(State.QUEUED, Event.TAKEN_TO_FORWARD, Effect.MOVE_TO_ACTIVE, Effect.DISCARD_UNTRUSTED, *_IN_PLACE),
        scenario="forwarded",
        twice=True,
    ),
    Guard("what is published is not made again", _patch(Recovery, "_read_result", lambda *_: None), scenario="forwarded"),
    Guard("the trash is swept", _patch(Spool, "recover", _skip_sweep)),
)
