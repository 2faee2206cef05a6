"""Reads what a disc needs to know of a DICOM file: the file meta information and the attributes that a directory record may hold.

Promises: every element is passed over by its length up to the end of the file, so that an object cut short is noticed; no pixel is
read, nothing is decoded, memory stays flat however large the file is. What is no DICOM file (PS3.10), or is damaged, raises
`Permanent(NONCONFORMANT)` with the name of the file; OSError passes through.
"""

from __future__ import annotations

import io
import os
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from attrs import frozen
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pydicom.valuerep import PersonName

from mkisod.errors import Code, Permanent
from mkisod.explicit_vr import Walker
from mkisod.media.elements import EVERYTHING, EXPLICIT_LITTLE_ENDIAN, HEAD_BYTES, Encoding, StructureDefect, read_elements
from mkisod.media.keys import TAGS

_PREAMBLE_BYTES = 128
_META_END = 0x00030000
# A deflated data set is inflated no further than this; its head lies far before it, and a bomb stays small.
_INFLATED_HEAD_BYTES = 16 << 20
_PIXEL_DATA_GROUP_AT = 0x7FE00000

_WANTED = frozenset(TAGS.values())


@frozen
class Header:
    """The head of one DICOM file. `values` are as encoded; ask `find_value` and `find_text` by keyword."""

    path: Path
    size_bytes: int
    media_sop_class_uid: str  # (0002,0002)
    media_sop_instance_uid: str  # (0002,0003)
    transfer_syntax_uid: str  # (0002,0010)
    encoding: Encoding
    values: Mapping[int, bytes]

    def find_value(self, keyword: str) -> bytes:
        """The value of a text element as it is encoded in the file, without padding; b"" where it is absent."""
        return self.values.get(TAGS[keyword], b"").strip(b" \0")

    def find_text(self, keyword: str) -> str:
        """The same, decoded by the Specific Character Set of the object; what does not fit it is replaced, never refused."""
        return decode_text(self.find_value(keyword), self.find_value("SpecificCharacterSet"), keyword)


def decode_text(value: bytes, character_set: bytes, keyword: str = "") -> str:
    """`value` is one text value as it stands in a file; `character_set` is (0008,0005) as it stands there, possibly of several values."""
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    try:
        encodings = convert_encodings([name.strip() for name in character_set.decode("ascii", "replace").split("\\")])
        if keyword.endswith("Name"):
            return str(PersonName(value, encodings))
        return decode_bytes(value, encodings, set())
    except (LookupError, ValueError):  # no such character set, not even a name of one, or not its bytes
        return value.decode("latin-1")


def read_header(path: Path) -> Header:
    """Reads the head of the DICOM file at `path`. Raises `Permanent(NONCONFORMANT)` or OSError."""
    return HeaderReader().read(path)


class HeaderReader:
    """Reads the heads of many objects, and is the faster the more they are alike. Threads may share one."""

    def __init__(self) -> None:
        self._meta_walker = Walker(EVERYTHING, _META_END - 1)
        self._walker = Walker(_WANTED)

    def read(self, path: Path) -> Header:
        """As `read_header`."""
        with path.open("rb", buffering=HEAD_BYTES) as file:
            return self.read_from(file, path, os.fstat(file.fileno()).st_size)

    def read_from(self, file: BinaryIO, path: Path, size_bytes: int) -> Header:
        """The same from an open file that stands at its first byte; `path` only names it."""
        if file.read(_PREAMBLE_BYTES + 4)[_PREAMBLE_BYTES:] != b"DICM":
            raise Permanent(Code.NONCONFORMANT, f"{path.name} is not a DICOM file (PS3.10): it has no DICM prefix.")
        try:
            meta = read_elements(file, size_bytes, EXPLICIT_LITTLE_ENDIAN, EVERYTHING, stop_at=_META_END, walker=self._meta_walker)
            transfer_syntax_uid = _decode_uid(meta, 0x00020010)
            # Every other transfer syntax, private ones too, encodes its data set in Explicit VR Little Endian (PS3.5 A.4).
            encoding = Encoding(transfer_syntax_uid == ImplicitVRLittleEndian, transfer_syntax_uid != ExplicitVRBigEndian)
            if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(_INFLATED_HEAD_BYTES), _INFLATED_HEAD_BYTES)
                values = read_elements(io.BytesIO(data), len(data), encoding, _WANTED, stop_at=_PIXEL_DATA_GROUP_AT)
            else:
                values = read_elements(file, size_bytes, encoding, _WANTED, walker=self._walker)
        except (StructureDefect, zlib.error) as defect:
            raise Permanent(Code.NONCONFORMANT, f"{path.name} is damaged: {defect}.") from defect
        return Header(
            path, size_bytes, _decode_uid(meta, 0x00020002), _decode_uid(meta, 0x00020003), transfer_syntax_uid, encoding, values
        )


def _decode_uid(meta: Mapping[int, bytes], tag: int) -> str:
    """Held once, however many hold it: the retrieval, the disc, and its check."""
    return sys.intern(meta.get(tag, b"").strip(b" \0").decode("ascii", "replace"))
