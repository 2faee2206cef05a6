"""A reception that keeps what it is given in one directory: enough for the receiver's own tests, its bench and its fuzzing."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from mkisod.pacs.reception import Offer


class DirectoryArrival:
    """Written beside its final name, then renamed. File names are numbers: nothing that came over the network is part of a path."""

    def __init__(self, directory: str, number: int) -> None:
        # Text, not Path: what a Path costs would show in the bench.
        self._part, self.path = f"{directory}/{number:06}.part", f"{directory}/{number:06}.dcm"
        self.fd: int | None = os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self.size_bytes: int | None = None

    def commit(self, size_bytes: int) -> None:
        self._close()
        self.size_bytes = size_bytes
        os.rename(self._part, self.path)  # noqa: PTH104 - as above

    def abort(self, error: OSError | None = None) -> None:  # noqa: ARG002 - the protocol
        self._close()
        os.unlink(self._part)  # noqa: PTH108 - as above

    def _close(self) -> None:
        fd, self.fd = self.fd, None
        assert fd is not None, "ended twice"
        os.close(fd)


class DirectoryReception:
    """Admits everything. `offers` and `arrivals` are in the order in which they came."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._prefix = str(directory)
        self.offers: list[Offer] = []
        self.arrivals: list[DirectoryArrival] = []
        self._lock = threading.Lock()

    def admit(self, offer: Offer) -> DirectoryArrival:
        with self._lock:
            self.offers.append(offer)
            arrival = DirectoryArrival(self._prefix, len(self.offers))
            self.arrivals.append(arrival)
        return arrival

    @property
    def files(self) -> list[Path]:
        """What is there, whole or not."""
        return sorted(self.directory.iterdir())
