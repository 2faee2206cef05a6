"""Command sets of DIMSE (PS3.7 Annex E), read and written. Pure.

A command set is Implicit VR Little Endian, group 0000, and nothing nests, so a parser of twenty lines serves, and costs a hundredth of
what a general one does for every instance. What cannot be parsed raises `InvalidCommand`; the association ends by it.
"""

from __future__ import annotations

import struct

from attrs import frozen

C_STORE_RQ, C_FIND_RQ, C_MOVE_RQ, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x0020, 0x0021, 0x0030, 0x0FFF
RESPONSE = 0x8000
NO_DATA_SET = 0x0101

SUCCESS = 0x0000
PENDING = (0xFF00, 0xFF01)  # PS3.4 Tables C.4-1 and C.4-2; the second: optional keys of a query were not supported
SOP_CLASS_NOT_SUPPORTED = 0x0122  # PS3.7 Annex C
UNRECOGNIZED_OPERATION = 0x0211
INVALID_SOP_INSTANCE = 0x0117

MAX_COMMAND_BYTES = 16384  # the longest request has some 500

_ELEMENT = struct.Struct("<HHI")
_US = struct.Struct("<H")
_SHORT_ELEMENT = struct.Struct("<HHIH")
_GROUP_LENGTH = struct.Struct("<HHII")

_PRIORITY = _SHORT_ELEMENT.pack(0, 0x0700, 2, 0)  # medium
_DATA_SET_FOLLOWS = _SHORT_ELEMENT.pack(0, 0x0800, 2, 0)
_NO_DATA_SET_FOLLOWS = _SHORT_ELEMENT.pack(0, 0x0800, 2, NO_DATA_SET)


class InvalidCommand(ValueError):
    """The bytes are not a command set that can be answered."""


@frozen
class Command:
    """A request or a response. Absent text is '', an absent number None. In a response `message_id` is that of its request."""

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    move_originator_ae_title: str = ""
    move_originator_message_id: int | None = None
    dimse_status: int | None = None
    remaining: int | None = None  # sub-operations of a C-MOVE (PS3.7 Table 9.3-10), as are the next three
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None


def decode_command(raw: bytes) -> Command:
    """Raises `InvalidCommand` where it is malformed, or lacks what an answer needs."""
    elements: dict[int, bytes] = {}
    position, end = 0, len(raw)
    while position < end:
        if end - position < 8:
            raise InvalidCommand("an element of the command set is cut short")
        group, element, length = _ELEMENT.unpack_from(raw, position)
        position += 8
        if group != 0 or length > end - position:
            raise InvalidCommand(f"element ({group:04X},{element:04X}) does not belong into a command set or is cut short")
        elements[element] = raw[position : position + length]
        position += length

    def number(element: int) -> int | None:
        value = elements.get(element, b"")
        return _US.unpack(value)[0] if len(value) == 2 else None

    def text(element: int) -> str:
        return elements.get(element, b"").decode("latin-1").strip(" \0")

    field, data_set_type = number(0x0100), number(0x0800)
    message_id = number(0x0120 if field is not None and (field & RESPONSE or field == C_CANCEL_RQ) else 0x0110)
    if field is None or message_id is None or data_set_type is None:
        raise InvalidCommand("the command set lacks Command Field, Message ID or Command Data Set Type")
    return Command(
        field=field,
        message_id=message_id,
        has_data_set=data_set_type != NO_DATA_SET,
        sop_class_uid=text(0x0002) or text(0x0003),  # N- services have Requested SOP Class UID instead
        sop_instance_uid=text(0x1000) or text(0x1001),
        move_originator_ae_title=text(0x1030),
        move_originator_message_id=number(0x1031),
        dimse_status=number(0x0900),
        remaining=number(0x1020),
        completed=number(0x1021),
        failed=number(0x1022),
        warning=number(0x1023),
    )


def _encode_text(element: int, value: str, padding: bytes) -> bytes:
    raw = value.encode("latin-1", "replace")
    if len(raw) % 2:
        raw += padding
    return _ELEMENT.pack(0, element, len(raw)) + raw


def encode_response(command: Command, dimse_status: int, comment: str = "") -> bytes:
    """The response to a C- or N-request, without a data set. `comment` goes into Error Comment (VR LO, at most 64 characters)."""
    body = b"".join(
        (
            _encode_text(0x0002, command.sop_class_uid, b"\0") if command.sop_class_uid else b"",
            _SHORT_ELEMENT.pack(0, 0x0100, 2, command.field | RESPONSE),
            _SHORT_ELEMENT.pack(0, 0x0120, 2, command.message_id),
            _SHORT_ELEMENT.pack(0, 0x0800, 2, NO_DATA_SET),
            _SHORT_ELEMENT.pack(0, 0x0900, 2, dimse_status),
            _encode_text(0x0902, comment.encode("ascii", "replace").decode()[:64], b" ") if comment else b"",
            _encode_text(0x1000, command.sop_instance_uid, b"\0") if command.sop_instance_uid else b"",
        )
    )
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


def encode_store_request(sop_class_uid: str, sop_instance_uid: str, message_id: int) -> bytes:
    """A C-STORE-RQ (PS3.7 Table 9.3-1) of medium priority; its data set follows."""
    instance = _encode_text(0x1000, sop_instance_uid, b"\0")
    return _encode_request(C_STORE_RQ, sop_class_uid, message_id, _PRIORITY + _DATA_SET_FOLLOWS + instance)


def encode_find_request(sop_class_uid: str, message_id: int) -> bytes:
    """A C-FIND-RQ (PS3.7 Table 9.3-3) of medium priority; its identifier follows."""
    return _encode_request(C_FIND_RQ, sop_class_uid, message_id, _PRIORITY + _DATA_SET_FOLLOWS)


def encode_move_request(sop_class_uid: str, message_id: int, destination: str) -> bytes:
    """A C-MOVE-RQ (PS3.7 Table 9.3-9) of medium priority; its identifier follows. `destination` is an AE title."""
    return _encode_request(C_MOVE_RQ, sop_class_uid, message_id, _encode_text(0x0600, destination, b" ") + _PRIORITY + _DATA_SET_FOLLOWS)


def encode_echo_request(sop_class_uid: str, message_id: int) -> bytes:
    """A C-ECHO-RQ (PS3.7 Table 9.3-12)."""
    return _encode_request(C_ECHO_RQ, sop_class_uid, message_id, _NO_DATA_SET_FOLLOWS)


def encode_cancel_request(message_id: int) -> bytes:
    """A C-CANCEL-RQ (PS3.7 Tables 9.3-5 and 9.3-11) of the operation with this Message ID. It has no response of its own."""
    body = _SHORT_ELEMENT.pack(0, 0x0100, 2, C_CANCEL_RQ) + _SHORT_ELEMENT.pack(0, 0x0120, 2, message_id) + _NO_DATA_SET_FOLLOWS
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


def _encode_request(field: int, sop_class_uid: str, message_id: int, rest: bytes) -> bytes:
    """`rest`: the elements behind the Message ID."""
    body = b"".join(
        (
            _encode_text(0x0002, sop_class_uid, b"\0"),
            _SHORT_ELEMENT.pack(0, 0x0100, 2, field),
            _SHORT_ELEMENT.pack(0, 0x0110, 2, message_id),
            rest,
        )
    )
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body
