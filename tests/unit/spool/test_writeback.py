"""Syncing beside the work: all of it, nothing forgotten, nothing left running."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from mkisod.spool.writeback import sync_meanwhile

PATHS = [Path(f"{number}") for number in range(50)]


def test_all_are_synced_when_the_context_has_been_left() -> None:
    synced: list[Path] = []
    with sync_meanwhile(PATHS, synced.append):
        pass
    assert sorted(synced) == sorted(PATHS)


def test_it_runs_beside_the_work() -> None:
    begun, gone_on = threading.Event(), threading.Event()

    def sync(_: Path) -> None:
        begun.set()
        assert gone_on.wait(10)

    with sync_meanwhile(PATHS, sync):
        assert begun.wait(10)
        gone_on.set()


def test_several_are_synced_at_once() -> None:
    """The disk flushes for all that wait: one after the other takes ten times as long."""
    together = threading.Barrier(8)

    def sync(_: Path) -> None:
        together.wait(10)

    with sync_meanwhile(PATHS[:40], sync):
        pass


def test_an_error_is_raised_though_the_work_went_well() -> None:
    def sync(path: Path) -> None:
        if path == PATHS[3]:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"), sync_meanwhile(PATHS, sync):
        pass


def test_where_the_work_fails_the_rest_is_left_and_its_error_counts() -> None:
    synced: list[Path] = []
    entered = threading.Event()

    def sync(path: Path) -> None:
        synced.append(path)
        entered.wait(10)
        raise OSError(errno.EIO, "Input/output error")

    def work() -> None:
        with sync_meanwhile(PATHS, sync):
            entered.set()
            raise ValueError("the work")

    with pytest.raises(ValueError, match="the work"):
        work()
    assert len(synced) < len(PATHS)
