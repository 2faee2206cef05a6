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
    target = layout.trash / path.name
    disk.remove_tree(target)  # of an earlier try
    try:
        disk.move(path, target)
    except FileNotFoundError:
        return
    disk.remove_tree(target)


def sweep(layout: Layout, disk: Disk) -> None:
    """Remove what was on its way out when a daemon died. Another daemon may be removing the same thing."""
    for name in os.listdir(layout.trash):
        with contextlib.suppress(FileNotFoundError):
            disk.remove_tree(layout.trash / name)
