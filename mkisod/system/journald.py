"""The native protocol of systemd's journal: one entry, one datagram.

Follows systemd's own description (Native Journal Protocol). A field is `NAME=value` and a newline; a value with a newline in it is sent as
name, newline, its length (64 bit, little endian), the value, newline. What is too large for a datagram goes in a sealed memory file,
whose descriptor is sent instead. On failure (OSError) the entry is not in the journal, and the caller says it elsewhere.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

SOCKET = Path("/run/systemd/journal/socket")

MOST_FIELDS = 1000  # the journal throws away an entry of more than 1,024, and adds some of its own
_BUFFER_BYTES = 8 << 20  # as sd_journal_send(3) has it: room for a burst
_NAME = re.compile(r"[A-Z0-9][A-Z0-9_]{0,63}")
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

Field = tuple[str, str]


def is_connected(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether a stream goes to the journal: systemd names it by device and inode in $JOURNAL_STREAM (systemd.exec(5))."""
    device, colon, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    if not colon or not (device + inode).isdecimal():
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (status.st_dev, status.st_ino) == (int(device), int(inode))


def make_fields(key: str, value: Any) -> list[Field]:
    """The fields of one value: a list of n things is n fields of one name, each of which can be asked for; nothing for None."""
    if value is None:
        return []
    name = "MKISOD_" + re.sub(r"[^A-Z0-9_]", "_", key.upper())[:57]
    if isinstance(value, list | tuple):
        return [(name.removesuffix("S"), str(item)) for item in value]
    return [(name, str(int(value)) if isinstance(value, bool) else str(value))]


def encode_entry(fields: list[Field]) -> bytes:
    """The bytes of an entry. What is more than an entry may hold stands together, a line each, in one field of the name and `_MORE`."""
    most = MOST_FIELDS if len(fields) <= MOST_FIELDS else MOST_FIELDS - 50  # room for the fields that end in _MORE
    kept, more = fields[:most], dict[str, list[str]]()
    for name, value in fields[most:]:
        more.setdefault(name, []).append(value)
    kept += [(f"{name[:59]}_MORE", "\n".join(values)) for name, values in more.items()]
    return b"".join(_encode_field(name, value) for name, value in kept)


def _encode_field(name: str, value: str) -> bytes:
    if not _NAME.fullmatch(name):
        raise ValueError(f"no field of the journal may be called {name!a}")
    data = value.encode(errors="backslashreplace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


def send_entry(entry: bytes, path: Path = SOCKET) -> None:
    """Raises OSError. A socket for each entry: they are few, and a journal that was started anew is found."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        try:
            sender.sendto(entry, os.fspath(path))
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            with os.fdopen(os.memfd_create("mkisod-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb", buffering=0) as file:
                file.write(entry)
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)  # the journal takes a file only if nobody can change it any more
                descriptor = array.array("i", [file.fileno()]).tobytes()
                sender.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor)], 0, os.fspath(path))
