"""Writes a ZIP archive of a file-set: stored, not deflated, so that its files can be read in place; ZIP64 where needed.

Two archives of the same input are the same bytes: every date is the one given.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

_COPY_BLOCK_BYTES = 1 << 20
_REGULAR_FILE = 0o100644 << 16


def write_archive(
    archive: Path, tree: Path, files: Sequence[str], moment: datetime, report_progress: Callable[[int, int], None]
) -> None:
    """`files` are paths below `tree` and in the archive. `report_progress` gets bytes done and bytes in all."""
    sizes = [(tree / name).stat().st_size for name in files]
    total, done = sum(sizes), 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as writer:
        for name, size in zip(files, sizes, strict=True):
            info = zipfile.ZipInfo(name, moment.timetuple()[:6])
            info.external_attr = _REGULAR_FILE
            info.file_size = size  # lets zipfile decide about ZIP64 beforehand
            with (tree / name).open("rb") as reader, writer.open(info, "w") as target:
                shutil.copyfileobj(reader, target, _COPY_BLOCK_BYTES)
            done += size
            report_progress(done, total)
