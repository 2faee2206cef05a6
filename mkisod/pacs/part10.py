"""What stands in front of a data set in a file: the preamble and the File Meta Information of PS3.10 section 7.1. Pure.

Nothing else is put into a file, and nothing behind it is altered: the data set lies in the file byte for byte as it came.
"""

from __future__ import annotations

import struct

from mkisod import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_SHORT = struct.Struct("<HH2sH")
_VERSION = _SHORT.pack(2, 1, b"OB", 0) + b"\x02\0\0\0\0\x01"  # OB: the long form, 2 bytes, 00 01


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
    return bytes(128) + b"DICM" + _SHORT.pack(2, 0, b"UL", 4) + struct.pack("<I", len(body)) + body
