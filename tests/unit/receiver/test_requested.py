"""What a requestor writes and reads, held against pynetdicom, against our own acceptor's codecs, and against any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_RQ, A_RELEASE_RQ

from mkisod.pacs import pdu
from mkisod.pacs.command import C_STORE_RQ, decode_command, encode_store_request
from mkisod.pacs.part10 import InvalidFileMeta, decode_file_meta, encode_file_meta, is_part10, measure_file_meta
from mkisod.pacs.pdu import ContextResult, InvalidPdu, ProposedContext, RoleSelection
from mkisod.pacs.requested import (
    decode_associate_acceptance,
    decode_associate_rejection,
    encode_associate_request,
    encode_release_request,
)
from tests.receiver.client import CT_IMAGE_STORAGE, EXPLICIT_LE, IMPLICIT_LE

PROPOSED = [ProposedContext(2 * number + 1, CT_IMAGE_STORAGE, (EXPLICIT_LE if number % 2 else IMPLICIT_LE,)) for number in range(128)]
REQUEST = encode_associate_request("DESTINATION", "CDRECORD", PROPOSED, max_length_bytes=65536)


def accept(results: list[ContextResult], max_length_bytes: int = 16384) -> bytes:
    return pdu.encode_associate_accept(
        pdu.decode_associate_request(REQUEST[6:]),
        results,
        [RoleSelection(CT_IMAGE_STORAGE, scu=True, scp=False)],
        max_length_bytes=max_length_bytes,
        implementation_class_uid="1.2.3",
        implementation_version_name="PEER",
    )[6:]


def test_a_request_is_what_pynetdicom_and_our_acceptor_take_it_for() -> None:
    theirs = A_ASSOCIATE_RQ()
    theirs.decode(REQUEST)
    assert (theirs.called_ae_title, theirs.calling_ae_title) == ("DESTINATION", "CDRECORD")
    assert [(c.context_id, c.abstract_syntax, tuple(c.transfer_syntax)) for c in theirs.presentation_context] == [
        (c.context_id, c.abstract_syntax_uid, c.transfer_syntax_uids) for c in PROPOSED
    ]
    assert theirs.user_information is not None
    assert theirs.user_information.maximum_length == 65536
    ours = pdu.decode_associate_request(REQUEST[6:])
    assert ours.contexts == tuple(PROPOSED)
    assert ours.implementation.endswith("MKISOD")


def test_a_release_request() -> None:
    theirs = A_RELEASE_RQ()
    theirs.decode(encode_release_request())
    assert theirs.encode() == encode_release_request()


def test_only_what_was_proposed_is_accepted() -> None:
    good = ContextResult(1, 0, CT_IMAGE_STORAGE, IMPLICIT_LE)
    others = [
        ContextResult(3, 3, CT_IMAGE_STORAGE, EXPLICIT_LE),  # abstract syntax not supported
        ContextResult(5, 0, CT_IMAGE_STORAGE, EXPLICIT_LE),  # another transfer syntax than was proposed
        ContextResult(2, 0, CT_IMAGE_STORAGE, IMPLICIT_LE),  # an ID that nobody proposed
    ]
    acceptance = decode_associate_acceptance(accept([good, *others], 0), PROPOSED)
    assert acceptance.contexts == {1: good}
    assert acceptance.max_length_bytes == 0
    assert acceptance.implementation == "1.2.3 PEER"


ACCEPTANCE = accept([ContextResult(1, 0, CT_IMAGE_STORAGE, IMPLICIT_LE)])


@given(st.binary(max_size=200), st.integers(0, len(ACCEPTANCE)), st.integers(0, len(ACCEPTANCE)))
def test_damaged_answers_are_refused_or_accept_less(noise: bytes, start: int, end: int) -> None:
    try:
        acceptance = decode_associate_acceptance(ACCEPTANCE[:start] + noise + ACCEPTANCE[end:], PROPOSED)
    except InvalidPdu:
        return
    for context_id, result in acceptance.contexts.items():
        (proposed,) = [context for context in PROPOSED if context.context_id == context_id]
        assert result.transfer_syntax_uid in proposed.transfer_syntax_uids


def test_a_rejection() -> None:
    assert decode_associate_rejection(pdu.encode_associate_reject(1, 2, 3)[6:]) == (1, 2, 3)
    with pytest.raises(InvalidPdu):
        decode_associate_rejection(b"\0\1")


def test_a_store_request_is_read_back() -> None:
    command = decode_command(encode_store_request(CT_IMAGE_STORAGE, "2.25.1", 7))
    assert (command.field, command.message_id, command.has_data_set) == (C_STORE_RQ, 7, True)
    assert (command.sop_class_uid, command.sop_instance_uid, command.dimse_status) == (CT_IMAGE_STORAGE, "2.25.1", None)


META = encode_file_meta(CT_IMAGE_STORAGE, "2.25.1", EXPLICIT_LE, "AE")


def test_file_meta_information_is_read_back() -> None:
    assert is_part10(META)
    assert measure_file_meta(META + b"data") == len(META)
    values = decode_file_meta(META)
    assert {element: values[element].rstrip(b"\0 ").decode() for element in (2, 3, 0x10, 0x16)} == {
        2: CT_IMAGE_STORAGE,
        3: "2.25.1",
        0x10: EXPLICIT_LE,
        0x16: "AE",
    }


@given(st.binary(max_size=200), st.integers(132, len(META)), st.integers(132, len(META)))
def test_damaged_file_meta_information_is_read_or_refused(noise: bytes, start: int, end: int) -> None:
    damaged = META[:start] + noise + META[end:]
    try:
        decode_file_meta(damaged[: measure_file_meta(damaged)])
    except InvalidFileMeta:
        return
