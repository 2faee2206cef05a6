"""What the demo PACS knows while it runs, shared by the threads that serve its associations."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock, Thread

from attrs import frozen

from mkisod.demo.faults import Faults, Level, Tally
from mkisod.demo.index import Archive
from mkisod.demo.wire import close_connection


@frozen
class QueryRecord:
    """One C-FIND as it was answered."""

    calling_ae_title: str
    keys: Mapping[str, str]
    matches: int
    dimse_status: int


@frozen
class MoveRecord:
    """One C-MOVE as it went: what the destination was sent, in order, and the final DIMSE status (None: there was none)."""

    calling_ae_title: str
    destination: str
    level: Level | None
    keys: Mapping[str, str]
    sent_uids: tuple[str, ...]
    dimse_status: int | None


class State:
    """The archive, the known destinations, the faults, and what has happened so far."""

    def __init__(self, ae_title: str, destinations: Mapping[str, tuple[str, int]], faults: Faults, accession_moves: bool) -> None:
        self.ae_title = ae_title
        self.archive = Archive()
        self.destinations = dict(destinations)
        self.accession_moves = accession_moves
        self.tally = Tally()
        self.history: list[QueryRecord | MoveRecord] = []
        self._lock = Lock()
        self._connections: set[socket.socket] = set()
        self._threads: set[Thread] = set()
        self._faults = faults
        self._waiters: set[socket.socket] = set()
        self._stopping = False

    @property
    def faults(self) -> Faults:
        """The faults of now."""
        return self._faults

    def change_faults(self, faults: Faults) -> None:
        """Put other faults in their place and wake whoever waits on `changed`."""
        with self._lock:
            self._faults = faults
            for waiter in self._waiters:
                waiter.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def change(self, known: Faults) -> Iterator[socket.socket]:
        """A socket that is readable once the faults are others than `known`; a thread that stalls waits on it beside its association."""
        readable, waiter = socket.socketpair()
        with readable, waiter:
            with self._lock:
                self._waiters.add(waiter)
                if self._faults is not known or self._stopping:
                    waiter.shutdown(socket.SHUT_RDWR)
            try:
                yield readable
            finally:
                with self._lock:
                    self._waiters.discard(waiter)

    @contextmanager
    def watch(self, connection: socket.socket) -> Iterator[None]:
        """Keep a connection where `stop` can close it, for as long as it is in use."""
        with self._lock:
            self._connections.add(connection)
            if self._stopping:
                close_connection(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)

    def spawn(self, work: Callable[[], None], name: str) -> Thread:
        """Do `work` in a thread that `stop` waits for."""

        def run() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._threads.discard(thread)

        thread = Thread(target=run, name=name, daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()
        return thread

    def stop(self) -> None:
        """Close every connection and wait for the threads."""
        with self._lock:
            self._stopping = True
            threads = list(self._threads)
            for connection in self._connections:
                close_connection(connection)
            for waiter in self._waiters:  # last, so that who wakes finds nothing to send to
                waiter.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
