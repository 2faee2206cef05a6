"""SHA256SUMS: the digests of all files of a result, in the form of sha256sum(1).

They are computed in a thread of their own while the disc goes on being made and checked: hashing holds no lock of the interpreter, so on
a machine with two processors it costs no time of its own.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

SUMS_NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def compute_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Digests:
    """Digests of files that are finished, as a context manager; when the context is left early, what is still to do is dropped."""

    def __init__(self) -> None:
        self._paths: SimpleQueue[Path | None] = SimpleQueue()
        self._digests: dict[Path, str] = {}
        self._error: Exception | None = None
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name="digests", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._given_up = True
        self._paths.put(None)
        self._thread.join()

    def add(self, paths: Iterable[Path]) -> None:
        """Files that nobody changes or removes any more before `finish` returns."""
        for path in paths:
            self._paths.put(path)

    def finish(self) -> Mapping[Path, str]:
        """The digest of every file that was added. Raises OSError where one could not be read."""
        self._paths.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._digests

    def _run(self) -> None:
        try:
            while (path := self._paths.get()) is not None and not self._given_up:
                self._digests[path] = compute_digest(path)
        except Exception as error:  # noqa: BLE001 - raised again by `finish`
            self._error = error


def write_sums(directory: Path, digests: Mapping[Path, str]) -> None:
    """Writes SHA256SUMS into `directory`, above all the files."""
    lines = [f"{digests[path]}  {path.relative_to(directory).as_posix()}\n" for path in sorted(digests)]
    (directory / SUMS_NAME).write_text("".join(lines), encoding="ascii")


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
            elif compute_digest(file) != match[1]:
                yield name, f"its content is not that of which {SUMS_NAME} holds the digest"
