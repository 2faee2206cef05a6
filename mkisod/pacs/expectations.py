"""Which job an instance belongs to: the meeting point of the receiver and of the jobs that wait.

Owns the registry of what is expected. Promises that an instance lands in the job whose study it is part of or nowhere, that two jobs never
expect one study at the same time, and that what nobody expects is never written. An instance is matched by its SOP Instance UID, then by
its Study Instance UID; the Move Originator only tells whose move brought a stranger. A contradiction (another patient, one SOP Instance UID
in two series) fails the job it concerns, and the instance is refused.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from attrs import frozen
from structlog.typing import FilteringBoundLogger

from mkisod.errors import Code, MkisodError, Permanent, Transient
from mkisod.job.manifest import Manifest, ReceivedInstance
from mkisod.job.patient import PatientIdentity, same_patient
from mkisod.pacs.reception import DATA_SET_MISMATCH, NOT_AUTHORIZED, OUT_OF_RESOURCES, Arrival, Offer, Refusal

_MOST_WARNINGS = 100


class ObjectFile(Protocol):
    """One instance being written; ended by exactly one of `keep` and `discard`."""

    fd: int

    def keep(self, sop_instance_uid: str) -> None: ...
    def equals(self, sop_instance_uid: str) -> bool: ...
    def discard(self) -> None: ...


class ObjectStore(Protocol):
    """Where a job's instances go."""

    def create(self) -> ObjectFile: ...
    def path(self, sop_instance_uid: str) -> Path: ...


class Expectation:
    """What one job waits for, and what of it has come.

    `changed` guards all of it. It is notified when nothing is missing any more, at a fault and by `notify`, but not at every instance: a
    job that waits looks once a second anyway, and a thousand wake-ups would take the processor from the receiver.
    """

    def __init__(self, job: str, ticket: str, manifest: Manifest, objects: ObjectStore, received: Iterable[ReceivedInstance]) -> None:
        self.job = job
        self.ticket = ticket
        self.manifest = manifest
        self.objects = objects
        self.changed = threading.Condition(threading.RLock())
        self._series_of = {
            uid: (study.study_instance_uid, series.series_instance_uid)
            for study in manifest.studies
            for series in study.series
            for uid in series.sop_instance_uids
        }
        self.received: dict[str, ReceivedInstance] = {instance.sop_instance_uid: instance for instance in received}
        self.bytes_received = sum(instance.size_bytes for instance in self.received.values())
        self.missing = {uid for uid in self._series_of if uid not in self.received}
        self.arrivals = 0  # how many have come since the job began to wait
        self.arriving = 0  # how many are being written now
        self.warnings: list[str] = []  # the first ones; `warn` adds to them
        self.closed = False  # the job has seen all that it will see
        self.fault: MkisodError | None = None
        self.patients: dict[str, list[PatientIdentity]] = {}
        for study in manifest.studies:
            self.patients.setdefault(study.study_instance_uid, []).append(study.patient)

    def notify(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def copy_received(self) -> dict[str, ReceivedInstance]:
        """What has come so far; instances go on arriving."""
        with self.changed:
            return dict(self.received)

    def find_contradiction(self, offer: Offer) -> Permanent | None:
        """Why an instance cannot be what it says it is, seen from this job's manifest and from what has come."""
        header = offer.header
        place = (header.study_instance_uid, header.series_instance_uid)
        uid = offer.sop_instance_uid
        known = self._series_of.get(uid)
        if known is None and (instance := self.received.get(uid)) is not None:
            known = (instance.study_instance_uid, instance.series_instance_uid)
        if known is not None and known != place:
            return Permanent(
                Code.NONCONFORMANT, f"The SOP Instance UID {uid} belongs to series {known[1]}, but came as part of series {place[1]}."
            )
        listed = self.patients.get(header.study_instance_uid, [])
        if not all(same_patient(header.patient, patient, same_study=True) for patient in listed):
            return Permanent(Code.PATIENT_MISMATCH, f"The instance {uid} names another patient than the PACS does for its study.")
        return None

    def warn(self, text: str) -> None:
        """Something that the status is to say. Of a flood of warnings only the first are kept."""
        with self.changed:
            if len(self.warnings) < _MOST_WARNINGS:
                self.warnings.append(text)

    def close(self) -> dict[str, ReceivedInstance]:
        """From here on nothing is taken any more, not even what is just arriving; what has come."""
        with self.changed:
            self.closed = True
            return dict(self.received)

    def note_error(self, error: OSError) -> None:
        """An instance could not be written. For want of room no further one can be, so there is no use in moving on."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            self.fail(_make_disk_full())

    def fail(self, error: MkisodError) -> None:
        with self.changed:
            self.fault = self.fault or error
            self.changed.notify_all()


@frozen
class _ExpectedMove:
    expectation: Expectation
    pacs: str


class Expectations:
    """All that is expected now. It is the receiver's `Reception`. Used by many threads."""

    def __init__(self, log: FilteringBoundLogger, *, has_room: Callable[[], bool]) -> None:
        self._log = log
        self._has_room = has_room
        self._lock = threading.Condition()
        self._by_study: dict[str, Expectation] = {}
        self._by_instance: dict[str, Expectation] = {}
        self._moves: dict[int, _ExpectedMove] = {}
        self._message_id = 0

    @contextmanager
    def expect(self, expectation: Expectation, is_interrupted: Callable[[], bool]) -> Iterator[None]:
        """Expect the instances of the manifest, for as long as the context lasts; begins once no other job expects one of its studies.

        All studies are taken at once or none, so that two jobs cannot wait for each other. Call `wake` after an interruption.
        """
        studies = expectation.manifest.study_instance_uids
        with self._lock:
            self._lock.wait_for(lambda: is_interrupted() or not any(uid in self._by_study for uid in studies))
            mine = [] if is_interrupted() else studies
            self._by_study.update(dict.fromkeys(mine, expectation))
            instances = [uid for study in expectation.manifest.studies for uid in study.sop_instance_uids] if mine else []
            self._by_instance.update(dict.fromkeys(instances, expectation))
        try:
            yield
        finally:
            with self._lock:
                for uid in mine:
                    del self._by_study[uid]
                for uid in instances:
                    self._by_instance.pop(uid, None)
                self._lock.notify_all()

    def wake(self) -> None:
        """Let everybody who waits look whether they are interrupted."""
        with self._lock:
            self._lock.notify_all()
            waiting = set(self._by_study.values())
        for expectation in waiting:
            expectation.notify()

    @contextmanager
    def move(self, expectation: Expectation, pacs: str, max_moves: int, is_interrupted: Callable[[], bool]) -> Iterator[int]:
        """A Message ID for one C-MOVE, by which what it brings can be told (PS3.7 9.1.1.1, Move Originator Message ID).

        Begins once the PACS has fewer than `max_moves` under way, or at an interruption.
        """
        with self._lock:
            self._lock.wait_for(lambda: is_interrupted() or sum(m.pacs == pacs for m in self._moves.values()) < max_moves)
            while True:
                self._message_id = self._message_id % 0xFFFF + 1
                if self._message_id not in self._moves:
                    break
            message_id = self._message_id
            self._moves[message_id] = _ExpectedMove(expectation, pacs)
        try:
            yield message_id
        finally:
            with self._lock:
                del self._moves[message_id]
                self._lock.notify_all()

    def admit(self, offer: Offer) -> Arrival:
        with self._lock:
            expectation = self._by_instance.get(offer.sop_instance_uid) or self._by_study.get(offer.header.study_instance_uid)
            move = self._moves.get(offer.move_originator_message_id or 0)
        if expectation is None:
            raise self._refuse_stranger(offer, move.expectation if move else None)
        if not offer.header.study_instance_uid or not offer.header.series_instance_uid:
            expectation.warn(f"The instance {offer.sop_instance_uid} came without Study or Series Instance UID and was refused.")
            raise Refusal(DATA_SET_MISMATCH, "no Study or Series Instance UID")
        if (contradiction := expectation.find_contradiction(offer)) is not None:
            expectation.fail(contradiction)
            raise Refusal(DATA_SET_MISMATCH, "contradicts what was announced")
        if not self._has_room():
            expectation.fail(_make_disk_full())
            raise Refusal(OUT_OF_RESOURCES, "the disk is full")
        try:
            file = expectation.objects.create()
        except OSError as error:
            expectation.note_error(error)
            raise
        return ExpectedArrival(offer, expectation, file)

    def _refuse_stranger(self, offer: Offer, mover: Expectation | None) -> Refusal:
        self._log.warning(
            "instance_refused",
            sop_instance_uid=offer.sop_instance_uid,
            study_instance_uid=offer.header.study_instance_uid,
            peer=offer.peer,
            calling_ae_title=offer.calling_ae_title,
            ticket=mover.ticket if mover else None,
            job=mover.job if mover else None,
        )
        if mover is not None:
            mover.warn(f"The PACS sent the instance {offer.sop_instance_uid} of a study that nobody asked for. It was refused.")
        return Refusal(NOT_AUTHORIZED, "no job expects this instance")


def _make_disk_full() -> Transient:
    return Transient(Code.DISK_FULL, "The file system of the spool has too little room.")


class ExpectedArrival:
    """An instance that a job waits for, on its way to the disk."""

    def __init__(self, offer: Offer, expectation: Expectation, file: ObjectFile) -> None:
        self._offer = offer
        self._expectation = expectation
        self._file = file
        with expectation.changed:
            expectation.arriving += 1

    @property
    def fd(self) -> int:
        return self._file.fd

    def commit(self, size_bytes: int) -> None:
        uid = self._offer.sop_instance_uid
        header = self._offer.header
        expectation = self._expectation
        with expectation.changed:
            expectation.arriving -= 1
            if expectation.closed:
                self._file.discard()
                raise Refusal(NOT_AUTHORIZED, "the job is over")
            # Under the lock, so that of two associations that bring one instance one keeps it and the other compares.
            if uid in expectation.received:
                self._drop_resend(uid)
            else:
                try:
                    self._file.keep(uid)
                except OSError as error:
                    expectation.note_error(error)
                    raise
                expectation.received[uid] = ReceivedInstance(
                    uid, header.study_instance_uid, header.series_instance_uid, header.patient, size_bytes
                )
                expectation.bytes_received += size_bytes
                expectation.missing.discard(uid)
            expectation.arrivals += 1
            if not expectation.missing:
                expectation.changed.notify_all()

    def _drop_resend(self, uid: str) -> None:
        if not self._file.equals(uid):
            self._expectation.warn(f"The instance {uid} came twice with different bytes. The first one was kept.")
        self._file.discard()

    def abort(self, error: OSError | None = None) -> None:
        self._file.discard()
        if error is not None:
            self._expectation.note_error(error)
        with self._expectation.changed:
            self._expectation.arriving -= 1
            self._expectation.changed.notify_all()
