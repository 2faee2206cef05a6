"""Moving: one C-MOVE, running in a thread of its own while the job waits for what it brings.

The identifier carries Query/Retrieve Level and unique keys only (PS3.4 C.4.2.1.4, C.4.2.2.1): the one form that every archive examined
accepts. Only an archive that answers no C-FIND is asked by accession number, which some accept although it is no unique key. What the
archive says at the end is kept as it is; whether the instances arrived is for the manifest to say, not for a counter.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Final

from attrs import frozen
from pydicom.dataset import Dataset
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove  # type: ignore[attr-defined]

from mkisod.errors import Code, MkisodError, Permanent, Transient
from mkisod.job.moves import Move
from mkisod.pacs import command as dimse
from mkisod.pacs.command import Command
from mkisod.pacs.identifier import SYNTAXES, InvalidIdentifier, decode_identifier, encode_identifier
from mkisod.pacs.pdu import ContextResult, ProposedContext
from mkisod.pacs.peer import Peer
from mkisod.pacs.requestor import RequestedAssociation
from mkisod.pacs.wire import Interrupted

MOVE: Final = StudyRootQueryRetrieveInformationModelMove
_CONTEXT_ID: Final = 1
_CANCEL_TIMEOUT_S = 2.0  # for the final response to a C-CANCEL; an archive may ignore it
_SHORTEST_SUB_OPERATION_S: Final = 0.0002  # a fifth of what the fastest archive needed for the smallest instance
_LONGEST_PAUSE_S: Final = 0.05
_UID = re.compile(r"[0-9.]{1,64}")
DESTINATION_UNKNOWN = 0xA801  # PS3.4 Table C.4-2


@frozen
class MoveOutcome:
    """The final response: its DIMSE status, its counters (None: not said), and the SOP Instance UIDs that the archive could not send."""

    dimse_status: int
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None
    failed_sop_instance_uids: tuple[str, ...] = ()

    @property
    def succeeded(self) -> bool:
        return self.dimse_status == dimse.SUCCESS

    @property
    def sent(self) -> int | None:
        """How many the archive says it has sent; None: it does not say."""
        return None if self.completed is None else self.completed + (self.warning or 0)

    @property
    def number_of_instances(self) -> int | None:
        """How many it was about; None: that is not known. A failure that counts nothing says nothing (measured: Orthanc, C000H)."""
        number = None if self.sent is None else self.sent + (self.failed or 0)
        return number if number or self.succeeded else None


class RunningMove:
    """One C-MOVE. `report_change` is called from its thread when it has `begun`, and at the end, when `outcome` or `error` is set."""

    def __init__(
        self, peer: Peer, ae_title: str, move: Move, *, destination: str, message_id: int, report_change: Callable[[], None]
    ) -> None:
        self._association = RequestedAssociation(peer, ae_title, [ProposedContext(_CONTEXT_ID, MOVE, SYNTAXES)])
        self._peer = peer
        self._identifier = make_identifier(move)
        self._destination = destination
        self._message_id = message_id
        self._report_change = report_change
        self._thread = threading.Thread(target=self._run, name=f"move-{message_id}", daemon=True)
        self.begun = False  # the association stands: the archive is there
        self.responses = 0
        self.outcome: MoveOutcome | None = None
        self.error: MkisodError | None = None

    def start(self) -> None:
        self._thread.start()

    @property
    def finished(self) -> bool:
        return self.outcome is not None or self.error is not None

    def end(self) -> None:
        """Give it up if it is not finished, by a C-CANCEL first (PS3.4 C.4.2.3.2), and wait until its thread has ended."""
        if not self.finished:
            self._association.interrupt()
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._association:
                self.begun = True
                self._report_change()
                outcome = self._carry_out()
            self.outcome = outcome  # once it is released: an archive may have room for one association
        except Interrupted:
            self.error = Transient(Code.PACS_UNREACHABLE, f"The C-MOVE from {self._peer} was given up.")
        except MkisodError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - a defect, and nobody above this frame would see it
            self.error = Permanent(Code.INTERNAL, f"A C-MOVE ended in {type(error).__name__}.")
        finally:
            self._report_change()

    def _carry_out(self) -> MoveOutcome:
        association = self._association
        if (context := association.contexts.get(_CONTEXT_ID)) is None:
            raise Permanent(Code.MOVE_FAILED, f"{self._peer} does not offer C-MOVE in the Study Root model.")
        request = dimse.encode_move_request(MOVE, self._message_id, self._destination)
        for response, identifier in self._exchange(request, encode_identifier(self._identifier, context)):
            if response.dimse_status not in dimse.PENDING:
                return _make_outcome(response, identifier, context)
            self.responses += 1
        raise RuntimeError("the responses to a C-MOVE have no end")

    def _exchange(self, request: bytes, identifier: bytes) -> Iterator[tuple[Command, bytes]]:
        """The responses; after an interruption those that answer a C-CANCEL in time."""
        association, field = self._association, dimse.C_MOVE_RQ | dimse.RESPONSE
        association.ask(_CONTEXT_ID, request, identifier)
        try:
            while True:
                response, data_set = association.receive("a C-MOVE", field, self._message_id, is_limited=False)
                yield response, data_set
                association.gather(find_pause_s(response.remaining))
        except Interrupted:
            yield from association.cancel(_CONTEXT_ID, field, self._message_id, _CANCEL_TIMEOUT_S)


def find_pause_s(remaining: int | None) -> float:
    """How long a final response that says that all was done cannot be there yet; one that says less is noticed so much later.

    Read one by one, the pending responses would wake a thread for every instance.
    """
    return min((remaining or 0) * _SHORTEST_SUB_OPERATION_S, _LONGEST_PAUSE_S)


def make_identifier(move: Move) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    if move.accession:
        identifier.AccessionNumber = move.accession
        if not move.accession.isascii():
            identifier.SpecificCharacterSet = "ISO_IR 192"
        return identifier
    identifier.StudyInstanceUID = move.study_instance_uid
    if move.series_instance_uid is not None:
        identifier.QueryRetrieveLevel = "SERIES"
        identifier.SeriesInstanceUID = move.series_instance_uid
    if move.sop_instance_uids:
        identifier.QueryRetrieveLevel = "IMAGE"
        identifier.SOPInstanceUID = list(move.sop_instance_uids)
    return identifier


def _make_outcome(response: Command, identifier: bytes, context: ContextResult) -> MoveOutcome:
    return MoveOutcome(
        response.dimse_status or 0, response.completed, response.failed, response.warning, _read_failed_uids(identifier, context)
    )


def _read_failed_uids(raw: bytes, context: ContextResult) -> tuple[str, ...]:
    """Of the identifier of a final response. One that cannot be read names nobody; the counters stand all the same."""
    try:
        failed_uids = decode_identifier(raw, context).get("FailedSOPInstanceUIDList")
    except InvalidIdentifier:
        return ()
    if isinstance(failed_uids, bytes):  # more than 64 KiB of it comes as VR UN in Explicit VR (PS3.5 6.2.2)
        failed_uids = failed_uids.decode("ascii", "replace").rstrip("\0 ").split("\\")
    elif isinstance(failed_uids, str):
        failed_uids = [failed_uids]
    return tuple(str(uid) for uid in failed_uids or () if _UID.fullmatch(str(uid)))


def explain_outcome(peer: Peer, destination: str, outcome: MoveOutcome, *, has_sent: bool = False) -> MkisodError | None:
    """The error that a final DIMSE status stands for (PS3.4 Table C.4-2). None for success and warnings, where the manifest decides.

    `has_sent`: an instance has come from it before, so it knows us. Some archives say A801H too where they could not connect just then.
    """
    dimse_status = outcome.dimse_status
    if dimse_status == dimse.SUCCESS or 0xB000 <= dimse_status <= 0xBFFF:
        return None
    if dimse_status == DESTINATION_UNKNOWN and not has_sent:
        return Permanent(Code.MOVE_DESTINATION_UNKNOWN, f"{peer} does not know the move destination {destination}.")
    return Transient(Code.MOVE_FAILED, f"{peer} answered a C-MOVE with DIMSE status {dimse_status:04X}H.")
