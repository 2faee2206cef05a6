"""What is known of the objects of one job, read while they arrive, so that a finished retrieval leaves a sort and a join to do.

Any thread may tell it of a new object. It forgets nothing and promises nothing: an object it does not know, or that has changed since,
is read when it is asked for. Equal patients, studies and series are held once, however many instances say the same.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from mkisod.media.header import Header, HeaderReader
from mkisod.media.records import Instance, Siblings, describe_instance
from mkisod.media.sums import make_version


class ObjectIndex:
    """Objects by path. One index for each job."""

    def __init__(self) -> None:
        # Threads share all three without a lock: each call sets whole values, and reading an object twice does no harm.
        self._known: dict[str, tuple[int, Instance]] = {}
        self._headers = HeaderReader()
        self._siblings = Siblings()

    def describe(self, path: Path) -> Instance:
        """What the records over the object at `path` hold. Raises `Permanent(NONCONFORMANT)` or OSError."""
        status = path.stat()
        known = self._known.get(os.fspath(path))
        if known is None or known[0] != make_version(status):
            return self._keep(self._headers.read(path), status)
        return known[1]

    def read(self, file: BinaryIO, path: Path, status: os.stat_result) -> Instance:
        """The same, anew, from the open file that has this status and stands at its first byte."""
        return self._keep(self._headers.read_from(file, path, status.st_size), status)

    def _keep(self, header: Header, status: os.stat_result) -> Instance:
        instance = describe_instance(header, self._siblings)
        self._known[instance.path] = (make_version(status), instance)
        return instance
