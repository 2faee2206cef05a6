"""Deaths of the daemon, counted for each job: a poisonous job never loops, an innocent one is never held for its neighbour's sake.

Pure. A death counts against a job that was in hand and had made no progress: no new object, no later phase. From the second on the job runs
alone; only deaths while alone count towards `MOST_LONE_CRASHES`, at which it is held. The numbers are written before the work, as if the
daemon were going to die of it, and taken back when it did not.
"""

from __future__ import annotations

from attrs import evolve, frozen

MOST_CRASHES_IN_COMPANY = 2
MOST_LONE_CRASHES = 5


@frozen
class Crashes:
    """`pending`: the attempt that is running counts as a death until it ends; `alone`: nothing else runs beside it."""

    in_company: int = 0
    while_alone: int = 0
    pending: bool = False
    alone: bool = False
    objects_before: int = 0  # received when the attempt began
    furthest_phase: int = 0  # that any attempt has reached

    @property
    def must_run_alone(self) -> bool:
        return self.in_company >= MOST_CRASHES_IN_COMPANY

    @property
    def is_poisonous(self) -> bool:
        return self.while_alone >= MOST_LONE_CRASHES


def begin_attempt(crashes: Crashes, objects_received: int) -> Crashes:
    """To be written before the work."""
    return evolve(crashes, pending=True, alone=crashes.must_run_alone, objects_before=objects_received)


def end_attempt(crashes: Crashes) -> Crashes:
    """The attempt ended, well or not: the daemon did not die of it. What had been counted before stays."""
    return evolve(crashes, pending=False, alone=False)


def note_death(crashes: Crashes, objects_received: int, phase: int) -> Crashes:
    """The job was found in hand at start, in its `phase` (0 is the first). Progress is a new object, or a phase no attempt has reached."""
    if not crashes.pending:
        return crashes
    if objects_received > crashes.objects_before or phase > crashes.furthest_phase:
        return Crashes(furthest_phase=max(phase, crashes.furthest_phase))
    ended = end_attempt(crashes)
    if crashes.alone:
        return evolve(ended, while_alone=ended.while_alone + 1)
    return evolve(ended, in_company=ended.in_company + 1)
