"""Removing trees: away at once, gone later, and never in each other's way."""

from __future__ import annotations

from pathlib import Path

from mkisod.spool.durable import Disk
from mkisod.spool.layout import Layout, make_directories
from mkisod.spool.trash import remove, sweep

JOB = "20260101T120000Z-abcdef"


class SlowDisk(Disk):
    """Has not got round yet to removing any tree."""

    def remove_tree(self, path: Path) -> None:
        pass


def test_a_job_and_its_result_are_removed_at_the_same_time(tmp_path: Path) -> None:
    """A client discards a result while the worker that has just published it removes the job: both have the job's name."""
    layout = Layout(tmp_path, "main")
    make_directories(layout)
    trees = [layout.job(layout.active, JOB).path, layout.result("t-1", JOB), layout.result("main", JOB)]
    for tree in trees:
        (tree / "objects").mkdir(parents=True)
        remove(layout, SlowDisk(), tree)
    assert not any(tree.exists() for tree in trees)
    assert len(list(layout.trash.iterdir())) == len(trees)
    sweep(layout, Disk())
    assert not list(layout.trash.iterdir())
