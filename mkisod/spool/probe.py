"""Whether a spool would work, found out by doing in it what the daemon does: write, rename from room to room, remove."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from mkisod.errors import Code, Permanent
from mkisod.spool.durable import Disk
from mkisod.spool.layout import Layout, check_one_file_system


def probe_spool(layout: Layout) -> str:
    """What was found. Raises `Permanent` (`spool_unusable`). A spool that is not there yet is judged by whether it can be made."""
    try:
        if not layout.active.is_dir():
            return _probe_parent(layout.root)
    except PermissionError as error:
        raise Permanent(Code.SPOOL_UNUSABLE, f"This user may not look into {layout.active}.", "Run the command as root.") from error
    check_one_file_system(layout)
    disk = Disk()
    places = [layout.inbox, layout.active, layout.queued, layout.deferred, layout.held, layout.outbox, layout.trash]
    name = f".probe-{os.getpid()}"
    at = places[0] / name
    try:
        disk.write(at, b"")
        for place in places[1:]:
            disk.rename(at, place / name)
            at = place / name
        disk.remove(at)
    except OSError as error:
        raise Permanent(Code.SPOOL_UNUSABLE, f"{at.parent}: a file cannot be written or renamed here: {error.strerror}.") from error
    free_mib = os.statvfs(layout.root).f_bavail * os.statvfs(layout.root).f_frsize >> 20
    return f"{layout.root} is one file system and writable, {free_mib} MiB free"


def is_served(layout: Layout) -> bool:
    """Whether a daemon holds this instance. Raises `Permanent` where this user may not look."""
    try:
        fd = os.open(layout.active, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except PermissionError as error:
        raise Permanent(Code.SPOOL_UNUSABLE, f"This user may not look into {layout.active}.", "Run the command as root.") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)  # and the lock with it
    return False


def _probe_parent(root: Path) -> str:
    parent = next(path for path in (root, *root.parents) if path.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise Permanent(Code.SPOOL_UNUSABLE, f"{root} is not there, and this user cannot make it in {parent}.")
    return f"{root} is not there yet; mkisod serve will make it"
