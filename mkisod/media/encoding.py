"""Elements as they stand in a DICOMDIR: Explicit VR Little Endian (PS3.10 8.6), the writing side. Pure.

A disc has tens of thousands of records, and a dict of values weighs five times what their encoding does. So what a leaf record holds is
encoded once, when its object arrives, and is looked into where somebody asks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import cache

from attrs import frozen
from pydicom.datadict import dictionary_VR

from mkisod.media.elements import LONG_VRS
from mkisod.media.keys import TEXT_VRS

# Tag to value, encoded in Explicit VR Little Endian; of a sequence its items.
Elements = Mapping[int, bytes]

# PS3.5 7.1.2: tag, VR and a length of 2 bytes, or 2 bytes reserved and a length of 4.
_SHORT_HEAD, _LONG_LENGTH = struct.Struct("<HH2sH"), struct.Struct("<I")


@frozen(eq=False)
class EncodedElements(Mapping[int, bytes]):
    """Elements by ascending tag, in the one `bytes` that a record takes over as it is. Looked up, texts have no padding."""

    encoded: bytes

    def __getitem__(self, tag: int) -> bytes:
        for found, _, value_at, end in self._walk():
            if found == tag:
                value = self.encoded[value_at:end]
                return value.strip(b" \0") if dictionary_VR(tag) in TEXT_VRS else value
        raise KeyError(tag)

    def __iter__(self) -> Iterator[int]:
        return (tag for tag, _, _, _ in self._walk())

    def __len__(self) -> int:
        return sum(1 for _ in self._walk())

    def add(self, tag: int, value: bytes) -> EncodedElements:
        """The same with one element more, which it does not have yet."""
        at = next((at for found, at, _, _ in self._walk() if found > tag), len(self.encoded))
        return EncodedElements(b"".join((self.encoded[:at], encode_element(tag, _find_vr(tag), value), self.encoded[at:])))

    def _walk(self) -> Iterator[tuple[int, int, int, int]]:
        """Tag, and where the element begins, its value begins, and both end. Lengths are right: `encode_element` wrote them."""
        at = 0
        while at < len(self.encoded):
            group, element, vr, length = _SHORT_HEAD.unpack_from(self.encoded, at)
            value_at = at + _SHORT_HEAD.size
            if vr in LONG_VRS:
                (length,) = _LONG_LENGTH.unpack_from(self.encoded, value_at)
                value_at += _LONG_LENGTH.size
            yield group << 16 | element, at, value_at, value_at + length
            at = value_at + length


def encode_elements(elements: Elements) -> EncodedElements:
    """Values are padded to even length."""
    if isinstance(elements, EncodedElements):
        return elements
    return EncodedElements(b"".join([encode_element(tag, _find_vr(tag), elements[tag]) for tag in sorted(elements)]))


def encode_element(tag: int, vr: bytes, value: bytes) -> bytes:
    """One element (PS3.5 7.1.2). The value is padded to even length."""
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    if vr in LONG_VRS:
        return _SHORT_HEAD.pack(tag >> 16, tag & 0xFFFF, vr, 0) + _LONG_LENGTH.pack(len(value)) + value
    return _SHORT_HEAD.pack(tag >> 16, tag & 0xFFFF, vr, len(value)) + value


@cache  # of the few hundred tags that a directory may hold
def _find_vr(tag: int) -> bytes:
    return dictionary_VR(tag).encode()
