"""What one job waits for, and what of it has come.

Owns the set of what has been received while the archive sends. Promises that an instance which contradicts what was announced (another
patient, one SOP Instance UID in two series) is found out before it is written, and that nothing is taken once the job has seen it all.
"""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, Protocol

from attrs import evolve

from mkisod.errors import Code, MkisodError, Permanent, Transient
from mkisod.job.manifest import Manifest, ReceivedInstance, Shortage, StudyListing, count_by_place, has_accession, make_place_contradiction
from mkisod.job.moves import Move
from mkisod.job.patient import PatientIdentity, same_patient
from mkisod.job.status import Evidence
from mkisod.pacs.reception import NOT_AUTHORIZED, Offer, Refusal

_MOST_WARNINGS = 100
_ARRIVALS_PER_WAKE_UP = 128


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

    `changed` guards all of it. It is notified when nothing that is known by name is missing any more, at a fault, when it is closed and by
    `notify`, but only at every so many instances: who reads them for the disc while others arrive would take the processor from the
    receiver if each woke it up.
    """

    def __init__(self, job: str, ticket: str, manifest: Manifest, objects: ObjectStore, received: Iterable[ReceivedInstance]) -> None:
        self.job = job
        self.ticket = ticket
        self.objects = objects
        self.changed = threading.Condition(threading.RLock())
        self.received: dict[str, ReceivedInstance] = {}
        self.bytes_received = 0
        self._untold: list[str] = []
        self._shared: dict[Hashable, Any] = {}
        for instance in received:
            self.add(instance)
        self.arrivals = 0  # how many have come since the job began to wait, those that are not kept among them
        self.unwanted = 0  # how many of them the filter of the request leaves out
        self.arriving = 0  # how many are being written now
        self.warnings: list[str] = []  # the first ones; `warn` adds to them
        self.closed = False  # the job has seen all that it will see
        self.fault: MkisodError | None = None
        self.set_manifest(manifest)

    def set_manifest(self, manifest: Manifest) -> None:
        """Expect this from now on. What has come stays."""
        with self.changed:
            self.manifest = manifest
            places = (
                ((study.study_instance_uid, series.series_instance_uid), series.sop_instance_uids)
                for study in manifest.studies
                for series in study.series
            )
            self._series_of = {uid: place for place, uids in places for uid in uids}  # one tuple for each series
            self._listed_series = {series.series_instance_uid for study in manifest.studies for series in study.series}
            self.missing = {uid for study in manifest.studies for uid in study.sop_instance_uids if uid not in self.received}
            patients: dict[str, list[PatientIdentity]] = {}
            for study in manifest.studies:
                patients.setdefault(study.study_instance_uid, []).append(study.patient)
            self._patients = patients  # as a whole: the receiver reads it without the lock

    def add(self, instance: ReceivedInstance) -> None:
        """What stands whole in the job's directory. Of equal values one is held: nearly all that an instance says, its siblings say too."""
        share, uid = self._shared.setdefault, sys.intern(instance.sop_instance_uid)
        self.received[uid] = ReceivedInstance(
            uid,
            share(instance.study_instance_uid, instance.study_instance_uid),
            share(instance.series_instance_uid, instance.series_instance_uid),
            share(instance.patient, instance.patient),
            instance.size_bytes,
            share(instance.accession, instance.accession),
        )
        self.bytes_received += instance.size_bytes
        self._untold.append(uid)

    def wait_untold(self) -> list[str] | None:
        """The SOP Instance UIDs of what has come since this was last asked: some, or None once it is closed. For one thread."""
        with self.changed:
            while not (self._untold or self.closed):
                self.changed.wait()
            untold, self._untold = self._untold, []
            return None if self.closed else untold

    def notify(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def copy_received(self) -> dict[str, ReceivedInstance]:
        """What has come so far; instances go on arriving."""
        with self.changed:
            return dict(self.received)

    def find_shortage(self) -> Shortage:
        with self.changed:
            return self.manifest.find_shortage(self.received)

    def count_received(self, move: Move) -> int:
        """How many have come of what a C-MOVE asked for."""
        with self.changed:
            if move.accession:
                return sum(has_accession(instance.accession, move.accession) for instance in self.received.values())
            counts = count_by_place(self.received)
            return counts.get((move.study_instance_uid, move.series_instance_uid or ""), 0)

    def find_contradiction(self, offer: Offer) -> Permanent | None:
        """Why an instance cannot be what it says it is, seen from this job's manifest and from what has come."""
        header = offer.header
        place = (header.study_instance_uid, header.series_instance_uid)
        uid = offer.sop_instance_uid
        known = self._series_of.get(uid)
        if known is None and (instance := self.received.get(uid)) is not None:
            known = (instance.study_instance_uid, instance.series_instance_uid)
        if known is not None and known != place:
            return make_place_contradiction(uid, known[1], place[1])
        listed = self._patients.get(header.study_instance_uid, [])
        if not all(same_patient(header.patient, patient, same_study=True) for patient in listed):
            return Permanent(Code.PATIENT_MISMATCH, f"The instance {uid} names another patient than the PACS does for its study.")
        return None

    def find_accession(self, offer: Offer) -> str | None:
        """Of the accession numbers that are moved by: the one that an instance has. None: another one, or none at all."""
        value = offer.header.accession_number
        return next((accession for accession in self.manifest.by_accession if has_accession(value, accession)), None)

    def adopt_study(self, offer: Offer, accession: str) -> None:
        """Take the study of an instance into the manifest, where no C-FIND could tell what there is."""
        header = offer.header
        study = StudyListing(accession, header.study_instance_uid, header.patient, evidence=Evidence.RESPONSES)
        with self.changed:
            self.set_manifest(evolve(self.manifest, studies=(*self.manifest.studies, study)))

    def leaves_out(self, offer: Offer) -> bool:
        """Whether an instance of an expected study is of a modality that the request does not want."""
        modalities, header = self.manifest.modalities, offer.header
        return bool(modalities) and header.series_instance_uid not in self._listed_series and header.modality not in modalities

    def warn(self, text: str) -> None:
        """Something that the status is to say. Of a flood of warnings only the first are kept."""
        with self.changed:
            if len(self.warnings) < _MOST_WARNINGS:
                self.warnings.append(text)

    def close(self) -> dict[str, ReceivedInstance]:
        """From here on nothing is taken any more, not even what is just arriving; what has come."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
            return dict(self.received)

    def note_error(self, error: OSError) -> None:
        """An instance could not be written. For want of room no further one can be, so there is no use in moving on."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            self.fail(make_disk_full())

    def fail(self, error: MkisodError) -> None:
        with self.changed:
            self.fault = self.fault or error
            self.changed.notify_all()


def make_disk_full() -> Transient:
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
                place = (header.study_instance_uid, header.series_instance_uid)
                expectation.add(ReceivedInstance(uid, *place, header.patient, size_bytes, header.accession_number))
            expectation.arrivals += 1
            is_last = uid in expectation.missing and len(expectation.missing) == 1
            expectation.missing.discard(uid)
            if is_last or expectation.arrivals % _ARRIVALS_PER_WAKE_UP == 0:
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


class UnwantedArrival:
    """An instance that the filter of the request leaves out: answered with success, since a refusal would end the whole move at some
    archives (measured: Orthanc), and written nowhere.
    """

    fd = None

    def __init__(self, expectation: Expectation) -> None:
        self._expectation = expectation

    def commit(self, size_bytes: int) -> None:  # noqa: ARG002 - as an Arrival has it
        with self._expectation.changed:
            self._expectation.arrivals += 1
            self._expectation.unwanted += 1

    def abort(self, error: OSError | None = None) -> None:
        """Nothing is left of it anyway."""
