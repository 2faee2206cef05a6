"""`forward.jsonl` in a job's directory: what has become of each instance at each destination, a line each, appended durably.

A line that a death cut short is taken off, and what it told is done again: an instance sent twice does no harm. No line is written before
the destination has answered, so nothing is ever taken for sent that was not. On failure (OSError) the lines before still count.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mkisod.job.forwarding import Entry, decode_entries, encode_entry
from mkisod.spool.durable import Disk


class Forwarded:
    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk

    def read(self) -> list[Entry]:
        """Every whole line, in order."""
        return decode_entries(self._read_bytes())[0]

    def repair(self) -> None:
        """Take off what a death cut short. Call it before the first `append`, with the job in hand."""
        data = self._read_bytes()
        _, size = decode_entries(data)
        if size < len(data):
            self._disk.replace(self._path, data[:size])

    def _read_bytes(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""

    def append(self, entries: Iterable[Entry]) -> None:
        """Durable on return."""
        if data := b"".join(map(encode_entry, entries)):
            is_new = not self._path.exists()
            self._disk.append(self._path, data)
            self._disk.sync(self._path)
            if is_new:
                self._disk.sync(self._path.parent)
