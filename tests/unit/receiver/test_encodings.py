"""PDUs, command sets and File Meta Information, held against pynetdicom and pydicom, which know nothing of ours."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pynetdicom.dsutils import decode
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_RELEASE_RP

from mkisod.pacs import pdu
from mkisod.pacs.command import Command, InvalidCommand, decode_command, encode_response
from mkisod.pacs.part10 import encode_file_meta
from mkisod.pacs.pdu import ContextResult, InvalidPdu, RoleSelection, decode_associate_request
from tests.receiver.client import CT_IMAGE_STORAGE, EXPLICIT_LE, IMPLICIT_LE, encode_associate_rq, encode_echo_rq, encode_store_rq

REQUEST = encode_associate_rq([(CT_IMAGE_STORAGE, [EXPLICIT_LE, IMPLICIT_LE])] * 128, calling="MODALITY", max_length_bytes=0)


def test_associate_request() -> None:
    request = decode_associate_request(REQUEST[6:])
    assert (request.called_ae_title, request.calling_ae_title, request.max_length_bytes) == ("CDRECORD", "MODALITY", 0)
    assert len(request.contexts) == 128
    assert request.contexts[-1].context_id == 255
    assert request.contexts[-1].transfer_syntax_uids == (EXPLICIT_LE, IMPLICIT_LE)


def test_associate_accept() -> None:
    request = decode_associate_request(REQUEST[6:])
    results = [ContextResult(context.context_id, 0, CT_IMAGE_STORAGE, EXPLICIT_LE) for context in request.contexts]
    encoded = pdu.encode_associate_accept(
        request,
        results,
        [RoleSelection(CT_IMAGE_STORAGE, scu=True, scp=False)],
        max_length_bytes=131072,
        implementation_class_uid="1.2.3",
        implementation_version_name="MKISOD",
    )
    accept = A_ASSOCIATE_AC()
    accept.decode(encoded)
    assert accept.encode() == encoded
    assert accept.user_information is not None
    assert accept.user_information.maximum_length == 131072
    assert accept.user_information.implementation_version_name == "MKISOD"
    assert [context.transfer_syntax for context in accept.presentation_context] == [EXPLICIT_LE] * 128


@pytest.mark.parametrize(
    ("encoded", "decoder"),
    [
        (pdu.encode_associate_reject(2, 3, 2), A_ASSOCIATE_RJ),
        (pdu.encode_release_response(), A_RELEASE_RP),
        (pdu.encode_abort(2, 6), A_ABORT_RQ),
    ],
)
def test_short_pdus(encoded: bytes, decoder: Any) -> None:
    decoded = decoder()
    decoded.decode(encoded)
    assert decoded.encode() == encoded


def test_no_prefix_of_a_request_is_taken_for_one_nor_fails_otherwise() -> None:
    body = encode_associate_rq()[6:]
    for size in range(len(body)):
        try:
            request = decode_associate_request(body[:size])
        except InvalidPdu:
            continue
        assert len(body) - size < 120, "items are missing"
        assert request.contexts


@given(st.binary(max_size=200))
def test_garbage_is_an_invalid_request(garbage: bytes) -> None:
    body = encode_associate_rq()[6:74] + garbage
    try:
        decode_associate_request(body)
    except InvalidPdu:
        return


@pytest.mark.parametrize("context_id", [0, 2, 254])
def test_even_context_ids_are_invalid(context_id: int) -> None:
    body = bytearray(encode_associate_rq([(CT_IMAGE_STORAGE, [EXPLICIT_LE])])[6:])
    body[body.index(b"\x20\0", 68) + 4] = context_id
    with pytest.raises(InvalidPdu):
        decode_associate_request(bytes(body))


def test_a_context_id_used_twice_is_invalid() -> None:
    body = encode_associate_rq()[6:]
    second = body.index(b"\x20\0", body.index(b"\x20\0", 68) + 4)
    with pytest.raises(InvalidPdu):
        decode_associate_request(body[: second + 4] + b"\1" + body[second + 5 :])


def test_titles_from_the_network_break_no_line_of_a_log() -> None:
    body = bytearray(encode_associate_rq()[6:])
    body[20:36] = b"A\r\nB\x1b[2J\xe4        "[:16].ljust(16)
    assert decode_associate_request(bytes(body)).calling_ae_title == r"A\r\nB\x1b[2J\xe4"


def test_store_request() -> None:
    more = {"MoveOriginatorApplicationEntityTitle": "CDRECORD", "MoveOriginatorMessageID": 4711}
    command = decode_command(encode_store_rq(CT_IMAGE_STORAGE, "1.2.3", 65535, **more))
    assert command == Command(1, 65535, True, CT_IMAGE_STORAGE, "1.2.3", "CDRECORD", 4711)
    assert decode_command(encode_echo_rq(7)) == Command(0x30, 7, False, "1.2.840.10008.1.1")


@pytest.mark.parametrize("comment", ["", "nobody expects it", "x" * 100, "größer"])
def test_response(comment: str) -> None:
    encoded = encode_response(Command(1, 9, True, CT_IMAGE_STORAGE, "1.2.3"), 0xA700, comment)
    decoded = decode(BytesIO(encoded), is_implicit_vr=True, is_little_endian=True)
    assert decoded.CommandGroupLength == len(encoded) - 12
    assert (decoded.CommandField, decoded.MessageIDBeingRespondedTo, decoded.CommandDataSetType) == (0x8001, 9, 0x0101)
    assert (decoded.Status, decoded.AffectedSOPInstanceUID) == (0xA700, "1.2.3")
    assert decoded.get("ErrorComment", "") == comment.replace("ö", "?").replace("ß", "?")[:64]


@given(st.binary(max_size=200))
def test_garbage_is_an_invalid_command(garbage: bytes) -> None:
    try:
        decode_command(garbage)
    except InvalidCommand:
        return


@pytest.mark.parametrize("title", ["", "A", "MODALITY"])
@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34"], ids=["odd", "even"])
def test_file_meta(title: str, uid: str) -> None:
    encoded = encode_file_meta(CT_IMAGE_STORAGE, uid, EXPLICIT_LE, title)
    meta = pydicom.dcmread(BytesIO(encoded)).file_meta
    assert meta.FileMetaInformationGroupLength == len(encoded) - 144
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID) == (CT_IMAGE_STORAGE, uid, EXPLICIT_LE)
    assert meta.ImplementationClassUID.is_valid
    assert meta.get("SourceApplicationEntityTitle", "") == title
    written = DicomBytesIO()
    write_file_meta_info(written, meta, enforce_standard=True)
    assert encoded[132:] == written.getvalue(), "pydicom pads and orders otherwise"
