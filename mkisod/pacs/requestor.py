"""An association that we request, on our own codecs: the requestor's side of the DICOM Upper Layer (PS3.8 section 9.2) in one thread.

Promises that every wait has a limit, that nothing the other side announces is believed beyond the bytes that came, and that however it
fails there is one `Transient` or `Permanent` that says why, an A-ABORT where the connection still stands, and no association left behind.
Knows no service: whoever uses it proposes contexts, sends command sets with or without a data set, and receives responses. `interrupt` may
be called from another thread; who waits then gets `Interrupted`.

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
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from mkisod.errors import Code, MkisodError, Transient
from mkisod.pacs import command as dimse
from mkisod.pacs import pdu, requested
from mkisod.pacs.associate import Peer, explain_rejection
from mkisod.pacs.command import Command
from mkisod.pacs.outgoing import FileChanged, OutgoingMessages
from mkisod.pacs.pdu import AbortAssociation, ContextResult, InvalidPdu, ProposedContext
from mkisod.pacs.tls import explain_tls_failure, make_tls_context
from mkisod.pacs.wire import ConnectionEnded, Interrupted, Wire

MAX_LENGTH_BYTES = 65536  # of a P-DATA-TF, as we announce it: only responses come
_MAX_ANSWER_BYTES = 1 << 18  # of an A-ASSOCIATE-AC with 128 contexts some 10,000
_MAX_DATA_SET_BYTES = 1 << 22  # of an identifier in a response; a list of failed UIDs has 65 bytes for each
_SLOWEST_BYTES_PER_S = 8192  # of a destination that takes a data set
_FAREWELL_S = 2.0
_COMMAND, _LAST = 0b01, 0b10  # the message control header, PS3.8 Annex E.2

_ADVICE = "Check that it runs, and that its host, port and AE title are right (mkisod check)."


def _violation(why: str, reason: int = pdu.INVALID_PDU_PARAMETER_VALUE) -> AbortAssociation:
    return AbortAssociation(pdu.SERVICE_PROVIDER, reason, why)


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
        self._pdu_left = 0  # bytes of the P-DATA-TF that is being read

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
                self._release() if kind is None else self._abort(pdu.SERVICE_USER, pdu.REASON_NOT_SPECIFIED)
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

    def ask(self, context_id: int, command: bytes, data_set: bytes) -> None:
        """A request with a small data set. Raises `MkisodError`."""
        with self._explaining("a request"):
            self._connected.limit_total(self.peer.response_timeout_s)
            self._sending.send_small(context_id, command, data_set)

    def receive(self, what: str, field: int, message_id: int) -> tuple[Command, bytes]:
        """The next response to `what`, which has this Command Field and answers this message, and the data set that comes with it."""
        with self._explaining(what):
            self._connected.limit_total(self.peer.response_timeout_s)
            command, data_set = self._receive()
            if (command.field, command.message_id) != (field, message_id):
                raise _violation("a response to something else")
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
            raise _violation(f"a PDU {pdu_type:02X}H of {length} bytes for an answer", pdu.UNEXPECTED_PDU)
        acceptance = requested.decode_associate_acceptance(wire.read(length), self._proposed)
        self.contexts = acceptance.contexts
        self._outgoing = OutgoingMessages(wire, acceptance.max_length_bytes)

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

    def _receive(self) -> tuple[Command, bytes]:
        command: Command | None = None
        of_context = 0
        collected = bytearray()
        while True:
            context_id, control, size = self._begin_fragment()
            if context_id not in self.contexts or of_context not in (0, context_id):
                raise _violation(f"a message in presentation context {context_id}")
            if bool(control & _COMMAND) != (command is None):
                raise _violation("a command where a data set was to come, or a data set without its command")
            if len(collected) + size > (dimse.MAX_COMMAND_BYTES if command is None else _MAX_DATA_SET_BYTES):
                raise _violation("a response is too long")
            of_context = context_id
            collected += self._connected.read(size)
            if not control & _LAST:
                continue
            if command is not None:
                return command, bytes(collected)
            command = _decode_response(bytes(collected))
            if not command.has_data_set:
                return command, b""
            collected.clear()

    def _begin_fragment(self) -> tuple[int, int, int]:
        """Context ID, message control header and size of the next PDV, whose bytes come next."""
        wire = self._connected
        while not self._pdu_left:
            pdu_type, length = wire.unpack(pdu.PDU_HEADER)
            if pdu_type == pdu.P_DATA_TF:
                if length > MAX_LENGTH_BYTES:
                    raise _violation(f"a P-DATA-TF of {length} bytes")
                self._pdu_left = length
            elif pdu_type == pdu.A_ABORT:
                raise ConnectionEnded("it aborted")
            elif pdu_type == pdu.A_RELEASE_RQ:
                wire.send(pdu.encode_release_response())
                raise ConnectionEnded("it released the association")
            else:
                raise _violation(f"a PDU {pdu_type:02X}H during data transfer", pdu.UNEXPECTED_PDU)
        if self._pdu_left < pdu.PDV_HEADER.size:
            raise _violation("a PDV is cut short")
        item_length, context_id, control = wire.unpack(pdu.PDV_HEADER)
        self._pdu_left -= 4 + item_length
        if item_length < 2 or self._pdu_left < 0:
            raise _violation(f"a PDV of {item_length} bytes")
        return context_id, control, item_length - 2

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


def _decode_response(raw: bytes) -> Command:
    try:
        command = dimse.decode_command(raw)
    except dimse.InvalidCommand as error:
        raise _violation(str(error)) from error
    if not command.field & dimse.RESPONSE or command.dimse_status is None:
        raise _violation("a message that is no response")
    return command
