"""Reads the elements of a data set by their lengths: the values that are wanted, and for the rest only that they end where they say.

A header needs a few dozen of an object's elements, and every instance of a disc is read at least twice, so this is written for speed:
what is not wanted is passed over, however large it is, and what lies together is read at once. Knows the encodings of PS3.5 7.1 to 7.5
and A.4; interprets no value. What does not fit together raises `StructureDefect`, so an object that was cut short is noticed here.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Container, Iterator
from typing import BinaryIO

from attrs import frozen

from mkisod.explicit_vr import LAST_TAG, Walker, walk_short

UNDEFINED_LENGTH = 0xFFFFFFFF
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_DEEPEST_NESTING = 64
# Nothing that is asked for comes near this; a larger value is passed over, unread.
_LARGEST_VALUE_BYTES = 64 << 20
_SHORTEST_HEAD_BYTES, _LONGEST_HEAD_BYTES = 8, 12  # of an element: its tag, its VR and its length (PS3.5 7.1.2, 7.1.3)
_WINDOW_BYTES = 8192


# How much of a file is best read at once: nearly every head, and around each read threads take the interpreter from one another.
HEAD_BYTES = 16384


class StructureDefect(ValueError):
    """A data set that does not end where its elements say."""


@frozen
class Encoding:
    """How a data set is encoded."""

    is_implicit_vr: bool = False
    is_little_endian: bool = True


EXPLICIT_LITTLE_ENDIAN = Encoding()


def read_elements(
    file: BinaryIO,
    end: int | None,
    encoding: Encoding,
    wanted: Container[int],
    *,
    stop_at: int | None = None,
    walker: Walker | None = None,
    _depth: int = 0,
) -> dict[int, bytes]:
    """The values of the `wanted` tags, as encoded, from where `file` stands to `end`; of a sequence, its items.

    `end` None: up to an Item Delimitation Item. `stop_at`: up to the first tag that is not below it, whose head is not consumed.
    `walker`: one made for the same tags and the same `stop_at`, that remembers other objects. Raises `StructureDefect`.
    """
    if _depth > _DEEPEST_NESTING:
        raise StructureDefect(f"sequences are nested more than {_DEEPEST_NESTING} deep")
    order = "<" if encoding.is_little_endian else ">"
    unpack_explicit, unpack_implicit = struct.Struct(order + "HH2sH").unpack_from, struct.Struct(order + "HHI").unpack_from
    unpack_length = struct.Struct(order + "I").unpack_from
    read, seek, is_implicit_vr = file.read, file.seek, encoding.is_implicit_vr
    values: dict[int, bytes] = {}
    at = file.tell()
    window, start = b"", at  # what has been read of the file, and from where: hundreds of elements lie in one
    last_tag = LAST_TAG if stop_at is None else stop_at - 1
    short_end = end if encoding == EXPLICIT_LITTLE_ENDIAN else None
    while end is None or at < end:
        offset = at - start
        if short_end is not None:
            if walker is None:
                at = start + walk_short(window, offset, short_end - start, last_tag, wanted, values)
            else:
                at = start + walker.walk(window, offset, short_end - start, values)
            offset = at - start
            if at >= short_end:
                break
        if offset + _LONGEST_HEAD_BYTES > len(window):
            seek(at)
            window, start, offset = read(_WINDOW_BYTES), at, 0
            if len(window) < _SHORTEST_HEAD_BYTES:
                raise StructureDefect("it ends in the middle of an element")
        vr, value_at = b"", at + 8
        if is_implicit_vr:
            group, element, length = unpack_implicit(window, offset)
        else:
            group, element, vr, length = unpack_explicit(window, offset)
            if group == 0xFFFE:
                group, element, length = unpack_implicit(window, offset)
            elif vr in LONG_VRS:
                if len(window) < offset + _LONGEST_HEAD_BYTES:
                    raise StructureDefect("it ends in the middle of an element")
                (length,) = unpack_length(window, offset + 8)
                value_at = at + 12
        tag = group << 16 | element
        if stop_at is not None and tag >= stop_at:
            break
        if group == 0xFFFE:
            if tag == _ITEM_END and end is None:
                at = value_at
                break
            raise StructureDefect(f"an item tag stands where an element is expected, at byte {at}")
        if length == UNDEFINED_LENGTH:
            seek(value_at)
            if tag == _PIXEL_DATA:
                _skip_fragments(file, order)
            else:
                # UN of undefined length holds items in Implicit VR Little Endian (PS3.5 6.2.2).
                _skip_items(file, Encoding(is_implicit_vr=True) if vr == b"UN" else encoding, _depth + 1)
            at = file.tell()
            if tag in wanted and at - value_at <= _LARGEST_VALUE_BYTES:
                seek(value_at)
                values[tag] = read(at - value_at - 8)
            continue
        at = value_at + length
        if end is not None and at > end:
            raise StructureDefect(f"it ends {at - end} bytes before the end of ({group:04X},{element:04X})")
        if tag in wanted and length <= _LARGEST_VALUE_BYTES:
            value = window[value_at - start : at - start]
            if len(value) != length:
                seek(value_at)
                value = read(length)
                if len(value) != length:
                    raise StructureDefect("it ends in the middle of an element")
            values[tag] = value
    seek(at)
    return values


def _skip_items(file: BinaryIO, encoding: Encoding, depth: int) -> None:
    """To behind the Sequence Delimitation Item."""
    order = "<" if encoding.is_little_endian else ">"
    while True:
        tag, length = _read_item_head(file, order)
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM:
            raise StructureDefect(f"no item where one is expected, at byte {file.tell() - 8}")
        if length == UNDEFINED_LENGTH:
            read_elements(file, None, encoding, (), _depth=depth)
        else:
            file.seek(length, io.SEEK_CUR)


def _skip_fragments(file: BinaryIO, order: str) -> None:
    """To behind the Sequence Delimitation Item of encapsulated pixel data (PS3.5 A.4)."""
    while True:
        tag, length = _read_item_head(file, order)
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM or length == UNDEFINED_LENGTH:
            raise StructureDefect(f"no fragment of pixel data where one is expected, at byte {file.tell() - 8}")
        file.seek(length, io.SEEK_CUR)


def _read_item_head(file: BinaryIO, order: str) -> tuple[int, int]:
    head = file.read(8)
    if len(head) < 8:
        raise StructureDefect("it ends within a sequence or within its pixel data")
    group, element, length = struct.unpack(order + "HHI", head)
    return group << 16 | element, length


class _Everything:
    def __contains__(self, _tag: object) -> bool:
        return True


EVERYTHING = _Everything()


def read_items(value: bytes, encoding: Encoding, wanted: Container[int] = EVERYTHING) -> Iterator[tuple[int, bytes, dict[int, bytes]]]:
    """The items of a sequence from its value: offset of the item tag, the whole item as encoded, and the wanted elements of it.

    Raises `StructureDefect`.
    """
    file = io.BytesIO(value)
    order = "<" if encoding.is_little_endian else ">"
    at = 0
    while at < len(value):
        tag, length = _read_item_head(file, order)
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM:
            raise StructureDefect(f"no item where one is expected, at byte {at} of a sequence")
        end = None if length == UNDEFINED_LENGTH else file.tell() + length
        elements = read_elements(file, end, encoding, wanted)
        yield at, value[at : file.tell()], elements
        at = file.tell()
