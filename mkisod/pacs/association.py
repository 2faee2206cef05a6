"""One association, from the connection to its end: the acceptor's side of the DICOM Upper Layer (PS3.8 section 9.2) in one thread.

An acceptor that never asks for anything itself needs these states of PS3.8 Table 9-10, and each is a place in this module:

| state | where | event | action |
|---|---|---|---|
| Sta2, awaiting A-ASSOCIATE-RQ | `_associate` | connected | AE-5: start ARTIM |
| | | A-ASSOCIATE-RQ | AE-6: stop ARTIM; A-ASSOCIATE-AC (AE-7), Sta6; or A-ASSOCIATE-RJ (AE-8), Sta13 |
| | | any other, an unrecognized or invalid PDU | AA-1: A-ABORT of the service user, Sta13 |
| | | A-ABORT; ARTIM expires | AA-2: close |
| | | connection closed | AA-5: nothing, not even a warning: health checks do that |
| Sta6, data transfer | `_transfer` | P-DATA-TF | DT-2: `_receive_p_data` |
| | | A-RELEASE-RQ | AR-2, AR-4: A-RELEASE-RP, Sta13 (Sta8 takes no time: nobody is asked) |
| | | A-ABORT; connection closed | AA-3, AA-4: close |
| | | A-ASSOCIATE-RQ, -AC, -RJ, A-RELEASE-RP | AA-8: A-ABORT of the provider, unexpected PDU, Sta13 |
| | | unrecognized PDU | AA-8: unrecognized PDU |
| | | invalid PDU, among them a P-DATA-TF longer than we announced | AA-8: invalid PDU parameter value |
| | | a message against PS3.7; nothing for `idle_timeout_s`; our stop; our own failure | AA-1: A-ABORT of the service user, Sta13 |
| Sta13, awaiting the end of the connection | `_await_close` | connection closed; A-ABORT; ARTIM expires | AR-5, AA-2: close |
| | | A-ASSOCIATE-RQ, unrecognized PDU | AA-7: A-ABORT of the provider |
| | | any other PDU | AA-6: ignored |

Sta3 takes no time either; Sta4, 5, 7 and 9 to 12 belong to requestors. However an association ends, what was half received is gone before
Sta13 begins, and no other association notices.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ssl import SSLContext, SSLEOFError, SSLError

from attrs import evolve, frozen
from structlog.typing import FilteringBoundLogger

from mkisod import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from mkisod.pacs import pdu
from mkisod.pacs.contact import Contact
from mkisod.pacs.instance import Origin
from mkisod.pacs.message import MessageReceiver
from mkisod.pacs.negotiation import (
    ACCEPTANCE,
    ADDRESS_NOT_ALLOWED,
    LOCAL_LIMIT_EXCEEDED,
    Acceptance,
    Rejection,
    is_address_allowed,
    negotiate,
)
from mkisod.pacs.pdu import AbortAssociation, AssociateRequest, InvalidPdu
from mkisod.pacs.reception import Reception
from mkisod.pacs.settings import ReceiverSettings
from mkisod.pacs.wire import ConnectionEnded, Interrupted, Wire

MAX_LENGTH_BYTES = 131072  # of the variable field of a P-DATA-TF, as we announce it: the most that DCMTK sends
MAX_ASSOCIATE_BYTES = 1 << 20  # an A-ASSOCIATE-RQ comes before any limit was announced


def _invalid(why: str) -> AbortAssociation:
    return AbortAssociation(pdu.SERVICE_PROVIDER, pdu.INVALID_PDU_PARAMETER_VALUE, why)


@frozen
class Surroundings:
    """What the receiver gives to each of its associations."""

    settings: ReceiverSettings
    reception: Reception
    tls: SSLContext | None
    resolve: Callable[[str], list[str]]
    establish: Callable[[Association], bool]  # False: there are too many
    conclude: Callable[[Association], None]
    interrupt_fd: int  # readable when those that were interrupted are to notice
    report_contact: Callable[[Contact], None]  # once for each connection, when it is known what became of it


class Association:
    """`run` is the whole life of it; `interrupt` and `cut` are for other threads."""

    def __init__(self, sock: socket.socket, peer: str, surroundings: Surroundings, log: FilteringBoundLogger) -> None:
        self._wire = Wire(sock, surroundings.interrupt_fd)
        self._peer = peer
        self._around = surroundings
        self._log = log
        self._messages: MessageReceiver | None = None  # from Sta6 on
        self._contact = Contact(peer, refused="no association was asked for")

    def interrupt(self) -> None:
        """Our own side wants it to end, by an A-ABORT."""
        self._wire.interrupt()

    def cut(self) -> None:
        self._wire.cut()

    def close(self) -> None:
        self._wire.close()

    def run(self) -> None:
        """Returns when it is over; the connection is then to be closed. Raises nothing that a peer can cause."""
        farewell = b""
        try:
            if self._shake_hands():
                farewell = self._live()
        except ConnectionEnded as ended:
            if self._messages:
                self._log.warning("association_lost", why=str(ended))
        except AbortAssociation as abort:
            self._log.warning("association_aborted", why=str(abort), source=abort.source, reason=abort.reason)
            farewell = pdu.encode_abort(abort.source, abort.reason)
        except (Interrupted, TimeoutError) as end:
            self._log.warning("association_aborted", why="stopping" if isinstance(end, Interrupted) else "timeout")
            if self._messages:  # else AA-2: ARTIM has expired
                farewell = pdu.encode_abort(pdu.SERVICE_USER, pdu.REASON_NOT_SPECIFIED)
        except Exception:  # noqa: BLE001 - a defect of ours ends this association, and is reported
            self._log.exception("association_failed")
            farewell = pdu.encode_abort(pdu.SERVICE_USER, pdu.REASON_NOT_SPECIFIED)
        finally:
            try:
                if self._messages:
                    self._messages.abandon()
                    self._messages.report_refused()
            finally:
                self._around.conclude(self)
                if self._contact.refused:
                    self._around.report_contact(self._contact)
        if farewell:
            self._await_close(farewell)

    def _shake_hands(self) -> bool:
        """TLS, where it is configured: in this thread and under ARTIM, so that a peer that stalls holds up nobody else."""
        self._wire.limit_total(self._around.settings.artim_s)
        if self._around.tls is None:
            return True
        try:
            self._wire.start_tls(self._around.tls)
        except ConnectionEnded as ended:
            if isinstance(ended.__cause__, SSLError) and not isinstance(ended.__cause__, SSLEOFError):  # that is one who just left
                self._log.warning("tls_handshake_failed", why=str(ended))
                self._contact = evolve(self._contact, refused="the TLS handshake failed")
            return False
        return True

    def _live(self) -> bytes:
        """Sta2 and Sta6. The PDU to send at the end; empty where the connection is just to be closed."""
        request = self._associate()
        if request is None:
            return b""
        answer = self._negotiate(request)
        if isinstance(answer, Rejection):
            self._log.warning("association_rejected", why=answer.why)
            self._contact = evolve(self._contact, refused=answer.why)
            return pdu.encode_associate_reject(answer.result, answer.source, answer.reason)
        self._messages = MessageReceiver(
            {result.context_id: result for result in answer.results if result.result == ACCEPTANCE},
            request.max_length_bytes,
            Origin(request.calling_ae_title, self._peer),
            self._around.reception,
            send=self._wire.send,
            log=self._log,
        )
        self._wire.before_reuse = self._messages.flush
        self._wire.limit_idle(self._around.settings.idle_timeout_s)
        self._wire.send(
            pdu.encode_associate_accept(
                request,
                answer.results,
                answer.roles,
                max_length_bytes=MAX_LENGTH_BYTES,
                implementation_class_uid=IMPLEMENTATION_CLASS_UID,
                implementation_version_name=IMPLEMENTATION_VERSION_NAME,
            )
        )
        self._log.debug("association_accepted", implementation=request.implementation)
        self._contact = evolve(self._contact, refused="")
        self._around.report_contact(self._contact)
        return self._transfer(self._messages)

    def _associate(self) -> AssociateRequest | None:
        """Sta2. None: AA-2, the other side has aborted."""
        pdu_type, length = self._wire.unpack(pdu.PDU_HEADER)
        if pdu_type == pdu.A_ABORT:
            return None
        if pdu_type != pdu.A_ASSOCIATE_RQ or length > MAX_ASSOCIATE_BYTES:
            raise AbortAssociation(pdu.SERVICE_USER, pdu.REASON_NOT_SPECIFIED, f"begins with a PDU {pdu_type:02X}H of {length} bytes")
        try:
            request = pdu.decode_associate_request(self._wire.read(length))
        except InvalidPdu as error:
            raise AbortAssociation(pdu.SERVICE_USER, pdu.REASON_NOT_SPECIFIED, str(error)) from error
        self._contact = evolve(self._contact, calling_ae_title=request.calling_ae_title, called_ae_title=request.called_ae_title)
        self._log = self._log.bind(calling_ae_title=request.calling_ae_title, called_ae_title=request.called_ae_title)
        return request

    def _negotiate(self, request: AssociateRequest) -> Acceptance | Rejection:
        settings = self._around.settings
        if not is_address_allowed(self._peer, settings.allowed_hosts, self._around.resolve):
            return ADDRESS_NOT_ALLOWED
        answer = negotiate(
            request,
            ae_title=settings.ae_title,
            allowed_calling_ae_titles=settings.allowed_calling_ae_titles,
            uncompressed_calling_ae_titles=settings.uncompressed_calling_ae_titles,
        )
        if isinstance(answer, Acceptance) and not self._around.establish(self):
            return LOCAL_LIMIT_EXCEEDED
        return answer

    def _transfer(self, messages: MessageReceiver) -> bytes:
        """Sta6, until it ends by the other side's will. The PDU to send then."""
        unpack = self._wire.unpack
        while True:
            pdu_type, length = unpack(pdu.PDU_HEADER)
            if pdu_type == pdu.P_DATA_TF:
                self._receive_p_data(length, messages)
            elif pdu_type in (pdu.A_RELEASE_RQ, pdu.A_ABORT):
                if length != 4:
                    raise _invalid(f"PDU {pdu_type:02X}H of {length} bytes")
                self._wire.skip(length)
                released = pdu_type == pdu.A_RELEASE_RQ
                if released:
                    self._log.debug("association_released", instances=messages.instances)
                else:
                    self._log.warning("association_aborted_by_peer", instances=messages.instances)
                return pdu.encode_release_response() if released else b""
            else:
                known = pdu_type in (pdu.A_ASSOCIATE_RQ, pdu.A_ASSOCIATE_AC, pdu.A_ASSOCIATE_RJ, pdu.A_RELEASE_RP)
                reason = pdu.UNEXPECTED_PDU if known else pdu.UNRECOGNIZED_PDU
                raise AbortAssociation(pdu.SERVICE_PROVIDER, reason, f"PDU {pdu_type:02X}H during data transfer")

    def _receive_p_data(self, length: int, messages: MessageReceiver) -> None:
        """DT-2. The items of a P-DATA-TF (PS3.8 Table 9-23), each as it comes: no PDU is ever put together in memory."""
        if length > MAX_LENGTH_BYTES:
            raise _invalid(f"P-DATA-TF of {length} bytes")
        take = self._wire.take
        while length:
            if length < pdu.PDV_HEADER.size:
                raise _invalid("a PDV is cut short")
            item_length, context_id, control = self._wire.unpack(pdu.PDV_HEADER)
            length -= 4 + item_length
            if item_length < 2 or length < 0:
                raise _invalid(f"a PDV of {item_length} bytes")
            write = messages.begin_fragment(context_id, control)
            remaining = item_length - 2
            while remaining:
                piece = take(remaining)
                remaining -= len(piece)
                write(piece)
            messages.end_fragment()

    def _await_close(self, farewell: bytes) -> None:
        """Sta13: it is for the other side to close the connection, as long as ARTIM runs."""
        try:
            self._wire.part(self._around.settings.artim_s)
            self._wire.send(farewell)
            while farewell[0] != pdu.A_ABORT:
                pdu_type, length = self._wire.unpack(pdu.PDU_HEADER)
                if pdu_type == pdu.A_ABORT:
                    return
                if pdu_type == pdu.A_ASSOCIATE_RQ or not pdu.A_ASSOCIATE_RQ < pdu_type < pdu.A_ABORT:
                    self._wire.send(pdu.encode_abort(pdu.SERVICE_PROVIDER, pdu.UNEXPECTED_PDU))
                    break
                self._wire.skip(length)
            self._wire.drain()  # after an A-ABORT what comes can no longer be told apart into PDUs
        except (ConnectionEnded, Interrupted, TimeoutError):
            return  # over, one way or the other: nothing is lost by it
