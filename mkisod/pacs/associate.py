"""An association that we request: to ask, to move, to check that the other side answers.

Owns the requestor's side of pynetdicom. Promises that every way in which an association can fail ends in one `Transient` or `Permanent`
with the right code, and that the association is gone when the context is left. `abort` may be called from another thread, to end a wait.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from attrs import frozen
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association as PynetdicomAssociation
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from mkisod import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from mkisod.config.settings import DestinationSettings, PacsSettings, TlsSettings
from mkisod.errors import Code, MkisodError, Permanent, Transient
from mkisod.pacs.tls import TlsFailure, explain_tls_failure, make_tls_context, remember_failures

MOVE = StudyRootQueryRetrieveInformationModelMove

_Response = TypeVar("_Response")

# A-ASSOCIATE-RJ: result 1 is permanent, 2 transient (PS3.8 Table 9-21); (source, reason) -> what an administrator can do about it.
_REJECTED_PERMANENT = 1
_REASONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


@frozen
class Peer:
    """The other side, as messages name it."""

    name: str
    host: str
    port: int
    ae_title: str
    connect_timeout_s: float = 10.0
    response_timeout_s: float = 60.0
    tls: TlsSettings | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.ae_title}@{self.host}:{self.port})"


def make_peer(name: str, settings: PacsSettings | DestinationSettings) -> Peer:
    timeouts_s = (settings.connect_timeout_s, settings.response_timeout_s)
    return Peer(name, settings.host, settings.port, settings.ae_title, *timeouts_s, tls=settings.tls)


def explain_rejection(peer: Peer, result: int, source: int, reason: int) -> MkisodError:
    """The error that an A-ASSOCIATE-RJ stands for."""
    text = _REASONS.get((source, reason), f"source {source}, reason {reason}")
    kind = Permanent if result == _REJECTED_PERMANENT else Transient
    return kind(Code.ASSOCIATION_REJECTED, f"{peer} rejected the association: {text}.")


class Association:
    """One association, as a context manager. Raises `Transient` (`pacs_unreachable`, `association_rejected`) or `Permanent` on entering."""

    def __init__(self, peer: Peer, ae_title: str, abstract_syntaxes: Sequence[str], *, response_timeout_s: float | None) -> None:
        self.peer = peer
        self._ae = AE(ae_title=ae_title)
        self._ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._ae.connection_timeout = peer.connect_timeout_s
        self._ae.acse_timeout = peer.connect_timeout_s
        self._ae.dimse_timeout = response_timeout_s
        # pynetdicom's network timeout ends an association on which nothing was *received*: with a slow archive that is not idle at all.
        self._ae.network_timeout = None
        for abstract_syntax in abstract_syntaxes:
            self._ae.add_requested_context(abstract_syntax)
        self._association: PynetdicomAssociation | None = None
        self._aborted = False
        self._tls_failures: list[TlsFailure] = []

    def __enter__(self) -> Self:
        connected: list[bool] = []
        handlers: list[Any] = [(evt.EVT_CONN_OPEN, lambda _: connected.append(True))]
        tls = None
        if self.peer.tls is not None:
            tls = (make_tls_context(self.peer.tls), self.peer.host)
            self._tls_failures = remember_failures(tls[0])
        try:
            self._association = self._ae.associate(
                self.peer.host, self.peer.port, ae_title=self.peer.ae_title, evt_handlers=handlers, tls_args=tls
            )
        except OSError as error:  # the name of the host
            raise Transient(Code.PACS_UNREACHABLE, f"{self.peer}: the host is not found: {error.strerror}.") from error
        if not self._association.is_established:
            raise self._explain_failure(bool(connected))
        if self._aborted:  # while it was being opened
            self._association.abort()
            raise Transient(Code.PACS_UNREACHABLE, f"The association with {self.peer} was given up.")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._association is None or not self._association.is_established:
            return
        if kind is None or issubclass(kind, Permanent):  # what the other side said is final, and it has said all of it
            self._association.release()
        else:
            self._association.abort()

    def abort(self) -> None:
        """End it at once, from any thread; whoever waits for a response gets `pacs_unreachable`."""
        self._aborted = True
        association = self._association
        if association is None or not association.is_established:
            return
        # Not by pynetdicom's abort(): from another thread it races with who is sending, and that one may then wait for ever. For the end
        # of the connection pynetdicom is made; to the other side it is an A-P-ABORT (PS3.8 9.2.1, AA-4).
        transport = association.dul.socket
        if transport is not None and transport.socket is not None:
            with contextlib.suppress(OSError):  # closed by the other side just now
                transport.socket.shutdown(socket.SHUT_RDWR)
        # For who waits for a message. Two, since pynetdicom's own thread may take one when it looks for the last time.
        for _ in range(2):
            association.dimse.msg_queue.put((None, None))

    def exchange(self, send: Callable[[PynetdicomAssociation], Iterator[_Response]], what: str) -> Iterator[_Response]:
        """The responses to a request. Raises `Transient` where the other side has ended the association before it could be sent."""
        try:
            yield from send(self.raw)
        except RuntimeError as error:  # pynetdicom's word for an association that is not established
            if self.raw.is_established:
                raise
            raise Transient(Code.PACS_UNREACHABLE, f"{self.peer} ended the association before {what}.") from error

    def cancel(self, message_id: int, model: str) -> None:
        """C-CANCEL of the operation with this Message ID. An archive may ignore it."""
        with contextlib.suppress(RuntimeError):  # the association has just ended
            self.raw.send_c_cancel(message_id, query_model=model)

    @property
    def raw(self) -> PynetdicomAssociation:
        if self._association is None:
            raise RuntimeError("the association has not been opened")
        return self._association

    def _explain_failure(self, connected: bool) -> MkisodError:
        association = self.raw
        if association.is_rejected:
            primitive = association.acceptor.primitive
            if primitive is None:
                return explain_rejection(self.peer, 0, 0, 0)
            return explain_rejection(self.peer, primitive.result or 0, primitive.result_source or 0, primitive.diagnostic or 0)
        for failure in self._tls_failures:
            return explain_tls_failure(self.peer, self.peer.host, failure.error, in_handshake=failure.in_handshake)
        if connected and self.peer.tls is not None:
            return explain_tls_failure(self.peer, self.peer.host, None, in_handshake=False)
        if connected:
            return Transient(Code.PACS_UNREACHABLE, f"{self.peer} took the connection, but did not answer the association request.")
        return Transient(Code.PACS_UNREACHABLE, f"{self.peer} cannot be reached: no connection.")

    def explain_silence(self, what: str, waited_s: float | None) -> MkisodError:
        """The error for a response that did not come: the association was aborted or cut, or the time ran out."""
        if self.raw.is_established or (self.raw.is_aborted and waited_s is not None and waited_s >= self.peer.response_timeout_s):
            return Transient(Code.TIMEOUT, f"{self.peer} did not answer {what} within {self.peer.response_timeout_s:g} s.")
        return Transient(Code.PACS_UNREACHABLE, f"{self.peer} ended the association during {what}.")


def send_echo(peer: Peer, ae_title: str, clock_s: Callable[[], float]) -> None:
    """C-ECHO. Raises `MkisodError` where the peer does not answer with success."""
    with Association(peer, ae_title, [Verification], response_timeout_s=peer.response_timeout_s) as association:
        if not association.raw.accepted_contexts:
            raise Permanent(Code.ASSOCIATION_REJECTED, f"{peer} does not offer Verification (C-ECHO).")
        started_s = clock_s()
        response = next(association.exchange(lambda raw: iter([raw.send_c_echo()]), "a C-ECHO"))
        if "Status" not in response:
            raise association.explain_silence("a C-ECHO", clock_s() - started_s)
        if response.Status != 0:
            raise Transient(Code.PACS_UNREACHABLE, f"{peer} answered a C-ECHO with DIMSE status {response.Status:04X}H.")
