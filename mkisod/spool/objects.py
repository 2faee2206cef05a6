"""The instances a job has received: `objects/` in its directory.

Promises that an instance stands under its final name only when it is whole, and that no name is made of what came over the network: it
is a digest of the SOP Instance UID. What is there is what has been received; there is no other record of progress. Instances are not
synced one by one, since the archive still has them; all of them are before publication. On failure (OSError) nothing new is there.
"""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from mkisod.spool.durable import FILE_MODE, Disk

_SUFFIX = ".dcm"
_PARTIAL = ".part"


def object_name(sop_instance_uid: str) -> str:
    return hashlib.blake2b(sop_instance_uid.encode("utf-8", "surrogateescape"), digest_size=20).hexdigest() + _SUFFIX


class Objects:
    """Used by many threads at once."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk
        self._numbers = itertools.count()
        with contextlib.suppress(FileExistsError):
            disk.make_directory(directory)
        for path in self._directory.glob("*" + _PARTIAL):  # of a daemon that died
            disk.remove(path)

    def create(self) -> ObjectFile:
        path = self._directory / f"{next(self._numbers)}{_PARTIAL}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        return ObjectFile(fd, path, self._directory, self._disk)

    def path(self, sop_instance_uid: str) -> Path:
        return self._directory / object_name(sop_instance_uid)

    def list_paths(self) -> Iterator[Path]:
        """All whole instances, in no particular order."""
        return (self._directory / name for name in os.listdir(self._directory) if name.endswith(_SUFFIX))


class ObjectFile:
    """One instance being written to `fd`; ended by exactly one of `keep` and `discard`."""

    def __init__(self, fd: int, path: Path, directory: Path, disk: Disk) -> None:
        self.fd = fd
        self._path = path
        self._directory = directory
        self._disk = disk

    def keep(self, sop_instance_uid: str) -> None:
        """Make it visible under its final name, in place of what was there. Raises OSError; then nothing of it is left."""
        os.close(self.fd)
        try:
            self._disk.rename(self._path, self._directory / object_name(sop_instance_uid))
        except OSError:
            self._disk.remove(self._path)
            raise

    def equals(self, sop_instance_uid: str) -> bool:
        """Whether what stands under the final name already has the same bytes. All must be written."""
        return filecmp.cmp(self._path, self._directory / object_name(sop_instance_uid), shallow=False)

    def discard(self) -> None:
        os.close(self.fd)
        self._disk.remove(self._path)
