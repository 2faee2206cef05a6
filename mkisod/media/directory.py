"""Reads a DICOMDIR of anybody's and follows its links (PS3.3 F.3.2). The counterpart of dicomdir.py, with which it shares nothing.

What is wrong with the directory itself is collected as sentences, not raised: a reader of discs goes on as far as it can.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import attrs
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from mkisod.media.elements import EVERYTHING, EXPLICIT_LITTLE_ENDIAN, StructureDefect, read_elements, read_items

_META_END = 0x00030000
_FILE_SET_ID = 0x00041130
_FIRST_RECORD = 0x00041200
_LAST_RECORD = 0x00041202
_CONSISTENCY_FLAG = 0x00041212
_RECORDS = 0x00041220
_NEXT_RECORD = 0x00041400
_IN_USE_FLAG = 0x00041410
_LOWER_RECORD = 0x00041420
_RECORD_TYPE = 0x00041430
_FILE_ID = 0x00041500
_IN_USE = 0xFFFF
_LINKS = frozenset((_NEXT_RECORD, _IN_USE_FLAG, _LOWER_RECORD, _RECORD_TYPE))
_SEQUENCE_HEAD_BYTES = 12


@attrs.define
class ReadRecord:
    """A directory record as it was read. `lower` holds the records of the directory entity below it.

    Its values are decoded each time they are asked for: a disc has tens of thousands of records, and their encoded form is small.
    """

    offset: int
    encoded: bytes  # the item
    record_type: str
    is_in_use: bool
    next_offset: int
    lower_offset: int
    lower: Sequence[ReadRecord] = ()

    def read_values(self) -> Mapping[int, bytes]:
        """Every element of it, as encoded."""
        (_, _, values) = next(read_items(self.encoded, EXPLICIT_LITTLE_ENDIAN))
        return values


def split_file_id(values: Mapping[int, bytes]) -> tuple[str, ...]:
    """The components of the Referenced File ID; none where no file is referenced."""
    file_id = _find_text(values, _FILE_ID)
    return tuple(component.strip(" ") for component in file_id.split("\\")) if file_id else ()


@attrs.frozen
class Directory:
    """A DICOMDIR. `roots` are the records of the root directory entity; `defects` say what is wrong with it."""

    file_set_id: str
    roots: tuple[ReadRecord, ...]
    defects: tuple[str, ...]


def read_directory(file: BinaryIO, size_bytes: int) -> Directory:
    """Reads the DICOMDIR in `file`, which stands at its first byte. Whatever is wrong with it is in `defects`."""
    if file.read(132)[128:] != b"DICM":
        return Directory("", (), ("it has no DICM prefix",))
    try:
        meta = read_elements(file, size_bytes, EXPLICIT_LITTLE_ENDIAN, EVERYTHING, stop_at=_META_END)
        if _find_text(meta, 0x00020010) != ExplicitVRLittleEndian:
            return Directory("", (), ("it is not encoded in Explicit VR Little Endian (PS3.10 8.6)",))
        # The records stand last but for a data set trailing padding, and offsets count from the first byte of the file.
        head = read_elements(file, size_bytes, EXPLICIT_LITTLE_ENDIAN, EVERYTHING, stop_at=_RECORDS)
        base = file.tell() + _SEQUENCE_HEAD_BYTES
        items = read_elements(file, size_bytes, EXPLICIT_LITTLE_ENDIAN, (_RECORDS,)).get(_RECORDS, b"")
        records = {
            base + at: _make_record(base + at, encoded, links) for at, encoded, links in read_items(items, EXPLICIT_LITTLE_ENDIAN, _LINKS)
        }
    except StructureDefect as defect:
        return Directory("", (), (f"it is damaged: {defect}",))
    defects = _check_head(meta, head)
    reached: set[int] = set()
    roots = _follow(records, _find_number(head, _FIRST_RECORD), reached, defects, "the first record")
    last = _find_number(head, _LAST_RECORD)
    if last != (roots[-1].offset if roots else 0):
        defects.append(f"the offset of the last record at the root is {last}, but that record is at {roots[-1].offset if roots else 0}")
    for offset, record in records.items():
        if offset not in reached and record.is_in_use:
            defects.append(f"the {record.record_type} record at {offset} cannot be reached from the first record")
    return Directory(_find_text(head, _FILE_SET_ID), tuple(roots), tuple(defects))


def _make_record(offset: int, encoded: bytes, links: Mapping[int, bytes]) -> ReadRecord:
    return ReadRecord(
        offset,
        encoded,
        record_type=sys.intern(_find_text(links, _RECORD_TYPE)),
        is_in_use=_find_number(links, _IN_USE_FLAG) == _IN_USE,
        next_offset=_find_number(links, _NEXT_RECORD),
        lower_offset=_find_number(links, _LOWER_RECORD),
    )


def _check_head(meta: Mapping[int, bytes], head: Mapping[int, bytes]) -> list[str]:
    defects = []
    if _find_text(meta, 0x00020002) != MediaStorageDirectoryStorage:
        defects.append("its file meta information does not name the Media Storage Directory SOP Class")
    if _find_number(head, _CONSISTENCY_FLAG) != 0:
        defects.append("its File-set Consistency Flag says that inconsistencies are known")
    if _FILE_SET_ID not in head:
        defects.append("it has no File-set ID")
    return defects


def _follow(records: Mapping[int, ReadRecord], start: int, reached: set[int], defects: list[str], origin: str) -> list[ReadRecord]:
    """The records of one directory entity, in order, and with them all below. A loop ends where it would begin again."""
    entity: list[ReadRecord] = []
    offset = start
    while offset:
        record = records.get(offset)
        if record is None:
            defects.append(f"{origin} points to byte {offset}, where no record is")
            break
        if offset in reached:
            defects.append(f"{origin} points to the record at {offset}, which was reached before")
            break
        reached.add(offset)
        name = f"the {record.record_type} record at {offset}"
        if record.is_in_use:
            entity.append(record)
        record.lower = _follow(records, record.lower_offset, reached, defects, f"the lower-level link of {name}") or ()
        origin = f"the next-record link of {name}"
        offset = record.next_offset
    return entity


def _find_text(values: Mapping[int, bytes], tag: int) -> str:
    return values.get(tag, b"").strip(b" \0").decode("ascii", "replace")


def _find_number(values: Mapping[int, bytes], tag: int) -> int:
    value = values.get(tag, b"")
    return int(struct.unpack_from("<I" if len(value) >= 4 else "<H", value)[0]) if len(value) >= 2 else 0
