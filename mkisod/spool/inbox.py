"""What clients drop: which files are requests, and when one is whole.

Owns `inbox/`. The scan of the directory is the truth; inotify events are only a doorbell that makes the next scan come at once, and tell
that a file was moved into place. If the observer fails, the timer of the scan goes on ringing. Nothing here opens a file for more than a
look at its last line, and nothing is followed or waited for.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from attrs import frozen
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from mkisod.job.request import ends_whole, is_ticket
from mkisod.spool.layout import REQUEST_SUFFIX, Layout

_TAIL_BYTES = 64


@frozen
class Sighting:
    """What a drop looked like, and since when it has looked so (monotonic seconds)."""

    identity: tuple[int, int, int, int]  # inode, size, mtime_ns, ctime_ns
    since_s: float


@frozen
class Found:
    """What a scan found: tickets that can be claimed, files that are not for us, and when to look again for those still being written."""

    ready: tuple[str, ...]
    strange: tuple[str, ...]
    next_look_s: float | None


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


class Inbox:
    """Used by one thread."""

    def __init__(self, layout: Layout, *, settle_s: float) -> None:
        self._layout = layout
        self._settle_s = settle_s
        self._sightings: Mapping[str, Sighting] = {}
        self._moved: set[str] = set()
        self._warned: set[str] = set()

    def scan(self, now_s: float, moved: set[str], is_busy: Callable[[str], bool]) -> Found:
        """Look at all of the inbox. `moved`: names reported as moved into place; `is_busy`: whether a ticket's last job is not finished.

        A strange file is reported by the first scan that meets it, and not again while it lies there.
        """
        names = {os.fsdecode(name) for name in os.listdir(os.fsencode(self._layout.inbox))}
        self._moved = (self._moved | moved) & names
        sightings: dict[str, Sighting] = {}
        ready, strange, waits = [], set(), []
        for name in sorted(names):
            if name.startswith(".") or name.endswith(".tmp"):
                continue
            ticket = name.removesuffix(REQUEST_SUFFIX)
            if ticket == name or not is_ticket(ticket):
                strange.add(name)
                continue
            path = self._layout.inbox / name
            try:
                sighting = _look(path, self._sightings.get(name), now_s)
            except FileNotFoundError:
                continue
            sightings[name] = sighting
            settled_s = sighting.since_s + self._settle_s
            if name in self._moved or now_s >= settled_s or _is_whole(path):
                if not is_busy(ticket):
                    ready.append(ticket)
            else:
                waits.append(settled_s)
        self._sightings = sightings
        new = strange - self._warned
        self._warned = strange
        return Found(tuple(ready), tuple(sorted(new)), min(waits) - now_s if waits else None)


def _look(path: Path, before: Sighting | None, now_s: float) -> Sighting:
    status = os.lstat(path)
    identity = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if before is not None and before.identity == identity:
        return before
    return Sighting(identity, now_s)


def _is_whole(path: Path) -> bool:
    """Whether a file's last line is @end. What cannot be read is not whole yet; the claim will say what is wrong with it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return False
        return ends_whole(os.pread(fd, _TAIL_BYTES, max(0, status.st_size - _TAIL_BYTES)))
    finally:
        os.close(fd)


@contextlib.contextmanager
def watch(layout: Layout, doorbell: Doorbell) -> Iterator[BaseObserver]:
    """Ring the doorbell at changes in the inbox. Raises OSError where the system has no inotify left to give."""
    observer = Observer()
    observer.schedule(doorbell, str(layout.inbox), recursive=False)
    observer.start()
    try:
        yield observer
    finally:
        observer.stop()
        observer.join()
