"""Who gets an association, and with which presentation contexts: over the wire, decoded by pynetdicom."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from pydicom.uid import UID
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

from mkisod.pacs import receiver as receiver_module
from mkisod.pacs.receiver import Receiver
from tests.processes import wait_for
from tests.receiver.client import (
    CT_IMAGE_STORAGE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    Client,
    encode_associate_rq,
    encode_echo_rq,
    encode_message,
    encode_pdu,
)
from tests.receiver.journal import Journal

PERMANENT, TRANSIENT = 1, 2
BY_USER, BY_ACSE, BY_PRESENTATION = 1, 2, 3


@pytest.mark.parametrize(
    ("settings", "request_", "rejection"),
    [
        ({}, {"called": "OTHER"}, (PERMANENT, BY_USER, 7)),
        ({}, {"called": "cdrecord"}, (PERMANENT, BY_USER, 7)),
        ({"allowed_calling_ae_titles": ("ABPACS",)}, {"calling": "OTHER"}, (PERMANENT, BY_USER, 3)),
        ({"allowed_hosts": ("192.0.2.1", "10.0.0.0/8")}, {}, (PERMANENT, BY_USER, 1)),
        ({"max_associations": 0}, {}, (TRANSIENT, BY_PRESENTATION, 2)),
    ],
    ids=["called_ae_title", "called_ae_title_case", "calling_ae_title", "address", "number"],
)
def test_rejections(
    run_receiver: Callable[..., Receiver], settings: dict[str, Any], request_: dict[str, Any], rejection: tuple[int, int, int]
) -> None:
    with Client(run_receiver(**settings).address) as client:
        assert client.rejection(**request_) == rejection


def test_protocol_version_and_application_context_are_rejected_by_their_own_reasons(receiver: Receiver) -> None:
    request = encode_associate_rq()
    version = request[:6] + b"\0\2" + request[8:]
    context = request.replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.2")
    for sent, reason in ((version, (PERMANENT, BY_ACSE, 2)), (context, (PERMANENT, BY_USER, 2))):
        with Client(receiver.address) as client:
            client.send(sent)
            answer = client.pdu()
            assert answer is not None
            assert (answer[0], *answer[1][1:]) == (3, *reason)


@pytest.mark.parametrize(
    "settings",
    [
        {"allowed_calling_ae_titles": ("ABPACS", "TESTER")},
        {"allowed_hosts": ("127.0.0.1",)},
        {"allowed_hosts": ("192.0.2.1", "127.0.0.0/8")},
        {"allowed_hosts": ("localhost",)},
        {"host": "", "allowed_hosts": ("127.0.0.1",)},  # there the address is seen as ::ffff:127.0.0.1
    ],
    ids=str,
)
def test_those_who_are_allowed_get_in(run_receiver: Callable[..., Receiver], settings: dict[str, Any]) -> None:
    with Client(run_receiver(**settings).address) as client:
        client.associate()
        client.release()


def test_beyond_max_associations_is_rejected_until_one_ends(run_receiver: Callable[..., Receiver]) -> None:
    receiver = run_receiver(max_associations=2)
    with Client(receiver.address) as first, Client(receiver.address) as second:
        first.associate()
        second.associate()
        with Client(receiver.address) as third:
            assert third.rejection() == (TRANSIENT, BY_PRESENTATION, 2)
        first.release()
        wait_for(lambda: receiver.associations == 1, 10, "the first to be over")
        with Client(receiver.address) as fourth:
            fourth.associate()
            fourth.release()


def test_128_contexts_of_all_kinds(client: Client) -> None:
    lossy, lossless, jpip = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.94"
    kinds = [
        ((CT_IMAGE_STORAGE, [lossy, IMPLICIT_LE, EXPLICIT_LE]), (0, EXPLICIT_LE)),
        ((CT_IMAGE_STORAGE, [lossy, IMPLICIT_LE, lossless]), (0, lossless)),
        ((CT_IMAGE_STORAGE, [lossy]), (0, lossy)),
        ((CT_IMAGE_STORAGE, [jpip]), (4, None)),
        (("1.2.840.10008.5.1.4.1.2.2.1", [IMPLICIT_LE]), (3, None)),  # C-FIND
        (("1.2.826.0.1.3680043.2.1", [IMPLICIT_LE]), (0, IMPLICIT_LE)),  # private
        (("1.2.840.10008.5.1.1.30", [IMPLICIT_LE]), (0, IMPLICIT_LE)),  # retired: Hardcopy Color Image Storage
        (("1.2.840.10008.5.1.4.1.1.999", [IMPLICIT_LE]), (0, IMPLICIT_LE)),  # newer than our registry
    ] * 16
    accept = client.associate([kind[0] for kind in kinds])
    answers = accept.presentation_context
    assert [answer.context_id for answer in answers] == list(range(1, 256, 2))
    for (_, (result, transfer_syntax)), answer in zip(kinds, answers, strict=True):
        assert answer.result == result
        assert result or answer.transfer_syntax == transfer_syntax
    client.release()


def test_an_archive_can_be_made_to_decompress(run_receiver: Callable[..., Receiver]) -> None:
    receiver = run_receiver(uncompressed_calling_ae_titles=("ABPACS",))
    proposed = [(CT_IMAGE_STORAGE, ["1.2.840.10008.1.2.4.70", IMPLICIT_LE]), (CT_IMAGE_STORAGE, ["1.2.840.10008.1.2.4.70"])]
    for calling, expected in (("ABPACS", [0, 4]), ("OTHER", [0, 0])):
        with Client(receiver.address) as client:
            answers = client.associate(proposed, calling=calling).presentation_context
            assert [answer.result for answer in answers] == expected


def make_role(uid: str, *, scu: bool, scp: bool) -> SCP_SCU_RoleSelectionNegotiation:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = UID(uid), scu, scp
    return role


@pytest.mark.parametrize(("scu", "scp", "granted", "result"), [(True, False, 1, 0), (True, True, 1, 0), (False, True, 0, 1)])
def test_role_selection_grants_scu_alone(client: Client, scu: bool, scp: bool, granted: int, result: int) -> None:
    accept = client.associate(user_items=[make_role(CT_IMAGE_STORAGE, scu=scu, scp=scp)])
    assert accept.user_information is not None
    (answer,) = accept.user_information.role_selection.values()
    assert (answer.sop_class_uid, answer.scu_role, answer.scp_role) == (CT_IMAGE_STORAGE, granted, 0)
    assert accept.presentation_context[0].result == result


def test_more_roles_than_an_answer_can_hold(client: Client) -> None:
    """Those of SOP classes that are not proposed are left out; the answer to all of them would not fit into its item."""
    names = [f"1.2.840.10008.5.1.4.1.1.{number}.{'9' * 30}" for number in range(900)]
    roles = b"".join(b"\x54\0" + struct.pack(">HH", len(uid) + 4, len(uid)) + uid.encode() + b"\1\1" for uid in [*names, CT_IMAGE_STORAGE])
    request = encode_associate_rq()
    more = b"".join(b"\x50\0" + struct.pack(">H", len(roles)) + roles for _ in range(2))
    client.send(encode_pdu(1, request[6:] + more))
    answer = client.pdu()
    assert answer is not None
    assert answer[0] == 2
    assert answer[1].count(b"\x54\0") == 1


def test_what_is_not_offered_is_declined_by_silence(client: Client) -> None:
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 5
    extended, common, identity = SOPClassExtendedNegotiation(), SOPClassCommonExtendedNegotiation(), UserIdentityNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = UID(CT_IMAGE_STORAGE), b"\2\0\1\0\1\0"
    common.sop_class_uid, common.service_class_uid = UID(CT_IMAGE_STORAGE), UID("1.2.840.10008.4.2")
    identity.user_identity_type, identity.primary_field, identity.secondary_field = 2, b"name", b"secret"
    identity.positive_response_requested = True
    accept = client.associate(user_items=[window, extended, common, identity])
    assert accept.user_information is not None
    items = {item.item_type for item in accept.user_information.user_data}
    assert items == {0x51, 0x52, 0x55}  # maximum length, implementation class and version: nothing else
    client.send(encode_message(3, encode_echo_rq()))
    assert client.response().Status == 0


def test_a_response_keeps_to_the_other_sides_limit(client: Client) -> None:
    client.associate(max_length_bytes=32)
    client.send(encode_message(3, encode_echo_rq()))
    collected, control = b"", 0
    while not control & 2:
        answer = client.pdu()
        assert answer is not None
        assert len(answer[1]) <= 32
        control, collected = answer[1][5], collected + answer[1][6:]
    assert b"1.2.840.10008.1.1" in collected


def test_silent_connections_do_not_shut_the_others_out(receiver: Receiver, journal: Journal) -> None:
    silent = [Client(receiver.address) for _ in range(receiver_module.MAX_OTHER_CONNECTIONS + 20)]
    with Client(receiver.address) as client:
        client.associate()
        client.release()
    assert silent[0].pdu() is None  # the oldest had to go
    silent[-1].socket.settimeout(0)
    with pytest.raises(BlockingIOError):
        silent[-1].socket.recv(1)  # the newest still has its time
    for one in silent:
        one.socket.close()
    assert not journal.named("connection_not_accepted")


def test_ipv6_is_served_too(run_receiver: Callable[..., Receiver]) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    receiver = run_receiver(host="", allowed_hosts=("::1",))
    with socket.create_connection(("::1", receiver.address[1]), 10) as connection:
        connection.sendall(encode_associate_rq())
        assert connection.recv(1) == b"\2"
