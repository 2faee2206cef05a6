"""One established association on one blocking socket, whichever side asked for it (`negotiate` makes them).

A plain loop: PDUs are read whole, data sets are sent from the open file in large pieces, nothing is decoded. One thread uses an
association; `close` alone may be called from another, and ends what that thread does.
Whatever ends an association before its time raises `AssociationEnded`; after that it is closed and can only be closed again.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from typing import BinaryIO, cast

from attrs import frozen

from mkisod.demo.commands import Command, Value, decode_command, encode_command

_MAX_MESSAGE_BYTES = 16 << 20  # an identifier never comes near it
_BUFFER_BYTES = 1 << 20
_MOST_FRAGMENTS = 256  # in one system call, which takes at most 1,024 pieces

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, _DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = range(1, 8)
_RELEASE_REQUEST = bytes((_RELEASE_RQ, 0, 0, 0, 0, 4, 0, 0, 0, 0))
_RELEASE_RESPONSE = bytes((_RELEASE_RP, 0, 0, 0, 0, 4, 0, 0, 0, 0))
_ABORT_BY_USER = bytes((_ABORT, 0, 0, 0, 0, 4, 0, 0, 0, 0))


class AssociationEnded(Exception):
    """The other side rejected, aborted, closed, timed out, or broke the protocol."""


@frozen
class Message:
    """One DIMSE message as it came; `data` is the encoded identifier or data set, empty where there is none."""

    context_id: int
    command: dict[str, Value]
    data: bytes


class Association:
    """An established association. `contexts` maps presentation context IDs to (abstract syntax UID, transfer syntax UID)."""

    def __init__(
        self, connection: socket.socket, calling_ae_title: str, contexts: Mapping[int, tuple[str, str]], max_pdu_bytes: int
    ) -> None:
        self.calling_ae_title = calling_ae_title
        self.contexts = dict(contexts)
        self.connection = connection
        # PS3.8 Annex D.1: 0 means no limit. A PDV item takes six bytes of the PDU before its fragment begins.
        self._fragment_bytes = max(min(max_pdu_bytes or _BUFFER_BYTES, _BUFFER_BYTES) - 6, 2) & ~1
        fragments = min(max(_BUFFER_BYTES // self._fragment_bytes, 1), _MOST_FRAGMENTS)
        self._buffer = memoryview(bytearray(fragments * self._fragment_bytes))

    def send(self, context_id: int, command: Command, data: BinaryIO | None = None, size_bytes: int = 0) -> None:
        """Send one message: the command set, then `size_bytes` of `data` from where it stands, as they are."""
        encoded = encode_command(command)
        pieces: list[bytes | memoryview] = [self._head(context_id, 3, len(encoded)), encoded]
        remaining = size_bytes if data is not None else 0
        while data is not None and remaining:
            filled = _read_into(data, self._buffer[: min(remaining, len(self._buffer))])
            remaining -= filled
            for start in range(0, filled, self._fragment_bytes):
                end = min(start + self._fragment_bytes, filled)
                pieces += (self._head(context_id, 0 if remaining or end < filled else 2, end - start), self._buffer[start:end])
            self._send_pieces(pieces)
            pieces = []
        if pieces:
            self._send_pieces(pieces)

    def receive(self) -> Message | None:
        """The next whole message; None where the other side has released the association instead (which is then closed)."""
        parts = {1: bytearray(), 0: bytearray()}  # by bit 0 of the message control header: command, data (PS3.8 Annex E.2)
        command: dict[str, Value] | None = None
        while True:
            kind, body = receive_pdu(self.connection)
            if kind == _RELEASE_RQ and command is None:
                self._send_pieces([_RELEASE_RESPONSE])
                self.close()
                return None
            if kind == _ABORT:
                self.close()
                raise AssociationEnded("the other side aborted the association")
            if kind != _DATA:
                self.abort()
                raise AssociationEnded(f"the other side sent a PDU of type {kind:02X}H, which has no place here")
            for context_id, control, fragment in _split_fragments(body):
                parts[control & 1] += fragment
                if len(parts[control & 1]) > _MAX_MESSAGE_BYTES:
                    self.abort()
                    raise AssociationEnded("the other side sent a message beyond all bounds")
                if control == 3:
                    command = _decode(bytes(parts[1]))
                if command is not None and (control == 2 or (control == 3 and command["CommandDataSetType"] == 0x0101)):
                    return Message(context_id, command, bytes(parts[0]))

    def wait(self, timeout_s: float | None, also: Sequence[socket.socket] = ()) -> bool:
        """Whether there is something to receive within `timeout_s` (None: for ever), or before one of `also` becomes readable."""
        return self.connection in wait_readable([self.connection, *also], timeout_s)

    def release(self) -> None:
        """Release the association and close it (PS3.8 9.2); an other side that is gone already is released too."""
        with suppress(AssociationEnded):  # then nothing is left to release
            self._send_pieces([_RELEASE_REQUEST])
            while receive_pdu(self.connection)[0] == _DATA:
                pass
        self.close()

    def abort(self) -> None:
        """Send A-ABORT and close."""
        with suppress(AssociationEnded):  # gone already is what was wanted
            self._send_pieces([_ABORT_BY_USER])
        self.close()

    def close(self) -> None:
        """Close the connection, whatever state it is in; a thread that waits on it is woken."""
        close_connection(self.connection)

    def _head(self, context_id: int, control: int, length: int) -> bytes:
        return struct.pack(">BxIIBB", _DATA, length + 6, length + 2, context_id, control)

    def _send_pieces(self, pieces: Sequence[bytes | memoryview]) -> None:
        send_all(self.connection, pieces)


def wait_readable(sockets: Sequence[socket.socket], timeout_s: float | None) -> list[socket.socket]:
    """Those of `sockets` that have something to read within `timeout_s` (None: for ever). Raises `AssociationEnded` where one is closed."""
    poll = select.poll()  # select() would end at descriptor 1,023
    try:
        watched = {one.fileno(): one for one in sockets}
        for descriptor in watched:
            poll.register(descriptor, select.POLLIN)
    except ValueError as error:  # closed by another thread
        raise AssociationEnded("the association was closed") from error
    return [watched[descriptor] for descriptor, _ in poll.poll(None if timeout_s is None else timeout_s * 1000)]


def close_connection(connection: socket.socket) -> None:
    """Shut a connection down and close it, so that a thread that blocks on it ends."""
    with suppress(OSError):  # not connected any more
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _decode(encoded: bytes) -> dict[str, Value]:
    try:
        command = decode_command(encoded)
        command["CommandField"], command["CommandDataSetType"]
    except (ValueError, KeyError) as error:
        raise AssociationEnded("the other side sent a malformed command set") from error
    return command


def _split_fragments(body: bytes) -> Iterable[tuple[int, int, bytes]]:
    position = 0
    while position < len(body):
        if position + 6 > len(body):
            raise AssociationEnded("the other side sent a malformed PDU")
        length, context_id, control = struct.unpack_from(">IBB", body, position)
        if length < 2 or position + 4 + length > len(body):
            raise AssociationEnded("the other side sent a malformed PDU")
        yield context_id, control, body[position + 6 : position + 4 + length]
        position += 4 + length


def receive_pdu(connection: socket.socket, whole: bool = False) -> tuple[int, bytes]:
    """The type and the body of the next PDU; with `whole` the body begins with the six bytes of its head."""
    head = _receive_exactly(connection, 6)
    kind, length = struct.unpack(">BxI", head)
    if length > _MAX_MESSAGE_BYTES:
        raise AssociationEnded("the other side sent a PDU beyond all bounds")
    body = _receive_exactly(connection, length)
    return kind, head + body if whole else body


def _receive_exactly(connection: socket.socket, size_bytes: int) -> bytes:
    received = BytesIO()
    while received.tell() < size_bytes:
        try:
            piece = connection.recv(size_bytes - received.tell())
        except OSError as error:
            raise AssociationEnded(f"the connection was lost: {error}") from error
        if not piece:
            raise AssociationEnded("the other side closed the connection")
        received.write(piece)
    return received.getvalue()


def _read_into(data: BinaryIO, buffer: memoryview) -> int:
    filled = 0
    while filled < len(buffer):
        try:
            count = cast(int, data.readinto(buffer[filled:]))  # type: ignore[attr-defined]
        except OSError as error:  # in the midst of a message: there is no way to take it back
            raise AssociationEnded(f"a file of the folder cannot be read: {error}") from error
        if not count:
            raise AssociationEnded("a file of the folder has become shorter while it was sent")
        filled += count
    return filled


def send_all(connection: socket.socket, pieces: Sequence[bytes | memoryview]) -> None:
    """Send all pieces by as few system calls as possible."""
    left = list(pieces)
    try:
        while left:
            sent = connection.sendmsg(left)
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if sent:
                left[0] = memoryview(left[0])[sent:]
    except OSError as error:
        raise AssociationEnded(f"the connection was lost: {error}") from error
