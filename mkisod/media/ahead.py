"""Reads an object once, from its first byte to its last, as soon as it has come: what directory records hold, and its digest.

Around each system call the threads of the daemon take the interpreter from one another, and the one that receives has to wait for it: so an
object costs three of them, and one for each MiB. Raises as `read_header` does; nothing is kept then.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from mkisod.media.index import ObjectIndex
from mkisod.media.sums import Digests

BLOCK_BYTES = 1 << 20  # most objects in one piece


class ObjectReader:
    """Tells `index` and `digests` of what it reads. Used by one thread; `is_over` is asked between the blocks of a large object."""

    def __init__(self, index: ObjectIndex, digests: Digests, is_over: Callable[[], bool]) -> None:
        self._index = index
        self._digests = digests
        self._is_over = is_over
        self._block = memoryview(bytearray(BLOCK_BYTES))

    def read(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            count = os.preadv(fd, [self._block], 0)
            self._index.read(cast(BinaryIO, _Begun(fd, self._block[:count], status.st_size)), path, status)
            digest = hashlib.sha256(self._block[:count])
            at = count
            while at < status.st_size and (count := os.preadv(fd, [self._block], at)):
                if self._is_over():
                    return
                digest.update(self._block[:count])
                at += count
            self._digests.keep(status, digest.digest())
        finally:
            os.close(fd)


class _Begun:
    """A file of which the first bytes, or all, are in memory."""

    def __init__(self, fd: int, begin: memoryview, size_bytes: int) -> None:
        self._fd, self._begin, self._size_bytes, self._at = fd, begin, size_bytes, 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset if whence == io.SEEK_SET else self._at + offset
        return self._at

    def read(self, size: int) -> bytes:
        start, stop = self._at, min(self._at + size, self._size_bytes)
        data = bytes(self._begin[start:stop]) if stop <= len(self._begin) else os.pread(self._fd, max(0, stop - start), start)
        self._at += len(data)
        return data
