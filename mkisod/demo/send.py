"""Carries a planned C-MOVE out: C-STORE sub-operations towards the destination, responses towards whoever asked (PS3.4 C.4.2.2, C.4.2.3).

A destination that cannot be reached, or that goes away, fails the sub-operations that are left; they are counted and named. The other
side of the C-MOVE may cancel, abort or vanish at any time; then no further sub-operation begins.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import ExitStack
from io import BytesIO
from typing import BinaryIO

from attrs import Factory, define

from mkisod.demo import commands
from mkisod.demo.faults import Faults, Level, coerced_uid
from mkisod.demo.identifiers import encode_identifier
from mkisod.demo.index import Instance
from mkisod.demo.move import Delivery, context_of, split_deliveries
from mkisod.demo.negotiate import request_association
from mkisod.demo.state import MoveRecord, State
from mkisod.demo.wire import Association, AssociationEnded, Message, close_connection, wait_readable

STORE_TIMEOUT_S = 60.0


@define
class Move:
    """One C-MOVE that is being carried out.

    `told` are the faults that the PACS was told at its beginning, `faults` what is left of them (`Faults.at_move`). `asker` is None where
    the final response was sent before its time.
    """

    state: State
    told: Faults
    faults: Faults
    request: Message
    level: Level
    keys: Mapping[str, str]
    calling_ae_title: str
    destination: str
    address: tuple[str, int]
    asker: Association | None
    remaining: int
    completed: int = 0
    failed: int = 0
    warnings: int = 0
    cancelled: bool = False
    met_its_end: bool = False  # an instance at which it fails as a whole
    failed_uids: list[str] = Factory(list)
    sent_uids: list[str] = Factory(list)

    def run(self, deliveries: list[Delivery]) -> None:
        """Do it, and record it before the final response goes out. Raises `AssociationEnded` where there was nobody left to answer to."""
        try:
            for contexts, batch in split_deliveries(deliveries):
                if not self._run_batch(contexts, batch):
                    break
            else:
                self._pause()
        except AssociationEnded:
            self._record(None)
            raise
        self._answer_finally()

    def _run_batch(self, contexts: dict[int, tuple[str, str]], batch: list[Delivery]) -> bool:
        """Send a batch over an association of its own; False where the move ends with it."""
        with ExitStack() as stack:
            sends = any(delivery.outcome == "send" for delivery in batch)
            destination = self._associate(contexts, stack) if sends else None
            identifiers = {pair: context_id for context_id, pair in (destination.contexts if destination else {}).items()}
            ended = False
            for delivery in batch:
                self.met_its_end = delivery.instance.sop_instance_uid in self.faults.ends_at_uids
                ended = self.met_its_end or not self._pause()
                if ended:
                    break
                if destination is not None and self._done() == self.faults.abort_store_after:
                    destination.abort()
                status = 0 if delivery.outcome == "claim" else None
                if delivery.outcome == "send" and destination is not None and context_of(delivery.instance) in identifiers:
                    status = self._store(destination, identifiers[context_of(delivery.instance)], delivery.instance)
                if delivery.counted:
                    self._count(delivery.instance, status)
            if destination is not None:
                destination.release()
        return not ended

    def _associate(self, contexts: dict[int, tuple[str, str]], stack: ExitStack) -> Association | None:
        """An association with the destination, until `stack` ends. None where there is none to be had: then the whole batch fails."""
        try:
            connection = socket.create_connection(self.address, STORE_TIMEOUT_S)
            stack.callback(close_connection, connection)
            stack.enter_context(self.state.watch(connection))
            return request_association(connection, self.state.ae_title, self.destination, contexts)
        except (OSError, AssociationEnded):
            return None

    def _done(self) -> int:
        return self.completed + self.failed + self.warnings

    def _pause(self) -> bool:
        """What comes between two sub-operations: faults, and a look at what the other side says. False where the move ends here."""
        asker, done = self.asker, self._done()
        if asker is None:
            self._wait([], done)
            return True
        if done == self.faults.abort_after:
            asker.abort()
            raise AssociationEnded("aborted as told")
        if self.faults.move_status and done == self.faults.move_status_after:
            return False
        if asker.connection in self._wait([asker.connection], done):
            message = asker.receive()
            if message is None or message.command["CommandField"] != commands.C_CANCEL_RQ:
                raise AssociationEnded("the other side no longer waits for the move")
            self.cancelled = message.command.get("MessageIDBeingRespondedTo") == self.request.command["MessageID"]
        return not self.cancelled

    def _wait(self, sockets: list[socket.socket], done: int) -> list[socket.socket]:
        """Those of `sockets` that have something to read: at once, or after the pause or the stall that the faults ask for here."""
        waited_s = None if done == self.faults.stall_after else self.faults.pause_s
        if waited_s == 0:
            return wait_readable(sockets, 0)
        with self.state.change(self.told) as change:
            return wait_readable([*sockets, change], waited_s)

    def _store(self, destination: Association, context_id: int, instance: Instance) -> int | None:
        """One C-STORE. Returns the DIMSE status answered, None where there was no answer."""
        command: dict[str, commands.Value] = {
            "AffectedSOPClassUID": instance.sop_class_uid,
            "CommandField": commands.C_STORE_RQ,
            "MessageID": len(self.sent_uids) % 0xFFFF + 1,
            "Priority": self.request.command.get("Priority", 0),
            "CommandDataSetType": commands.DATA_SET,
            "AffectedSOPInstanceUID": instance.sop_instance_uid,
        }
        if not self.faults.omit_move_originator:
            command["MoveOriginatorApplicationEntityTitle"] = self.calling_ae_title
            command["MoveOriginatorMessageID"] = self.request.command["MessageID"]
        try:
            with instance.path.open("rb", buffering=0) as file:
                file.seek(instance.offset)
                data: BinaryIO = self._coerce(file.read(), instance) if self.faults.coerce_study_uid else file
                destination.send(context_id, command, data, instance.size_bytes)
            self.sent_uids.append(instance.sop_instance_uid)
            answer = destination.receive()
        except OSError:
            return None  # the file cannot be opened any more; nothing was sent
        except AssociationEnded:
            destination.close()  # what is left of the batch fails at once
            return None
        return None if answer is None else int(answer.command.get("Status", commands.UNABLE_TO_PROCESS))

    def _coerce(self, data: bytes, instance: Instance) -> BytesIO:
        uid = instance.study_instance_uid
        return BytesIO(data.replace(uid.encode(), coerced_uid(uid).encode()))

    def _count(self, instance: Instance, status: int | None) -> None:
        self.remaining -= 1
        if status == commands.SUCCESS:
            self.completed += 1
        elif status is not None and status >> 12 == 0xB:
            self.warnings += 1
        else:
            self.failed += 1
            self.failed_uids.append(instance.sop_instance_uid)
        if self.asker is not None and not self.faults.no_pending:
            answer = commands.answer_to(self.request.command, commands.PENDING, self._counters() | self._remaining())
            self.asker.send(self.request.context_id, answer)

    def _counters(self) -> dict[str, commands.Value]:
        if self.faults.without_counters:
            return {}
        return {
            "NumberOfCompletedSuboperations": self.completed,
            "NumberOfFailedSuboperations": self.failed,
            "NumberOfWarningSuboperations": self.warnings,
        }

    def _remaining(self) -> dict[str, commands.Value]:
        return {} if self.faults.without_counters else {"NumberOfRemainingSuboperations": self.remaining}

    def _answer_finally(self) -> None:
        asker, more, data = self.asker, dict[str, commands.Value](), b""
        if asker is None:
            self._record(commands.SUCCESS)  # so it was answered
            return
        if self.cancelled:
            status, more = commands.CANCELLED, self._remaining()
        elif self.met_its_end:
            status, self.completed, self.failed, self.warnings = commands.UNABLE_TO_PROCESS, 0, 0, 0
            self.failed_uids.clear()
        elif self.faults.move_status:
            status = self.faults.move_status
            self.failed += self.remaining
        else:
            status = self._final_status()
        if self.failed_uids:
            syntax_uid = asker.contexts[self.request.context_id][1]
            data = encode_identifier({"FailedSOPInstanceUIDList": "\\".join(self.failed_uids).encode()}, syntax_uid)
        self._record(status)
        answer = commands.answer_to(self.request.command, status, self._counters() | more, data_set=bool(data))
        asker.send(self.request.context_id, answer, BytesIO(data), len(data))

    def _record(self, status: int | None) -> None:
        record = MoveRecord(self.calling_ae_title, self.destination, self.level, self.keys, tuple(self.sent_uids), status)
        self.state.history.append(record)

    def _final_status(self) -> int:
        """PS3.4 C.4.2.3.1: a failure where every sub-operation failed, a warning where some did or warned."""
        if not self.failed and not self.warnings:
            return commands.SUCCESS
        return commands.SUB_OPERATIONS_FAILED if self.completed or self.warnings else commands.UNABLE_TO_PERFORM
