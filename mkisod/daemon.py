"""Wires the parts, starts them, watches over them, stops them.

Promises that READY is said only when the port is bound and the spool recovered, that a thread which dies takes the daemon down loudly
rather than leaving it half alive, and that a stop gives every job back to the queue. Exit status: 0 after a stop, 1 after a defect; what
keeps it from starting is raised as `Permanent`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from mkisod.attempt import Services
from mkisod.config.parsing import ConfigurationInvalid
from mkisod.config.settings import Config
from mkisod.errors import Code, Permanent
from mkisod.job.request import Request, check_names, check_supported, choose_output
from mkisod.media.profile import find_choice_fault
from mkisod.pacs.contact import Contact, Noted, encode_contact
from mkisod.pacs.expectations import Expectations
from mkisod.pacs.receiver import Receiver
from mkisod.pacs.settings import ReceiverSettings, TlsSettings
from mkisod.spool.durable import Disk, WaitingDisk, is_full
from mkisod.spool.inbox import Doorbell, Watch
from mkisod.spool.layout import Layout, make_directories
from mkisod.spool.spool import Host, open_spool
from mkisod.spool.witness import leave_word
from mkisod.system.boot import read_boot_id
from mkisod.system.notify import Notify
from mkisod.worker import Worker

RUNNING_ASSOCIATIONS_GRACE_S = 10.0
FULL_DISK_INTERVAL_S = 1.0


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


def check_request(config: Config, request: Request) -> None:
    """Raises `Permanent` for a request that this configuration or this version cannot carry out."""
    check_names(request, pacs_names=tuple(config.pacs))
    check_supported(request)
    medium = request.medium or config.media.medium
    output = choose_output(request, medium, config.media.output)
    if fault := find_choice_fault(medium, request.profile or config.media.profile, output):
        raise Permanent(Code.REQUEST_MALFORMED, f"The request is refused: {fault}.")


def check_config(config: Config, path: Path) -> None:
    """What no room can say alone. Raises `ConfigurationInvalid`."""
    media = config.media
    if fault := find_choice_fault(media.medium, media.profile, media.output):
        raise ConfigurationInvalid(path, [f"media: {fault}"])
    if media.extras and not Path(media.extras).is_dir():
        raise ConfigurationInvalid(path, [f"media.extras: {media.extras} is no folder"])


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


class Daemon:
    def __init__(self, config: Config, log: FilteringBoundLogger, notify: Notify) -> None:
        self._config = config
        self._log = log
        self._notify = notify
        self._stopping = threading.Event()
        self._died = False
        self._doorbell = Doorbell()
        self._queue_changed = threading.Condition()  # guards the two below
        self._running = 0
        self._runs_alone = False
        host = Host(utc_now, time.monotonic, os.urandom, read_boot_id(), log)
        self._spool = open_spool(
            Layout(Path(config.spool.dir), config.spool.instance),
            WaitingDisk(self._wait_for_room),
            config.spool,
            host,
            check_request=partial(check_request, config),
            cancel_active=self._cancel_active,
            report_queued=self._report_queued,
            is_stopping=self._stopping.is_set,
        )
        self._expectations = Expectations(log, has_room=self._spool.retention.has_room)
        reception = Noted(self._expectations, self._leave_word)
        self._receiver = Receiver(make_receiver_settings(config), reception, log=log, report_contact=self._leave_word)
        services = Services(config, self._spool, self._expectations, host)
        self._workers = [Worker(services) for _ in range(config.jobs.workers)]

    def run(self) -> int:
        """Until SIGTERM or SIGINT, or until a thread dies. Call it in the main thread, which alone may say what signals do."""
        make_directories(self._spool.layout)
        self._receiver.bind()
        self._spool.jobs.lock()
        self._watch_signals()
        try:
            self._spool.recover()
        except OSError as error:
            if self._gave_up_waiting(error):
                return 0
            raise
        self._receiver.start()
        threads = [self._start("drops", self._serve_inbox)]
        threads += [self._start(f"worker-{i}", partial(self._work, worker)) for i, worker in enumerate(self._workers)]
        threads.append(self._start("receiver-watch", self._watch_receiver))
        host, port = self._receiver.address
        self._log.info("daemon_ready", ae_title=self._config.receiver.ae_title, host=host, port=port, spool=str(self._spool.layout.root))
        self._notify.ready(f"{self._config.receiver.ae_title} listens on port {port}")
        self._stopping.wait()
        self._stop(threads)
        return 1 if self._died else 0

    def _watch_signals(self) -> None:
        """SIGTERM and SIGINT begin the stop, from a thread of its own that reads their numbers off a pipe.

        A handler would not do: Python runs it in the main thread, which waits for a lock, and which the kernel does not wake when it gives
        the signal to another thread, as it may where two come at once.
        """
        readable, writable = os.pipe()
        os.set_blocking(writable, False)
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        # It does not outlive a start that fails.
        threading.Thread(target=self._await_signal, args=(readable,), name="signals", daemon=True).start()

    def _await_signal(self, readable: int) -> None:
        self._begin_stop(signal.Signals(os.read(readable, 1)[0]).name)

    def _begin_stop(self, reason: str) -> None:
        self._log.info("daemon_stopping", reason=reason)
        self._stopping.set()

    def _stop(self, threads: list[threading.Thread]) -> None:
        self._notify.stopping()
        for worker in self._workers:
            worker.stop()
        self._doorbell.ring()
        self._report_queued()
        self._receiver.failed.set()
        self._receiver.stop(RUNNING_ASSOCIATIONS_GRACE_S)
        for thread in threads:
            thread.join()
        self._spool.jobs.unlock()
        self._log.info("daemon_stopped")

    def _start(self, name: str, serve: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._supervise, args=(name, serve), name=name)
        thread.start()
        return thread

    def _supervise(self, name: str, serve: Callable[[], None]) -> None:
        try:
            serve()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the daemon goes down with it, loudly
            if self._gave_up_waiting(error):
                return
            self._log.critical("thread_died", thread=name, exc_info=True)
            self._died = True
            self._begin_stop(f"{name} died")

    def _watch_receiver(self) -> None:
        self._receiver.failed.wait()
        if not self._stopping.is_set():
            raise RuntimeError("the receiver accepts no connections any more")

    def _leave_word(self, contact: Contact) -> None:
        """For a `mkisod check` that asks who comes to the port."""
        try:
            leave_word(self._spool.layout, encode_contact(contact))
        except OSError as error:
            self._log.warning("word_not_left", error=error.strerror)

    def _wait_for_room(self, waits: int) -> bool:
        """The disk is full in the middle of a step. False: the daemon stops, and the next start goes on from here."""
        if not waits:
            self._log.error("disk_full", advice="The spool waits for room. Free space on its file system.")
        return not self._stopping.wait(FULL_DISK_INTERVAL_S)

    def _gave_up_waiting(self, error: BaseException) -> bool:
        """Whether a step failed for want of room, and only because the daemon stops."""
        return self._stopping.is_set() and isinstance(error, OSError) and is_full(error)

    def _serve_inbox(self) -> None:
        interval_s = self._config.spool.scan_interval_s
        while not self._stopping.is_set():
            with Watch(self._spool.layout, self._doorbell, self._log) as watch:
                while not self._stopping.is_set() and watch.is_alive():
                    due_s = self._spool.rounds.go(self._doorbell.take_moved())
                    self._report_queued()  # operators and other daemons may have queued something too
                    self._doorbell.wait(interval_s if due_s is None else min(interval_s, due_s))

    def _report_queued(self) -> None:
        with self._queue_changed:
            self._queue_changed.notify_all()

    def _cancel_active(self, job_id: str) -> bool:
        return any(worker.cancel(job_id) for worker in self._workers)

    def _work(self, worker: Worker) -> None:
        while self._take(worker):
            try:
                worker.carry()
            finally:
                with self._queue_changed:
                    self._running -= 1
                    self._runs_alone = False
                    self._queue_changed.notify_all()
            self._doorbell.ring()  # a drop or a control file may have waited for this ticket

    def _take(self, worker: Worker) -> bool:
        """Wait for a job and take it in hand; False when the daemon stops. A job that the daemon died of before runs alone."""
        with self._queue_changed:
            while not self._stopping.is_set():
                job = None if self._runs_alone else self._spool.queue.choose()
                if job is not None and not (job.record.crashes.must_run_alone and self._running):
                    if worker.take(job):
                        self._running += 1
                        self._runs_alone = job.record.crashes.must_run_alone
                        return True
                    continue
                self._queue_changed.wait()
        return False
