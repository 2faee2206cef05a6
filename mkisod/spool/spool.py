"""The room as a whole: its parts, wired to one directory, one disk and one clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from attrs import frozen
from structlog.typing import FilteringBoundLogger

from mkisod.config.settings import SpoolSettings
from mkisod.job.request import Request
from mkisod.spool.claim import Claims
from mkisod.spool.controls import Controls
from mkisod.spool.durable import Disk
from mkisod.spool.inbox import Inbox
from mkisod.spool.jobs import Jobs
from mkisod.spool.layout import Layout
from mkisod.spool.outbox import Outbox
from mkisod.spool.queue import Queue
from mkisod.spool.recovery import Recovery
from mkisod.spool.retention import Retention, RetentionRules
from mkisod.spool.rounds import Rounds
from mkisod.spool.trash import sweep


@frozen
class Host:
    """The world, as the spool needs it. `now` is UTC, `clock_s` monotonic, `random_bytes` as os.urandom, `boot_id` the running one's."""

    now: Callable[[], datetime]
    clock_s: Callable[[], float]
    random_bytes: Callable[[int], bytes]
    boot_id: str
    log: FilteringBoundLogger


@frozen
class Spool:
    layout: Layout
    disk: Disk
    outbox: Outbox
    jobs: Jobs
    queue: Queue
    retention: Retention
    recovery: Recovery
    rounds: Rounds

    def recover(self) -> None:
        """The start-up scan. Call it with the instance locked."""
        sweep(self.layout, self.disk)
        self.recovery.run()


def open_spool(
    layout: Layout,
    disk: Disk,
    settings: SpoolSettings,
    host: Host,
    *,
    check_request: Callable[[Request], None],
    cancel_active: Callable[[str], bool],
    report_queued: Callable[[], None],
    is_stopping: Callable[[], bool],
) -> Spool:
    """The parts as the daemon uses them; what they are told is said at each of them."""
    outbox = Outbox(layout, disk)
    jobs = Jobs(layout, disk, outbox, boot_id=host.boot_id, note_queued=lambda job: queue.add(job))  # noqa: PLW0108 - it is made below
    queue = Queue(layout, jobs)
    claims = Claims(layout, disk, jobs, require_end=settings.require_end, check=check_request, now=host.now)
    rules = RetentionRules(
        settings.retention_days, settings.status_days, settings.held_days, settings.min_free_mib, settings.free_finished
    )
    retention = Retention(layout, jobs, outbox, rules, now=host.now, log=host.log)
    rounds = Rounds(
        inbox=Inbox(layout, settle_s=settings.settle_s),
        claims=claims,
        controls=Controls(layout, disk, jobs, outbox, now=host.now, cancel_active=cancel_active, log=host.log),
        jobs=jobs,
        queue=queue,
        outbox=outbox,
        retention=retention,
        now=host.now,
        clock_s=host.clock_s,
        random_bytes=host.random_bytes,
        report_queued=report_queued,
        is_stopping=is_stopping,
        log=host.log,
    )
    return Spool(layout, disk, outbox, jobs, queue, retention, Recovery(jobs, outbox, claims, now=host.now, log=host.log), rounds)
