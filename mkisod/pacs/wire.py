"""One connection as a stream of bytes in one reused buffer.

Owns the socket of an association and the buffer it is read into. What is read is handed out as views into that buffer: they are valid
until the next call. Reading blocks in the kernel, under a deadline or an idle limit; nothing polls. A connection that ends raises
`ConnectionEnded`, a limit that passes raises TimeoutError, and neither leaves anything behind.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from typing import Final, Never

BUFFER_BYTES: Final = 256 * 1024  # two PDUs of the size we announce; larger ones were not faster


class ConnectionEnded(Exception):
    """The other side has closed the connection, or it broke."""


class Interrupted(Exception):
    """Our own side wants the association to end."""


class Wire:
    """Used by the thread of its association; `cut` and `interrupt` by any."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._view = memoryview(bytearray(BUFFER_BYTES))
        self._start = self._end = 0
        self._deadline: float | None = None
        self._interrupted = False

    def replace_socket(self, sock: socket.socket) -> None:
        """The same connection, now under TLS."""
        self._sock = sock

    def limit_total(self, seconds: float) -> None:
        """From now on everything together has to come within `seconds`: what PS3.8 calls a timer."""
        self._deadline = time.monotonic() + seconds
        self._limit(seconds)

    def limit_idle(self, seconds: float) -> None:
        """From now on each read and each write may wait for so long."""
        self._deadline = None
        self._limit(seconds)

    def _limit(self, seconds: float) -> None:
        if isinstance(self._sock, ssl.SSLSocket):
            self._sock.settimeout(seconds)
            return
        # The kernel's own time-outs: with settimeout Python would put a poll before every read and write.
        limit = struct.pack("@ll", int(seconds), max(int(seconds % 1 * 1e6), 1))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def part(self, seconds: float) -> None:
        """The association is over: only the other side's closing is still awaited, and no longer than that."""
        self._interrupted = False
        self.limit_total(seconds)

    def _fill(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == BUFFER_BYTES:
            rest = bytes(self._view[self._start : self._end])  # a header that lies across the end: a few bytes
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        if self._deadline is not None:
            remaining_s = self._deadline - time.monotonic()
            if remaining_s <= 0:
                raise TimeoutError
            self._limit(remaining_s)
        try:
            count = self._sock.recv_into(self._view[self._end :])
        except (TimeoutError, BlockingIOError) as error:
            raise TimeoutError from error
        except OSError as error:
            raise ConnectionEnded(str(error)) from error
        if self._interrupted:  # also while data still comes: Linux goes on receiving after SHUT_RD
            raise Interrupted
        if not count:
            raise ConnectionEnded("closed by the other side")
        self._end += count

    def unpack(self, header: struct.Struct) -> tuple[int, ...]:
        """Reads a fixed header in place."""
        size = header.size
        while self._end - self._start < size:
            self._fill()
        values = header.unpack_from(self._view, self._start)
        self._start += size
        return values

    def take(self, size: int) -> memoryview:
        """At least one byte and at most `size`: whatever is there. `size` is positive."""
        if self._start == self._end:
            self._fill()
        start = self._start
        self._start = stop = min(self._end, start + size)
        return self._view[start:stop]

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Memory grows with what comes, not with what was announced."""
        collected = bytearray()
        while len(collected) < size:
            collected += self.take(size - len(collected))
        return bytes(collected)

    def skip(self, size: int) -> None:
        while size:
            size -= len(self.take(size))

    def drain(self) -> Never:
        """Reads and throws away until the connection ends or the limit passes."""
        while True:
            self.take(BUFFER_BYTES)

    def send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except (TimeoutError, BlockingIOError) as error:
            raise TimeoutError from error
        except OSError as error:
            raise ConnectionEnded(str(error)) from error

    def interrupt(self) -> None:
        """Ends a read that waits, and every later one, by `Interrupted`; what is sent still arrives."""
        self._interrupted = True
        self._shut(socket.SHUT_RD)

    def cut(self) -> None:
        """Ends the connection from another thread; the thread that reads from it notices and closes it."""
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        try:
            socket.socket.shutdown(self._sock, how)  # SSLSocket.shutdown would also drop its keys, and what follows would go out in clear
        except OSError:
            return  # it has ended already: that is what was asked for

    def close(self) -> None:
        self._sock.close()
