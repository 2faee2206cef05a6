"""SHA256SUMS: the digests of all files of a result, in the form of sha256sum(1).

They are computed in threads of their own while the disc goes on being made and checked: hashing holds no lock of the interpreter, so what
processors there are do it beside the work, and help each other with what is left at the end.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

SUMS_NAME = "SHA256SUMS"
_MOST_THREADS = 4
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def compute_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


class Digests:
    """Digests of finished files below `directory`, as a context manager; when it is left early, what is still to do is dropped."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._names: SimpleQueue[str | None] = SimpleQueue()
        self._digests: dict[str, bytes] = {}
        self._error: Exception | None = None
        self._given_up = False
        count = min(os.cpu_count() or 1, _MOST_THREADS)
        self._threads = [threading.Thread(target=self._run, name=f"digests-{number}", daemon=True) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._given_up = True
        self._end()

    def add(self, names: Iterable[str]) -> None:
        """Files that nobody changes or removes any more before `finish` returns."""
        for name in names:
            self._names.put(name)

    def finish(self) -> Mapping[str, bytes]:
        """The digest of every file that was added. Raises OSError where one could not be read."""
        self._end()
        if self._error is not None:
            raise self._error
        return self._digests

    def _end(self) -> None:
        for _ in self._threads:
            self._names.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        try:
            while (name := self._names.get()) is not None and not self._given_up:
                self._digests[name] = compute_digest(self._directory / name)
        except Exception as error:  # noqa: BLE001 - raised again by `finish`
            self._error, self._given_up = error, True


def write_sums(directory: Path, digests: Mapping[str, bytes]) -> None:
    """Writes SHA256SUMS into `directory`, above all the files."""
    with (directory / SUMS_NAME).open("w", encoding="ascii") as sums:
        sums.writelines(f"{digests[name].hex()}  {name}\n" for name in sorted(digests))


def check_sums(path: Path) -> Iterator[tuple[str, str]]:
    """Where the SHA256SUMS beside `path`, if there is one, contradicts it: file and complaint."""
    sums = path.parent / SUMS_NAME
    if not sums.is_file():
        return
    for line in sums.read_text(encoding="ascii", errors="replace").splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            yield SUMS_NAME, "it holds a line that is no digest"
        elif (name := match[2]) == path.name or name.startswith(path.name + "/"):
            file = path.parent / name
            if not file.is_file():
                yield name, f"{SUMS_NAME} names it, but it is not there"
            elif compute_digest(file).hex() != match[1]:
                yield name, f"its content is not that of which {SUMS_NAME} holds the digest"
