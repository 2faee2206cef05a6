"""The states of PS3.8 Table 9-10 that an acceptor has, event by event: the table in mkisod/pacs/association.py, held against raw bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from mkisod.pacs.receiver import Receiver
from tests.integration.receiver.conftest import Instance
from tests.processes import wait_for
from tests.receiver.client import Client, encode_associate_rq, encode_echo_rq, encode_message, encode_pdu, encode_pdv, encode_store_rq
from tests.receiver.directory import DirectoryReception
from tests.receiver.journal import Journal

USER, PROVIDER = 0, 2
UNRECOGNIZED, UNEXPECTED, INVALID = 1, 2, 6
RELEASE_RQ, RELEASE_RP, ABORT = encode_pdu(5, bytes(4)), encode_pdu(6, bytes(4)), encode_pdu(7, bytes(4))


# --- Sta2: awaiting an A-ASSOCIATE-RQ ---


def test_sta2_association_is_accepted_and_released(client: Client, receiver: Receiver) -> None:
    accept = client.associate()
    assert [context.result for context in accept.presentation_context] == [0, 0]
    assert receiver.associations == 1
    client.release()
    client.socket.close()
    wait_for(lambda: receiver.associations == 0, 10, "the association to be over")


NOT_A_REQUEST = {
    "associate_ac": encode_pdu(2, bytes(68)),
    "associate_rj": encode_pdu(3, bytes(4)),
    "p_data": encode_message(1, encode_echo_rq()),
    "release_rq": RELEASE_RQ,
    "release_rp": RELEASE_RP,
    "unrecognized": encode_pdu(0x42, b"x"),
    "no_items": encode_pdu(1, bytes(68)),
    "cut_short": encode_pdu(1, bytes(20)),
    "item_too_long": encode_pdu(1, encode_associate_rq()[6:80] + b"\x10\x00\xff\xff"),
    "too_large": encode_pdu(1, b"", length=(1 << 20) + 1),
    "4_gib": encode_pdu(1, b"", length=0xFFFFFFFF),
    "http": b"GET / HTTP/1.1\r\nHost: mkisod\r\n\r\n",
    "tls_hello": bytes.fromhex("16030100c8010000c40303") + bytes(189),
}


@pytest.mark.parametrize("sent", NOT_A_REQUEST.values(), ids=NOT_A_REQUEST.keys())
def test_sta2_aa1_anything_else_is_aborted(client: Client, sent: bytes, receiver: Receiver) -> None:
    client.send(sent)
    assert client.abort() == (USER, 0)
    client.socket.close()
    assert receiver.associations == 0


def test_sta2_aa2_abort_just_closes(client: Client) -> None:
    client.send(ABORT)
    assert client.pdu() is None


@pytest.mark.parametrize("sent", [b"", encode_associate_rq()[:40]], ids=["silent", "half_a_pdu"])
def test_sta2_aa2_artim_expires(run_receiver: Callable[..., Receiver], sent: bytes) -> None:
    with Client(run_receiver(artim_s=0.2).address) as client:
        client.send(sent)
        assert client.pdu() is None  # closed, without an A-ABORT


def test_sta2_artim_is_for_all_of_the_request_not_for_each_byte(run_receiver: Callable[..., Receiver], journal: Journal) -> None:
    with Client(run_receiver(artim_s=0.5).address) as client:
        request = iter(encode_associate_rq())

        def send_one_more() -> bool:
            try:
                client.send(bytes([next(request)]))
            except (BrokenPipeError, ConnectionResetError):
                return True
            return False

        wait_for(send_one_more, 10, "the receiver to lose patience")  # 20 ms a byte: it would take 5 s
    assert journal.named("association_aborted")[0]["why"] == "timeout"


def test_sta2_aa5_a_health_check_leaves_no_trace(receiver: Receiver, journal: Journal) -> None:
    for _ in range(20):
        Client(receiver.address).socket.close()
    with Client(receiver.address) as client:  # connections are accepted in order: the twenty are through
        client.associate()
        client.release()
    assert {event["event"] for event in journal.events} == {"receiver_bound", "association_accepted", "association_released"}


# --- Sta6: data transfer ---


def test_sta6_echo(client: Client) -> None:
    client.associate()
    for message_id in (1, 65535):
        client.send(encode_message(3, encode_echo_rq(message_id)))
        response = client.response()
        assert (response.CommandField, response.MessageIDBeingRespondedTo, response.Status) == (0x8030, message_id, 0)
    client.release()


def associated(client: Client) -> Client:
    client.associate()
    return client


@pytest.mark.parametrize("sent", [encode_associate_rq(), encode_pdu(2, bytes(68)), encode_pdu(3, bytes(4)), RELEASE_RP], ids=str)
def test_sta6_aa8_unexpected_pdu(client: Client, sent: bytes) -> None:
    associated(client).send(sent)
    assert client.abort() == (PROVIDER, UNEXPECTED)


@pytest.mark.parametrize("pdu_type", [0, 8, 0x47, 0xFF])
def test_sta6_aa8_unrecognized_pdu(client: Client, pdu_type: int) -> None:
    associated(client).send(encode_pdu(pdu_type, bytes(4)))
    assert client.abort() == (PROVIDER, UNRECOGNIZED)


INVALID_PDUS = {
    "longer_than_announced": encode_pdu(4, b"", length=131073),
    "4_gib": encode_pdu(4, b"", length=0xFFFFFFFF),
    "pdv_header_cut_short": encode_pdu(4, b"\0\0\0"),
    "pdv_without_header": encode_pdu(4, struct.pack(">I", 1) + b"\1\0\0"),
    "pdv_of_nothing": encode_pdu(4, struct.pack(">I", 0) + b"\1\3"),
    "pdv_longer_than_its_pdu": encode_pdu(4, encode_pdv(1, 3, b"abcd", length=100)),
    "release_of_wrong_length": encode_pdu(5, bytes(6)),
    "abort_of_wrong_length": encode_pdu(7, b""),
}


@pytest.mark.parametrize("sent", INVALID_PDUS.values(), ids=INVALID_PDUS.keys())
def test_sta6_aa8_invalid_pdu(client: Client, sent: bytes) -> None:
    associated(client).send(sent)
    assert client.abort() == (PROVIDER, INVALID)


def test_sta6_the_longest_pdu_that_was_announced_is_taken(client: Client, ct: Instance, reception: DirectoryReception) -> None:
    data_set = ct.data_set + bytes(300_000)  # data set trailing padding is not looked at
    client.associate()
    command = encode_store_rq(ct.sop_class_uid, ct.sop_instance_uid)
    client.send(encode_message(1, command, data_set, fragment_bytes=131072 - 6))
    assert client.response().Status == 0
    assert reception.files[0].read_bytes().endswith(data_set)


ECHO_RESPONSE = encode_echo_rq().replace(b"\0\0\x10\x01\x02", b"\0\0\x20\x01\x02").replace(b"\x02\0\0\0\x30\0", b"\x02\0\0\0\x30\x80")
VIOLATIONS = {
    "context 99 was not accepted": encode_message(99, encode_echo_rq()),
    "without its command": encode_pdu(4, encode_pdv(1, 2, b"x")),
    "changes its presentation context": encode_message(1, encode_store_rq("1.2", "1.2.3")) + encode_pdu(4, encode_pdv(3, 2, b"x")),
    "a command where a data set was to come": encode_message(1, encode_store_rq("1.2", "1.2.3")) + encode_message(1, encode_echo_rq()),
    "(FFFF,FFFF) does not belong": encode_message(1, b"\xff" * 64),
    "is cut short": encode_message(1, encode_echo_rq()[:-3]),
    "lacks Command Field, Message ID": encode_message(1, struct.pack("<HHIH", 0, 0x100, 2, 1)),
    "is too long": b"".join(encode_pdu(4, encode_pdv(1, 1, bytes(16000))) for _ in range(2)),
    "a response to nothing": encode_message(1, ECHO_RESPONSE),
}


@pytest.mark.parametrize("why", VIOLATIONS)
def test_sta6_messages_against_ps3_7_are_aborted_by_the_user(client: Client, why: str, journal: Journal) -> None:
    associated(client).send(VIOLATIONS[why])
    assert client.abort() == (USER, 0)
    assert why in journal.named("association_aborted")[0]["why"]


def test_sta6_aa3_abort_in_mid_instance_leaves_nothing(client: Client, ct: Instance, reception: DirectoryReception) -> None:
    begin_instance(client, ct, reception)
    client.send(ABORT)
    assert client.pdu() is None
    wait_for(lambda: not reception.files, 10, "the half file to go")


def test_sta6_aa4_connection_cut_in_mid_instance_leaves_nothing(client: Client, ct: Instance, reception: DirectoryReception) -> None:
    begin_instance(client, ct, reception)
    client.socket.close()
    wait_for(lambda: not reception.files, 10, "the half file to go")


def test_sta6_ar2_release_in_mid_instance_is_answered_and_leaves_nothing(
    client: Client, ct: Instance, reception: DirectoryReception
) -> None:
    begin_instance(client, ct, reception)
    client.release()
    wait_for(lambda: not reception.files, 10, "the half file to go")


def test_sta6_idle_association_is_aborted(run_receiver: Callable[..., Receiver]) -> None:
    with Client(run_receiver(idle_timeout_s=0.2).address) as client:
        client.associate()
        assert client.abort() == (USER, 0)


def begin_instance(client: Client, ct: Instance, reception: DirectoryReception) -> None:
    """Sends all but the end of an instance, and waits until some of it lies in a file."""
    client.associate()
    client.send(encode_message(1, encode_store_rq(ct.sop_class_uid, ct.sop_instance_uid)))
    client.send(encode_pdu(4, encode_pdv(1, 0, ct.data_set)))
    wait_for(lambda: reception.files and reception.files[0].stat().st_size, 10, "a part of the instance")


# --- Sta13: awaiting the end of the connection ---


def test_sta13_aa6_what_comes_after_the_release_is_ignored(client: Client) -> None:
    associated(client).release()
    client.send(encode_message(3, encode_echo_rq()) + RELEASE_RQ + RELEASE_RP)
    client.send(ABORT)  # AA-2
    assert client.pdu() is None


@pytest.mark.parametrize("sent", [encode_associate_rq(), encode_pdu(0x42, b"x")], ids=["associate_rq", "unrecognized"])
def test_sta13_aa7_a_new_request_after_the_release_is_aborted(client: Client, sent: bytes) -> None:
    associated(client).release()
    client.send(sent)
    assert client.abort() == (PROVIDER, UNEXPECTED)


def test_sta13_ar5_artim_closes_what_the_other_side_does_not(run_receiver: Callable[..., Receiver]) -> None:
    receiver = run_receiver(artim_s=0.2)
    with Client(receiver.address) as client:
        client.associate()
        client.release()
        assert client.pdu() is None


def test_sta13_no_longer_counts_as_an_association(client: Client, receiver: Receiver) -> None:
    associated(client).release()
    wait_for(lambda: receiver.associations == 0, 10, "the association to be over")


def test_sta13_after_an_abort_it_is_drained_so_that_the_abort_arrives(client: Client) -> None:
    """Closing with bytes unread would reset the connection, and the other side might never see why."""
    client.associate()
    client.send(encode_pdu(4, bytes(1_000_000), length=131073))
    assert client.abort() == (PROVIDER, INVALID)
    for _ in range(5):
        client.send(bytes(1_000_000))  # a connection that was closed would be reset
