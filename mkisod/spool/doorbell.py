"""The bell at the inbox: something has changed, look at once. Only a bell: if it fails, the timer of the scan goes on ringing.

watchdog pairs the two halves of each rename, and for a file that leaves, as every drop does when it is claimed, it holds back all that
comes behind for half a second, waiting for the other half. So what leaves the inbox is not listened for: its emitter is used with
another mask of events, and reports each file that was moved in as one half.
"""

from __future__ import annotations

import os
import threading
from typing import Self

from structlog.typing import FilteringBoundLogger
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyFullEmitter
from watchdog.observers.inotify_c import InotifyConstants, InotifyFD, Mask

from mkisod.spool.layout import Layout

_HEARD = InotifyConstants.IN_MOVED_TO | InotifyConstants.IN_CREATE | InotifyConstants.IN_CLOSE_WRITE | InotifyConstants.IN_DELETE_SELF


class _InboxEmitter(InotifyFullEmitter):
    def get_event_mask_from_filter(self) -> Mask:
        return Mask(_HEARD)


class Doorbell(FileSystemEventHandler):
    """Rings at every change in the inbox. Runs in watchdog's thread, which an exception would end: so it only notes names and rings."""

    def __init__(self) -> None:
        self._rung = threading.Event()
        self._moved: set[str] = set()
        self._lock = threading.Lock()

    def dispatch(self, event: FileSystemEvent) -> None:
        if event.event_type == "moved":
            with self._lock:
                self._moved.add(os.path.basename(os.fsdecode(event.dest_path)))
        if event.event_type in ("created", "moved", "closed"):
            self._rung.set()

    def ring(self) -> None:
        self._rung.set()

    def wait(self, timeout_s: float) -> None:
        """Until it rings, or the time is over."""
        self._rung.wait(timeout_s)
        self._rung.clear()

    def take_moved(self) -> set[str]:
        """The names reported as moved into place since the last call."""
        with self._lock:
            moved, self._moved = self._moved, set()
        return moved


class Watch:
    """Rings the doorbell at changes in the inbox, as a context manager. Where the system has no inotify left, only the timer rings."""

    def __init__(self, layout: Layout, doorbell: Doorbell, log: FilteringBoundLogger) -> None:
        self._layout = layout
        self._doorbell = doorbell
        self._log = log
        self._inotify: InotifyFD | None = None
        self._observer: BaseObserver | None = None

    def __enter__(self) -> Self:
        try:
            self._inotify = InotifyFD()
            self._inotify.start()
            self._observer = BaseObserver(_InboxEmitter, inotify_fd=self._inotify)
            self._observer.schedule(self._doorbell, str(self._layout.inbox), recursive=False)
            self._observer.start()
        except OSError as error:
            self._observer = None
            advice = "Drops are found by the timer; raise fs.inotify.max_user_watches and max_user_instances."
            self._log.warning("inbox_not_watched", reason=str(error), advice=advice)
        return self

    def __exit__(self, *_: object) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
        if self._inotify is not None:
            self._inotify.stop()
            self._inotify.join()

    def is_alive(self) -> bool:
        """False once it rings no more although it did: then watch anew."""
        if self._observer is None or self._inotify is None:
            return True
        alive = all(thread.is_alive() for thread in (self._inotify, self._observer, *self._observer.emitters))
        if not alive:
            self._log.warning("inbox_watch_died", advice="It is started again; meanwhile drops are found by the timer.")
        return alive
