"""The PDUs of the DICOM Upper Layer (PS3.8 section 9.3) that an acceptor of associations reads and writes; requested.py has the rest.

Pure: bytes in, values out, and back. The one PDU that matters for speed, P-DATA-TF, is not decoded here: its headers are parsed where
they lie (association.py). Whatever breaks the rules of PS3.8 raises `InvalidPdu`; no length that a peer announces is ever believed beyond
the bytes that came.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from attrs import frozen

A_ASSOCIATE_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, P_DATA_TF, A_RELEASE_RQ, A_RELEASE_RP, A_ABORT = range(1, 8)

PDU_HEADER = struct.Struct(">BxI")
PDV_HEADER = struct.Struct(">IBB")

# PS3.8 Table 9-26: who aborts, and why (the reason counts only where the provider does).
SERVICE_USER, SERVICE_PROVIDER = 0, 2
REASON_NOT_SPECIFIED, UNRECOGNIZED_PDU, UNEXPECTED_PDU = 0, 1, 2
UNRECOGNIZED_PDU_PARAMETER, UNEXPECTED_PDU_PARAMETER, INVALID_PDU_PARAMETER_VALUE = 4, 5, 6

APPLICATION_CONTEXT_UID = "1.2.840.10008.3.1.1.1"

ITEM_HEADER = struct.Struct(">BxH")
FIXED = struct.Struct(">H2x16s16s32s")  # PS3.8 Table 9-11
APPLICATION_CONTEXT, CONTEXT_RQ, CONTEXT_AC, ABSTRACT_SYNTAX, TRANSFER_SYNTAX, USER_INFORMATION = 0x10, 0x20, 0x21, 0x30, 0x40, 0x50
MAXIMUM_LENGTH, IMPLEMENTATION_CLASS, _ROLE_SELECTION, IMPLEMENTATION_VERSION = 0x51, 0x52, 0x54, 0x55


class InvalidPdu(ValueError):
    """The bytes are not the PDU they claim to be."""


class AbortAssociation(Exception):
    """End the association by an A-ABORT of this source and reason. The text is for the journal."""

    def __init__(self, source: int, reason: int, why: str) -> None:
        super().__init__(why)
        self.source = source
        self.reason = reason


@frozen
class ProposedContext:
    context_id: int
    abstract_syntax_uid: str
    transfer_syntax_uids: tuple[str, ...]


@frozen
class ContextResult:
    """One answer in an A-ASSOCIATE-AC. `result`: PS3.8 Table 9-18. The transfer syntax counts only where the result is acceptance."""

    context_id: int
    result: int
    abstract_syntax_uid: str
    transfer_syntax_uid: str


@frozen
class RoleSelection:
    """PS3.7 section D.3.3.4: which roles the requestor wants for a SOP class, and in the answer, which it gets."""

    sop_class_uid: str
    scu: bool
    scp: bool


@frozen
class AssociateRequest:
    """What an A-ASSOCIATE-RQ asks for. `max_length_bytes` 0: no limit."""

    protocol_version: int
    called_ae_title: str
    calling_ae_title: str
    reserved: bytes  # the 64 bytes of both titles and what follows, sent back as they came (PS3.8 Table 9-17)
    application_context_uid: str
    contexts: tuple[ProposedContext, ...]
    max_length_bytes: int
    roles: tuple[RoleSelection, ...]
    implementation: str


def decode_text(raw: bytes) -> str:
    """Text of a peer: padding off; what is not ASCII stays visible, equals nothing of ours, and can break no line of a log."""
    text = raw.decode("latin-1").strip(" \0")
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


def iterate_items(body: bytes) -> Iterator[tuple[int, bytes]]:
    position, end = 0, len(body)
    while position < end:
        if end - position < ITEM_HEADER.size:
            raise InvalidPdu("an item is cut short")
        item_type, length = ITEM_HEADER.unpack_from(body, position)
        position += ITEM_HEADER.size
        if length > end - position:
            raise InvalidPdu(f"item {item_type:02X}H is longer than what holds it")
        yield item_type, body[position : position + length]
        position += length


def _decode_context(body: bytes) -> ProposedContext:
    if len(body) < 4:
        raise InvalidPdu("a presentation context is cut short")
    abstract: list[str] = []
    transfer: list[str] = []
    for item_type, value in iterate_items(body[4:]):
        if item_type == ABSTRACT_SYNTAX:
            abstract.append(decode_text(value))
        elif item_type == TRANSFER_SYNTAX:
            transfer.append(decode_text(value))
    if body[0] % 2 == 0:
        raise InvalidPdu(f"presentation context ID {body[0]} is even")  # PS3.8 Table 9-13
    if len(abstract) != 1 or not transfer:
        raise InvalidPdu(f"presentation context {body[0]} lacks its abstract or transfer syntax")
    return ProposedContext(body[0], abstract[0], tuple(transfer))


def _decode_role(value: bytes) -> RoleSelection:
    uid_length = int.from_bytes(value[:2], "big")
    if len(value) != uid_length + 4:
        raise InvalidPdu("a role selection item has a wrong length")
    return RoleSelection(decode_text(value[2:-2]), value[-2] == 1, value[-1] == 1)


def decode_associate_request(body: bytes) -> AssociateRequest:
    """The variable field of an A-ASSOCIATE-RQ. Items it does not know are passed over (PS3.8 section 9.3.1). Raises `InvalidPdu`."""
    if len(body) < 68:
        raise InvalidPdu("the A-ASSOCIATE-RQ is cut short")
    version, called, calling, _ = FIXED.unpack_from(body)
    application: list[str] = []
    contexts: dict[int, ProposedContext] = {}
    max_length, implementation = 0, ["", ""]
    roles: dict[str, RoleSelection] = {}
    for item_type, value in iterate_items(body[68:]):
        if item_type == APPLICATION_CONTEXT:
            application.append(decode_text(value))
        elif item_type == CONTEXT_RQ:
            context = _decode_context(value)
            if context.context_id in contexts:
                raise InvalidPdu(f"presentation context ID {context.context_id} is used twice")
            contexts[context.context_id] = context
        elif item_type == USER_INFORMATION:
            for user_type, user_value in iterate_items(value):
                if user_type == MAXIMUM_LENGTH:
                    if len(user_value) != 4:
                        raise InvalidPdu("the maximum length item has a wrong length")
                    max_length = int.from_bytes(user_value, "big")
                elif user_type == _ROLE_SELECTION:
                    role = _decode_role(user_value)
                    roles[role.sop_class_uid] = role
                elif user_type == IMPLEMENTATION_CLASS:
                    implementation[0] = decode_text(user_value[:64])
                elif user_type == IMPLEMENTATION_VERSION:
                    implementation[1] = decode_text(user_value[:16])
    if len(application) != 1 or not contexts:
        raise InvalidPdu("the A-ASSOCIATE-RQ lacks its application context or its presentation contexts")
    # PS3.7 section D.3.3.4: a role belongs to a SOP class that is proposed. Others would only make the answer long.
    proposed = {context.abstract_syntax_uid for context in contexts.values()}
    return AssociateRequest(
        protocol_version=version,
        called_ae_title=decode_text(called),
        calling_ae_title=decode_text(calling),
        reserved=bytes(body[4:68]),
        application_context_uid=application[0],
        contexts=tuple(contexts.values()),
        max_length_bytes=max_length,
        roles=tuple(role for uid, role in roles.items() if uid in proposed and len(uid) <= 64),
        implementation=" ".join(filter(None, implementation)),
    )


def encode_item(item_type: int, value: bytes) -> bytes:
    return ITEM_HEADER.pack(item_type, len(value)) + value


def encode_pdu(pdu_type: int, body: bytes) -> bytes:
    return PDU_HEADER.pack(pdu_type, len(body)) + body


def encode_associate_accept(
    request: AssociateRequest,
    results: Iterable[ContextResult],
    roles: Iterable[RoleSelection],
    *,
    max_length_bytes: int,
    implementation_class_uid: str,
    implementation_version_name: str,
) -> bytes:
    """The A-ASSOCIATE-AC.

    What it leaves out it declines: asynchronous operations window (then one operation at a time, PS3.7 section D.3.3.3), SOP class
    extended negotiation (D.3.3.5, D.3.3.6) and user identity (D.3.3.7: no answer says that the acceptor does not support it).
    """
    items = [encode_item(APPLICATION_CONTEXT, APPLICATION_CONTEXT_UID.encode())]
    for result in results:
        transfer = encode_item(TRANSFER_SYNTAX, result.transfer_syntax_uid.encode())
        items.append(encode_item(CONTEXT_AC, bytes((result.context_id, 0, result.result, 0)) + transfer))
    user = [
        encode_item(MAXIMUM_LENGTH, max_length_bytes.to_bytes(4, "big")),
        encode_item(IMPLEMENTATION_CLASS, implementation_class_uid.encode()),
    ]
    for role in roles:
        uid = role.sop_class_uid.encode()
        user.append(encode_item(_ROLE_SELECTION, len(uid).to_bytes(2, "big") + uid + bytes((role.scu, role.scp))))
    user.append(encode_item(IMPLEMENTATION_VERSION, implementation_version_name.encode()))
    items.append(encode_item(USER_INFORMATION, b"".join(user)))
    return encode_pdu(A_ASSOCIATE_AC, struct.pack(">H2x", 1) + request.reserved + b"".join(items))


def encode_associate_reject(result: int, source: int, reason: int) -> bytes:
    return encode_pdu(A_ASSOCIATE_RJ, bytes((0, result, source, reason)))


def encode_release_response() -> bytes:
    return encode_pdu(A_RELEASE_RP, bytes(4))


def encode_abort(source: int, reason: int) -> bytes:
    return encode_pdu(A_ABORT, bytes((0, 0, source, reason)))


def encode_command(context_id: int, command: bytes, max_length_bytes: int) -> bytes:
    """A command set in as many P-DATA-TF PDUs as the other side's limit asks for (PS3.8 Annex D.1; 0 is no limit)."""
    return _encode_fragments(context_id, command, max_length_bytes, 0b01)


def encode_data_set(context_id: int, data_set: bytes, max_length_bytes: int) -> bytes:
    """The same for a small data set."""
    return _encode_fragments(context_id, data_set, max_length_bytes, 0b00)


def _encode_fragments(context_id: int, data: bytes, max_length_bytes: int, control: int) -> bytes:
    room = max(max_length_bytes - PDV_HEADER.size, 2) if max_length_bytes else len(data)
    pdus = []
    for position in range(0, len(data), room):
        piece = data[position : position + room]
        last = 0b10 if position + room >= len(data) else 0  # PS3.8 Annex E.2
        pdus.append(PDU_HEADER.pack(P_DATA_TF, len(piece) + 6) + PDV_HEADER.pack(len(piece) + 2, context_id, control | last) + piece)
    return b"".join(pdus)
