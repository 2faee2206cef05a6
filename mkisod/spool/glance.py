"""Whether a directory has to be listed again.

Its own time of change says so without a listing; and where much stands in it while much changes, listings keep a distance, so that they
cost a small part of the time however much it is.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

_SETTLED_NS = 1_000_000_000  # coarser than the clock of a file system with Unix permissions
_TRUSTED_S = 600.0  # what a clock that was set back, or that of a server, has hidden is found after this time at the latest


class Glance:
    """Used by one thread. `distance_s`: between two listings, for each hundred names. `due_s`: when to look again, where the last look
    was too early; None: it was not.
    """

    def __init__(self, path: Path, distance_s: float) -> None:
        self.due_s: float | None = None
        self._path = path
        self._distance_s = distance_s
        self._known_ns: int | None = None
        self._next_s = self._listed_s = -math.inf

    def list_names(self, now_s: float) -> list[str] | None:
        """Whatever has a name there; None where nothing has changed since the last listing, or where it is too early. Raises OSError."""
        # Real time, since it is compared with that of the file system. A change in the same tick of that clock as the one before it leaves
        # the time of change as it is: so that is relied upon only where it was old before the listing.
        began_ns = time.time_ns()
        changed_ns = os.stat(self._path).st_mtime_ns
        is_known = changed_ns == self._known_ns and now_s < self._listed_s + _TRUSTED_S
        self.due_s = None if is_known or now_s >= self._next_s else self._next_s
        if is_known or self.due_s is not None:
            return None
        names = os.listdir(self._path)
        self._known_ns = changed_ns if began_ns - changed_ns > _SETTLED_NS else None
        self._listed_s = now_s
        self._next_s = now_s + len(names) // 100 * self._distance_s
        return names
