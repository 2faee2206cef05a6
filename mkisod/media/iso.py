"""Reads ISO 9660 images, ours and others', and knows which names they may hold (PS3.12 Annex F: level 1).

Written from ECMA-119; it shares no code with the writer (iso_layout.py), which it is there to check. Whatever is wrong raises
`ImageDefect`; names are those of ISO 9660 itself, and extensions of it are passed over.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from attrs import frozen

SECTOR_BYTES = 2048
_VOLUME_DESCRIPTOR_AT = 16 * SECTOR_BYTES
# ECMA-119 8.4.
_ROOT_RECORD_AT = 156
_VOLUME_IDENTIFIER = slice(40, 72)
_SYSTEM_IDENTIFIER = slice(8, 40)
# ECMA-119 9.1: the flags of a directory record.
_IS_DIRECTORY = 0x02
_IS_CONTINUED = 0x80
_DEEPEST_LEVEL = 8

_DIRECTORY_NAME = re.compile(r"[A-Z0-9_]{1,8}")
_FILE_NAME = re.compile(r"[A-Z0-9_]{1,8}(\.[A-Z0-9_]{1,3})?")


class ImageDefect(ValueError):
    """An image that cannot be read as ISO 9660."""


@frozen
class ImageFile:
    """A file in an image: its path without version, with a slash between components, and where its bytes lie, as (offset, size) each."""

    path: str
    extents: tuple[tuple[int, int], ...]

    @property
    def size_bytes(self) -> int:
        return sum(size for _, size in self.extents)


@frozen
class ImageVolume:
    """The identifiers of an image and its size as the volume descriptor states it."""

    volume_identifier: str
    system_identifier: str
    size_bytes: int


def is_iso_name(path: str) -> bool:
    """Whether a path with slashes is one of ISO 9660 level 1 (ECMA-119 7.5, 10.1)."""
    *directories, name = path.split("/")
    return (
        len(directories) < _DEEPEST_LEVEL
        and all(_DIRECTORY_NAME.fullmatch(directory) for directory in directories)
        and _FILE_NAME.fullmatch(name) is not None
    )


def is_image(file: BinaryIO) -> bool:
    """Whether it has the standard identifier where an image has it (ECMA-119 8.4.2)."""
    file.seek(_VOLUME_DESCRIPTOR_AT + 1)
    return file.read(5) == b"CD001"


def read_volume(file: BinaryIO) -> ImageVolume:
    """Raises `ImageDefect`."""
    descriptor = _read_descriptor(file)
    (sectors,) = struct.unpack_from("<I", descriptor, 80)
    return ImageVolume(
        descriptor[_VOLUME_IDENTIFIER].decode("ascii", "replace").rstrip(" "),
        descriptor[_SYSTEM_IDENTIFIER].decode("ascii", "replace").rstrip(" "),
        sectors * SECTOR_BYTES,
    )


def list_files(file: BinaryIO) -> tuple[ImageFile, ...]:
    """The files of an image in the order of its directories. Raises `ImageDefect`."""
    files: list[ImageFile] = []
    continued: tuple[tuple[int, int], ...] = ()
    for path, record in _walk(file):
        if record[25] & _IS_DIRECTORY:
            continue
        extent, size = struct.unpack_from("<I4xI", record, 2)
        continued = (*continued, (extent * SECTOR_BYTES, size))
        if not record[25] & _IS_CONTINUED:
            files.append(ImageFile(path, continued))
            continued = ()
    return tuple(files)


def _read_descriptor(file: BinaryIO) -> bytes:
    file.seek(_VOLUME_DESCRIPTOR_AT)
    descriptor = file.read(SECTOR_BYTES)
    if len(descriptor) != SECTOR_BYTES or descriptor[:6] != b"\x01CD001":
        raise ImageDefect("There is no ISO 9660 volume descriptor at sector 16.")
    return descriptor


def _walk(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of every directory record, those for a directory itself and its parent included."""
    file.seek(0, 2)
    end = file.tell()
    pending = [("", _read_descriptor(file)[_ROOT_RECORD_AT : _ROOT_RECORD_AT + 34], 1)]
    seen: set[int] = set()
    while pending:
        folder, directory, level = pending.pop(0)
        extent, size = struct.unpack_from("<I4xI", directory, 2)
        start = extent * SECTOR_BYTES
        if start + size > end or start in seen or level > _DEEPEST_LEVEL:
            raise ImageDefect(f"The directory {folder or '/'} lies outside the image, is entered twice, or is nested too deeply.")
        seen.add(start)
        file.seek(start)
        data = file.read(size)
        at = 0
        while at < len(data):
            length = data[at]
            if length == 0:  # records do not cross sectors; what is left of one is zero
                at = (at // SECTOR_BYTES + 1) * SECTOR_BYTES
                continue
            record = data[at : at + length]
            if length < 34 or len(record) < 33 + record[32]:
                raise ImageDefect(f"The directory {folder or '/'} holds a damaged record.")
            identifier = record[33 : 33 + record[32]].decode("ascii", "replace")
            path = folder + identifier.split(";")[0].removesuffix(".")
            yield path, record
            if record[25] & _IS_DIRECTORY and identifier not in ("\0", "\1"):
                pending.append((path + "/", record, level + 1))
            at += length
