"""Where the network would be: an archive that answers and sends in the daemon's own process, a destination that takes what is forwarded,
and a media room that makes small discs.

All stand where the daemon looks for the real ones. The archive goes through the real expectations and the real object files, so that
what it sends is written, named and refused as ever; of the retrieval only the questions and the moves themselves are replaced.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import frozen

from mkisod.errors import Code, MkisodError, Permanent, Transient
from mkisod.job.forwarding import Outcome
from mkisod.job.manifest import Manifest, SeriesListing, StudyListing
from mkisod.job.moves import Move
from mkisod.job.patient import PatientIdentity
from mkisod.job.request import Request
from mkisod.media.disc import Disc, DiscOrder, Volume
from mkisod.pacs.expectation import Expectation
from mkisod.pacs.forward import Sent
from mkisod.pacs.reception import Header, Offer
from mkisod.pacs.retrieval import Retrieval
from mkisod.pacs.stored import StoredInstance
from mkisod.pacs.waiting import Interrupted
from mkisod.pacs.wire import Interrupted as ConnectionInterrupted
from tests.media.objects import ROOT, make_object

PATIENT = PatientIdentity("P1", "", "Müller^Jürgen", "19600102")
INSTANCES = 2


def make_study(number: int) -> dict[str, bytes]:
    """By SOP Instance UID, the files of a study as the receiver writes them."""
    study = {}
    for instance in range(1, INSTANCES + 1):
        ds = make_object(number=instance, study_uid=f"{ROOT}.{number}")
        file = io.BytesIO()
        ds.save_as(file, enforce_file_format=True)
        study[str(ds.SOPInstanceUID)] = file.getvalue()
    return study


STUDIES = {accession: make_study(number) for number, accession in enumerate(("A1", "A2"), 1)}


@frozen
class Archive:
    """`withheld` SOP instances never come; it is away before `up_at`; `refuses` says that it does not move, until somebody has put that
    right.
    """

    withheld: frozenset[str] = frozenset()
    up_at: datetime | None = None
    refuses: bool = False

    def answer(self, request: Request, now: datetime) -> Manifest:
        if self.up_at is not None and now < self.up_at:
            raise Transient(Code.PACS_UNREACHABLE, "The archive is away.")
        if unknown := [accession for accession in request.accessions if accession not in STUDIES]:
            raise Permanent(Code.ACCESSION_NOT_FOUND, f"The archive has no {unknown}.")
        return Manifest(tuple(map(_list_study, request.accessions)))


def _list_study(accession: str) -> StudyListing:
    uids = tuple(STUDIES[accession])
    study_uid, _, _ = uids[0].rpartition(".")[0].rpartition(".")
    return StudyListing(accession, study_uid, PATIENT, ("CT",), (SeriesListing(f"{study_uid}.1", "CT", uids),))


class Retrieving(Retrieval):
    """`meanwhile`: what other threads do between two instances. `notice`: what was written without the seam."""

    def __init__(
        self,
        *arguments: Any,
        archive: Archive,
        is_repaired: Callable[[], bool],
        now: Callable[[], datetime],
        notice: Callable[[Path], None],
        meanwhile: Callable[[], None],
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, **settings)
        self._archive = archive
        self._is_repaired = is_repaired
        self._now = now
        self._notice = notice
        self._meanwhile = meanwhile

    def find(self) -> Manifest:
        return self._archive.answer(self._request, self._now())

    def _list(self, expectation: Expectation) -> None:
        """What it has found it has listed."""

    def _look_again(self, expectation: Expectation) -> bool:  # noqa: ARG002 - as the real one has it
        """It never has more than it has announced."""
        return False

    def _move(self, move: Move, expectation: Expectation) -> MkisodError | None:
        if self._archive.refuses and not self._is_repaired():
            raise Permanent(Code.MOVE_FAILED, "The archive does not move.")
        for uid in sorted(expectation.missing - self._archive.withheld):
            if uid.startswith(move.study_instance_uid + "."):
                self._meanwhile()
                if self._is_interrupted():
                    raise Interrupted
                self._send(uid, expectation)
                self._report(expectation)
        return None

    def _send(self, uid: str, expectation: Expectation) -> None:
        study_uid, _, number = uid.rpartition(".")[0].rpartition(".")
        data = next(study[uid] for study in STUDIES.values() if uid in study)
        header = Header("1.2.840.10008.5.1.4.1.1.2", uid, study_uid, f"{study_uid}.{number}", "A1", "CT", PATIENT)
        offer = Offer(header.sop_class_uid, uid, "1.2.840.10008.1.2.1", header, "ARCHIVE", "127.0.0.1")
        arrival = self._expectations.admit(offer)
        directory = expectation.objects.path(uid).parent
        assert arrival.fd is not None
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            os.write(arrival.fd, part)
            self._notice(directory)
        arrival.commit(len(data))


# --- A destination -----------------------------------------------------------------------------------------------------------------


@frozen
class Destination:
    """It is away before `up_at`, and never takes what it `refuses`."""

    up_at: datetime | None = None
    refuses: frozenset[str] = frozenset()


class Sending:
    """Stands for the `Sender` of pacs.forward. `deliver` is told what the destination has taken, before it is said."""

    def __init__(
        self,
        *_: object,
        destination: Destination,
        now: Callable[[], datetime],
        meanwhile: Callable[[], None],
        deliver: Callable[[str], None],
    ) -> None:
        self._destination = destination
        self._now = now
        self._meanwhile = meanwhile
        self._deliver = deliver
        self._interrupted = False

    def interrupt(self) -> None:
        self._interrupted = True

    def send(self, instances: Iterable[StoredInstance]) -> Iterator[Sent]:
        if self._destination.up_at is not None and self._now() < self._destination.up_at:
            raise Transient(Code.PACS_UNREACHABLE, "The destination is away.")
        for instance in instances:
            self._meanwhile()
            if self._interrupted:
                raise ConnectionInterrupted
            if instance.sop_instance_uid in self._destination.refuses:
                yield Sent(instance, Outcome.FAILED, 0xC000, "the destination answered with DIMSE status C000H")
            else:
                self._deliver(instance.sop_instance_uid)
                yield Sent(instance, Outcome.SENT, 0)


# --- The media room ----------------------------------------------------------------------------------------------------------------


def make_files(instances: Iterable[bytes]) -> dict[str, bytes]:
    """What a small disc holds, by path: each instance, and an image of them all."""
    ordered = sorted(instances)
    tree = {f"DISC/{number}": data for number, data in enumerate(ordered, 1)}
    return {**tree, "DISC.ISO": b"ISO" + b"".join(ordered)}


def build_small_disc(
    order: DiscOrder,
    objects: Iterable[Path],
    directory: Path,
    *,
    report_progress: Callable[[int, int], None],
    notice: Callable[[Path], None],
    **_: Any,
) -> Disc:
    """As the real one, it links the objects into a tree and writes an image beside it."""
    paths = {path.read_bytes(): path for path in objects}
    files = make_files(paths)
    (directory / "DISC").mkdir()
    for name, data in files.items():
        report_progress(1, 2)
        path = directory / name
        if data in paths:
            os.link(paths[data], path)
        else:
            path.write_bytes(data[:7])
            notice(directory)
            path.write_bytes(data)
        notice(directory)
    image = files["DISC.ISO"]
    volume = Volume(order.file_set_id, "DISC", "DISC.ISO", None, hashlib.sha256(image).hexdigest(), len(image), len(paths), None)
    return Disc((volume,), (), ())
