"""Compares a converted object with the one it was made of. Converters damage data with exit status 0; only what passes here counts.

Every element but a short list has to hold the same bytes, pixel data has to have the length that the attributes say, and where it was
not compressed it has to be the same, turned where the source was Big Endian. Raises `StructureDefect` that says what differs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from pydicom import dcmread, uid
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from mkisod.media.elements import Encoding, StructureDefect, read_elements
from mkisod.media.keys import TEXT_VRS

_BLOCK_BYTES = 1 << 20
_META_END = 0x00030000
_PIXEL_DATA = 0x7FE00010
_NUMBER_OF_FRAMES = 0x00280008
_LARGEST_OW_SAMPLE_BITS = 16

# What a change of colour space, the order of samples and the history of compression may change (PS3.3 C.7.6.3, C.7.6.1.1.5).
_MAY_CHANGE = frozenset({0x00280004, 0x00280006, 0x00282110, 0x00282112, 0x00282114, _NUMBER_OF_FRAMES})
_UNCOMPRESSED = frozenset(map(str, (uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian)))
_LOSSY = frozenset(map(str, (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless)))


def compare_conversion(source: Path, target: Path) -> bool:
    """Whether the object had been compressed with loss. Raises `StructureDefect` where the two say different things."""
    before, after = (dcmread(path, stop_before_pixels=True) for path in (source, target))
    syntax = str(before.file_meta.TransferSyntaxUID)
    if after.file_meta.get("TransferSyntaxUID") != uid.ExplicitVRLittleEndian:
        raise StructureDefect("the converter wrote another transfer syntax than Explicit VR Little Endian")
    if after.file_meta.get("MediaStorageSOPInstanceUID") != before.file_meta.get("MediaStorageSOPInstanceUID"):
        raise StructureDefect("the converter changed the SOP Instance UID")
    _compare_data_sets(before, after, "", is_big_endian=syntax == uid.ExplicitVRBigEndian)
    if int(before.get("NumberOfFrames") or 1) != int(after.get("NumberOfFrames") or 1):
        raise StructureDefect("the number of frames changed")
    encoding = Encoding(syntax == uid.ImplicitVRLittleEndian, syntax != uid.ExplicitVRBigEndian)
    with source.open("rb") as one, target.open("rb") as other:
        had_pixels, has_pixels = _find_pixel_data(one, source, encoding), _find_pixel_data(other, target, Encoding())
        if (had_pixels is None) != (has_pixels is None):
            raise StructureDefect("the pixel data was dropped or added")
        if had_pixels is not None and has_pixels is not None:
            _check_length(after, has_pixels[1])
            if syntax in _UNCOMPRESSED:
                is_turned = had_pixels[0] == b"OW" and not encoding.is_little_endian
                if is_turned and before.BitsAllocated > _LARGEST_OW_SAMPLE_BITS:
                    # dcmconv turns pairs of bytes; how 32 bits lie in OW in Big Endian is read differently by everybody.
                    raise StructureDefect(f"{before.BitsAllocated} bits allocated in Big Endian have no certain meaning")
                _compare_pixels(one, other, had_pixels[1], is_turned=is_turned)
    return syntax in _LOSSY or before.get("LossyImageCompression") == "01"


def _compare_data_sets(before: Dataset, after: Dataset, place: str, *, is_big_endian: bool) -> None:
    for tag in sorted({*before.keys(), *after.keys()}):
        if tag.element == 0 or tag in _MAY_CHANGE:  # group lengths are retired (PS3.5 7.2)
            continue
        if (tag in before) != (tag in after):
            raise StructureDefect(f"{place}{tag} was {'dropped' if tag in before else 'added'} by the converter")
        mine, other = before.get_item(tag), after.get_item(tag)
        if other.VR == "SQ":
            items, changed = before[tag].value, after[tag].value
            if before[tag].VR != "SQ" or len(items) != len(changed):
                raise StructureDefect(f"{place}{tag} has other items")
            for number in range(len(items)):
                _compare_data_sets(items[number], changed[number], f"{place}{tag}[{number}] ", is_big_endian=is_big_endian)
        elif is_big_endian and other.VR not in TEXT_VRS:
            if before[tag].value != after[tag].value:
                raise StructureDefect(f"{place}{tag} has another value")
        elif _find_bytes(mine) != _find_bytes(other):
            raise StructureDefect(f"{place}{tag} has another value")


def _find_bytes(element: DataElement | RawDataElement) -> bytes:
    """The value as encoded, without padding."""
    value = element.value
    return (value if isinstance(value, bytes) else str(value or "").encode()).rstrip(b" \0")


def _find_pixel_data(file: BinaryIO, path: Path, encoding: Encoding) -> tuple[bytes, int] | None:
    """VR and length of Pixel Data, at whose first byte `file` then stands; None where there is none."""
    size = path.stat().st_size
    file.seek(132)
    read_elements(file, size, Encoding(), (), stop_at=_META_END)
    read_elements(file, size, encoding, (), stop_at=_PIXEL_DATA)
    head = file.read(8 if encoding.is_implicit_vr else 12)
    order = "little" if encoding.is_little_endian else "big"
    if int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order) != _PIXEL_DATA:  # type: ignore[arg-type]
        return None
    return (b"OW" if encoding.is_implicit_vr else head[4:6]), int.from_bytes(head[-4:], order)  # type: ignore[arg-type]


def _check_length(after: Any, length: int) -> None:
    samples = after.Rows * after.Columns * after.get("SamplesPerPixel", 1) * int(after.get("NumberOfFrames") or 1)
    if after.get("PhotometricInterpretation") in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        samples = samples * 2 // 3  # two of three components are there for every second pixel only (PS3.3 C.7.6.3.1.2)
    expected = (samples * after.BitsAllocated + 7) // 8
    if length != expected + expected % 2:
        raise StructureDefect(f"the pixel data has {length} bytes instead of {expected}")


def _compare_pixels(one: BinaryIO, other: BinaryIO, length: int, *, is_turned: bool) -> None:
    while length > 0:
        before, after = one.read(min(_BLOCK_BYTES, length)), other.read(min(_BLOCK_BYTES, length))
        if is_turned:
            turned = bytearray(before)
            turned[0::2], turned[1::2] = before[1::2], before[0::2]
            before = bytes(turned)
        if before != after or not before:
            raise StructureDefect("the pixel data changed")
        length -= len(before)
