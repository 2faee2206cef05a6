"""Reads a DICOMDIR of anybody's and follows its links (PS3.3 F.3.2). The counterpart of dicomdir.py, with which it shares nothing.

What is wrong with the directory itself is collected as sentences, not raised: a reader of discs goes on as far as it can. A disc has tens
of thousands of records: they are held as they are encoded, and a few numbers of each.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from typing import BinaryIO

from attrs import Factory, frozen
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


@frozen
class _Records:
    """All records by place, in the order of the file; `entities` are the places below a record that is not a leaf."""

    items: bytes  # as encoded
    base: int  # the offset of the first of them
    offsets: array[int] = Factory(lambda: array("Q"))
    next_offsets: array[int] = Factory(lambda: array("I"))
    lower_offsets: array[int] = Factory(lambda: array("I"))
    types: list[str] = Factory(list)
    in_use: bytearray = Factory(bytearray)
    entities: dict[int, array[int]] = Factory(dict)

    def read_all(self) -> None:
        """Raises `StructureDefect`."""
        for at, _, links in read_items(self.items, EXPLICIT_LITTLE_ENDIAN, _LINKS):
            self.offsets.append(self.base + at)
            self.next_offsets.append(_find_number(links, _NEXT_RECORD))
            self.lower_offsets.append(_find_number(links, _LOWER_RECORD))
            self.types.append(sys.intern(_find_text(links, _RECORD_TYPE)))
            self.in_use.append(_find_number(links, _IN_USE_FLAG) == _IN_USE)

    def find(self, offset: int) -> int | None:
        """The place of the record that begins there."""
        place = bisect_left(self.offsets, offset)
        return place if place < len(self.offsets) and self.offsets[place] == offset else None

    def name(self, place: int) -> str:
        return f"the {self.types[place]} record at {self.offsets[place]}"


@frozen
class ReadRecord:
    """A directory record as it was read."""

    _records: _Records
    _place: int

    @property
    def record_type(self) -> str:
        return self._records.types[self._place]

    @property
    def offset(self) -> int:
        return self._records.offsets[self._place]

    @property
    def lower(self) -> list[ReadRecord]:
        """The records of the directory entity below it."""
        return [ReadRecord(self._records, place) for place in self._records.entities.get(self._place, ())]

    def read_values(self) -> Mapping[int, bytes]:
        """Every element of it, as encoded; decoded each time."""
        records, place = self._records, self._place
        end = records.offsets[place + 1] if place + 1 < len(records.offsets) else None
        item = records.items[records.offsets[place] - records.base : end and end - records.base]
        (_, _, values) = next(read_items(item, EXPLICIT_LITTLE_ENDIAN))
        return values


def split_file_id(values: Mapping[int, bytes]) -> tuple[str, ...]:
    """The components of the Referenced File ID; none where no file is referenced."""
    file_id = _find_text(values, _FILE_ID)
    return tuple(component.strip(" ") for component in file_id.split("\\")) if file_id else ()


@frozen
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
        records = _Records(items, base)
        records.read_all()
    except StructureDefect as defect:
        return Directory("", (), (f"it is damaged: {defect}",))
    defects = _check_head(meta, head)
    reached = bytearray(len(records.offsets))
    places = _follow(records, _find_number(head, _FIRST_RECORD), reached, defects, "the first record")
    roots = tuple(ReadRecord(records, place) for place in places)
    last = _find_number(head, _LAST_RECORD)
    if last != (roots[-1].offset if roots else 0):
        defects.append(f"the offset of the last record at the root is {last}, but that record is at {roots[-1].offset if roots else 0}")
    for place, is_in_use in enumerate(records.in_use):
        if is_in_use and not reached[place]:
            defects.append(f"{records.name(place)} cannot be reached from the first record")
    return Directory(_find_text(head, _FILE_SET_ID), roots, tuple(defects))


def _check_head(meta: Mapping[int, bytes], head: Mapping[int, bytes]) -> list[str]:
    defects = []
    if _find_text(meta, 0x00020002) != MediaStorageDirectoryStorage:
        defects.append("its file meta information does not name the Media Storage Directory SOP Class")
    if _find_number(head, _CONSISTENCY_FLAG) != 0:
        defects.append("its File-set Consistency Flag says that inconsistencies are known")
    if _FILE_SET_ID not in head:
        defects.append("it has no File-set ID")
    return defects


def _follow(records: _Records, start: int, reached: bytearray, defects: list[str], origin: str) -> array[int]:
    """The places of the records of one directory entity, in order, and with them all below. A loop ends where it would begin again."""
    entity = array("I")
    offset = start
    while offset:
        place = records.find(offset)
        if place is None:
            defects.append(f"{origin} points to byte {offset}, where no record is")
            break
        if reached[place]:
            defects.append(f"{origin} points to the record at {offset}, which was reached before")
            break
        reached[place] = True
        if records.in_use[place]:
            entity.append(place)
        if lower := records.lower_offsets[place]:
            records.entities[place] = _follow(records, lower, reached, defects, f"the lower-level link of {records.name(place)}")
        origin = f"the next-record link of {records.name(place)}"
        offset = records.next_offsets[place]
    return entity


def _find_text(values: Mapping[int, bytes], tag: int) -> str:
    return values.get(tag, b"").strip(b" \0").decode("ascii", "replace")


def _find_number(values: Mapping[int, bytes], tag: int) -> int:
    value = values.get(tag, b"")
    return int(struct.unpack_from("<I" if len(value) >= 4 else "<H", value)[0]) if len(value) >= 2 else 0
