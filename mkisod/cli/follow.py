"""Following one request on the terminal until it is finished: a bar where somebody looks, else a line for each change."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from attrs import evolve, field, frozen
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from mkisod.cli.terminal import describe_age, describe_bytes, describe_state, say
from mkisod.errors import Code, Transient
from mkisod.job.status import State, Status

_LOOK_INTERVAL_S = 0.2
_RATE_SPAN_S = 5.0  # over which the rate of arrival is taken

ReadStatus = Callable[[], Status | None]


@frozen
class Rate:
    """How fast bytes arrive, from the statuses of the last seconds."""

    seen: tuple[tuple[float, int], ...] = field(default=())  # monotonic seconds, bytes received

    def note(self, now_s: float, bytes_received: int) -> Rate:
        kept = tuple(point for point in self.seen if now_s - point[0] <= _RATE_SPAN_S)
        return evolve(self, seen=(*kept, (now_s, bytes_received)))

    @property
    def bytes_per_s(self) -> float:
        if len(self.seen) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self.seen[0], self.seen[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0


def follow(read: ReadStatus, is_given_up: Callable[[], bool], now: Callable[[], datetime]) -> Status:
    """Show a request's progress until it is finished. Raises `Transient` where `is_given_up`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return _follow_plainly(read, is_given_up, now)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<11}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        task, rate = progress.add_task("waiting", total=None, text="for the daemon to take the request"), Rate()

        def look(status: Status) -> None:
            nonlocal rate
            rate = rate.note(time.monotonic(), status.progress.bytes_received)
            completed, total = measure(status)
            progress.update(task, description=str(status.state), completed=completed, total=total, text=describe(status, rate, now()))

        return _look_until_finished(read, look, is_given_up)


def measure(status: Status) -> tuple[int, int | None]:
    """How much of the present phase is done, and of how much; None: nobody knows."""
    progress = status.progress
    if status.finished:
        return 1, 1
    if status.state is State.ASSEMBLING:
        return progress.percent_assembled or 0, 100
    if status.state is State.FORWARDING:
        return sum(forwarding.sent for forwarding in status.forward), len(status.forward) * progress.instances_received or None
    return progress.instances_received, progress.instances_expected or None


def describe(status: Status, rate: Rate, now: datetime) -> str:
    """What stands beside the bar."""
    progress = status.progress
    if status.state is State.RETRIEVING and progress.instances_expected:
        parts = [f"{progress.instances_received}/{progress.instances_expected} instances", describe_bytes(progress.bytes_received)]
        if rate.bytes_per_s > 0:
            parts.append(f"{describe_bytes(rate.bytes_per_s)}/s")
        if progress.eta_s:
            parts.append(f"{progress.eta_s} s left")
        return "  ".join(parts)
    if status.state is State.DEFERRED and status.retry_at is not None:
        why = f"{status.error.message}  " if status.error else ""
        return f"{why}again in {describe_age(status.retry_at, now)}"
    return describe_state(status, now).removeprefix(", ")


def _follow_plainly(read: ReadStatus, is_given_up: Callable[[], bool], now: Callable[[], datetime]) -> Status:
    last = ""

    def look(status: Status) -> None:
        nonlocal last
        # Of a deferred one the time that is left would be another line every second: the reason instead.
        why = f": {status.error.message}" if status.error else ""
        text = why if status.state is State.DEFERRED else describe_state(status, now())
        if (line := f"{status.state}{text}") != last:
            last = line
            say(line)

    return _look_until_finished(read, look, is_given_up)


def _look_until_finished(read: ReadStatus, look: Callable[[Status], None], is_given_up: Callable[[], bool]) -> Status:
    while True:
        status = read()
        if status is not None:
            look(status)
            # `failed` can become `queued` again by an operator, but not by itself.
            if status.finished:
                return status
        if is_given_up():
            raise Transient(Code.INTERNAL, "The daemon ended before the request did.")
        time.sleep(_LOOK_INTERVAL_S)
