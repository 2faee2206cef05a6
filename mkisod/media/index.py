"""What is known of the objects of one job, read while they arrive, so that a finished retrieval leaves a sort and a join to do.

Any thread may tell it of a new object. It forgets nothing and promises nothing: an object it does not know, or that has changed since,
is read when it is asked for. Equal patients, studies and series are held once, however many instances say the same.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve

from mkisod.media.encoding import Elements
from mkisod.media.header import Header, read_header
from mkisod.media.records import Instance, describe_instance
from mkisod.media.sums import make_version

_Value = TypeVar("_Value", bound=Hashable)


class ObjectIndex:
    """Objects by path. One index for each job."""

    def __init__(self) -> None:
        # Threads share both without a lock: each call sets whole values, and reading an object twice does no harm.
        self._known: dict[str, tuple[int, Instance]] = {}
        self._shared: dict[Hashable, Any] = {}

    def describe(self, path: Path) -> Instance:
        """What the records over the object at `path` hold. Raises `Permanent(NONCONFORMANT)` or OSError."""
        status = path.stat()
        known = self._known.get(os.fspath(path))
        if known is None or known[0] != make_version(status):
            return self.keep(status, read_header(path))
        return known[1]

    def keep(self, status: os.stat_result, header: Header) -> Instance:
        """The same for an object whose head was read when it had this status. Raises `Permanent(NONCONFORMANT)`."""
        instance = self._share_parts(describe_instance(header))
        self._known[instance.path] = (make_version(status), instance)
        return instance

    def _share_parts(self, instance: Instance) -> Instance:
        """Most of what an instance says, its siblings say too."""
        return evolve(
            instance,
            study_instance_uid=self._share(instance.study_instance_uid),
            series_instance_uid=self._share(instance.series_instance_uid),
            identity=self._share(instance.identity),
            moment=self._share(instance.moment),
            patient=self._share_elements(instance.patient),
            study=self._share_elements(instance.study),
            series=self._share_elements(instance.series),
        )

    def _share_elements(self, elements: Elements) -> Elements:
        shared: Elements = self._shared.setdefault(tuple(elements.items()), elements)
        return shared

    def _share(self, value: _Value) -> _Value:
        shared: _Value = self._shared.setdefault(value, value)
        return shared
