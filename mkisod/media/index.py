"""What is known of the objects of one job, read while they arrive, so that a finished retrieval leaves a sort and a join to do.

Any thread may tell it of a new object. It forgets nothing and promises nothing: an object it does not know, or that has changed since,
is read when it is asked for. Equal patients, studies, series and values are held once, however many instances say the same.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve

from mkisod.media.header import read_header
from mkisod.media.records import Elements, Instance, describe_instance

_Version = tuple[int, int, int]
_Value = TypeVar("_Value", bound=Hashable)


class ObjectIndex:
    """Objects by path. One index for each job."""

    def __init__(self) -> None:
        # Threads share both without a lock: each call sets whole values, and reading an object twice does no harm.
        self._known: dict[Path, tuple[_Version, Instance]] = {}
        self._shared: dict[Hashable, Any] = {}

    def describe(self, path: Path) -> Instance:
        """What the records over the object at `path` hold. Raises `Permanent(NONCONFORMANT)` or OSError."""
        status = path.stat()
        version = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._known.get(path)
        if known is None or known[0] != version:
            known = self._known[path] = (version, self._share_parts(describe_instance(read_header(path))))
        return known[1]

    def _share_parts(self, instance: Instance) -> Instance:
        """Most of what an instance says, its siblings say too."""
        return evolve(
            instance,
            sop_class_uid=self._share(instance.sop_class_uid),
            transfer_syntax_uid=self._share(instance.transfer_syntax_uid),
            study_instance_uid=self._share(instance.study_instance_uid),
            series_instance_uid=self._share(instance.series_instance_uid),
            identity=self._share(instance.identity),
            moment=self._share(instance.moment),
            patient=self._share_elements(instance.patient),
            study=self._share_elements(instance.study),
            series=self._share_elements(instance.series),
            leaf={tag: self._share(value) for tag, value in instance.leaf.items()},
        )

    def _share_elements(self, elements: Elements) -> Elements:
        shared: Elements = self._shared.setdefault(tuple(elements.items()), elements)
        return shared

    def _share(self, value: _Value) -> _Value:
        shared: _Value = self._shared.setdefault(value, value)
        return shared
