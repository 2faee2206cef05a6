"""SHA256SUMS: the digests of all files of a result, in the form of sha256sum(1)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

SUMS_NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def compute_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(directory: Path, known: dict[Path, str]) -> None:
    """Over every file below `directory`; `known` holds digests that need not be computed again."""
    lines = [
        f"{known.get(path) or compute_digest(path)}  {path.relative_to(directory).as_posix()}\n"
        for path in sorted(path for path in directory.rglob("*") if path.is_file())
    ]
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
