"""A walk that remembers objects says of each what one says that remembers nothing, whatever came before and however it is damaged."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pydicom.data
import pytest

from mkisod.explicit_vr import LAST_TAG, SHORT_VRS, Walker, walk_short
from mkisod.pacs.part10 import measure_file_meta

FILES = Path(pydicom.data.__file__).parent / "test_files"
NAMES = ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "test-SR.dcm")
LAST_TAGS = (LAST_TAG, 0x0020000E, 0x00090000)


class Odd:
    """Every second element is wanted."""

    def __contains__(self, tag: object) -> bool:
        return isinstance(tag, int) and bool(tag >> 1 & 1)


def walk_plainly(data: bytes, offset: int, end: int, last_tag: int) -> tuple[int, dict[int, bytes]]:
    """What PS3.5 7.1.2 says, one element after the other, from nothing but the bytes."""
    end, found = min(end, len(data)), {}
    while offset + 8 <= end:
        group, element, length = (int.from_bytes(data[at : at + 2], "little") for at in (offset, offset + 2, offset + 6))
        tag = group * 0x10000 + element
        if data[offset + 4 : offset + 6] not in SHORT_VRS or offset + 8 + length > end or tag > last_tag:
            break
        if tag in Odd():
            found[tag] = data[offset + 8 : offset + 8 + length]
            if tag == last_tag:
                return offset + 8 + length, found
        offset += 8 + length
    return offset, found


def data_sets() -> list[bytes]:
    files = [(FILES / name).read_bytes() for name in NAMES]
    return [data[measure_file_meta(data) :][:6000] for data in files]


def damage(rng: random.Random, data: bytes) -> bytes:
    """As a sibling differs, and worse: bytes changed, taken out, put in."""
    changed = bytearray(data)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(changed))
        match rng.randrange(3):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                del changed[at : at + rng.randrange(20)]
            case 2:
                changed[at:at] = struct.pack("<HH2sH", rng.randrange(0x30), rng.randrange(0x100), b"SH", 4) + rng.randbytes(4)
    return bytes(changed)


def starts(data: bytes) -> Iterator[int]:
    """Where the walk around it begins anew: at the start, and at each element that it leaves to others."""
    offset = 0
    while offset < len(data):
        yield offset
        offset = walk_plainly(data, offset, len(data), LAST_TAG)[0] + 12


@pytest.mark.parametrize("last_tag", LAST_TAGS)
@pytest.mark.parametrize("seed", range(6))
def test_what_is_remembered_changes_nothing(seed: int, last_tag: int) -> None:
    rng, walker = random.Random(seed), Walker(Odd(), last_tag)  # noqa: S311
    originals = data_sets()
    for _ in range(200):
        data = damage(rng, rng.choice(originals))
        end = rng.choice((len(data), len(data) + 100, rng.randrange(len(data))))
        for offset in starts(data):
            found: dict[int, bytes] = {}
            plainly = walk_plainly(data, offset, end, last_tag)
            assert (walker.walk(data, offset, end, found), found) == plainly
            found = {}
            assert (walk_short(data, offset, end, last_tag, Odd(), found), found) == plainly


def test_bytes_that_no_element_begins_with_are_left_alone() -> None:
    for data in (b"", bytes(7), bytes(100), b"\xff" * 100, struct.pack("<HH2sH", 0xFFFE, 0xE000, b"SH", 0) * 9):
        found: dict[int, bytes] = {}
        assert (Walker(Odd()).walk(data, 0, len(data), found), found) == (0, {})


def test_its_memory_is_bounded() -> None:
    walker = Walker(Odd())
    for number in range(5000):
        data = struct.pack("<HH2sH", 0x0008, 2 * (number % 20000) & 0xFFFF, b"LO", 50) + bytes(50)
        assert walker.walk(data, 0, len(data), {}) == len(data)
    large = struct.pack("<HH2sH", 0x0009, 0x0010, b"LO", 0xFFFE) + bytes(0xFFFE)
    assert walker.walk(large, 0, len(large), {}) == len(large)
    held = walker._known.values()
    assert len(held) <= 256
    assert sum(len(stretch) for stretch, _ in held) < 256 * 2048
