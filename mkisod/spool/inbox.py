"""What clients drop: which files are requests, and when one is whole.

Owns `inbox/`. The scan of the directory is the truth; doorbell.py only says when to look. Nothing here opens a file for more than a look
at its last line, and nothing is followed or waited for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path

from attrs import frozen

from mkisod.job.request import ends_whole, is_ticket
from mkisod.spool.controls import ControlFile
from mkisod.spool.layout import REQUEST_SUFFIX, Control, Layout

_TAIL_BYTES = 64
_MOST_READY = 100  # at once, so that a round is short, and looks at few for each that it claims
_CONTROLS = frozenset(Control)


@frozen
class Sighting:
    """What a drop looked like, and since when it has looked so (monotonic seconds)."""

    identity: tuple[int, int, int, int]  # inode, size, mtime_ns, ctime_ns
    since_s: float


class Leave(StrEnum):
    """Whether a drop may be claimed now, as far as its ticket is concerned."""

    CLAIM = "claim"
    WAIT = "wait"  # the last job of the ticket is not finished
    FOREIGN = "foreign"  # the ticket is somebody else's


@frozen
class Found:
    """What a scan found: tickets to claim, control files, names that are not for us, and in how many seconds to look again for what is
    being written. `has_more`: many are ready; what comes behind these was not looked at.
    """

    ready: tuple[str, ...]
    controls: tuple[ControlFile, ...]
    strange: tuple[str, ...]
    next_look_s: float | None
    has_more: bool = False


class Inbox:
    """Used by one thread."""

    def __init__(self, layout: Layout, *, settle_s: float) -> None:
        self._layout = layout
        self._settle_s = settle_s
        self._sightings: Mapping[str, Sighting] = {}
        self._moved: set[str] = set()
        self._warned: set[str] = set()
        self._passed: list[str] = []  # requests that the last scan did not look at, those first that have been passed over for longest

    def scan(self, now_s: float, moved: set[str], ask_leave: Callable[[str, int], Leave]) -> Found:
        """Look at all of the inbox. `moved`: names reported as moved into place; `ask_leave`: about a ticket and the uid of a drop.

        A strange name is reported by the first scan that meets it, and not again while it lies there.
        """
        names = {os.fsdecode(name) for name in os.listdir(os.fsencode(self._layout.inbox))}
        self._moved = (self._moved | moved) & names
        sightings: dict[str, Sighting] = {}
        ready: list[str] = []
        controls, strange, waits = [], set(), []
        waited = [name for name in self._passed if name in names]
        passed: list[str] = []
        for name in waited + sorted(names.difference(waited)):
            if name.startswith(".") or name.endswith(".tmp"):
                continue
            ticket, dot, suffix = name.rpartition(".")
            if is_ticket(ticket) and dot + suffix in _CONTROLS:
                if _is_directory(self._layout.inbox / name):  # not always ours to remove
                    strange.add(name)
                else:
                    controls.append(ControlFile(ticket, Control(dot + suffix)))
                continue
            if dot + suffix != REQUEST_SUFFIX or not is_ticket(ticket):
                strange.add(name)
                continue
            if len(ready) == _MOST_READY:
                passed.append(name)
                if name in self._sightings:
                    sightings[name] = self._sightings[name]
                if name in self._warned:
                    strange.add(name)
                continue
            path = self._layout.inbox / name
            try:
                sighting, uid = _look(path, self._sightings.get(name), now_s)
            except FileNotFoundError:
                continue
            except IsADirectoryError:  # not always ours to move
                strange.add(name)
                continue
            sightings[name] = sighting
            settled_s = sighting.since_s + self._settle_s
            if name in self._moved or now_s >= settled_s or _is_whole(path):
                leave = ask_leave(ticket, uid)
                if leave is Leave.CLAIM:
                    ready.append(ticket)
                    self._moved.discard(name)  # the next drop of that name is another one
                elif leave is Leave.FOREIGN:
                    strange.add(name)
            else:
                waits.append(settled_s)
        self._sightings = sightings
        self._passed = passed
        new = strange - self._warned
        self._warned = strange
        # A control file beside a request that nobody has looked at yet is about that request, not about the one before it.
        looked_at = names.difference(passed)
        obeyed = (file for file in controls if file.ticket + REQUEST_SUFFIX in looked_at or file.ticket + REQUEST_SUFFIX not in names)
        next_look_s = min(waits) - now_s if waits else None
        return Found(tuple(ready), tuple(obeyed), tuple(sorted(new)), next_look_s, has_more=bool(passed))


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _look(path: Path, before: Sighting | None, now_s: float) -> tuple[Sighting, int]:
    """What the drop looks like, and the uid of its owner. Raises FileNotFoundError, IsADirectoryError."""
    status = os.lstat(path)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(path)
    identity = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if before is not None and before.identity == identity:
        return before, status.st_uid
    return Sighting(identity, now_s), status.st_uid


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
