"""Where everything lies in an ISO 9660 image, and the bytes in front of the contents (ECMA-119). Pure, and linear but for sorting.

An image as PS3.12 Annex F wants it: level 1 (level 3 only where a file is larger than one extent can be), blank system identifier, no
Rock Ridge, no Joliet. In order: the system area, the volume descriptors, the path tables (L, M), the directories in the order of the
path table, the contents in the order given. Equal input makes equal bytes. The readers of iso.py share no code with this.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from attrs import define, frozen

SECTOR_BYTES = 2048
LARGEST_EXTENT_BYTES = 0xFFFFFFFF
# Every extent of a file but the last ends with a sector (ECMA-119 6.4.1).
_LONGEST_PART_BYTES = LARGEST_EXTENT_BYTES // SECTOR_BYTES * SECTOR_BYTES

_SYSTEM_AREA_SECTORS = 16
_DESCRIPTOR_SECTORS = 2
_DIRECTORY_FLAG, _CONTINUED_FLAG = 0x02, 0x80
_ITSELF, _PARENT = b"\0", b"\1"
_APPLICATION = b"MKISOD"
_NO_DATE = b"0" * 16 + b"\0"
# ECMA-119 9.1 up to the identifier: lengths, extent and size in both byte orders, date, flags, interleaving (none), volume number.
_RECORD = struct.Struct("<BB4s4s4s4s7sBBBHHB")
_RECORD_HEAD_BYTES = 33


@frozen
class Layout:
    """`head` is written at the start; the content of file n begins at `starts[n]`; what nothing is written to is zero."""

    head: bytes
    starts: Sequence[int]
    size_bytes: int


@define(eq=False)
class _Directory:
    identifier: bytes
    parent: _Directory | None
    folders: dict[bytes, _Directory]
    files: list[int]
    number: int = 0  # its place in the path table, from 1
    sector: int = 0
    sectors: int = 0


@frozen
class _Entry:
    """What one directory record says, but for itself and its parent."""

    identifier: bytes
    sector: int
    size_bytes: int
    flags: int


def lay_out(volume_identifier: str, files: Sequence[str], sizes_bytes: Sequence[int], moment: datetime) -> Layout:
    """`files` are paths of `is_iso_name`, with slashes, each once. Every date is `moment`, which is UTC."""
    directories = _sort_directories(_make_tree(files))
    table_bytes = sum(8 + len(directory.identifier) + len(directory.identifier) % 2 for directory in directories)
    table_sectors = _count_sectors(table_bytes)
    first_table = _SYSTEM_AREA_SECTORS + _DESCRIPTOR_SECTORS
    sector = first_table + 2 * table_sectors
    for directory in directories:
        directory.sector, directory.sectors = sector, _measure(directory, files, sizes_bytes)
        sector += directory.sectors
    head = bytearray(sector * SECTOR_BYTES)
    starts = array("Q")
    for size_bytes in sizes_bytes:
        starts.append(sector * SECTOR_BYTES)
        sector += max(1, _count_sectors(size_bytes))  # an empty file has a place of its own, too: some readers look there
    date = struct.pack("6Bb", moment.year - 1900, *moment.timetuple()[1:6], 0)
    for number, order in enumerate("<>"):
        table = b"".join(_encode_table_entry(directory, order) for directory in directories)
        at = (first_table + number * table_sectors) * SECTOR_BYTES
        head[at : at + table_bytes] = table
    for directory in directories:
        _put_directory(head, directory, _list_entries(directory, files, sizes_bytes, starts), date)
    root = _encode_record(_describe(directories[0], _ITSELF), date)
    at = _SYSTEM_AREA_SECTORS * SECTOR_BYTES
    tables = (table_bytes, first_table, first_table + table_sectors)
    head[at : at + SECTOR_BYTES] = _encode_descriptor(volume_identifier, sector, tables, root, moment)
    head[at + SECTOR_BYTES : at + SECTOR_BYTES + 7] = b"\xffCD001\1"  # the end of the descriptors (ECMA-119 8.3)
    return Layout(bytes(head), starts, sector * SECTOR_BYTES)


def _count_sectors(size_bytes: int) -> int:
    return -(-size_bytes // SECTOR_BYTES)


def _make_tree(files: Sequence[str]) -> _Directory:
    root = _Directory(_ITSELF, None, {}, [])
    for number, path in enumerate(files):
        directory = root
        for name in path.split("/")[:-1]:
            identifier = name.encode("ascii")
            if (folder := directory.folders.get(identifier)) is None:
                folder = directory.folders[identifier] = _Directory(identifier, directory, {}, [])
            directory = folder
        directory.files.append(number)
    return root


def _sort_directories(root: _Directory) -> list[_Directory]:
    """In the order of the path table: by level, then by parent, then by identifier (ECMA-119 6.9.1)."""
    directories = [root]
    for number, directory in enumerate(directories, 1):  # the list grows while it is walked: that is level by level
        directory.number = number
        directories += (directory.folders[identifier] for identifier in sorted(directory.folders, key=_make_sort_key))
    return directories


def _make_sort_key(identifier: bytes) -> tuple[bytes, bytes]:
    """By name, then by extension, each as if filled up with spaces (ECMA-119 9.3): of two that begin alike the shorter one comes first."""
    name, _, extension = identifier.partition(b";")[0].partition(b".")
    return name, extension


def _list_entries(
    directory: _Directory, files: Sequence[str], sizes_bytes: Sequence[int], starts: Sequence[int] | None = None
) -> Iterator[_Entry]:
    """The records of a directory in their order. Without `starts` their lengths are right, and nobody looks at the rest."""
    named: dict[bytes, _Directory | int] = {**directory.folders}
    for number in directory.files:
        name = files[number].rpartition("/")[2]
        named[f"{name if '.' in name else name + '.'};1".encode("ascii")] = number
    for identifier in sorted(named, key=_make_sort_key):
        found = named[identifier]
        if isinstance(found, _Directory):
            yield _describe(found, identifier)
            continue
        left, sector = sizes_bytes[found], starts[found] // SECTOR_BYTES if starts else 0
        while left > LARGEST_EXTENT_BYTES:
            yield _Entry(identifier, sector, _LONGEST_PART_BYTES, _CONTINUED_FLAG)
            left, sector = left - _LONGEST_PART_BYTES, sector + _LONGEST_PART_BYTES // SECTOR_BYTES
        yield _Entry(identifier, sector, left, 0)


def _describe(directory: _Directory, identifier: bytes) -> _Entry:
    return _Entry(identifier, directory.sector, directory.sectors * SECTOR_BYTES, _DIRECTORY_FLAG)


def _measure(directory: _Directory, files: Sequence[str], sizes_bytes: Sequence[int]) -> int:
    """Its sectors. A record never crosses from one to the next (ECMA-119 6.8.1.1)."""
    at = 2 * (_RECORD_HEAD_BYTES + 1)
    for entry in _list_entries(directory, files, sizes_bytes):
        at = _find_room(at, _measure_record(entry.identifier))
        at += _measure_record(entry.identifier)
    return _count_sectors(at)


def _measure_record(identifier: bytes) -> int:
    return _RECORD_HEAD_BYTES + len(identifier) + (len(identifier) + 1) % 2


def _find_room(at: int, length: int) -> int:
    return at if at % SECTOR_BYTES + length <= SECTOR_BYTES else _count_sectors(at) * SECTOR_BYTES


def _put_directory(head: bytearray, directory: _Directory, entries: Iterable[_Entry], date: bytes) -> None:
    at = directory.sector * SECTOR_BYTES
    for entry in (_describe(directory, _ITSELF), _describe(directory.parent or directory, _PARENT), *entries):
        record = _encode_record(entry, date)
        at = _find_room(at, len(record))
        head[at : at + len(record)] = record
        at += len(record)


def _encode_record(entry: _Entry, date: bytes) -> bytes:
    """One directory record (ECMA-119 9.1)."""
    identifier = entry.identifier
    length = _measure_record(identifier)
    place = (*_encode_both(entry.sector), *_encode_both(entry.size_bytes))
    record = _RECORD.pack(length, 0, *place, date, entry.flags, 0, 0, 1, 1 << 8, len(identifier)) + identifier
    return record.ljust(length, b"\0")


def _encode_both(number: int) -> tuple[bytes, bytes]:
    """A number in both byte orders, little endian first (ECMA-119 7.3.3)."""
    return number.to_bytes(4, "little"), number.to_bytes(4, "big")


def _encode_table_entry(directory: _Directory, order: str) -> bytes:
    """One path table record (ECMA-119 9.4)."""
    identifier = directory.identifier
    parent = directory.parent or directory
    entry = struct.pack(f"{order}BBIH", len(identifier), 0, directory.sector, parent.number) + identifier
    return entry + b"\0" * (len(entry) % 2)


def _encode_descriptor(volume_identifier: str, sectors: int, tables: tuple[int, int, int], root: bytes, moment: datetime) -> bytes:
    """The primary volume descriptor (ECMA-119 8.4). What is not named is blank, or zero."""
    table_bytes, table_l, table_m = tables
    date = moment.strftime("%Y%m%d%H%M%S00").encode() + b"\0"
    one = struct.pack("<H", 1) + struct.pack(">H", 1)
    return b"".join(
        (
            b"\1CD001\1\0",
            b" " * 32,  # system identifier (PS3.12 F.2.2.1)
            volume_identifier.encode("ascii").ljust(32),
            bytes(8),
            *_encode_both(sectors),
            bytes(32),
            one,  # volumes in the set
            one,  # the number of this one
            struct.pack("<H", SECTOR_BYTES) + struct.pack(">H", SECTOR_BYTES),
            *_encode_both(table_bytes),
            struct.pack("<II", table_l, 0),
            struct.pack(">II", table_m, 0),
            root,
            b" " * 3 * 128,  # volume set, publisher, data preparer
            _APPLICATION.ljust(128),
            b" " * 3 * 37,  # files with copyright, abstract, bibliography
            date,  # created
            date,  # changed
            _NO_DATE,  # never expires
            date,  # may be used
            b"\1\0",
        )
    ).ljust(SECTOR_BYTES, b"\0")
