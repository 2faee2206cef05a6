"""Elements in Explicit VR Little Endian (PS3.5 7.1.2), in which nearly every object comes: what is done for each element of each object.

Read where an object arrives and again for the disc, each time with a general walk around it that knows all encodings. This is the part of
it that has to be fast. The instances of a series differ in few of their hundreds of elements, so what was the same in an object before is
compared, not read. Pure but for that memory, which is bounded; raises nothing, whatever the bytes are.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Mapping
from typing import Final

# PS3.5 7.1.2: these have a length of 2 bytes, all others 2 reserved bytes and a length of 4.
SHORT_VRS: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
LAST_TAG: Final = 0xFFFDFFFF  # items and delimiters, which have no VR, come behind it

_AS_NUMBERS: Final = frozenset(int.from_bytes(vr, "little") for vr in SHORT_VRS)  # cost less than two bytes each
_HEAD_BYTES: Final = 8
_ALL: Final = 1 << 62
_unpack_head = struct.Struct("<HHHH").unpack_from  # tag, VR and length

_STRETCH_ELEMENTS: Final = 8
_STRETCH_BYTES: Final = 2048  # of a longer one the memory would cost more than it saves
_MOST_STRETCHES: Final = 256


def walk_short(  # noqa: PLR0917 - called for each element that is not short
    window: bytes, offset: int, end: int, last_tag: int, wanted: Container[int], values: dict[int, bytes], most: int = _ALL
) -> int:
    """Puts what is wanted into `values`, from `offset` on, as long as an element lies whole before `end` and has a short VR.

    Returns the offset of the first that is not such a one, or is beyond `last_tag`; behind `last_tag` itself where that is wanted; or
    behind the `most` elements that are to be read.
    """
    unpack, short_vrs = _unpack_head, _AS_NUMBERS
    end = min(end, len(window))
    last = end - _HEAD_BYTES
    for _ in range(most):
        if offset > last:
            break
        group, element, vr, length = unpack(window, offset)
        stop: int = offset + _HEAD_BYTES + length
        tag = group << 16 | element
        if vr not in short_vrs or stop > end or tag > last_tag:
            break
        if tag in wanted:
            values[tag] = window[offset + _HEAD_BYTES : stop]
            if tag == last_tag:
                return stop
        offset = stop
    return offset


class Walker:
    """The same for many objects. A stretch of elements that begins as one before did is compared with it as a whole.

    Threads may share one: each of its values is set as a whole, and losing one does no harm.
    """

    def __init__(self, wanted: Container[int], last_tag: int = LAST_TAG) -> None:
        self._wanted = wanted
        self._last_tag = last_tag
        self._known: dict[bytes, tuple[bytes, Mapping[int, bytes]]] = {}  # by the first head: a stretch, and what is wanted of it

    def walk(self, window: bytes, offset: int, end: int, values: dict[int, bytes]) -> int:
        """As `walk_short`, to the end."""
        end = min(end, len(window))
        find_known, last_tag = self._known.get, self._last_tag
        while True:
            known = find_known(window[offset : offset + _HEAD_BYTES])
            if known is not None and window.startswith(known[0], offset, end):
                stretch, found = known
            else:
                new: dict[int, bytes] = {}
                stop = walk_short(window, offset, end, last_tag, self._wanted, new, _STRETCH_ELEMENTS)
                if stop == offset:
                    return offset
                stretch, found = window[offset:stop], new
                if len(stretch) <= _STRETCH_BYTES:
                    self._remember(stretch, new)
            values.update(found)
            offset += len(stretch)
            if last_tag in found:
                return offset

    def _remember(self, stretch: bytes, found: Mapping[int, bytes]) -> None:
        if len(self._known) >= _MOST_STRETCHES:
            self._known.clear()
        self._known[stretch[:_HEAD_BYTES]] = (stretch, found)
