"""DIMSE command sets as plain mappings: what PS3.7 Annex E lists, in Implicit VR Little Endian.

Only the elements that Verification, C-FIND, C-MOVE, C-STORE and C-CANCEL use. A thousand sub-operations mean a few thousand command
sets; a `struct` loop takes microseconds for each where a general data set codec takes a good part of a millisecond.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

# The command field values of PS3.7 Table E.1-1.
C_STORE_RQ = 0x0001
C_FIND_RQ = 0x0020
C_MOVE_RQ = 0x0021
C_ECHO_RQ = 0x0030
C_CANCEL_RQ = 0x0FFF
RESPONSE = 0x8000  # a response is its request with this bit set

NO_DATA_SET = 0x0101
DATA_SET = 0x0001  # anything but NO_DATA_SET

# DIMSE statuses: PS3.7 Annex C, PS3.4 Tables C.4-1 and C.4-2.
SUCCESS = 0x0000
PENDING = 0xFF00
PENDING_UNSUPPORTED_KEYS = 0xFF01
CANCELLED = 0xFE00
SUB_OPERATIONS_FAILED = 0xB000
SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNIZED_OPERATION = 0x0211
UNABLE_TO_PERFORM = 0xA702
DESTINATION_UNKNOWN = 0xA801
IDENTIFIER_MISMATCH = 0xA900
UNABLE_TO_PROCESS = 0xC000

Value = int | str
Command = Mapping[str, Value]

_ELEMENTS: dict[str, tuple[int, str]] = {
    "AffectedSOPClassUID": (0x0002, "UI"),
    "CommandField": (0x0100, "US"),
    "MessageID": (0x0110, "US"),
    "MessageIDBeingRespondedTo": (0x0120, "US"),
    "MoveDestination": (0x0600, "AE"),
    "Priority": (0x0700, "US"),
    "CommandDataSetType": (0x0800, "US"),
    "Status": (0x0900, "US"),
    "ErrorComment": (0x0902, "LO"),
    "AffectedSOPInstanceUID": (0x1000, "UI"),
    "NumberOfRemainingSuboperations": (0x1020, "US"),
    "NumberOfCompletedSuboperations": (0x1021, "US"),
    "NumberOfFailedSuboperations": (0x1022, "US"),
    "NumberOfWarningSuboperations": (0x1023, "US"),
    "MoveOriginatorApplicationEntityTitle": (0x1030, "AE"),
    "MoveOriginatorMessageID": (0x1031, "US"),
}
_KEYWORDS = {element: (keyword, vr) for keyword, (element, vr) in _ELEMENTS.items()}
_MOST_SUB_OPERATIONS = 0xFFFF  # VR US


def encode_command(command: Command) -> bytes:
    """The encoded command set, group length first. Elements are sorted; a keyword outside the table raises KeyError."""
    body = bytearray()
    for keyword, (element, vr) in _ELEMENTS.items():
        if keyword not in command:
            continue
        value = command[keyword]
        if isinstance(value, int):
            encoded = struct.pack("<H", min(value, _MOST_SUB_OPERATIONS))
        else:
            encoded = value.encode("ascii", "replace")
            if len(encoded) % 2:
                encoded += b"\0" if vr == "UI" else b" "
        body += struct.pack("<HHI", 0, element, len(encoded)) + encoded
    if unknown := set(command) - set(_ELEMENTS):
        raise KeyError(f"no such command element here: {sorted(unknown)}")
    return struct.pack("<HHII", 0, 0, 4, len(body)) + bytes(body)


def decode_command(encoded: bytes) -> dict[str, Value]:
    """The known elements of a command set. Others are passed over. Raises ValueError where the encoding is not one."""
    command: dict[str, Value] = {}
    position = 0
    while position < len(encoded):
        try:
            group, element, length = struct.unpack_from("<HHI", encoded, position)
        except struct.error as error:
            raise ValueError("the command set ends within an element") from error
        value = encoded[position + 8 : position + 8 + length]
        position += 8 + length
        if group != 0 or position > len(encoded):
            raise ValueError("the command set is malformed")
        if element not in _KEYWORDS:
            continue
        keyword, vr = _KEYWORDS[element]
        if vr == "US":
            if length != 2:
                raise ValueError(f"{keyword} is not one number of two bytes")
            command[keyword] = int.from_bytes(value, "little")
        else:
            command[keyword] = value.decode("ascii", "replace").strip(" \0")
    return command


def answer_to(request: Command, status: int, more: Command | None = None, *, data_set: bool = False) -> dict[str, Value]:
    """The command set of a response to `request`, with `more` elements."""
    return {
        "AffectedSOPClassUID": request.get("AffectedSOPClassUID", ""),
        "CommandField": int(request["CommandField"]) | RESPONSE,
        "MessageIDBeingRespondedTo": request["MessageID"],
        "CommandDataSetType": DATA_SET if data_set else NO_DATA_SET,
        "Status": status,
        **(more or {}),
    }
