"""An instance in a file, as it is sent: what its File Meta Information says, and where its data set lies. The data set is not read."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import frozen

from mkisod.errors import Code, Permanent
from mkisod.pacs.negotiation import is_storage_sop_class, is_uid
from mkisod.pacs.part10 import InvalidFileMeta, decode_file_meta, is_part10, measure_file_meta

_MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
_HEAD_BYTES = 4096
_LARGEST_META_BYTES = 1 << 20


class NotDicom(Exception):
    """A file that does not claim to be a DICOM file (PS3.10)."""


class DicomDirectory(NotDicom):
    """A DICOMDIR: no instance."""


@frozen
class StoredInstance:
    """`offset` and `size_bytes` are those of the data set in the file."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    offset: int
    size_bytes: int


def read_stored(path: Path) -> StoredInstance:
    """Raises `NotDicom` or `DicomDirectory`; `Permanent(NONCONFORMANT)` for a DICOM file that cannot be sent; OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        head = os.read(fd, _HEAD_BYTES)
        if not is_part10(head):
            raise NotDicom
        offset = measure_file_meta(head)
        if len(head) < offset <= _LARGEST_META_BYTES:
            head += os.read(fd, offset - len(head))
        values = decode_file_meta(head[:offset])
        size_bytes = os.fstat(fd).st_size - offset
    except InvalidFileMeta as error:
        raise _refuse(path, str(error)) from error
    finally:
        os.close(fd)

    def uid(element: int) -> str:
        return values.get(element, b"").decode("latin-1").strip(" \0")

    stored = StoredInstance(path, uid(0x0002), uid(0x0003), uid(0x0010), offset, size_bytes)
    if stored.sop_class_uid == _MEDIA_STORAGE_DIRECTORY:
        raise DicomDirectory
    if not is_storage_sop_class(stored.sop_class_uid):
        raise _refuse(path, "its SOP class is none of storage")
    if not is_uid(stored.sop_instance_uid) or not is_uid(stored.transfer_syntax_uid):
        raise _refuse(path, "its File Meta Information lacks a UID")
    if size_bytes <= 0:
        raise _refuse(path, "it has no data set")
    return stored


def _refuse(path: Path, why: str) -> Permanent:
    return Permanent(Code.NONCONFORMANT, f"{path.name} cannot be sent: {why}.")
