"""The layout of an image, held against ECMA-119 by a reading of its bytes that knows nothing of the code; and the copying of contents."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from mkisod.media.iso_layout import LARGEST_EXTENT_BYTES, SECTOR_BYTES, Layout, lay_out
from mkisod.media.iso_writer import write_image

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GIB = 1 << 30

names = st.text("ABYZ_019", min_size=1, max_size=8)
file_names = st.one_of(names, st.tuples(names, st.text("AZ_09", max_size=3)).map(".".join))
paths = st.lists(names, max_size=7).flatmap(lambda folders: file_names.map(lambda name: "/".join((*folders, name))))
sizes = st.one_of(st.integers(0, 3 * SECTOR_BYTES), st.integers(0, 3 * LARGEST_EXTENT_BYTES))


def are_a_tree(files: list[tuple[str, int]]) -> bool:
    """No path is another's folder, and no two are one file: a name ends with a dot or not, that is the same."""
    taken = {path.removesuffix(".") for path, _ in files}
    folders = {path.rsplit("/", depth)[0] for path, _ in files for depth in range(1, path.count("/") + 1)}
    return len(taken) == len(files) and not taken & folders


trees = st.lists(st.tuples(paths, sizes), min_size=1, max_size=60).filter(are_a_tree)


@frozen
class Record:
    """A directory record as its bytes say."""

    identifier: bytes
    sector: int
    size_bytes: int
    flags: int


def read_both(data: bytes, at: int, width: int = 4) -> int:
    little, big = data[at : at + width], data[at + width : at + 2 * width]
    assert little == big[::-1]
    return int.from_bytes(little, "little")


def read_directory(head: bytes, sector: int, size_bytes: int) -> Iterator[Record]:
    assert size_bytes % SECTOR_BYTES == 0
    for start in range(sector * SECTOR_BYTES, sector * SECTOR_BYTES + size_bytes, SECTOR_BYTES):
        at, end = start, start + SECTOR_BYTES
        assert head[at], "a sector of a directory without a record"
        while at < end and head[at]:
            record = head[at : at + head[at]]
            assert at + len(record) <= end, "a record crosses a sector"
            assert len(record) % 2 == 0
            assert record[18:25] == bytes((126, 1, 2, 3, 4, 5, 0))
            assert record[1] == record[26] == record[27] == 0
            assert read_both(record, 28, 2) == 1
            identifier = record[33 : 33 + record[32]]
            assert record[33 + record[32] :] in (b"", b"\0")
            yield Record(identifier, read_both(record, 2), read_both(record, 10), record[25])
            at += len(record)
        assert not any(head[at:end])


def read_tree(layout: Layout) -> dict[str, list[tuple[int, int]]]:
    """The extents of every file, after everything in front of the contents has been looked at."""
    head = layout.head
    descriptor = head[16 * SECTOR_BYTES : 17 * SECTOR_BYTES]
    assert descriptor[:8] == b"\1CD001\1\0"
    assert head[17 * SECTOR_BYTES : 17 * SECTOR_BYTES + 7] == b"\xffCD001\1"
    assert not any(head[: 16 * SECTOR_BYTES])
    assert read_both(descriptor, 80) * SECTOR_BYTES == layout.size_bytes
    assert (read_both(descriptor, 120, 2), read_both(descriptor, 124, 2), read_both(descriptor, 128, 2)) == (1, 1, SECTOR_BYTES)
    found: dict[str, list[tuple[int, int]]] = {}
    continued = ""
    (root,) = read_records(descriptor[156:190])
    assert root.identifier == b"\0"
    assert root.flags == 2
    folders = [("", root, root)]
    for folder, itself, parent in folders:  # grows
        own, above, *records = read_directory(head, itself.sector, itself.size_bytes)
        assert (own.identifier, own.sector, own.size_bytes, own.flags) == (b"\0", itself.sector, itself.size_bytes, 2)
        assert (above.identifier, above.sector, above.size_bytes, above.flags) == (b"\1", parent.sector, parent.size_bytes, 2)
        keys = [key_of(record.identifier) for record in records]
        assert keys == sorted(keys)
        for record in records:
            if record.flags & 2:
                folders.append((f"{folder}{record.identifier.decode()}/", record, itself))
                continue
            name, version = record.identifier.decode().split(";")
            assert version == "1"
            path = folder + name.removesuffix(".")
            assert (path in found) == (path == continued)
            continued = path if record.flags & 0x80 else ""
            found.setdefault(path, []).append((record.sector * SECTOR_BYTES, record.size_bytes))
    check_path_tables(head, descriptor, folders)
    return found


def read_records(data: bytes) -> list[Record]:
    return [Record(data[33 : 33 + data[32]], read_both(data, 2), read_both(data, 10), data[25])]


def key_of(identifier: bytes) -> tuple[bytes, bytes]:
    """ECMA-119 9.3: filled up with spaces."""
    name, _, extension = identifier.split(b";")[0].partition(b".")
    return name + b" " * (8 - len(name)), extension + b" " * (3 - len(extension))


def check_path_tables(head: bytes, descriptor: bytes, folders: list[tuple[str, Record, Record]]) -> None:
    """Level by level, by parent, by name; the same in both orders of bytes; and each entry leads to its directory."""
    size = read_both(descriptor, 132)
    places = struct.unpack_from("<I", descriptor, 140)[0], struct.unpack_from(">I", descriptor, 148)[0]
    assert descriptor[144:148] == descriptor[152:156] == bytes(4)
    tables = []
    for place, order in zip(places, "<>", strict=True):
        table, at, entries = head[place * SECTOR_BYTES :], 0, []
        while at < size:
            length, sector, parent = struct.unpack_from(f"{order}BxIH", table, at)
            entries.append((table[at + 8 : at + 8 + length], sector, parent))
            at += 8 + length + length % 2
        assert at == size
        tables.append(entries)
    assert tables[0] == tables[1]
    numbers = {record.sector: number for number, (_, record, _) in enumerate(folders, 1)}
    assert tables[0] == [(record.identifier, record.sector, numbers[parent.sector]) for _, record, parent in folders]


@given(trees)
def test_every_file_has_its_place_and_every_record_its_order(files: list[tuple[str, int]]) -> None:
    listed, sizes_bytes = [path for path, _ in files], [size for _, size in files]
    layout = lay_out("LABEL", listed, sizes_bytes, MOMENT)
    assert layout == lay_out("LABEL", listed, sizes_bytes, MOMENT)
    found = read_tree(layout)
    at = len(layout.head)
    assert at % SECTOR_BYTES == 0
    assert len(found) == len(files)
    for (path, size), start in zip(files, layout.starts, strict=True):
        assert start == at, "contents lie in the order given, without gaps"
        for offset, length in (extents := found[path.removesuffix(".")]):
            assert offset == at
            at += length
        assert sum(length for _, length in extents) == size
        assert len(extents) == 1 or size > LARGEST_EXTENT_BYTES
        assert all(length % SECTOR_BYTES == 0 for _, length in extents[:-1])
        at = start + max(1, -(-size // SECTOR_BYTES)) * SECTOR_BYTES
    assert at == layout.size_bytes


def test_records_are_ordered_by_name_then_by_extension() -> None:
    """Where the order of whole identifiers is another one: a semicolon is more than a digit, and a full stop is less."""
    listed = ["B", "A.A", "A_/X", "A0/X", "A", "A.0", "A_0", "A1", "AA.0"]
    found = read_tree(lay_out("LABEL", listed, [1] * len(listed), MOMENT))
    assert [path for path in found if "/" not in path] == ["A", "A.0", "A.A", "A1", "AA.0", "A_0", "B"]


@pytest.mark.parametrize("count", [43, 44, 45, 2000])
def test_a_directory_grows_by_whole_sectors(count: int) -> None:
    """Records of 44 bytes and two of 34: 44 of them fill the first sector."""
    listed = [f"DICOM/IN{number:06d}" for number in range(count)]
    layout = lay_out("LABEL", listed, [1] * count, MOMENT)
    assert list(read_tree(layout)) == listed


@pytest.mark.parametrize(("size", "count"), [(LARGEST_EXTENT_BYTES, 1), (LARGEST_EXTENT_BYTES + 1, 2), (9 * GIB, 3)])
def test_a_file_has_as_few_extents_as_it_can(size: int, count: int) -> None:
    assert len(read_tree(lay_out("LABEL", ["A", "B"], [size, 1], MOMENT))["A"]) == count


def test_what_cannot_be_copied_in_the_kernel_is_copied_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused at once, and refused in the middle of a file; in no case another image."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number, size in enumerate((0, 1, SECTOR_BYTES, 5 << 20)):
        (tree / f"F{number}").write_bytes(os.urandom(size))
    files = sorted(path.name for path in tree.iterdir())
    write_image(tmp_path / "copied", "LABEL", tree, files, MOMENT)
    copied, calls = os.copy_file_range, []

    def refuse_in_the_middle(source: int, target: int, count: int, *offsets: int) -> int:
        calls.append(count)
        if len(calls) % 2 == 0:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return copied(source, target, min(count, 1 << 20), *offsets)

    monkeypatch.setattr(os, "copy_file_range", refuse_in_the_middle)
    write_image(tmp_path / "refused", "LABEL", tree, files, MOMENT)
    assert len(calls) > len(files)
    assert (tmp_path / "refused").read_bytes() == (tmp_path / "copied").read_bytes()


def test_a_kernel_that_copies_nothing_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems say 0 where they do not do it."""
    (tmp_path / "A").write_bytes(bytes(range(256)) * 40)
    write_image(tmp_path / "copied", "LABEL", tmp_path, ["A"], MOMENT)
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
    write_image(tmp_path / "read", "LABEL", tmp_path, ["A"], MOMENT)
    assert (tmp_path / "read").read_bytes() == (tmp_path / "copied").read_bytes()


def test_a_file_that_became_shorter_makes_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "A").write_bytes(bytes(10_000))
    copied = os.copy_file_range

    def shorten(source: int, target: int, count: int, *offsets: int) -> int:
        os.truncate(tmp_path / "A", 5_000)
        return copied(source, target, count, *offsets)

    monkeypatch.setattr(os, "copy_file_range", shorten)
    with pytest.raises(OSError, match="shorter"):
        write_image(tmp_path / "image", "LABEL", tmp_path, ["A"], MOMENT)


def test_a_full_disk_is_no_reason_to_copy_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "A").write_bytes(bytes(10_000))

    def fail(*_: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", fail)
    with pytest.raises(OSError, match="No space") as raised:
        write_image(tmp_path / "image", "LABEL", tmp_path, ["A"], MOMENT)
    assert raised.value.errno == errno.ENOSPC
