"""One connection as a stream of bytes in one reused buffer.

Owns the socket of an association and the buffer it is read into. What is read is handed out as views into that buffer: they are valid
until it is filled anew, before which `before_reuse` is called. Where nothing is there it sleeps in the kernel until something comes, a
limit passes, or our own side interrupts; nothing wakes it otherwise. Who can wait a little lets it `gather` first. A connection that ends
raises `ConnectionEnded`, a limit that passes TimeoutError, an interruption `Interrupted`.
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Final, Never, TypeVar

T = TypeVar("T")

BUFFER_BYTES: Final = 256 * 1024  # two PDUs of the size we announce; more was not faster


class ConnectionEnded(Exception):
    """The other side has closed the connection, or it broke."""


class Interrupted(Exception):
    """Our own side wants the association to end."""


def _nothing_held() -> None:
    """No view is kept beyond the call that gave it."""


class Wire:
    """Used by the thread of its association; `interrupt` and `cut` by any."""

    def __init__(self, sock: socket.socket, interrupt_fd: int) -> None:
        """`interrupt_fd` becomes readable when those that wait are to look whether they are interrupted."""
        sock.setblocking(False)
        self._sock = sock
        self._view = memoryview(bytearray(BUFFER_BYTES))
        self._start = self._end = 0
        self._deadline: float | None = None  # of everything together; else `_idle_s` is for each wait
        self._idle_s = 0.0
        self._interrupted = False
        self._interrupt_fd = interrupt_fd
        self.before_reuse: Callable[[], None] = _nothing_held  # whoever keeps views is done with them when this returns
        self._poll = select.poll()
        self._poll.register(interrupt_fd, select.POLLIN)

    def limit_total(self, seconds: float) -> None:
        """From now on everything together has to come within `seconds`, which may be infinite: what PS3.8 calls a timer."""
        self._deadline = time.monotonic() + seconds

    def limit_idle(self, seconds: float) -> None:
        """From now on each read and each write may wait for so long."""
        self._deadline, self._idle_s = None, seconds

    def start_tls(self, context: ssl.SSLContext, server_hostname: str | None = None) -> None:
        """As the client of the host of this name; without a name as the server."""
        try:
            self._sock = context.wrap_socket(
                self._sock, server_side=server_hostname is None, server_hostname=server_hostname, do_handshake_on_connect=False
            )
        except OSError as error:
            raise ConnectionEnded(str(error)) from error
        self._attempt(self._sock.do_handshake, select.POLLIN)

    def part(self, seconds: float) -> None:
        """The association is over: only the other side's closing is still awaited, no longer than that, and interrupted no more."""
        if self._interrupt_fd >= 0:
            self._poll.unregister(self._interrupt_fd)
        self._interrupt_fd, self._interrupted = -1, False
        self.limit_total(seconds)

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

    def gather(self, seconds: float) -> None:
        """Where nothing that was read is left: sleep so long before the next read, so that much comes at once. An interruption ends it.

        Not under TLS, where a read gives one record, however many have come.
        """
        if seconds and self._start == self._end and not isinstance(self._sock, ssl.SSLSocket):
            self._sleep(0, math.ceil(seconds * 1000))

    def connect(self, address: object) -> None:
        """Raises OSError where there is no connection to be had."""
        error = self._sock.connect_ex(address)  # type: ignore[arg-type]
        if error == errno.EINPROGRESS:
            self._wait(select.POLLOUT)
            error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._attempt(self._sock.send, select.POLLOUT, rest) :]

    def interrupt(self) -> None:
        """Its next read, or the wait that it is in, ends by `Interrupted`. The caller then makes `interrupt_fd` readable."""
        self._interrupted = True

    def cut(self) -> None:
        """Ends the connection from another thread; the thread that reads from it notices and closes it."""
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # SSLSocket.shutdown takes the keys away from the thread that uses them
        except OSError:
            return  # it has ended already: that is what was asked for

    def close(self) -> None:
        self._sock.close()

    def _fill(self) -> None:
        self.before_reuse()
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == BUFFER_BYTES:
            rest = bytes(self._view[self._start : self._end])  # a header that lies across the end: a few bytes
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        if self._interrupted:  # also where data never stops coming
            raise Interrupted
        count = self._attempt(self._sock.recv_into, select.POLLIN, self._view[self._end :])
        if not count:
            raise ConnectionEnded("closed by the other side")
        self._end += count

    def _attempt(self, operate: Callable[..., T], event: int, *arguments: object) -> T:
        while True:
            try:
                return operate(*arguments)
            except BlockingIOError:
                self._wait(event)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)
            except OSError as error:
                raise ConnectionEnded(str(error)) from error

    def _wait(self, event: int) -> None:
        remaining_s = self._idle_s if self._deadline is None else self._deadline - time.monotonic()
        # Many archives leave Nagle's algorithm on: the end of what they send waits for our acknowledgement of its beginning, which Linux
        # would hold back for 40 ms. The option does not last, so it is set each time before sleeping.
        if event == select.POLLIN:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        limit_ms = None if math.isinf(remaining_s) else math.ceil(remaining_s * 1000)
        if remaining_s <= 0 or not self._sleep(event, limit_ms):
            raise TimeoutError

    def _sleep(self, events: int, limit_ms: int | None) -> bool:
        """Until one of these events, an end of the connection, a call of `interrupt` for whomever, or the limit: only then False."""
        self._poll.register(self._sock, events)
        ready = self._poll.poll(limit_ms)
        if self._interrupted and any(fd == self._interrupt_fd for fd, _ in ready):
            raise Interrupted
        return bool(ready)
