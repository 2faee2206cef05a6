"""The messages of one association: Storage and Verification as SCP (PS3.4 Annexes A and B, PS3.7 section 9.3).

Puts command sets together from their fragments, hands the fragments of data sets to an `IncomingInstance`, and answers. What is neither
C-STORE nor C-ECHO is answered with "unrecognized operation" after its data set was read and thrown away. A message against the rules of
PS3.7 raises `AbortAssociation`: with its framing lost there is nothing left to answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from structlog.typing import FilteringBoundLogger

from mkisod.pacs import command as dimse
from mkisod.pacs.command import Command
from mkisod.pacs.header import make_walker
from mkisod.pacs.instance import IncomingInstance, Origin
from mkisod.pacs.negotiation import VERIFICATION_UID, is_storage_sop_class, is_uid
from mkisod.pacs.pdu import REASON_NOT_SPECIFIED, SERVICE_USER, AbortAssociation, ContextResult, encode_command
from mkisod.pacs.reception import DATA_SET_MISMATCH, SUCCESS, Reception

_COMMAND, _LAST = 0b01, 0b10  # the message control header, PS3.8 Annex E.2


def _violation(why: str) -> AbortAssociation:
    return AbortAssociation(SERVICE_USER, REASON_NOT_SPECIFIED, why)


class MessageReceiver:
    """For each PDV: `begin_fragment`, then `write` with its bytes, in pieces as they come, then `end_fragment`."""

    def __init__(
        self,
        contexts: Mapping[int, ContextResult],
        peer_max_length_bytes: int,
        origin: Origin,
        reception: Reception,
        *,
        send: Callable[[bytes], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._contexts = contexts
        self._peer_max_length_bytes = peer_max_length_bytes
        self._origin = origin
        self._reception = reception
        self._walker = make_walker()
        self._send = send
        self._log = log
        self._context_id = 0  # of the message that is being received; 0 between messages
        self._control = 0
        self._command_bytes = bytearray()
        self._command: Command | None = None  # once it is whole, and a data set follows
        self._instance: IncomingInstance | None = None
        self._answer = (SUCCESS, "")  # to a message whose data set nobody reads
        self.instances = 0  # stored, for the journal
        self._refused = Counter[int]()  # by DIMSE status

    def begin_fragment(self, context_id: int, control: int) -> Callable[[memoryview], None]:
        """Where the bytes of this fragment go."""
        if not self._context_id:
            if context_id not in self._contexts:
                raise _violation(f"presentation context {context_id} was not accepted")
            self._context_id = context_id
        elif context_id != self._context_id:
            raise _violation("a message changes its presentation context")
        self._control = control
        if bool(control & _COMMAND) != (self._command is None):
            raise _violation("a command where a data set was to come, or a data set without its command")
        if self._command is None:
            return self._collect_command
        return self._discard if self._instance is None else self._instance.write

    def end_fragment(self) -> None:
        if not self._control & _LAST:
            return
        if self._command is None:
            self._begin_message()
        else:
            self._end_message(self._command)

    def flush(self) -> None:
        """The pieces that `write` was given are about to be overwritten."""
        if self._instance is not None:
            self._instance.flush()

    def abandon(self) -> None:
        """The association is over. What was half received goes."""
        instance, self._instance = self._instance, None
        if instance is not None:
            instance.abandon()

    def report_refused(self) -> None:
        """At the end: how many instances were refused, where the journal has been told of some only."""
        if (count := self._refused.total()) > len(self._refused):
            self._log.warning("instances_refused", count=count, further=count - len(self._refused))

    def _note_refused(self, instance: IncomingInstance, dimse_status: int, comment: str) -> None:
        """The first of each kind is told: an archive that ignores what it was asked for sends all that it has."""
        self._refused[dimse_status] += 1
        if self._refused[dimse_status] == 1:
            facts = instance.describe_refusal()
            self._log.warning("instance_refused", dimse_status=f"{dimse_status:04X}", comment=comment, **facts)

    def _collect_command(self, piece: memoryview) -> None:
        if len(self._command_bytes) + len(piece) > dimse.MAX_COMMAND_BYTES:
            raise _violation("the command set is too long")
        self._command_bytes += piece

    def _discard(self, piece: memoryview) -> None:
        """Read and thrown away."""

    def _begin_message(self) -> None:
        try:
            command = dimse.decode_command(bytes(self._command_bytes))
        except dimse.InvalidCommand as error:
            raise _violation(str(error)) from error
        self._command_bytes.clear()
        self._instance = None
        self._answer = self._judge(command)
        if not command.has_data_set:
            self._end_message(command)
            return
        self._command = command
        if command.field == dimse.C_STORE_RQ and self._answer[0] == SUCCESS:
            context = self._contexts[self._context_id]
            self._instance = IncomingInstance(command, context.transfer_syntax_uid, self._origin, self._reception, self._walker)

    def _judge(self, command: Command) -> tuple[int, str]:
        """What can be said about a request before its data set: DIMSE status and Error Comment.

        A SOP class other than the one of its presentation context is forgiven where both are of storage: the file will be right.
        """
        if command.field & dimse.RESPONSE:
            raise _violation("a response to nothing")
        if command.field in (dimse.C_ECHO_RQ, dimse.C_CANCEL_RQ):
            return SUCCESS, ""
        if command.field != dimse.C_STORE_RQ:
            return dimse.UNRECOGNIZED_OPERATION, "only C-STORE and C-ECHO are served here"
        negotiated_uid = self._contexts[self._context_id].abstract_syntax_uid
        is_storage = command.sop_class_uid == negotiated_uid or is_storage_sop_class(command.sop_class_uid)
        if negotiated_uid == VERIFICATION_UID or not is_storage:
            return dimse.SOP_CLASS_NOT_SUPPORTED, "not a storage SOP class"
        if not is_uid(command.sop_instance_uid):
            return dimse.INVALID_SOP_INSTANCE, "Affected SOP Instance UID is not a UID"
        if not command.has_data_set:
            return DATA_SET_MISMATCH, "no data set"
        return SUCCESS, ""

    def _end_message(self, command: Command) -> None:
        dimse_status, comment = self._answer
        if self._instance is not None:
            dimse_status, comment = self._instance.finish()
            if dimse_status == SUCCESS:
                self.instances += 1
            else:
                self._note_refused(self._instance, dimse_status, comment)
            self._instance = None
        elif dimse_status != SUCCESS:
            self._log.warning("request_refused", command_field=f"{command.field:04X}", dimse_status=f"{dimse_status:04X}", comment=comment)
        context_id, self._context_id, self._command = self._context_id, 0, None
        if command.field != dimse.C_CANCEL_RQ:  # PS3.7 section 9.3.2.3: a cancellation has no response
            response = dimse.encode_response(command, dimse_status, comment)
            self._send(encode_command(context_id, response, self._peer_max_length_bytes))
