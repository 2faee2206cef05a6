"""How the spool stands: how many jobs wait, and for how long, and how much room there is. For the metrics."""

from __future__ import annotations

import os
from datetime import datetime

from attrs import frozen

from mkisod.job.record import is_job_id, read_job_time
from mkisod.job.status import State
from mkisod.spool.layout import Layout


@frozen
class Census:
    """`waiting`: jobs that nobody has in hand, by state. A held job is one that failed."""

    waiting: dict[str, int]
    oldest_queued_s: float
    free_bytes: int


def take_census(layout: Layout, now: datetime) -> Census:
    """Costs a listing of each directory; no file is opened. Raises OSError."""
    queued, deferred, held = ([name for name in os.listdir(place) if is_job_id(name)] for place in layout.waiting_places)
    # The name of a job says when it was claimed.
    oldest_s = (now - read_job_time(min(queued))).total_seconds() if queued else 0.0
    room = os.statvfs(layout.root)
    waiting = {State.QUEUED: len(queued), State.DEFERRED: len(deferred), State.FAILED: len(held)}
    return Census({str(state): number for state, number in waiting.items()}, max(0.0, oldest_s), room.f_bavail * room.f_frsize)
