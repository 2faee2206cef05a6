"""`forward.jsonl`: what is appended is there, what a death left half is taken off before more is appended."""

from __future__ import annotations

from pathlib import Path

import pytest

from mkisod.job.forwarding import Entry, Outcome, encode_entry
from mkisod.spool.durable import Disk
from mkisod.spool.forwarded import Forwarded

ENTRIES = [Entry("A", f"1.{number}", Outcome.SENT, "0000") for number in range(3)]


@pytest.fixture
def forwarded(tmp_path: Path) -> Forwarded:
    return Forwarded(tmp_path / "forward.jsonl", Disk())


def test_nothing_yet(forwarded: Forwarded, tmp_path: Path) -> None:
    assert forwarded.read() == []
    forwarded.append([])
    assert not list(tmp_path.iterdir())


def test_what_is_appended_is_there(forwarded: Forwarded) -> None:
    forwarded.append(ENTRIES[:1])
    forwarded.append(ENTRIES[1:])
    assert forwarded.read() == ENTRIES


@pytest.mark.parametrize("torn", [b'{"destination": "A", "sop_ins', b"\0\0\0\0\n", encode_entry(ENTRIES[2])[:-1]])
def test_half_a_line_does_not_spoil_what_comes_after_it(forwarded: Forwarded, tmp_path: Path, torn: bytes) -> None:
    forwarded.append(ENTRIES[:2])
    with (tmp_path / "forward.jsonl").open("ab") as file:
        file.write(torn)
    assert forwarded.read() == ENTRIES[:2]
    forwarded.repair()
    forwarded.append(ENTRIES[2:])
    assert forwarded.read() == ENTRIES


def test_lines_are_synced(tmp_path: Path) -> None:
    synced: list[Path] = []

    class Watched(Disk):
        def sync(self, path: Path) -> None:
            super().sync(path)
            synced.append(path)

    forwarded = Forwarded(tmp_path / "forward.jsonl", Watched())
    forwarded.append(ENTRIES[:1])
    assert synced == [tmp_path / "forward.jsonl", tmp_path]
    forwarded.append(ENTRIES[1:])
    assert synced[2:] == [tmp_path / "forward.jsonl"]
