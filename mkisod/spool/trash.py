"""Removing a directory tree as one step: renamed away first, removed after.

A tree that is removed entry by entry is, for a while, half a tree under its own name: half a job, half a disc. What lies in the trash is
nobody's, so a start sweeps what a death left there.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mkisod.spool.durable import Disk
from mkisod.spool.layout import Layout


def remove(layout: Layout, disk: Disk, path: Path) -> None:
    """Remove what stands at `path`; nothing there is nothing to do. Durable on return as far as its name is concerned."""
    # Named by where it stood: a job and its result, which have one name, may be removed at the same time by two threads.
    target = layout.trash / "-".join(path.relative_to(layout.root).parts)
    disk.remove_tree(target)  # of an earlier try
    try:
        disk.move(path, target)
    except FileNotFoundError:
        return
    _remove_for_good(disk, target)


def sweep(layout: Layout, disk: Disk) -> None:
    """Remove what was on its way out when a daemon died."""
    for name in os.listdir(layout.trash):
        _remove_for_good(disk, layout.trash / name)


def _remove_for_good(disk: Disk, path: Path) -> None:
    """As far as can be: another daemon may be first, and what a client dropped may hold what only the client can remove."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        disk.remove_tree(path)
