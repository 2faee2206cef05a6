"""The one seam through which the spool changes the disk.

Every call that has to survive a power cut goes through a `Disk`: write, sync, rename, sync of a directory, link, make, remove. Nothing here
decides anything, so that a test can put another `Disk` in its place, crash at each call, and see what is left. A failure is an OSError;
what it means is for the caller to say.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

# The daemon runs with UMask 0027: these become 0640 and 0750, and setgid directories hand down the clients' group. Nothing is chmod-ed.
FILE_MODE = 0o666
DIRECTORY_MODE = 0o777


class Disk:
    def write(self, path: Path, data: bytes) -> None:
        """Make or empty the file and write all of `data`. It is not durable before `sync`. A symbolic link is not followed."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            _write_all(fd, data)
        finally:
            os.close(fd)

    def append(self, path: Path, data: bytes) -> None:
        """Add all of `data` to the end of the file, which is made if it is not there. It is not durable before `sync`."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            size = os.fstat(fd).st_size
            try:
                _write_all(fd, data)
            except OSError:
                os.ftruncate(fd, size)  # a disk that fills takes a part first
                raise
        finally:
            os.close(fd)

    def sync(self, path: Path) -> None:
        """The content of a file, or the names in a directory, survive a power cut from here on."""
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_once(self, path: Path) -> None:
        """`sync`, on any disk without a second try: the kernel tells of a failed write once, and the next fsync succeeds."""
        self.sync(path)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def make_directory(self, path: Path) -> None:
        os.mkdir(path, DIRECTORY_MODE)

    def remove(self, path: Path) -> None:
        os.unlink(path)

    def remove_tree(self, path: Path) -> None:
        """Whatever stands at `path`; links are removed, not followed. Nothing there is nothing to do."""
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                os.unlink(path)
        except FileNotFoundError:
            if os.path.lexists(path):
                raise

    # What follows is made of the calls above, so a crash can fall between any two of them.

    def replace(self, path: Path, data: bytes) -> None:
        """Old content or new, whole, whatever happens; durable on return."""
        temporary = path.with_name(f".{path.name}.new")
        self.write(temporary, data)
        self.sync(temporary)
        self.rename(temporary, path)
        self.sync(path.parent)

    def move(self, source: Path, target: Path) -> None:
        """A rename that is durable on return."""
        self.rename(source, target)
        self.sync(target.parent)
        if source.parent != target.parent:
            self.sync(source.parent)

    def sync_tree(self, top: Path, *, is_durable: Callable[[Path], bool] = lambda _: False) -> None:
        """Every file and directory below `top`, and `top`. A file that `is_durable` is left out; its name is synced with the others."""
        for path in _walk(top):
            if not is_durable(path):
                self.sync(path)


class WaitingDisk(Disk):
    """A disk that, when it is full, waits for room instead of failing.

    `wait` is told how often this step has waited already, and blocks for a while; False: give up, and fail after all.

    For the steps of the spool, none of which can be left half done; what brings in data (the receiver, the image) fails instead.
    """

    def __init__(self, wait: Callable[[int], bool]) -> None:
        self._wait = wait

    def write(self, path: Path, data: bytes) -> None:
        self._insist(partial(super().write, path, data))

    def append(self, path: Path, data: bytes) -> None:
        self._insist(partial(super().append, path, data))

    def sync(self, path: Path) -> None:
        self._insist(partial(super().sync, path))

    def sync_once(self, path: Path) -> None:
        super().sync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._insist(partial(super().rename, source, target))

    def make_directory(self, path: Path) -> None:
        self._insist(partial(super().make_directory, path))

    def _insist(self, step: Callable[[], None]) -> None:
        for waited in itertools.count():
            if self._try(step, waited):
                return

    def _try(self, step: Callable[[], None], waited: int) -> bool:
        """Whether it is done; False: try again. Raises OSError where waiting does not help, or is given up."""
        try:
            step()
        except OSError as error:
            if not is_full(error) or not self._wait(waited):
                raise
            return False
        return True


def is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _walk(top: Path) -> Iterator[Path]:
    """Files before the directories that hold their names."""
    for entry in sorted(os.scandir(top), key=lambda e: e.name):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        else:
            yield Path(entry.path)
    yield top
