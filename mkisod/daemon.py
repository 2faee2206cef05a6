"""Wires the parts, starts them, watches over them, stops them.

Promises that READY is said only when the port is bound and the spool recovered, that a thread which dies takes the daemon down loudly
rather than leaving it half alive, and that a stop gives every job back to the queue. Exit status: 0 after a stop, 1 after a defect; what
keeps it from starting is raised as `Permanent`.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

from attrs import evolve
from structlog.typing import FilteringBoundLogger

from mkisod.attempt import Services
from mkisod.config.settings import Config
from mkisod.configuration import check_request, load_config, make_receiver_settings, plan_reload
from mkisod.crew import Crew
from mkisod.errors import MkisodError
from mkisod.media.convert import find_missing_converters
from mkisod.pacs.contact import Contact, Noted, encode_contact
from mkisod.pacs.counting import Counted, DayCount
from mkisod.pacs.expectations import Expectations
from mkisod.pacs.receiver import Receiver
from mkisod.port import KEPT_NAME, choose_listener
from mkisod.spool.doorbell import Doorbell, Watch
from mkisod.spool.durable import WaitingDisk, is_full
from mkisod.spool.layout import Layout, make_directories
from mkisod.spool.spool import Host, open_spool
from mkisod.spool.witness import leave_word
from mkisod.supervision import Supervision
from mkisod.system.boot import read_boot_id
from mkisod.system.clock import utc_now
from mkisod.system.descriptors import DescriptorStore, take_sockets
from mkisod.system.metrics import Metrics
from mkisod.system.notify import Notify
from mkisod.textfile import Textfile

RUNNING_ASSOCIATIONS_GRACE_S = 10.0
FULL_DISK_INTERVAL_S = 1.0
_STOP_MARGIN_S = 10.0  # for what a step may take once it is told to end
_PATIENCE_S = 300.0  # with a thread that serves everybody: one round through the spool, which may remove much
_JOB_PATIENCE_S = 3600.0  # with a worker: one conversion, one answer of a PACS, one large tree to be synced


class Daemon:
    """`path` is the file that `config` was read from; a reload reads it again."""

    def __init__(self, config: Config, path: Path, log: FilteringBoundLogger, notify: Notify, metrics: Metrics) -> None:
        self._config = config  # as it was at the start: what needs a restart is read from here
        self._path = path
        self._log = log
        self._notify = notify
        self._metrics = metrics
        self._stopping = threading.Event()
        self._is_ready = False
        self._reload_note = ""
        self._doorbell = Doorbell()
        self._arrivals = DayCount(lambda: utc_now().astimezone().date())
        self._supervision = Supervision(
            time.monotonic, log, report_death=lambda name: self._begin_stop(f"{name} died"), is_forgiven=self._gave_up_waiting
        )
        host = Host(utc_now, time.monotonic, os.urandom, read_boot_id(), log)
        self._spool = open_spool(
            Layout(Path(config.spool.dir), config.spool.instance),
            WaitingDisk(self._wait_for_room),
            config.spool,
            host,
            check_request=lambda request: check_request(self._services.config, request),
            cancel_active=self._cancel_active,
            report_queued=self._report_queued,
            is_stopping=self._stopping.is_set,
        )
        expectations = Expectations(has_room=self._spool.retention.has_room)
        self._services = Services(config, self._spool, expectations, host)
        self._store = DescriptorStore()
        self._receiver = Receiver(
            make_receiver_settings(config),
            Counted(Noted(expectations, self._leave_word), self._count_arrival),
            log=log,
            listener=choose_listener(take_sockets(), config.receiver, self._store, log),
            report_contact=self._leave_word,
            report_alive=self._supervision.beat,
        )
        self._textfile = Textfile(
            config.metrics.textfile,
            metrics,
            self._spool.layout,
            log,
            min_free_mib=config.spool.min_free_mib,
            count_associations=lambda: self._receiver.associations,
            clock_s=time.monotonic,
            now=utc_now,
        )
        self._crew = Crew(
            self._services,
            config.jobs.workers,
            is_stopping=self._stopping.is_set,
            report_taken=self._report_status,
            report_ended=self._report_ended,
            report_alive=self._supervision.beat,
        )

    def run(self) -> int:
        """Until SIGTERM or SIGINT, or until a thread dies. Call it in the main thread, which alone may say what signals do."""
        make_directories(self._spool.layout)
        self._look_for_converters()
        self._bind()
        self._spool.jobs.lock()
        self._watch_signals()
        try:
            self._spool.recover()
        except OSError as error:
            if self._gave_up_waiting(error):
                return 0
            raise
        self._receiver.start()
        self._supervision.expect("receiver", patience_s=_PATIENCE_S)
        self._supervision.start("drops", self._serve_inbox, patience_s=_PATIENCE_S + self._config.spool.scan_interval_s)
        for number, worker in enumerate(self._crew.workers):
            self._supervision.start(f"worker-{number}", partial(self._crew.work, worker), patience_s=_JOB_PATIENCE_S)
        self._supervision.start("receiver-watch", self._watch_receiver, patience_s=math.inf)
        host, port = self._receiver.address
        self._log.info("daemon_ready", ae_title=self._config.receiver.ae_title, host=host, port=port, spool=str(self._spool.layout.root))
        self._notify.ready(f"{self._config.receiver.ae_title} listens on port {port}")
        self._is_ready = True
        self._supervision.guard("main", self._watch_over)
        self._stop()
        return 1 if self._supervision.died else 0

    def _look_for_converters(self) -> None:
        if programs := find_missing_converters():
            advice = "Profiles that need them cannot be met. Install the Debian packages dcmtk and libgdcm-tools."
            self._log.warning("converters_missing", programs=programs, advice=advice)

    def _bind(self) -> None:
        self._receiver.bind()
        if self._receiver.owns_listener:
            self._store.keep(KEPT_NAME, self._receiver.listener)

    def _watch_over(self) -> None:
        """Until the stop begins: tell systemd how things are, and that all threads live, as long as they do."""
        while not self._stopping.wait(self._notify.interval_s):
            if not self._supervision.find_silent():
                self._notify.watchdog()
            self._report_status()
            self._receiver.wake()
            self._crew.wake()

    def _report_status(self) -> None:
        if not self._is_ready:
            return
        running, deferred = self._crew.running, self._spool.queue.deferred
        jobs = f"{running} job{'' if running == 1 else 's'} running, {deferred} deferred"
        self._notify.status(f"{jobs}, {self._arrivals.read()} instances today{self._reload_note}")

    def _watch_signals(self) -> None:
        """A thread of its own reads the numbers of SIGTERM, SIGINT and SIGHUP off a pipe.

        A handler would not do: Python runs it in the main thread, which waits for a lock, and which the kernel does not wake when it gives
        the signal to another thread, as it may where two come at once.
        """
        readable, writable = os.pipe()
        os.set_blocking(writable, False)
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        # It does not outlive a start that fails.
        obey = partial(self._supervision.guard, "signals", partial(self._obey_signals, readable))
        threading.Thread(target=obey, name="signals", daemon=True).start()

    def _obey_signals(self, readable: int) -> None:
        while (number := os.read(readable, 1)[0]) == signal.SIGHUP:
            self._reload()
        self._begin_stop(signal.Signals(number).name)

    def _reload(self) -> None:
        try:
            reload = plan_reload(self._services.config, load_config(self._path))
        except MkisodError as error:
            self._reload_note = "; the configuration file is not valid and was not read again"
            self._log.error("configuration_not_reloaded", message=error.message, advice="The daemon goes on with what it had.")
        else:
            self._reload_note = "; some of the configuration needs a restart" if reload.needs_restart else ""
            self._services = evolve(self._services, config=reload.config)
            self._receiver.change(make_receiver_settings(reload.config))
            self._crew.renew(self._services)
            log = self._log.warning if reload.needs_restart else self._log.info
            log("configuration_reloaded", changed=list(reload.changed), needs_restart=list(reload.needs_restart))
        self._report_status()

    def _begin_stop(self, reason: str) -> None:
        self._log.info("daemon_stopping", reason=reason)
        self._stopping.set()

    def _stop(self) -> None:
        self._notify.stopping()
        self._notify.extend_timeout(RUNNING_ASSOCIATIONS_GRACE_S + _STOP_MARGIN_S)
        self._crew.stop()
        self._doorbell.ring()
        self._receiver.failed.set()
        self._receiver.stop(RUNNING_ASSOCIATIONS_GRACE_S)
        self._supervision.join(lambda: self._notify.extend_timeout(_STOP_MARGIN_S))
        self._spool.jobs.unlock()
        self._log.info("daemon_stopped")

    def _watch_receiver(self) -> None:
        self._receiver.failed.wait()
        if not self._stopping.is_set():
            raise RuntimeError("the receiver accepts no connections any more")

    def _leave_word(self, contact: Contact) -> None:
        """For a `mkisod check` that asks who comes to the port."""
        try:
            leave_word(self._spool.layout, encode_contact(contact))
        except OSError as error:
            self._log.warning("word_not_left", reason=error.strerror)

    def _wait_for_room(self, waits: int) -> bool:
        """The disk is full in the middle of a step. False: the daemon stops, and the next start goes on from here."""
        if not waits:
            self._log.error("disk_full", advice="The spool waits for room. Free space on its file system.")
        self._supervision.beat()
        if not self._is_ready:  # it may take as long as it takes
            self._notify.extend_timeout(FULL_DISK_INTERVAL_S + _STOP_MARGIN_S)
        return not self._stopping.wait(FULL_DISK_INTERVAL_S)

    def _gave_up_waiting(self, error: BaseException) -> bool:
        """Whether a step failed for want of room, and only because the daemon stops."""
        return self._stopping.is_set() and isinstance(error, OSError) and is_full(error)

    def _serve_inbox(self) -> None:
        interval_s = self._config.spool.scan_interval_s
        while not self._stopping.is_set():
            with Watch(self._spool.layout, self._doorbell, self._log) as watch:
                while not self._stopping.is_set() and watch.is_alive():
                    self._supervision.beat()
                    due_s = self._spool.rounds.go(self._doorbell.take_moved())
                    self._report_queued()  # operators and other daemons may have queued something too
                    self._report_status()
                    waits_s = (interval_s, due_s, self._textfile.write())
                    self._doorbell.wait(min(wait_s for wait_s in waits_s if wait_s is not None))

    def _report_queued(self) -> None:
        self._crew.wake()

    def _count_arrival(self, size_bytes: int) -> None:
        self._arrivals.add()
        self._metrics.count_arrival(size_bytes)

    def _cancel_active(self, job_id: str) -> bool:
        return self._crew.cancel(job_id)

    def _report_ended(self) -> None:
        self._doorbell.ring()  # a drop or a control file may have waited for this ticket, and the round says how things are
