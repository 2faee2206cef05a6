"""What becomes of an instance: the file, the offer, and the DIMSE status of the response."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest

from mkisod.job.patient import PatientIdentity
from mkisod.pacs.receiver import Receiver
from mkisod.pacs.reception import Offer, Refusal
from tests.integration.receiver.conftest import Instance
from tests.processes import wait_for
from tests.receiver.client import (
    CT_IMAGE_STORAGE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    Client,
    encode_echo_rq,
    encode_message,
    encode_pdu,
    encode_pdv,
    encode_store_rq,
    read_data_set,
)
from tests.receiver.directory import DirectoryArrival, DirectoryReception
from tests.receiver.journal import Journal


def test_the_file_is_file_meta_and_the_data_set_as_it_came(client: Client, ct: Instance, reception: DirectoryReception) -> None:
    client.associate(calling="MODALITY")
    response = client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set, message_id=77)
    assert (response.CommandField, response.MessageIDBeingRespondedTo, response.Status) == (0x8001, 77, 0)
    assert (response.AffectedSOPClassUID, response.AffectedSOPInstanceUID) == (ct.sop_class_uid, ct.sop_instance_uid)
    (path,) = reception.files
    assert read_data_set(path) == ct.data_set
    assert reception.arrivals[0].size_bytes == path.stat().st_size
    meta = pydicom.dcmread(path).file_meta
    assert meta.MediaStorageSOPInstanceUID == ct.sop_instance_uid
    assert (meta.TransferSyntaxUID, meta.SourceApplicationEntityTitle) == (EXPLICIT_LE, "MODALITY")
    assert meta.ImplementationClassUID.is_valid


def test_the_offer_says_what_the_header_and_the_command_say(client: Client, ct: Instance, reception: DirectoryReception) -> None:
    client.associate(calling="MODALITY")
    more: dict[str, Any] = {"MoveOriginatorApplicationEntityTitle": "CDRECORD", "MoveOriginatorMessageID": 9}
    assert client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set, **more).Status == 0
    (offer,) = reception.offers
    assert (offer.calling_ae_title, offer.peer) == ("MODALITY", "127.0.0.1")
    assert (offer.move_originator_ae_title, offer.move_originator_message_id) == ("CDRECORD", 9)
    assert offer.header.patient == PatientIdentity(patient_id="1CT1", name="CompressedSamples^CT1")
    assert offer.header.study_instance_uid == "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"


@pytest.mark.parametrize("fragment_bytes", [1, 2, 7, 1000, 131066])
def test_any_fragmentation_gives_the_same_file(client: Client, ct: Instance, reception: DirectoryReception, fragment_bytes: int) -> None:
    client.associate()
    command = encode_store_rq(ct.sop_class_uid, ct.sop_instance_uid)
    client.send(encode_message(1, command, ct.data_set, fragment_bytes))
    assert client.response().Status == 0
    assert read_data_set(reception.files[0]) == ct.data_set
    assert reception.offers[0].header.modality == "CT"


def test_several_fragments_in_one_pdu_and_a_command_in_several(client: Client, ct: Instance, reception: DirectoryReception) -> None:
    client.associate()
    command = encode_store_rq(ct.sop_class_uid, ct.sop_instance_uid)
    pdvs = [encode_pdv(1, 1, command[:20]), encode_pdv(1, 1, b""), encode_pdv(1, 3, command[20:])]
    pdvs += [encode_pdv(1, 0, ct.data_set[:5000]), encode_pdv(1, 0, ct.data_set[5000:]), encode_pdv(1, 2, b"")]
    client.send(encode_pdu(4, b"".join(pdvs)))
    assert client.response().Status == 0
    assert read_data_set(reception.files[0]) == ct.data_set


def test_the_same_sop_instance_uid_twice_is_offered_twice(client: Client, ct: Instance, reception: DirectoryReception) -> None:
    client.associate()
    for _ in range(2):
        assert client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set).Status == 0
    assert [offer.sop_instance_uid for offer in reception.offers] == [ct.sop_instance_uid] * 2


# --- Instances that are not taken ---


@pytest.mark.parametrize(
    ("uids", "dimse_status"),
    [
        ((CT_IMAGE_STORAGE, "1.2.3"), 0xA900),
        (("1.2.840.10008.5.1.4.1.1.4", None), 0xA900),
        (("1.2.840.10008.5.1.4.1.2.2.1", None), 0x0122),
        (("", None), 0x0122),
        ((CT_IMAGE_STORAGE, ""), 0x0117),
        ((CT_IMAGE_STORAGE, "1.2.letters"), 0x0117),
        ((CT_IMAGE_STORAGE, "1." * 99 + "1"), 0x0117),
        ((CT_IMAGE_STORAGE, "../../../../etc/cron.d/x"), 0x0117),
        ((CT_IMAGE_STORAGE, ".."), 0x0117),
        ((CT_IMAGE_STORAGE, "1.2\0.3"), 0x0117),
    ],
    ids=["instance", "class", "no_storage", "no_class", "no_instance", "letters", "200_characters", "path", "dots", "zero"],
)
def test_uids_that_contradict_or_are_none(
    client: Client, ct: Instance, reception: DirectoryReception, uids: tuple[str, str | None], dimse_status: int
) -> None:
    client.associate()
    sop_class_uid, sop_instance_uid = uids[0], ct.sop_instance_uid if uids[1] is None else uids[1]
    assert client.store(sop_class_uid, sop_instance_uid, ct.data_set).Status == dimse_status
    assert not reception.offers
    assert not reception.files
    assert client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set).Status == 0  # the association goes on


@pytest.mark.parametrize("data_set", [b"", b"\0", b"a lot of garbage" * 1000, bytes(3 << 20)], ids=["empty", "byte", "text", "zeros"])
def test_data_sets_without_the_uids_promised(client: Client, ct: Instance, reception: DirectoryReception, data_set: bytes) -> None:
    client.associate()
    client.send(encode_message(1, encode_store_rq(ct.sop_class_uid, ct.sop_instance_uid)))
    for start in range(0, len(data_set), 100_000):
        client.send(encode_pdu(4, encode_pdv(1, 0, data_set[start : start + 100_000])))
    client.send(encode_pdu(4, encode_pdv(1, 2, b"")))
    assert client.response().Status == 0xA900
    assert not reception.offers


def test_a_store_without_a_data_set(client: Client, ct: Instance) -> None:
    client.associate()
    command = encode_store_rq(ct.sop_class_uid, ct.sop_instance_uid).replace(b"\0\x08\x02\0\0\0\x01\0", b"\0\x08\x02\0\0\0\x01\x01")
    client.send(encode_message(1, command))
    assert client.response().Status == 0xA900


def test_a_store_on_verification(client: Client, ct: Instance) -> None:
    client.associate()
    assert client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set, context_id=3).Status == 0x0122


def test_the_header_is_looked_for_in_the_first_mebibyte_only(client: Client, ct: Instance, reception: DirectoryReception) -> None:
    """What is needed lies at the front; what is behind a large private element is not waited for."""
    front = ct.data_set[: ct.data_set.index(b"\x10\0\x10\0PN")]
    large = struct.pack("<HH2sHI", 0x0009, 0x1101, b"OB", 0, 2 << 20) + bytes(2 << 20)
    data_set = front + large + ct.data_set[len(front) :]
    client.associate()
    client.send(encode_message(1, encode_store_rq(ct.sop_class_uid, ct.sop_instance_uid), data_set))
    assert client.response().Status == 0
    assert reception.offers[0].header.study_instance_uid == ""
    assert read_data_set(reception.files[0]) == data_set


class Judge:
    """A reception that does what a test says."""

    def __init__(self, admit: Callable[[Offer], Any]) -> None:
        self.admit = admit


def test_a_refusal_is_answered_with_its_status_and_comment(run_receiver: Callable[..., Receiver], ct: Instance) -> None:
    def refuse(_offer: Offer) -> None:
        raise Refusal(0x0124, "nobody expects it")

    with Client(run_receiver(Judge(refuse)).address) as client:
        client.associate()
        for _ in range(2):
            response = client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set)
            assert (response.Status, response.ErrorComment) == (0x0124, "nobody expects it")
        client.release()


def test_what_nobody_wants_is_read_and_answered_with_success(run_receiver: Callable[..., Receiver], ct: Instance) -> None:
    class Unwanted:
        fd = None
        committed = 0

        def commit(self, size_bytes: int) -> None:
            self.committed = size_bytes

        def abort(self, error: OSError | None = None) -> None:  # noqa: ARG002 - the protocol
            raise AssertionError

    unwanted = Unwanted()
    with Client(run_receiver(Judge(lambda _offer: unwanted)).address) as client:
        client.associate()
        assert client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set).Status == 0
    assert unwanted.committed > len(ct.data_set)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EIO])
def test_what_the_system_denies_is_out_of_resources(run_receiver: Callable[..., Receiver], ct: Instance, number: int) -> None:
    def deny(_offer: Offer) -> None:
        raise OSError(number, os.strerror(number))

    with Client(run_receiver(Judge(deny)).address) as client:
        client.associate()
        assert client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set).Status == 0xA700


def test_refused_at_the_end(run_receiver: Callable[..., Receiver], ct: Instance, reception: DirectoryReception) -> None:
    class Late(DirectoryArrival):
        def commit(self, _size_bytes: int) -> None:
            self.abort()
            raise Refusal(0x0111, "duplicate")

    with Client(run_receiver(Judge(lambda _offer: Late(str(reception.directory), 1))).address) as client:
        client.associate()
        assert client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set).Status == 0x0111
    assert not reception.files


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 200 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["/usr/bin/mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["/usr/bin/umount", "--lazy", disk], check=True)


def test_a_disk_that_fills_and_has_room_again(run_receiver: Callable[..., Receiver], small_disk: Path, ct: Instance) -> None:
    reception = DirectoryReception(small_disk)
    with Client(run_receiver(reception).address) as client:
        client.associate()
        large = ct.data_set + bytes(400_000)
        for _ in range(2):
            response = client.store(ct.sop_class_uid, ct.sop_instance_uid, large)
            assert (response.Status, response.ErrorComment) == (0xA700, "cannot store: No space left on device")
            assert not reception.files, "room is not given back"
        assert client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set).Status == 0
        assert read_data_set(reception.files[0]) == ct.data_set


# --- Requests that are neither C-STORE nor C-ECHO, and defects of ours ---


@pytest.mark.parametrize("field", [0x0010, 0x0020, 0x0021, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150, 0x0042])
@pytest.mark.parametrize("data_set", [b"", b"an identifier"], ids=["without", "with_data_set"])
def test_other_operations_are_unrecognized(client: Client, field: int, data_set: bytes, ct: Instance) -> None:
    client.associate()
    elements = [(0x0002, b"1.2\0"), (0x0100, struct.pack("<H", field)), (0x0110, b"\5\0"), (0x0800, b"\0\0" if data_set else b"\1\1")]
    client.send(encode_message(1, b"".join(struct.pack("<HHI", 0, element, len(value)) + value for element, value in elements), data_set))
    response = client.response()
    assert (response.CommandField, response.Status, response.MessageIDBeingRespondedTo) == (field | 0x8000, 0x0211, 5)
    assert client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set).Status == 0


def test_a_cancellation_has_no_response(client: Client) -> None:
    client.associate()
    elements = [(0x0100, b"\xff\x0f"), (0x0120, b"\1\0"), (0x0800, b"\1\1")]
    cancel = b"".join(struct.pack("<HHI", 0, element, len(value)) + value for element, value in elements)
    client.send(encode_message(1, cancel) + encode_message(3, encode_echo_rq(8)))
    assert client.response().MessageIDBeingRespondedTo == 8


def test_a_defect_of_ours_ends_one_association_and_no_other(
    run_receiver: Callable[..., Receiver], ct: Instance, reception: DirectoryReception, journal: Journal
) -> None:
    def fail_first(offer: Offer) -> DirectoryArrival:
        if not journal.named("association_failed"):
            raise ZeroDivisionError
        return reception.admit(offer)

    receiver = run_receiver(Judge(fail_first))
    with Client(receiver.address) as bystander, Client(receiver.address) as victim:
        bystander.associate()
        victim.associate()
        victim.send(encode_message(1, encode_store_rq(ct.sop_class_uid, ct.sop_instance_uid), ct.data_set))
        assert victim.abort() == (0, 0)
        assert bystander.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set).Status == 0
    assert not receiver.failed.is_set()
    assert journal.named("association_failed")[0]["exc_info"]


@pytest.mark.parametrize("place", ["commit", "abort"])
def test_a_defect_of_the_reception_leaks_no_association(
    run_receiver: Callable[..., Receiver], ct: Instance, reception: DirectoryReception, place: str, journal: Journal
) -> None:
    class Defective(DirectoryArrival):
        def commit(self, size_bytes: int) -> None:
            if place == "commit":
                super().abort()
                raise ZeroDivisionError
            super().commit(size_bytes)

        def abort(self, error: OSError | None = None) -> None:
            super().abort(error)
            if place == "abort":
                raise ZeroDivisionError

    receiver = run_receiver(Judge(lambda _offer: Defective(str(reception.directory), 1)))
    with Client(receiver.address) as client:
        client.associate()
        client.send(encode_message(1, encode_store_rq(ct.sop_class_uid, ct.sop_instance_uid)))
        client.send(encode_pdu(4, encode_pdv(1, 2 if place == "commit" else 0, ct.data_set)))
        if place == "commit":
            assert client.abort() == (0, 0)
        else:
            wait_for(lambda: reception.files, 10, "the instance to begin")
    wait_for(lambda: receiver.associations == 0, 10, "the association to be over")
    wait_for(lambda: journal.named("association_failed"), 10, "the report of it")
    assert not reception.files


def test_no_patient_is_named_in_the_journal(
    run_receiver: Callable[..., Receiver], ct: Instance, small_disk: Path, journal: Journal
) -> None:
    with Client(run_receiver(DirectoryReception(small_disk)).address) as client:
        client.associate()
        client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set)
        client.store(ct.sop_class_uid, "1.2.3", ct.data_set)
        client.store(ct.sop_class_uid, ct.sop_instance_uid, ct.data_set + bytes(400_000))
        client.send(b"garbage")
        client.abort()
    assert len(journal.events) >= 5
    for private in ("CompressedSamples", "1CT1"):
        assert private not in str(journal.events)


def test_implicit_vr_is_written_as_such(receiver: Receiver, reception: DirectoryReception, ct: Instance) -> None:
    data_set = pydicom.dcmread(ct.path)
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, data_set, implicit_vr=True, little_endian=True, force_encoding=True, enforce_file_format=False)
    implicit = buffer.getvalue()
    implicit = implicit[implicit.index(struct.pack("<HHI", 8, 5, 10)) :]
    with Client(receiver.address) as client:
        client.associate([(CT_IMAGE_STORAGE, [IMPLICIT_LE])])
        assert client.store(ct.sop_class_uid, ct.sop_instance_uid, implicit).Status == 0
    assert reception.offers[0].header.patient.patient_id == "1CT1"
    assert pydicom.dcmread(reception.files[0]).file_meta.TransferSyntaxUID == IMPLICIT_LE
