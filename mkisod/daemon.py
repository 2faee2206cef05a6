"""Wires the parts, starts them, watches over them, stops them.

Promises that READY is said only when the port is bound and the spool recovered, that a thread which dies takes the daemon down loudly
rather than leaving it half alive, and that a stop gives every job back to the queue. Exit status: 0 after a stop, 1 after a defect; what
keeps it from starting is raised as `Permanent`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from structlog.typing import FilteringBoundLogger

from mkisod.config.settings import Config
from mkisod.job.request import Request, check_names, check_supported
from mkisod.pacs.expectations import Expectations
from mkisod.pacs.receiver import Receiver
from mkisod.pacs.settings import ReceiverSettings, TlsSettings
from mkisod.spool.claim import Claims
from mkisod.spool.durable import Disk
from mkisod.spool.inbox import Doorbell, Inbox, watch
from mkisod.spool.jobs import Jobs
from mkisod.spool.layout import Layout, make_directories
from mkisod.spool.outbox import Outbox
from mkisod.spool.recovery import Recovery
from mkisod.system.notify import Notify
from mkisod.worker import Services, Worker

RUNNING_ASSOCIATIONS_GRACE_S = 10.0


def utc_now() -> datetime:
    return datetime.now(UTC)


def make_receiver_settings(config: Config) -> ReceiverSettings:
    receiver, tls = config.receiver, config.receiver.tls
    return ReceiverSettings(
        ae_title=receiver.ae_title,
        host=receiver.host,
        port=receiver.port,
        allowed_calling_ae_titles=receiver.allowed_calling_ae_titles,
        allowed_hosts=receiver.allowed_hosts,
        max_associations=receiver.max_associations,
        tls=TlsSettings(tls.certificate, tls.key, tls.ca) if tls else None,
        uncompressed_calling_ae_titles=tuple(p.ae_title for p in config.pacs.values() if p.accept == "uncompressed"),
    )


class Daemon:
    def __init__(self, config: Config, log: FilteringBoundLogger, notify: Notify) -> None:
        self._config = config
        self._log = log
        self._notify = notify
        self._disk = Disk()
        self._layout = Layout(Path(config.spool.dir), config.spool.instance)
        self._outbox = Outbox(self._layout, self._disk)
        self._jobs = Jobs(self._layout, self._disk, self._outbox)
        self._claims = Claims(
            self._layout, self._disk, self._jobs, require_end=config.spool.require_end, check=self._check_request, now=utc_now
        )
        self._expectations = Expectations(log)
        self._receiver = Receiver(make_receiver_settings(config), self._expectations, log=log)
        services = Services(config, self._jobs, self._outbox, self._expectations, utc_now, time.monotonic, os.urandom, log)
        self._workers = [Worker(services) for _ in range(config.jobs.workers)]
        self._doorbell = Doorbell()
        self._queue_changed = threading.Condition()
        self._stopping = threading.Event()
        self._died = False
        self._stop_reason = "stop"

    def run(self) -> int:
        """Until SIGTERM or SIGINT, or until a thread dies. Call it in the main thread, which alone gets signals."""
        make_directories(self._layout)
        self._receiver.bind()
        self._jobs.lock()
        Recovery(self._jobs, self._outbox, self._claims, self._disk, now=utc_now, log=self._log).run()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle_signal)
        self._receiver.start()
        threads = [self._start("drops", self._serve_inbox)]
        threads += [self._start(f"worker-{i}", self._make_work(worker)) for i, worker in enumerate(self._workers)]
        host, port = self._receiver.address
        self._log.info("daemon_ready", ae_title=self._config.receiver.ae_title, host=host, port=port, spool=str(self._layout.root))
        self._notify.ready(f"{self._config.receiver.ae_title} listens on port {port}")
        self._stopping.wait()
        self._stop(threads)
        return 1 if self._died else 0

    def _handle_signal(self, number: int, _: FrameType | None) -> None:
        self._stop_reason = signal.Signals(number).name
        self._stopping.set()

    def _stop(self, threads: list[threading.Thread]) -> None:
        self._log.info("daemon_stopping", reason=self._stop_reason)
        self._notify.stopping()
        for worker in self._workers:
            worker.interrupt()
        self._doorbell.ring()
        with self._queue_changed:
            self._queue_changed.notify_all()
        self._receiver.stop(RUNNING_ASSOCIATIONS_GRACE_S)
        for thread in threads:
            thread.join()
        self._jobs.unlock()
        self._log.info("daemon_stopped")

    def _start(self, name: str, serve: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._supervise, args=(name, serve), name=name)
        thread.start()
        return thread

    def _supervise(self, name: str, serve: Callable[[], None]) -> None:
        try:
            serve()
        except BaseException:  # noqa: BLE001 - whatever it is, the daemon goes down with it, loudly
            self._log.critical("thread_died", thread=name, exc_info=True)
            self._died = True
            self._stop_reason = f"{name} died"
            self._stopping.set()

    def _check_request(self, request: Request) -> None:
        check_names(request, pacs_names=tuple(self._config.pacs))
        check_supported(request)

    def _serve_inbox(self) -> None:
        inbox = Inbox(self._layout, settle_s=self._config.spool.settle_s)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(watch(self._layout, self._doorbell))
            except OSError as error:
                advice = "Drops are found by the timer; raise fs.inotify.max_user_watches."
                self._log.warning("inbox_not_watched", error=str(error), advice=advice)
            while not self._stopping.is_set():
                found = inbox.scan(time.monotonic(), self._doorbell.take_moved(), self._is_busy)
                for name in found.strange:
                    self._log.warning("inbox_file_ignored", name=name.encode("ascii", "backslashreplace").decode()[:300])
                for ticket in found.ready:
                    if self._stopping.is_set():
                        break
                    self._claim(ticket)
                next_look_s = self._config.spool.scan_interval_s
                self._doorbell.wait(next_look_s if found.next_look_s is None else min(next_look_s, max(0.0, found.next_look_s)))

    def _claim(self, ticket: str) -> None:
        claimed = self._claims.claim(ticket, os.urandom(6))
        if claimed is None:
            return
        record = claimed.job.record
        log = self._log.bind(ticket=ticket, job=record.job, owner_uid=record.owner_uid)
        if claimed.refused is None:
            log.info("job_claimed", state=record.state)
            with self._queue_changed:
                self._queue_changed.notify()
        else:
            log.warning("job_refused", state=record.state, error=claimed.refused.code)

    def _is_busy(self, ticket: str) -> bool:
        try:
            status = self._outbox.read_status(ticket)
        except ValueError as error:
            self._log.warning("status_unreadable", ticket=ticket, error=str(error))
            return False
        return status is not None and not status.finished

    def _make_work(self, worker: Worker) -> Callable[[], None]:
        def work() -> None:
            while not self._stopping.is_set():
                with self._queue_changed:
                    attempt = worker.take()
                    if attempt is None:
                        # Other daemons may queue jobs too, and they do not notify us.
                        self._queue_changed.wait(self._config.spool.scan_interval_s)
                        continue
                worker.carry(attempt)
                self._doorbell.ring()  # a drop may have waited for this ticket

        return work
