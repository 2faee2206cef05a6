"""An association that we request, on our own codecs: the requestor's side of the DICOM Upper Layer (PS3.8 section 9.2) in one thread.

Promises that every wait has a limit or is somebody's to interrupt, that nothing the other side announces is believed beyond the bytes that
came, and that however it fails there is one `Transient` or `Permanent` that says why, an A-ABORT where the connection still stands, and no
association left behind. Knows no service: whoever uses it proposes contexts, sends command sets with or without a data set, and receives
responses. `interrupt` may be called from another thread; who waits then gets `Interrupted`.

| state of PS3.8 Table 9-10 | where | event | action |
|---|---|---|---|
| Sta4, Sta5 | `_open` | connected; A-ASSOCIATE-AC; A-ASSOCIATE-RJ | AE-2, AE-3, AE-4 |
| Sta6 | `send`, `receive` | P-DATA-TF; A-ABORT; closed | DT-1, DT-2, AA-3, AA-4 |
| | | A-RELEASE-RQ | AR-2, AR-4: answered, but for us a failure: something was not done |
| | | anything else | AA-8: A-ABORT of the provider |
| Sta7 | `_release` | A-RELEASE-RP; P-DATA-TF; closed | AR-3, AR-6 |
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from mkisod.errors import Code, MkisodError, Permanent, Transient
from mkisod.pacs import command as dimse
from mkisod.pacs import pdu, requested
from mkisod.pacs.command import Command
from mkisod.pacs.incoming import MAX_LENGTH_BYTES, IncomingMessages, make_violation
from mkisod.pacs.outgoing import FileChanged, OutgoingMessages
from mkisod.pacs.pdu import AbortAssociation, ContextResult, InvalidPdu, ProposedContext
from mkisod.pacs.peer import Peer, explain_rejection
from mkisod.pacs.tls import explain_tls_failure, make_tls_context
from mkisod.pacs.wire import ConnectionEnded, Interrupted, Wire

_MAX_ANSWER_BYTES = 1 << 18  # of an A-ASSOCIATE-AC with 128 contexts some 10,000
_SLOWEST_BYTES_PER_S = 8192  # of a destination that takes a data set
_FAREWELL_S = 2.0

_ADVICE = "Check that it runs, and that its host, port and AE title are right (mkisod check)."


class RequestedAssociation:
    """One association, as a context manager. Raises `MkisodError` on entering. `contexts`: those accepted, by their IDs."""

    def __init__(self, peer: Peer, ae_title: str, proposed: Sequence[ProposedContext]) -> None:
        self.peer = peer
        self.contexts: Mapping[int, ContextResult] = {}
        self._ae_title = ae_title
        self._proposed = proposed
        self._lock = threading.Lock()  # guards the three below
        self._interrupted = False
        self._wire: Wire | None = None
        self._interrupt_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._outgoing: OutgoingMessages | None = None  # from the acceptance on, until it ends
        self._in_handshake = self._is_answered = False
        self._incoming: IncomingMessages | None = None

    def interrupt(self) -> None:
        """Its waits end by `Interrupted`, from now on."""
        with self._lock:
            self._interrupted = True
            if self._wire is not None:
                self._wire.interrupt()
                os.eventfd_write(self._interrupt_fd, 1)

    def __enter__(self) -> Self:
        try:
            with self._explaining("an association request"):
                self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._outgoing is not None:
                # What the other side has said for good is all that it has to say: no reason to abort.
                is_over = kind is None or issubclass(kind, Permanent)
                self._release() if is_over else self._abort(pdu.SERVICE_USER, pdu.REASON_NOT_SPECIFIED)
        finally:
            self._close()

    @property
    def stands(self) -> bool:
        """False once it has failed."""
        return self._outgoing is not None

    def send(self, context_id: int, command: bytes, fd: int, offset: int, size_bytes: int) -> None:
        """A request with a data set from a file. Raises `MkisodError`; OSError and `FileChanged` where it is the file that fails."""
        with self._explaining("an instance"):
            self._connected.limit_total(self.peer.response_timeout_s + size_bytes / _SLOWEST_BYTES_PER_S)
            self._sending.send(context_id, command, fd, offset, size_bytes)

    def ask(self, context_id: int, command: bytes, data_set: bytes = b"") -> None:
        """A request with a small data set, or none. Raises `MkisodError`."""
        with self._explaining("a request"):
            self._connected.limit_total(self.peer.response_timeout_s)
            self._sending.send_small(context_id, command, data_set)

    def receive(self, what: str, field: int, message_id: int, *, is_limited: bool = True) -> tuple[Command, bytes]:
        """The next response to `what`, which has this Command Field and answers this message, and the data set that comes with it.

        `is_limited` False: whoever waits elsewhere for what the request brings says when that has been too long, and interrupts.
        """
        with self._explaining(what):
            self._connected.limit_total(self.peer.response_timeout_s if is_limited else math.inf)
            return self._receive(field, message_id)

    def gather(self, seconds: float) -> None:
        """Where no further response has been read yet: sleep so long before the next one, so that many come at once."""
        self._connected.gather(seconds)

    def cancel(self, context_id: int, field: int, message_id: int, seconds: float) -> Iterator[tuple[Command, bytes]]:
        """Once a wait was interrupted: a C-CANCEL, and the responses that still come within `seconds`, which nothing interrupts any more.

        Raises `Interrupted` where the wait was interrupted within a response: what follows could not be understood.
        """
        if self._receiving.in_message:
            raise Interrupted
        with self._explaining("a C-CANCEL"):
            self._connected.part(seconds)
            self._sending.send_small(context_id, dimse.encode_cancel_request(message_id), b"")
            while True:
                yield self._receive(field, message_id)

    def _receive(self, field: int, message_id: int) -> tuple[Command, bytes]:
        command, data_set = self._receiving.receive()
        if (command.field, command.message_id) != (field, message_id):
            raise make_violation("a response to something else")
        return command, data_set

    @property
    def _connected(self) -> Wire:
        if self._wire is None:
            raise RuntimeError("the association is not open")
        return self._wire

    @property
    def _sending(self) -> OutgoingMessages:
        if self._outgoing is None:
            raise RuntimeError("the association is not established")
        return self._outgoing

    @property
    def _receiving(self) -> IncomingMessages:
        if self._incoming is None:
            raise RuntimeError("the association is not established")
        return self._incoming

    def _open(self) -> None:
        tls = None if self.peer.tls is None else make_tls_context(self.peer.tls)
        wire = self._connect()
        wire.limit_total(self.peer.connect_timeout_s)
        if tls is not None:
            self._in_handshake = True
            wire.start_tls(tls, self.peer.host)
            self._in_handshake = False
        titles = (self.peer.ae_title, self._ae_title)
        wire.send(requested.encode_associate_request(*titles, self._proposed, max_length_bytes=MAX_LENGTH_BYTES))
        pdu_type, length = wire.unpack(pdu.PDU_HEADER)
        self._is_answered = True
        if pdu_type == pdu.A_ASSOCIATE_RJ and length == 4:
            raise explain_rejection(self.peer, *requested.decode_associate_rejection(wire.read(length)))
        if pdu_type == pdu.A_ABORT:
            raise ConnectionEnded("it aborted")
        if pdu_type != pdu.A_ASSOCIATE_AC or length > _MAX_ANSWER_BYTES:
            raise make_violation(f"a PDU {pdu_type:02X}H of {length} bytes for an answer", pdu.UNEXPECTED_PDU)
        acceptance = requested.decode_associate_acceptance(wire.read(length), self._proposed)
        self.contexts = acceptance.contexts
        self._outgoing = OutgoingMessages(wire, acceptance.max_length_bytes)
        self._incoming = IncomingMessages(wire, acceptance.contexts)

    def _connect(self) -> Wire:
        """To the first of the host's addresses that answers."""
        why = "it has no address"
        try:
            addresses = socket.getaddrinfo(self.peer.host, self.peer.port, type=socket.SOCK_STREAM)
        except OSError as error:
            addresses, why = [], error.strerror or str(error)
        for family, kind, protocol, _, address in addresses:
            try:
                wire = self._make_wire(socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol))
                wire.connect(address)
            except OSError as error:
                why = error.strerror or f"no answer within {self.peer.connect_timeout_s:g} s"
                self._drop_wire()
            else:
                return wire
        raise Transient(Code.PACS_UNREACHABLE, f"{self.peer} cannot be reached: {why}.", _ADVICE)

    def _make_wire(self, sock: socket.socket) -> Wire:
        wire = Wire(sock, self._interrupt_fd)
        wire.limit_total(self.peer.connect_timeout_s)
        with self._lock:
            self._wire = wire
            if self._interrupted:
                raise Interrupted
        return wire

    def _drop_wire(self) -> None:
        with self._lock:
            wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    @contextlib.contextmanager
    def _explaining(self, what: str) -> Iterator[None]:
        """Every failure of the other side in one sentence. The association is over by it."""
        try:
            yield
        except (MkisodError, Interrupted):
            raise
        except AbortAssociation as abort:
            self._abort(abort.source, abort.reason)
            raise self._fail(f"sent what is against the rules of DICOM: {abort}", what) from abort
        except InvalidPdu as error:
            self._abort(pdu.SERVICE_PROVIDER, pdu.INVALID_PDU_PARAMETER_VALUE)
            raise self._fail(f"sent what is against the rules of DICOM: {error}", what) from error
        except ConnectionEnded as ended:
            self._outgoing = None
            cause = ended.__cause__
            if self.peer.tls is not None and not self._is_answered:
                raise explain_tls_failure(self.peer, self.peer.host, cause, in_handshake=self._in_handshake) from ended
            why = cause.strerror if isinstance(cause, OSError) else ended
            raise self._fail(f"ended the connection ({why})", what) from ended
        except TimeoutError as error:
            code = Code.TIMEOUT if self.stands else Code.PACS_UNREACHABLE
            self._abort(pdu.SERVICE_USER, pdu.REASON_NOT_SPECIFIED)
            raise Transient(code, f"{self.peer} did not answer {what} in time.", _ADVICE) from error
        except (OSError, FileChanged):  # of the file: the message stays unfinished
            self._abort(pdu.SERVICE_USER, pdu.REASON_NOT_SPECIFIED)
            raise

    def _fail(self, why: str, what: str) -> MkisodError:
        return Transient(Code.PACS_UNREACHABLE, f"{self.peer} {why} during {what}.", _ADVICE)

    def _release(self) -> None:
        """Sta7. All that was asked has been answered, so whatever goes wrong here is nobody's loss."""
        wire, self._outgoing = self._connected, None
        with contextlib.suppress(ConnectionEnded, TimeoutError, Interrupted):
            wire.limit_total(self.peer.connect_timeout_s)
            wire.send(requested.encode_release_request())
            wire.skip(self._receiving.pdu_left)
            while (pdu_type := (header := wire.unpack(pdu.PDU_HEADER))[0]) not in (pdu.A_RELEASE_RP, pdu.A_ABORT):
                if pdu_type == pdu.A_RELEASE_RQ:  # both at once: Sta9
                    wire.send(pdu.encode_release_response())
                wire.skip(header[1])

    def _abort(self, source: int, reason: int) -> None:
        """An A-ABORT, where it can still be said. Closed with bytes unread, the connection might be reset before it is heard."""
        self._outgoing = None
        if self._wire is None or self._in_handshake:  # there is nobody yet who would understand it
            return
        with contextlib.suppress(ConnectionEnded, TimeoutError):
            self._connected.part(_FAREWELL_S)
            self._connected.send(pdu.encode_abort(source, reason))
            self._connected.drain()

    def _close(self) -> None:
        self._outgoing = None
        self._drop_wire()
        if self._interrupt_fd >= 0:  # nobody writes to it where there is no wire
            os.close(self._interrupt_fd)
            self._interrupt_fd = -1
