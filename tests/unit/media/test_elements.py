"""The reader of elements: what is cut short or made up is noticed, and nothing else happens."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset

from mkisod.errors import Permanent
from mkisod.media.directory import read_directory
from mkisod.media.elements import EVERYTHING, Encoding, StructureDefect, read_elements, read_items
from mkisod.media.header import HeaderReader
from mkisod.media.records import describe_instance
from tests.media.objects import make_object, make_object_with_all_keys


def encode(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def read(data: bytes) -> None:
    describe_instance(HeaderReader().read_from(io.BytesIO(data), Path("object"), len(data)))


OBJECT = encode(make_object())
REPORT = encode(make_object_with_all_keys(uid.ComprehensiveSRStorage, 1))


def make_undefined(ds: Dataset) -> bytes:
    for element in ds:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
    return encode(ds)


def test_an_object_cut_short_anywhere_is_refused() -> None:
    for data in (OBJECT, REPORT, make_undefined(make_object_with_all_keys(uid.ComprehensiveSRStorage, 1))):
        read(data)
        refused = 0
        for end in range(len(data)):
            try:
                read(data[:end])
            except Permanent:
                refused += 1
        # An end right behind an element is one that nobody can tell; what is missing there may be missing for good.
        assert refused > len(data) * 0.9


@pytest.mark.parametrize("missing", [1, 2, 15])
def test_pixel_data_cut_short_is_refused(missing: int) -> None:
    with pytest.raises(Permanent, match=f"ends {missing} bytes before the end of \\(7FE0,0010\\)"):
        read(OBJECT[:-missing])


@given(st.integers(0, len(REPORT) - 1), st.binary(min_size=1, max_size=8))
def test_damaged_bytes_are_read_or_refused(at: int, damage: bytes) -> None:
    try:
        read(REPORT[:at] + damage + REPORT[at + len(damage) :])
    except Permanent as refusal:
        assert refusal.message  # noqa: PT017 - any other exception is the failure


@given(st.binary(max_size=200))
def test_any_bytes_behind_the_prefix_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(Permanent):
        read(bytes(128) + b"DICM" + data)
    read_directory(io.BytesIO(bytes(128) + b"DICM" + data), len(data) + 132)


def test_sequences_nested_without_end_are_refused() -> None:
    data = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000
    with pytest.raises(StructureDefect, match="nested"):
        read_elements(io.BytesIO(data), len(data), Encoding(), EVERYTHING)


def test_items_have_their_offsets_and_bytes() -> None:
    item = b"\xfe\xff\x00\xe0\x0a\0\0\0\x08\0\x60\0CS\x02\0CT"
    found = list(read_items(item + item, Encoding()))
    assert [(at, raw, values) for at, raw, values in found] == [(0, item, {0x00080060: b"CT"}), (18, item, {0x00080060: b"CT"})]


def test_a_large_value_that_nobody_wants_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "object"
    data = OBJECT[: OBJECT.rindex(b"\xe0\x7f\x10\x00")]
    size = 3 << 30
    with path.open("wb") as file:
        file.write(data + b"\xe0\x7f\x10\x00OW\0\0" + size.to_bytes(4, "little"))
        file.truncate(file.tell() + size)  # sparse
    with path.open("rb") as file:
        header = HeaderReader().read_from(file, path, path.stat().st_size)
    assert describe_instance(header).size_bytes > size
