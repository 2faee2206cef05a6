"""What becomes of a failed attempt: tried again at a time, or given up.

Pure: the time and the randomness are arguments. A transient failure is tried again with exponential back-off and jitter until
`give_up_after_h` after the request came in (or was released); one where the PACS answers but instances do not come until
`incomplete_give_up_h` after the first such failure, since those rarely come by themselves; an accession that is not found at the times of
`not_found_retry_s`, since studies are often ordered before they are archived; a study that is near line until `nearline_timeout_s` after it
was first said to be. Any other permanent failure is final at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from attrs import frozen

from mkisod.errors import Code, Problem

_JITTER = 0.25  # of the delay, up or down, so that jobs which failed together do not come back together


@frozen
class RetryRules:
    """The keys of `[jobs]`, and one of `[pacs.NAME]`: seconds and hours."""

    retry_first_s: float = 30.0
    retry_max_s: float = 900.0
    not_found_retry_s: tuple[float, ...] = (30.0, 120.0, 600.0)
    give_up_after_h: float = 24.0
    incomplete_give_up_h: float = 1.0
    nearline_timeout_s: float = 3600.0  # of the PACS


@frozen
class History:
    """What counts of a job's past. `begun`: claimed or released; `failures`: transient ones since then, in a row."""

    begun: datetime
    failures: int = 0
    not_found: int = 0
    incomplete_since: datetime | None = None
    near_line_since: datetime | None = None


def note_failure(history: History, problem: Problem, now: datetime) -> History:
    """The history with one more failed attempt."""
    is_incomplete, is_not_found = problem.code is Code.INCOMPLETE, problem.code is Code.ACCESSION_NOT_FOUND
    return History(
        begun=history.begun,
        failures=history.failures + (not is_not_found),
        not_found=history.not_found + is_not_found,
        incomplete_since=(history.incomplete_since or now) if is_incomplete else None,
        near_line_since=history.near_line_since or (now if problem.code is Code.STUDY_UNAVAILABLE else None),
    )


def plan_retry(history: History, problem: Problem, rules: RetryRules, now: datetime, chance: float) -> datetime | None:
    """When to try again after a failure that `history` holds already; None: give up. `chance` is uniform in 0..1."""
    if problem.code is Code.ACCESSION_NOT_FOUND:
        if history.not_found > len(rules.not_found_retry_s):
            return None
        return now + timedelta(seconds=rules.not_found_retry_s[history.not_found - 1])
    if not problem.transient:
        return None
    since, hours = history.begun, rules.give_up_after_h
    if problem.code is Code.INCOMPLETE and history.incomplete_since is not None:
        since, hours = history.incomplete_since, min(rules.incomplete_give_up_h, rules.give_up_after_h)
    if now - since >= timedelta(hours=hours):
        return None
    # 2**30 first delays are beyond any maximum; a larger exponent would only overflow.
    delay_s = min(rules.retry_max_s, rules.retry_first_s * 2 ** min(history.failures - 1, 30))
    retry_at = now + timedelta(seconds=delay_s * (1 - _JITTER + 2 * _JITTER * chance))
    if problem.code is Code.STUDY_UNAVAILABLE and history.near_line_since is not None:
        patience_ends = history.near_line_since + timedelta(seconds=rules.nearline_timeout_s)
        return min(retry_at, patience_ends) if patience_ends > now else retry_at
    return retry_at
