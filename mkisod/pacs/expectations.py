"""Which job an instance belongs to: the meeting point of the receiver and of the jobs that wait.

Owns the registry of what is expected. Promises that an instance lands in the job whose study it is part of or nowhere, that two jobs never
expect one study at the same time, and that what nobody expects is never written. An instance is matched by its SOP Instance UID, then by
its Study Instance UID; by the Move Originator only where an archive answers no C-FIND, and then its accession number has to agree, too.
A contradiction fails the job it concerns, and the instance is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from attrs import frozen

from mkisod.errors import Code, Permanent
from mkisod.job.manifest import Manifest
from mkisod.pacs.expectation import Expectation, ExpectedArrival, UnwantedArrival, make_disk_full
from mkisod.pacs.reception import DATA_SET_MISMATCH, NOT_AUTHORIZED, OUT_OF_RESOURCES, Arrival, Offer, Refusal


class StudiesInUse(Exception):
    """Another job retrieves one of these studies. No failure: the job's turn comes once they are free."""

    def __init__(self, study_instance_uids: Collection[str]) -> None:
        super().__init__("another job retrieves one of the studies")
        self.study_instance_uids = frozenset(study_instance_uids)


@frozen
class ExpectedMove:
    """A C-MOVE that is under way: who waits for it, and between which AE titles it was asked for."""

    expectation: Expectation
    ae_title: str
    pacs_ae_title: str

    def brought(self, offer: Offer) -> bool:
        """Whether an instance that names this move's Message ID is of this move; another mover may have used the same number."""
        return offer.move_originator_ae_title in ("", self.ae_title)


class Expectations:
    """All that is expected now. It is the receiver's `Reception`. Used by many threads."""

    def __init__(self, *, has_room: Callable[[], bool]) -> None:
        self._has_room = has_room
        self._lock = threading.Lock()
        self._by_study: dict[str, Expectation] = {}
        self._by_instance: dict[str, Expectation] = {}
        self._moves: dict[int, ExpectedMove] = {}
        self._message_id = 0

    @contextmanager
    def expect(self, expectation: Expectation) -> Iterator[None]:
        """Expect the instances of the manifest, for as long as the context lasts.

        Raises `StudiesInUse`: all studies are taken at once or none, and nobody waits here.
        """
        self._register(expectation, expectation.manifest)
        try:
            yield
        finally:
            with self._lock:
                self._by_study = {uid: other for uid, other in self._by_study.items() if other is not expectation}
                self._by_instance = {uid: other for uid, other in self._by_instance.items() if other is not expectation}

    def change(self, expectation: Expectation, manifest: Manifest) -> None:
        """Expect another manifest from now on, in addition. Raises `StudiesInUse`; then nothing has changed."""
        self._register(expectation, manifest)
        expectation.set_manifest(manifest)

    def _register(self, expectation: Expectation, manifest: Manifest) -> None:
        studies = manifest.study_instance_uids
        with self._lock:
            if any(self._by_study.get(uid, expectation) is not expectation for uid in studies):
                raise StudiesInUse(studies)
            self._by_study.update(dict.fromkeys(studies, expectation))
            self._by_instance.update((uid, expectation) for study in manifest.studies for uid in study.sop_instance_uids)

    def are_free(self, study_instance_uids: Collection[str]) -> bool:
        """Whether no job expects any of these studies."""
        with self._lock:
            return not any(uid in self._by_study for uid in study_instance_uids)

    def wake(self) -> None:
        """Let everybody who waits look whether they are interrupted."""
        with self._lock:
            waiting = {*self._by_study.values(), *(move.expectation for move in self._moves.values())}
        for expectation in waiting:
            expectation.notify()

    @contextmanager
    def move(self, move: ExpectedMove) -> Iterator[int]:
        """A Message ID for one C-MOVE, by which what it brings can be told (PS3.7 9.1.1.1, Move Originator Message ID)."""
        with self._lock:
            while True:
                self._message_id = self._message_id % 0xFFFF + 1
                if self._message_id not in self._moves:
                    break
            message_id = self._message_id
            self._moves[message_id] = move
        try:
            yield message_id
        finally:
            with self._lock:
                del self._moves[message_id]

    def admit(self, offer: Offer) -> Arrival:
        with self._lock:
            expectation = self._by_instance.get(offer.sop_instance_uid) or self._by_study.get(offer.header.study_instance_uid)
            mover = self._find_mover(offer) if expectation is None else None
        if expectation is None and mover is not None and mover.manifest.by_accession:
            expectation = mover
        if expectation is None:
            raise _refuse_stranger(offer, mover)
        if not offer.header.study_instance_uid or not offer.header.series_instance_uid:
            expectation.warn(f"The instance {offer.sop_instance_uid} came without Study or Series Instance UID and was refused.")
            raise Refusal(DATA_SET_MISMATCH, "no Study or Series Instance UID")
        if expectation.manifest.by_accession:
            self._check_accession(offer, expectation)
        if expectation.leaves_out(offer):
            return UnwantedArrival(expectation)
        if (contradiction := expectation.find_contradiction(offer)) is not None:
            expectation.fail(contradiction)
            raise Refusal(DATA_SET_MISMATCH, "contradicts what was announced", ticket=expectation.ticket, job=expectation.job)
        if not self._has_room():
            expectation.fail(make_disk_full())
            raise Refusal(OUT_OF_RESOURCES, "the disk is full", ticket=expectation.ticket, job=expectation.job)
        try:
            file = expectation.objects.create()
        except OSError as error:
            expectation.note_error(error)
            raise
        return ExpectedArrival(offer, expectation, file)

    def _find_mover(self, offer: Offer) -> Expectation | None:
        """Whose C-MOVE brought an instance that no manifest knows.

        By the Move Originator. Where the archive omits it (measured), whoever moves from that archive by accession number: one job at most.
        """
        if offer.move_originator_message_id is not None:
            move = self._moves.get(offer.move_originator_message_id)
            return move.expectation if move is not None and move.brought(offer) else None
        movers = (move for move in self._moves.values() if move.expectation.manifest.by_accession)
        return next((move.expectation for move in movers if move.pacs_ae_title == offer.calling_ae_title), None)

    def _check_accession(self, offer: Offer, expectation: Expectation) -> None:
        """An archive that takes no C-FIND may ignore the accession number in a C-MOVE as well, and then it sends everything."""
        accession = expectation.find_accession(offer)
        if accession is None:
            expectation.fail(
                Permanent(
                    Code.ACCESSION_MISMATCH,
                    "The PACS sent an instance with another accession number than it was asked for, so it does not select by it.",
                    'An archive like that cannot be used with query = "none". Look for the cause in the log of the PACS.',
                )
            )
            raise Refusal(NOT_AUTHORIZED, "another accession number than was asked for", ticket=expectation.ticket, job=expectation.job)
        with self._lock:
            if self._by_study.setdefault(offer.header.study_instance_uid, expectation) is not expectation:
                raise Refusal(NOT_AUTHORIZED, "another job retrieves this study")
            if offer.header.study_instance_uid not in expectation.manifest.study_instance_uids:
                expectation.adopt_study(offer, accession)


def _refuse_stranger(offer: Offer, mover: Expectation | None) -> Refusal:
    if mover is None:
        return Refusal(NOT_AUTHORIZED, "no job expects this instance")
    mover.warn(f"The PACS sent the instance {offer.sop_instance_uid} of a study that nobody asked for. It was refused.")
    return Refusal(NOT_AUTHORIZED, "no job expects this instance", ticket=mover.ticket, job=mover.job)
