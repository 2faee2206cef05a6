"""One message on its way in, at the requestor's side: a response, and the data set that comes with it (PS3.8 section 9.3.5, Annex E.2).

Believes nothing that is announced beyond the bytes that came, and keeps no more of it than a response may have. What is against the rules
raises `AbortAssociation`, an end of the association `ConnectionEnded`. A wait that is interrupted between two messages loses nothing: the
next one can still be received.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from mkisod.pacs import command as dimse
from mkisod.pacs import pdu
from mkisod.pacs.command import Command
from mkisod.pacs.pdu import AbortAssociation
from mkisod.pacs.wire import ConnectionEnded, Wire

MAX_LENGTH_BYTES: Final = 65536  # of a P-DATA-TF, as we announce it: only responses come
_MAX_DATA_SET_BYTES = 1 << 22  # of an identifier in a response; a list of failed UIDs has 65 bytes for each
_COMMAND, _LAST = 0b01, 0b10  # the message control header, PS3.8 Annex E.2


def make_violation(why: str, reason: int = pdu.INVALID_PDU_PARAMETER_VALUE) -> AbortAssociation:
    return AbortAssociation(pdu.SERVICE_PROVIDER, reason, why)


class IncomingMessages:
    """The messages of one association, one after the other. `context_ids`: those that were accepted."""

    def __init__(self, wire: Wire, context_ids: Container[int]) -> None:
        self._wire = wire
        self._context_ids = context_ids
        self.pdu_left = 0  # bytes of the P-DATA-TF that is being read
        self.in_message = False  # some of a message was read, and not all

    def receive(self) -> tuple[Command, bytes]:
        command: Command | None = None
        of_context = 0
        collected = bytearray()
        while True:
            context_id, control, size = self._begin_fragment()
            self.in_message = True
            if context_id not in self._context_ids or of_context not in (0, context_id):
                raise make_violation(f"a message in presentation context {context_id}")
            if bool(control & _COMMAND) != (command is None):
                raise make_violation("a command where a data set was to come, or a data set without its command")
            if len(collected) + size > (dimse.MAX_COMMAND_BYTES if command is None else _MAX_DATA_SET_BYTES):
                raise make_violation("a response is too long")
            of_context = context_id
            collected += self._wire.read(size)
            if not control & _LAST:
                continue
            if command is None:
                command = _decode_response(bytes(collected))
                collected.clear()
                if command.has_data_set:
                    continue
            self.in_message = False
            return command, bytes(collected)

    def _begin_fragment(self) -> tuple[int, int, int]:
        """Context ID, message control header and size of the next PDV, whose bytes come next."""
        wire = self._wire
        while not self.pdu_left:
            pdu_type, length = wire.unpack(pdu.PDU_HEADER)
            if pdu_type == pdu.P_DATA_TF:
                if length > MAX_LENGTH_BYTES:
                    raise make_violation(f"a P-DATA-TF of {length} bytes")
                self.pdu_left = length
            elif pdu_type == pdu.A_ABORT:
                raise ConnectionEnded("it aborted")
            elif pdu_type == pdu.A_RELEASE_RQ:
                wire.send(pdu.encode_release_response())
                raise ConnectionEnded("it released the association")
            else:
                raise make_violation(f"a PDU {pdu_type:02X}H during data transfer", pdu.UNEXPECTED_PDU)
        if self.pdu_left < pdu.PDV_HEADER.size:
            raise make_violation("a PDV is cut short")
        item_length, context_id, control = wire.unpack(pdu.PDV_HEADER)
        self.pdu_left -= 4 + item_length
        if item_length < 2 or self.pdu_left < 0:
            raise make_violation(f"a PDV of {item_length} bytes")
        return context_id, control, item_length - 2


def _decode_response(raw: bytes) -> Command:
    try:
        command = dimse.decode_command(raw)
    except dimse.InvalidCommand as error:
        raise make_violation(str(error)) from error
    if not command.field & dimse.RESPONSE or command.dimse_status is None:
        raise make_violation("a message that is no response")
    return command
