"""SHA256SUMS: the digests of all files of a result, in the form of sha256sum(1).

They are computed in threads of their own while the disc goes on being made and checked: hashing holds no lock of the interpreter, so what
processors there are do it beside the work, and help each other with what is left at the end. A digest belongs to the bytes, not to a name:
a link on the disc to an object that came has the digest of that object (ahead.py), as long as it has not changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

SUMS_NAME = "SHA256SUMS"
_MOST_THREADS = 4
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def compute_digest(path: str | Path) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a name or a Path
        return hashlib.file_digest(file, "sha256").digest()


def make_version(status: os.stat_result) -> int:
    """What a file is at a time, whatever its name. One number weighs less than a tuple of them."""
    return (status.st_ino << 64 | status.st_mtime_ns) << 64 | status.st_size


class Digests:
    """Digests of files, as a context manager; when it is left, what is still to do is dropped.

    `add` is advice: what could not be read then, or has changed since, is read by `find`. Any thread may call either.
    """

    def __init__(self) -> None:
        self._paths: SimpleQueue[str | None] = SimpleQueue()
        self._digests: dict[int, bytes] = {}  # by version
        self._running: set[int] = set()
        self._changed = threading.Condition()  # guards the two above
        self._given_up = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._given_up = True
        for _ in self._threads:
            self._paths.put(None)
        for thread in self._threads:
            thread.join()

    def add(self, path: Path) -> None:
        """A file whose digest somebody will want, and that nobody writes to any more."""
        self._paths.put(os.fspath(path))
        if not self._threads:
            count = min(os.cpu_count() or 1, _MOST_THREADS)
            self._threads = [threading.Thread(target=self._run, name=f"digests-{number}", daemon=True) for number in range(count)]
            for thread in self._threads:
                thread.start()

    def find(self, path: Path) -> bytes:
        """Waits where it is just being computed. Raises OSError where the file cannot be read."""
        return self._compute(os.fspath(path))

    def keep(self, status: os.stat_result, digest: bytes) -> None:
        """The digest of a file that was read when it had this status."""
        with self._changed:
            self._digests[make_version(status)] = digest

    def _run(self) -> None:
        while (path := self._paths.get()) is not None and not self._given_up:
            with contextlib.suppress(OSError):  # `find` will meet it again
                self._compute(path)

    def _compute(self, path: str) -> bytes:
        version = make_version(os.stat(path))  # noqa: PTH116 - a name, not a Path
        with self._changed:
            while version in self._running:
                self._changed.wait()
            if (known := self._digests.get(version)) is not None:
                return known
            self._running.add(version)
        try:
            digest = self._digests[version] = compute_digest(path)
        finally:
            with self._changed:
                self._running.remove(version)
                self._changed.notify_all()
        return digest


class Sums:
    """The files below `directory` that SHA256SUMS is to name."""

    def __init__(self, directory: Path, digests: Digests) -> None:
        self._directory = directory
        self._digests = digests
        self._names: list[str] = []

    def add(self, names: Iterable[str]) -> None:
        for name in names:
            self._names.append(name)
            self._digests.add(self._directory / name)

    def write(self) -> None:
        """Writes SHA256SUMS above all the files. Raises OSError."""
        with (self._directory / SUMS_NAME).open("w", encoding="ascii") as sums:
            sums.writelines(f"{self.find(name)}  {name}\n" for name in sorted(self._names))

    def find(self, name: str) -> str:
        """The digest of a file as hexadecimal digits. Raises OSError."""
        return self._digests.find(self._directory / name).hex()


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
