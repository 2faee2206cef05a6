"""The beginning of an association: pynetdicom's codecs make and read the A-ASSOCIATE PDUs (PS3.8 section 7.1 and Annex D)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import cast

from pydicom.uid import UID
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import PresentationContext

from mkisod.demo.wire import (
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    Association,
    AssociationEnded,
    receive_pdu,
    send_all,
)

APPLICATION_CONTEXT_UID = UID("1.2.840.10008.3.1.1.1")  # PS3.7 Annex A.2.1
MAX_PDU_BYTES = 65536  # what we ask the other side to keep to
_CLOSE_TIMEOUT_S = 5.0
_REJECTED_CALLED_AE_TITLE = bytes((ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, 1, 1, 7))  # PS3.8 Table 9-21


def accept_association(
    connection: socket.socket, ae_title: str, abstract_syntax_uids: Iterable[str], syntax_uids: Sequence[str]
) -> Association:
    """Answer the A-ASSOCIATE-RQ that comes on `connection`. Raises `AssociationEnded` where it is rejected or never comes.

    Rejected is a called AE title other than ours. Of each context the first proposed transfer syntax out of `syntax_uids` is taken.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    kind, body = receive_pdu(connection, whole=True)
    if kind != ASSOCIATE_RQ:
        raise AssociationEnded("the first PDU was no association request")
    request = _decode_associate(A_ASSOCIATE_RQ(), body)
    called, calling = request.called_ae_title, request.calling_ae_title
    if called.strip() != ae_title:
        send_all(connection, [_REJECTED_CALLED_AE_TITLE])
        _await_close(connection)
        raise AssociationEnded(f"rejected: it calls {called.strip()!r}, and this is {ae_title!r}")
    supported = frozenset(abstract_syntax_uids)
    contexts: dict[int, tuple[str, str]] = {}
    results: list[PresentationContext] = []
    for proposed in request.presentation_context_definition_list:
        context_id, abstract = cast(int, proposed.context_id), str(proposed.abstract_syntax)
        taken = next((str(uid) for uid in proposed.transfer_syntax if uid in syntax_uids), None)
        result = PresentationContext()
        result.context_id = context_id
        result.transfer_syntax = [UID(taken) if taken else proposed.transfer_syntax[0]]
        # PS3.8 Table 9-18: 0 acceptance, 3 abstract syntax not supported, 4 transfer syntaxes not supported.
        result.result = 3 if abstract not in supported else 0 if taken else 4
        results.append(result)
        if result.result == 0:
            contexts[context_id] = (abstract, cast(str, taken))
    answer = _associate_primitive(calling, called)
    answer.result, answer.result_source = 0, 1
    answer.presentation_context_definition_results_list = results
    send_all(connection, [A_ASSOCIATE_AC(answer).encode()])
    return Association(connection, calling.strip(), contexts, request.maximum_length_received or 0)


def _await_close(connection: socket.socket) -> None:
    """After a rejection it is the requestor who closes (PS3.8 9.2.3, Sta13); one that does not is left after a while."""
    connection.settimeout(_CLOSE_TIMEOUT_S)
    with suppress(OSError):
        while connection.recv(4096):
            pass


def request_association(
    connection: socket.socket, calling_ae_title: str, called_ae_title: str, contexts: Mapping[int, tuple[str, str]]
) -> Association:
    """Ask for an association, proposing `contexts` with one transfer syntax each. Raises `AssociationEnded` where it is not accepted."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = _associate_primitive(calling_ae_title, called_ae_title)
    proposed = []
    for context_id, (abstract, transfer) in contexts.items():
        context = PresentationContext()
        context.context_id, context.abstract_syntax, context.transfer_syntax = context_id, UID(abstract), [UID(transfer)]
        proposed.append(context)
    request.presentation_context_definition_list = proposed
    send_all(connection, [A_ASSOCIATE_RQ(request).encode()])
    kind, body = receive_pdu(connection, whole=True)
    if kind != ASSOCIATE_AC:
        raise AssociationEnded("the move destination rejected the association")
    answer = _decode_associate(A_ASSOCIATE_AC(), body)
    accepted = {context.context_id for context in answer.presentation_context_definition_results_list if context.result == 0}
    taken = {context_id: pair for context_id, pair in contexts.items() if context_id in accepted}
    return Association(connection, calling_ae_title, taken, answer.maximum_length_received or 0)


def _decode_associate(pdu: A_ASSOCIATE_RQ | A_ASSOCIATE_AC, body: bytes) -> A_ASSOCIATE:
    try:
        pdu.decode(body)
        return pdu.to_primitive()
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, struct.error) as error:  # the codec has no error of its own
        raise AssociationEnded("the other side's part of the negotiation is malformed") from error


def _associate_primitive(calling_ae_title: str, called_ae_title: str) -> A_ASSOCIATE:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = APPLICATION_CONTEXT_UID
    primitive.calling_ae_title, primitive.called_ae_title = calling_ae_title, called_ae_title
    length = MaximumLengthNotification()
    length.maximum_length_received = MAX_PDU_BYTES
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = PYNETDICOM_IMPLEMENTATION_UID
    primitive.user_information = [length, implementation]
    return primitive
