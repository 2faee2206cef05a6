"""What is known of the objects of one job, read while they arrive, so that a finished retrieval leaves a sort and a join to do.

Any thread may tell it of a new object. It forgets nothing and promises nothing: an object it does not know, or that has changed since,
is read when it is asked for. Equal patients, studies and series are held once, however many instances say the same.
"""

from __future__ import annotations

from pathlib import Path

from attrs import evolve

from mkisod.media.header import read_header
from mkisod.media.records import Elements, Instance, describe_instance

_Version = tuple[int, int, int]


class ObjectIndex:
    """Objects by path. One index for each job."""

    def __init__(self) -> None:
        # Threads share both without a lock: each call sets whole values, and reading an object twice does no harm.
        self._known: dict[Path, tuple[_Version, Instance]] = {}
        self._shared: dict[tuple[tuple[int, bytes], ...], Elements] = {}

    def describe(self, path: Path) -> Instance:
        """What the records over the object at `path` hold. Raises `Permanent(NONCONFORMANT)` or OSError."""
        status = path.stat()
        version = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._known.get(path)
        if known is None or known[0] != version:
            instance = describe_instance(read_header(path))
            instance = evolve(
                instance, patient=self._share(instance.patient), study=self._share(instance.study), series=self._share(instance.series)
            )
            known = self._known[path] = (version, instance)
        return known[1]

    def _share(self, elements: Elements) -> Elements:
        return self._shared.setdefault(tuple(elements.items()), elements)
