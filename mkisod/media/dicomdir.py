"""Encodes the DICOMDIR: directory records in, the bytes of the file out. Pure, and linear in the number of records.

Explicit VR Little Endian (PS3.10 8.6). Records stand in the order of the hierarchy, each above its own. Two offsets link them
(PS3.3 F.2.2): to the next record of the same directory entity, and to the first one below. They are computed from the encoded bytes and
written into place, since the first three elements of every record have fixed lengths.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from attrs import frozen
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from mkisod import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from mkisod.media.encoding import Elements, encode_element, encode_elements

_ITEM = struct.Struct("<HHI")
_ITEM_TAG = (0xFFFE, 0xE000)
# Where the two offsets lie in a record, counted from its item tag: 8 bytes of item tag and length; (0004,1400) UL and (0004,1420) UL take
# 8 bytes each before their value, (0004,1410) US takes 10 in all.
_NEXT_AT = 8 + 8
_LOWER_AT = 8 + 12 + 10 + 8
_LINKS = struct.Struct("<HH2sHI HH2sHH HH2sHI").pack(
    *(0x0004, 0x1400, b"UL", 4, 0), *(0x0004, 0x1410, b"US", 2, 0xFFFF), *(0x0004, 0x1420, b"UL", 4, 0)
)
_DIRECTORY_RECORD_TYPE = 0x00041430
_REFERENCED_FILE_ID = 0x00041500


@frozen
class DirectoryRecord:
    """One directory record. `file_id` has its components separated by a backslash, or is "" where no file is referenced."""

    record_type: str
    elements: Elements
    file_id: str = ""
    lower: Sequence[DirectoryRecord] = ()


def encode_dicomdir(file_set_id: str, file_set_uid: str, roots: Sequence[DirectoryRecord]) -> bytearray:
    """The whole DICOMDIR file. `roots` are the records of the root directory entity, in order."""
    file = bytearray(_encode_head(file_set_id, file_set_uid))  # the only copy: it has several megabytes
    base = len(file)
    first, last = _append_entity(file, roots)
    # (0004,1200), (0004,1202), (0004,1212) and the head of (0004,1220) end the head: 12, 12, 10 and 12 bytes, each offset behind 8 of its.
    struct.pack_into("<I", file, base - 46 + 8, first)
    struct.pack_into("<I", file, base - 34 + 8, last)
    struct.pack_into("<I", file, base - 4, len(file) - base)
    return file


def _encode_head(file_set_id: str, file_set_uid: str) -> bytes:
    meta = b"".join(
        encode_element(tag, vr, value)
        for tag, vr, value in (
            (0x00020001, b"OB", b"\0\1"),
            (0x00020002, b"UI", MediaStorageDirectoryStorage.encode()),
            (0x00020003, b"UI", file_set_uid.encode()),  # the File-set UID (PS3.10 8.6)
            (0x00020010, b"UI", ExplicitVRLittleEndian.encode()),
            (0x00020012, b"UI", IMPLEMENTATION_CLASS_UID.encode()),
            (0x00020013, b"SH", IMPLEMENTATION_VERSION_NAME.encode()),
        )
    )
    return b"".join(
        (
            bytes(128),
            b"DICM",
            encode_element(0x00020000, b"UL", struct.pack("<I", len(meta))),
            meta,
            encode_element(0x00041130, b"CS", file_set_id.encode()),
            encode_element(0x00041200, b"UL", bytes(4)),
            encode_element(0x00041202, b"UL", bytes(4)),
            encode_element(0x00041212, b"US", bytes(2)),  # no known inconsistencies
            encode_element(0x00041220, b"SQ", b""),
        )
    )


def _append_entity(file: bytearray, entity: Iterable[DirectoryRecord]) -> tuple[int, int]:
    """Appends the records of one directory entity, each followed by all below it. Returns the offsets of its first and last record.

    An entity of no records has offset 0 (PS3.3 F.3.2.2).
    """
    first = previous = 0
    for record in entity:
        offset = len(file)
        if previous:
            struct.pack_into("<I", file, previous + _NEXT_AT, offset)
        file += encode_record(record)
        if record.lower:
            lower, _ = _append_entity(file, record.lower)
            struct.pack_into("<I", file, offset + _LOWER_AT, lower)
        first, previous = first or offset, offset
    return first, previous


def encode_record(record: DirectoryRecord) -> bytes:
    """One item of the Directory Record Sequence, not linked yet."""
    elements = encode_elements(record.elements)
    if record.file_id:
        elements = elements.add(_REFERENCED_FILE_ID, record.file_id.encode())
    body = _LINKS + encode_element(_DIRECTORY_RECORD_TYPE, b"CS", record.record_type.encode()) + elements.encoded
    return _ITEM.pack(*_ITEM_TAG, len(body)) + body
