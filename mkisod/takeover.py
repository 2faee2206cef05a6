"""Taking over the jobs of a daemon that is dead, by the start-up scan that it would do itself.

Raises `Permanent` (`instance_in_use`) where it lives.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from mkisod.config.settings import Config
from mkisod.configuration import check_request
from mkisod.errors import Code, Permanent
from mkisod.spool.durable import Disk
from mkisod.spool.layout import Layout
from mkisod.spool.spool import Host, open_spool
from mkisod.system.boot import read_boot_id
from mkisod.system.clock import utc_now


def recover_instance(config: Config, instance: str, log: FilteringBoundLogger) -> None:
    """Give the jobs of a dead daemon back to the queue. Raises `Permanent` (`instance_in_use`) where it lives."""
    layout = Layout(Path(config.spool.dir), instance)
    if not layout.active.is_dir():
        raise Permanent(Code.USAGE, f"There is no instance {instance} in the spool.", "mkisod queue shows the instances that have jobs.")
    spool = open_spool(
        layout,
        Disk(),
        config.spool,
        Host(utc_now, time.monotonic, os.urandom, read_boot_id(), log),
        check_request=partial(check_request, config),
        cancel_active=lambda _: False,
        report_queued=lambda: None,
        is_stopping=lambda: False,
    )
    spool.jobs.lock()
    spool.recovery.run()
    spool.jobs.unlock()
