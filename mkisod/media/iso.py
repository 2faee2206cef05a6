"""Writes and reads ISO 9660 images as PS3.12 Annex F wants them: level 1, no Rock Ridge, no Joliet, blank system identifier.

pycdlib writes; the contents of files are streamed by their paths, never held in memory. It stamps the time of writing into every
directory record, so `write_image` then sets each date to the one given: two images of the same input are the same bytes. The walk that
finds the dates is also how verify.py reads an image: written from ECMA-119, it shares no code with the writer.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from attrs import frozen
from pycdlib import PyCdlib

SECTOR_BYTES = 2048
LARGEST_EXTENT_BYTES = 0xFFFFFFFF
_COPY_BLOCK_BYTES = 1 << 20

_VOLUME_DESCRIPTOR_AT = 16 * SECTOR_BYTES
# ECMA-119 8.4: the volume descriptor's four dates (creation, modification, expiration, effective), and the root directory record.
_VOLUME_DATES_AT = {813: True, 830: True, 847: False, 864: True}
_ROOT_RECORD_AT = 156
_VOLUME_IDENTIFIER = slice(40, 72)
_SYSTEM_IDENTIFIER = slice(8, 40)
# ECMA-119 9.1: length, extent, data length, date, flags, identifier.
_RECORD_DATE_AT = 18
_IS_DIRECTORY = 0x02
_IS_CONTINUED = 0x80
_DEEPEST_LEVEL = 8


_DIRECTORY_NAME = re.compile(r"[A-Z0-9_]{1,8}")
_FILE_NAME = re.compile(r"[A-Z0-9_]{1,8}(\.[A-Z0-9_]{0,3})?")


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


def write_image(
    image: Path, volume_identifier: str, files: Sequence[tuple[str, Path]], moment: datetime, report_progress: Callable[[int, int], None]
) -> None:
    """Writes `files`, each a path in the image and the file that holds its content, in the order of the image's directories.

    `moment` is UTC. `report_progress` gets bytes done and bytes in all. Raises OSError.
    """
    oversized = any(source.stat().st_size > LARGEST_EXTENT_BYTES for _, source in files)
    writer = PyCdlib()
    writer.new(interchange_level=3 if oversized else 1, sys_ident="", vol_ident=volume_identifier, app_ident_str="MKISOD")
    directories: set[str] = set()
    for path, source in files:
        components = path.split("/")
        for depth in range(1, len(components)):
            directory = "/" + "/".join(components[:depth])
            if directory not in directories:
                directories.add(directory)
                writer.add_directory(directory)
        name = components[-1] if "." in components[-1] else components[-1] + "."
        writer.add_file(str(source), "/" + "/".join((*components[:-1], name)) + ";1")
    writer.write(str(image), blocksize=_COPY_BLOCK_BYTES, progress_cb=lambda done, total, _: report_progress(done, total))
    writer.close()
    _set_dates(image, moment)


def _set_dates(image: Path, moment: datetime) -> None:
    record_date = struct.pack("6Bb", moment.year - 1900, *moment.timetuple()[1:6], 0)
    volume_date = moment.strftime("%Y%m%d%H%M%S00").encode() + b"\0"
    no_date = b"0" * 16 + b"\0"
    with image.open("r+b") as file:
        offsets = [offset for _, offset, _ in _walk(file)]
        for offset in (_VOLUME_DESCRIPTOR_AT + _ROOT_RECORD_AT, *offsets):
            file.seek(offset + _RECORD_DATE_AT)
            file.write(record_date)
        for offset, known in _VOLUME_DATES_AT.items():
            file.seek(_VOLUME_DESCRIPTOR_AT + offset)
            file.write(volume_date if known else no_date)


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
    for path, _, record in _walk(file):
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


def _walk(file: BinaryIO) -> Iterator[tuple[str, int, bytes]]:
    """Path, offset in the image and bytes of every directory record, those for a directory itself and its parent included."""
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
            yield path, start + at, record
            if record[25] & _IS_DIRECTORY and identifier not in ("\0", "\1"):
                pending.append((path + "/", record, level + 1))
            at += length
