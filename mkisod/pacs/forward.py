"""C-STORE as SCU: instances from files to one destination (PS3.4 Annex B).

Promises an answer for each instance, in the order given within an association: taken, refused for good, or a setback that may pass. The
data set goes from its file as it is; where the destination takes no syntax that it is in, it is converted without loss by the callable
that was handed in, and never with loss. An association that breaks costs the instance that was on its way; the next one goes by a new
association. After a few setbacks in a row the destination is left alone. Memory does not grow with the size of an object.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from attrs import evolve, frozen

from mkisod.errors import Code, MkisodError, Permanent, Transient
from mkisod.job.forwarding import Outcome
from mkisod.pacs import command as dimse
from mkisod.pacs.command import Command
from mkisod.pacs.contexts import choose_context, explain_refusal, plan_associations
from mkisod.pacs.outgoing import FileChanged
from mkisod.pacs.pdu import ProposedContext
from mkisod.pacs.peer import Peer
from mkisod.pacs.requestor import RequestedAssociation
from mkisod.pacs.stored import StoredInstance, read_stored

MOST_SETBACKS = 3
_STORE_RESPONSE = dimse.C_STORE_RQ | dimse.RESPONSE

# The same object in another transfer syntax, as a file that stands while the context does. Raises `Permanent` where that cannot be.
Convert = Callable[[StoredInstance, str], AbstractContextManager[Path]]


@frozen
class Sent:
    """What became of one instance. `dimse_status` None: nothing was answered, or nothing asked. `converted_to`: a transfer syntax."""

    instance: StoredInstance
    outcome: Outcome
    dimse_status: int | None = None
    reason: str = ""
    converted_to: str = ""


class Sender:
    """Towards one destination. `interrupt` is for other threads: `send` then raises `Interrupted`."""

    def __init__(self, peer: Peer, ae_title: str, convert: Convert) -> None:
        self._peer = peer
        self._ae_title = ae_title
        self._convert = convert
        self._message_ids = itertools.cycle(range(1, 1 << 16))
        self._association: RequestedAssociation | None = None
        self._interrupted = False

    def interrupt(self) -> None:
        self._interrupted = True
        if (association := self._association) is not None:
            association.interrupt()

    def send(self, instances: Iterable[StoredInstance]) -> Iterator[Sent]:
        """Raises `MkisodError` where the destination cannot be had, or has been left alone; what was not given back was not tried."""
        setbacks, reason = 0, ""
        for contexts, group in plan_associations(instances):
            waiting = deque(group)
            while waiting:
                with self._associate(contexts) as association:
                    while waiting and association.stands and setbacks < MOST_SETBACKS:
                        sent = self._send(association, waiting.popleft())
                        yield sent
                        setbacks, reason = (setbacks + 1, sent.reason) if sent.outcome is Outcome.SETBACK else (0, "")
                if setbacks == MOST_SETBACKS:
                    raise Transient(Code.FORWARD_FAILED, f"{self._peer} is left alone after {setbacks} setbacks: {reason}")

    def _associate(self, contexts: Sequence[ProposedContext]) -> RequestedAssociation:
        association = self._association = RequestedAssociation(self._peer, self._ae_title, contexts)
        if self._interrupted:
            association.interrupt()
        return association

    def _send(self, association: RequestedAssociation, instance: StoredInstance) -> Sent:
        context = choose_context(association.contexts, instance)
        if context is None:
            return Sent(instance, Outcome.FAILED, reason=explain_refusal(association.contexts, instance))
        if context.transfer_syntax_uid == instance.transfer_syntax_uid:
            return self._store(association, context.context_id, instance)
        try:
            with self._convert(instance, context.transfer_syntax_uid) as path:
                sent = self._store(association, context.context_id, read_stored(path))
        except Permanent as error:
            return Sent(instance, Outcome.FAILED, reason=error.message)
        return evolve(sent, instance=instance, converted_to=context.transfer_syntax_uid)

    def _store(self, association: RequestedAssociation, context_id: int, instance: StoredInstance) -> Sent:
        message_id = next(self._message_ids)
        command = dimse.encode_store_request(instance.sop_class_uid, instance.sop_instance_uid, message_id)
        try:
            fd = os.open(instance.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return Sent(instance, Outcome.FAILED, reason=f"its file cannot be opened: {error.strerror}")
        try:
            association.send(context_id, command, fd, instance.offset, instance.size_bytes)
            response, _ = association.receive("a C-STORE", _STORE_RESPONSE, message_id)
        except MkisodError as error:
            return Sent(instance, Outcome.SETBACK, reason=error.message)
        except FileChanged:
            return Sent(instance, Outcome.FAILED, reason="its file became shorter while it was sent")
        finally:
            os.close(fd)
        return _judge(instance, response)


def _judge(instance: StoredInstance, response: Command) -> Sent:
    dimse_status = response.dimse_status or 0
    outcome = judge_dimse_status(dimse_status)
    reason = "" if outcome is Outcome.SENT else f"the destination answered with DIMSE status {dimse_status:04X}H"
    return Sent(instance, outcome, dimse_status, reason)


def judge_dimse_status(dimse_status: int) -> Outcome:
    """By PS3.4 Table B.2-1 and PS3.7 Annex C: success and warnings; a lack of the other side's, which may pass; what would fail again."""
    if dimse_status in (0x0000, 0x0001, 0x0107, 0x0116) or 0xB000 <= dimse_status <= 0xBFFF:
        return Outcome.SENT
    if 0xA700 <= dimse_status <= 0xA7FF or dimse_status == 0x0110:  # out of resources; processing failure
        return Outcome.SETBACK
    return Outcome.FAILED
