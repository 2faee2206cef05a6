"""Writes an ISO 9660 image in one pass, front to back: what iso_layout.py has laid out, and the contents of the files behind it.

Contents go from file to file within the kernel where it can do that, in blocks otherwise; never through memory as a whole. Raises
OSError; what was written until then is left to the caller.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from mkisod.media.iso_layout import lay_out

_BLOCK_BYTES = 1 << 20
_KERNEL_BLOCK_BYTES = 16 << 20  # so that who waits for progress, or wants it to stop, is heard now and then
# What copy_file_range(2) says where it does not do it: another file system, or one that cannot.
_NOT_COPIED = frozenset({errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM})


def write_image(
    image: Path,
    volume_identifier: str,
    tree: Path,
    files: Sequence[str],
    moment: datetime,
    *,
    report_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Writes `files`, each a path below `tree` and in the image. Their contents lie in the order given.

    `moment` is UTC. `report_progress` gets bytes done and bytes in all. Raises OSError.
    """
    sizes_bytes = array("Q", (os.stat(f"{tree}/{name}").st_size for name in files))  # noqa: PTH116 - 20,000 times a Path costs a second
    layout = lay_out(volume_identifier, files, sizes_bytes, moment)
    with image.open("xb") as target:
        target.write(layout.head)
        target.flush()  # from here on by offset, behind the back of the buffer
        for name, start, size_bytes in zip(files, layout.starts, sizes_bytes, strict=True):
            with open(f"{tree}/{name}", "rb", buffering=0) as source:  # noqa: PTH123 - as above
                for done in _copy(source.fileno(), target.fileno(), start, size_bytes):
                    report_progress(start + done, layout.size_bytes)
        target.truncate(layout.size_bytes)
    report_progress(layout.size_bytes, layout.size_bytes)


def _copy(source: int, target: int, start: int, size_bytes: int) -> Iterator[int]:
    """The whole of `source` to `start` in `target`; how much is done, again and again. It has to have its size still."""
    done = 0
    while done < size_bytes:
        count = _copy_some(source, target, done, start, size_bytes - done)
        if not count:
            raise OSError(errno.EIO, "a file of the disc became shorter while its image was written")
        done += count
        yield done


def _copy_some(source: int, target: int, at: int, start: int, left: int) -> int:
    try:
        # Some file systems say 0 where they do not do it.
        if count := os.copy_file_range(source, target, min(left, _KERNEL_BLOCK_BYTES), at, start + at):
            return count
    except OSError as error:
        if error.errno not in _NOT_COPIED:
            raise
    return os.pwrite(target, os.pread(source, min(left, _BLOCK_BYTES), at), start + at)
