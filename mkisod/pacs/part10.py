"""What stands in front of a data set in a file: the preamble and the File Meta Information of PS3.10 section 7.1. Pure.

Nothing else is put into a file, and nothing behind it is altered: the data set lies in the file byte for byte as it came. What is read
back is anybody's: a file that breaks the rules raises `InvalidFileMeta`.
"""

from __future__ import annotations

import struct

from mkisod import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_SHORT = struct.Struct("<HH2sH")
_LENGTH = struct.Struct("<I")
_LONG_VRS = frozenset({b"OB", b"OW", b"SQ", b"UN", b"UT"})  # PS3.5 section 7.1.2, of those that File Meta Information may hold
_PREFIX = b"DICM"
META_AT = 128 + len(_PREFIX)
_GROUP_LENGTH_BYTES = 12
_VERSION = _SHORT.pack(2, 1, b"OB", 0) + b"\x02\0\0\0\0\x01"  # OB: the long form, 2 bytes, 00 01


class InvalidFileMeta(ValueError):
    """A DICOM file by its prefix, whose File Meta Information cannot be read."""


def _encode(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("latin-1", "replace")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return _SHORT.pack(2, element, vr, len(value)) + value


_IMPLEMENTATION = _encode(0x0012, b"UI", IMPLEMENTATION_CLASS_UID) + _encode(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME)


def encode_file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, source_ae_title: str) -> bytes:
    """Preamble, prefix and File Meta Information, in Explicit VR Little Endian whatever the data set has."""
    body = b"".join(
        (
            _VERSION,
            _encode(0x0002, b"UI", sop_class_uid),
            _encode(0x0003, b"UI", sop_instance_uid),
            _encode(0x0010, b"UI", transfer_syntax_uid),
            _IMPLEMENTATION,
            _encode(0x0016, b"AE", source_ae_title) if source_ae_title else b"",
        )
    )
    return bytes(128) + _PREFIX + _SHORT.pack(2, 0, b"UL", 4) + struct.pack("<I", len(body)) + body


def is_part10(head: bytes) -> bool:
    """Whether a file that begins so is a DICOM file (PS3.10 section 7.1)."""
    return head[128:META_AT] == _PREFIX


def measure_file_meta(head: bytes) -> int:
    """How many bytes of a file come before its data set. `head` is at least 144 bytes of it. Raises `InvalidFileMeta`."""
    if len(head) < META_AT + _GROUP_LENGTH_BYTES or head[META_AT : META_AT + 8] != _SHORT.pack(2, 0, b"UL", 4):
        raise InvalidFileMeta("its File Meta Information does not begin with its length")
    return META_AT + _GROUP_LENGTH_BYTES + int(_LENGTH.unpack_from(head, META_AT + 8)[0])


def decode_file_meta(head: bytes) -> dict[int, bytes]:
    """The values of group 0002 by element, as encoded, from what comes before the data set. Raises `InvalidFileMeta`."""
    values: dict[int, bytes] = {}
    position, end = META_AT, len(head)
    while position < end:
        if end - position < 12 and (end - position < 8 or head[position + 4 : position + 6] in _LONG_VRS):
            raise InvalidFileMeta("its File Meta Information is cut short")
        group, element, vr, length = _SHORT.unpack_from(head, position)
        position += 8
        if vr in _LONG_VRS:
            length = _LENGTH.unpack_from(head, position)[0]
            position += 4
        if group != 2 or length > end - position:
            raise InvalidFileMeta("its File Meta Information does not end where it says")
        values[element] = head[position : position + length]
        position += length
    return values
