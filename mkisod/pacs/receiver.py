"""The Storage SCP of the daemon: bound once, open until it is stopped.

Owns the port, the thread that accepts connections, and the list of those that are open; what happens on each is association.py. A socket
that was handed in (systemd) is used and left open for its owner, one of our own is closed. Nothing wakes while nothing happens. Beyond
`max_associations` a request is rejected as transient; and of connections that have not asked for an association yet only so many are
kept, the oldest going first: silent ones can never shut the others out.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from mkisod.errors import Code, Permanent
from mkisod.pacs.association import Association, Surroundings
from mkisod.pacs.contact import Contact
from mkisod.pacs.listener import listen
from mkisod.pacs.reception import Reception
from mkisod.pacs.settings import ReceiverSettings, TlsSettings

__all__ = ["Receiver", "ReceiverSettings", "TlsSettings"]

MAX_OTHER_CONNECTIONS: Final = 64  # those before and after their association
_EXHAUSTED_WAIT_S: Final = 1.0  # until an accept is tried again when descriptors or memory have run out
_LATECOMERS_WAIT_S: Final = 1.0  # for the requests of those whose connection was accepted just before the stop
_LAST_WAIT_S: Final = 2.0  # for the other sides to close after an A-ABORT, and for threads to end after their connection was cut
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Receiver:
    """`bind`, `start`, `stop`, once each and in this order. `failed` is set if the thread that accepts connections dies.

    `report_alive` is called by that thread whenever it wakes.
    """

    def __init__(
        self,
        settings: ReceiverSettings,
        reception: Reception,
        *,
        log: FilteringBoundLogger,
        listener: socket.socket | None = None,
        report_contact: Callable[[Contact], None] = lambda _: None,
        report_alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._reception = reception
        self._log = log
        self._listener = listener
        self._report_contact = report_contact
        self._report_alive = report_alive
        self.owns_listener = listener is None
        self._tls: ssl.SSLContext | None = None
        self._thread: threading.Thread | None = None
        self._wakeup_fd = self._interrupt_fd = -1
        self._accepts = True
        self._changed = threading.Condition()  # guards the four below
        self._stopping = False
        self._established: set[Association] = set()
        self._others: dict[Association, None] = {}  # in the order in which they came
        self._accepted = 0
        self.failed = threading.Event()

    def bind(self) -> None:
        """Takes the port, and reads the certificates. Raises `Permanent` with one sentence that says why not."""
        if self._settings.tls is not None:
            self._tls = _load_tls(self._settings.tls)
        if self._listener is None:
            self._listener = listen(self._settings.host, self._settings.port)
        self._log.info("receiver_bound", port=self.address[1], ae_title=self._settings.ae_title)

    @property
    def listener(self) -> socket.socket:
        """The socket that is bound."""
        if self._listener is None:
            raise RuntimeError("the receiver is not bound")
        return self._listener

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are really bound."""
        host, port = self.listener.getsockname()[:2]
        return host, port

    @property
    def associations(self) -> int:
        """How many are open."""
        return len(self._established)

    def start(self) -> None:
        """Begins to accept connections."""
        listener = self.listener
        self._wakeup_fd, self._interrupt_fd = os.eventfd(0, os.EFD_CLOEXEC), os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, args=(listener,), name="receiver", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Let the thread that accepts connections show that it lives, by `report_alive`."""
        os.eventfd_write(self._wakeup_fd, 1)

    def change(self, settings: ReceiverSettings) -> None:
        """For associations from now on. The port and the certificates stay as they are."""
        self._settings = settings

    def stop(self, grace_s: float) -> None:
        """No new associations; those that run get `grace_s` seconds, then an A-ABORT. Returns when all is over."""
        if self._thread is not None:
            self._accepts = False
            self.wake()
            self._thread.join()
            os.close(self._wakeup_fd)
        if self._listener is not None and self.owns_listener:
            self._listener.close()  # before the grace: who comes now is to be refused, not to wait in vain
        if self._thread is not None:
            self._thread = None
            self._end_associations(grace_s)
            self._log.info("receiver_stopped", associations_accepted=self._accepted)

    def _end_associations(self, grace_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._others, min(grace_s, _LATECOMERS_WAIT_S))
            self._stopping = True
            for connection in self._others:
                connection.cut()
            self._changed.wait_for(lambda: not self._established, grace_s)
            for association in self._established:
                association.interrupt()
            os.eventfd_write(self._interrupt_fd, 1)
            # The other sides have a moment to read the A-ABORT.
            if not self._changed.wait_for(lambda: not self._established and not self._others, _LAST_WAIT_S):
                for connection in (*self._established, *self._others):
                    connection.cut()
            if self._changed.wait_for(lambda: not self._established and not self._others, _LAST_WAIT_S):
                os.close(self._interrupt_fd)
            else:
                self._log.error("associations_left", count=len(self._established) + len(self._others))

    def _run(self, listener: socket.socket) -> None:
        blocking = os.get_blocking(listener.fileno())  # a property of the socket, so also of its owner's descriptor
        os.set_blocking(listener.fileno(), False)  # between poll and accept a peer may have gone, or another process may have been first
        try:
            self._accept_all(listener)
        except Exception:  # noqa: BLE001 - a defect of ours: whoever supervises has to know
            self._log.exception("receiver_failed")
            self.failed.set()
        finally:
            os.set_blocking(listener.fileno(), blocking)

    def _accept_all(self, listener: socket.socket) -> None:
        poll = select.poll()
        poll.register(self._wakeup_fd, select.POLLIN)
        poll.register(listener, select.POLLIN)
        while self._accepts:
            self._report_alive()
            if any(fd == self._wakeup_fd for fd, _ in poll.poll()):
                os.eventfd_read(self._wakeup_fd)
                continue
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._log.error("connection_not_accepted", reason=os.strerror(error.errno or 0))
                poll.unregister(listener)
                poll.poll(_EXHAUSTED_WAIT_S * 1000)
                poll.register(listener, select.POLLIN)
                continue
            self._open(sock, str(address[0]).removeprefix("::ffff:").partition("%")[0])

    def _open(self, sock: socket.socket, peer: str) -> None:
        # Without TCP_NODELAY every response waits for the other side's delayed acknowledgement: 40 ms for each instance.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._accepted += 1
        log = self._log.bind(association=self._accepted, peer=peer)
        around = Surroundings(
            self._settings,
            self._reception,
            self._tls,
            _resolve,
            self._establish,
            self._conclude,
            self._interrupt_fd,
            self._report_contact,
        )
        association = Association(sock, peer, around, log)
        with self._changed:
            if len(self._others) >= MAX_OTHER_CONNECTIONS:
                next(iter(self._others)).cut()
            self._others[association] = None
        thread = threading.Thread(target=self._attend, args=(association, log), name=f"association-{self._accepted}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            log.exception("connection_not_accepted", reason="the system has no thread left")
            self._forget(association)

    def _attend(self, association: Association, log: FilteringBoundLogger) -> None:
        try:
            association.run()
        except Exception:  # a defect of ours, or of the reception's `abort`
            log.exception("association_failed")
        finally:
            self._forget(association)

    def _establish(self, association: Association) -> bool:
        with self._changed:
            if self._stopping or len(self._established) >= self._settings.max_associations:
                return False
            del self._others[association]
            self._established.add(association)
            self._changed.notify_all()
            return True

    def _conclude(self, association: Association) -> None:
        """It no longer counts; its connection may linger until the other side closes it."""
        with self._changed:
            if association in self._established:
                self._established.remove(association)
                self._others[association] = None
                self._changed.notify_all()

    def _forget(self, association: Association) -> None:
        with self._changed:  # so that nobody cuts a descriptor that is somebody else's by then
            association.close()
            self._established.discard(association)
            self._others.pop(association, None)
            self._changed.notify_all()


def _load_tls(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # PS3.15 section B.9
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        if settings.ca:
            context.load_verify_locations(settings.ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise Permanent(
            Code.CONFIGURATION_INVALID, f"The certificate, key or CA of the receiver cannot be used: {error.strerror or error}."
        ) from error
    return context


def _resolve(host: str) -> list[str]:
    """The addresses of a name; none where it is unknown, for then nobody is it."""
    try:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except OSError:
        return []
