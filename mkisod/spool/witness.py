"""Word from a running daemon to a `mkisod check` that asks who came to the port.

The asking makes a file, and the daemon adds a line for each connection while it is there; otherwise it costs the daemon one look for a name
that does not exist. The file goes with the asking. One that was left behind by a check that was killed is replaced after an hour.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mkisod.errors import Code, Permanent
from mkisod.spool.layout import Layout

_STALE_S = 3600.0


def leave_word(layout: Layout, line: bytes) -> None:
    """Add a line for whoever asks; nothing where nobody does. Raises OSError."""
    try:
        fd = os.open(layout.witness, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.write(fd, line)  # one write, so the lines of two threads do not mix
    finally:
        os.close(fd)


@contextmanager
def ask_for_word(layout: Layout) -> Iterator[Callable[[], list[bytes]]]:
    """Gives what reads the lines that have come so far. Raises `Permanent` where another check asks, or this user may not."""
    path = layout.witness
    try:
        with contextlib.suppress(FileNotFoundError):
            if time.time() - os.lstat(path).st_mtime > _STALE_S:
                path.unlink()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    except FileExistsError as error:
        raise Permanent(Code.USAGE, "Another mkisod check is under way.", f"Wait for its end. If there is none, remove {path}.") from error
    except OSError as error:
        raise Permanent(
            Code.SPOOL_UNUSABLE, f"{path} cannot be written: {error.strerror}.", "Run the command as root or as the daemon's user."
        ) from error
    try:
        if os.geteuid() == 0:  # the daemon has to open it
            owner = layout.work.stat()
            os.fchown(fd, owner.st_uid, owner.st_gid)

        def read() -> list[bytes]:
            data = os.pread(fd, os.fstat(fd).st_size, 0)
            return data[: data.rfind(b"\n") + 1].splitlines()

        yield read
    finally:
        os.close(fd)
        path.unlink(missing_ok=True)
