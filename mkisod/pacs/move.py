"""Moving: one C-MOVE, running in a thread of its own while the job waits for what it brings.

The identifier carries Query/Retrieve Level and unique keys only (PS3.4 C.4.2.1.4, C.4.2.2.1): the one form that every archive examined
accepts. Only an archive that answers no C-FIND is asked by accession number, which some accept although it is no unique key. What the
archive says at the end is kept as it is; whether the instances arrived is for the manifest to say, not for a counter.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from attrs import frozen
from pydicom.dataset import Dataset

from mkisod.errors import Code, MkisodError, Permanent, Transient
from mkisod.job.moves import Move
from mkisod.pacs.associate import MOVE, Association, Peer

_PENDING = (0xFF00, 0xFF01)
_CANCEL_TIMEOUT_S = 2.0  # for the final response to a C-CANCEL; an archive may ignore it
_UID = re.compile(r"[0-9.]{1,64}")
SUCCESS = 0x0000
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
        return self.dimse_status == SUCCESS

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
        self._association = Association(peer, ae_title, [MOVE], response_timeout_s=None)
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
        if self.begun and not self.finished:
            self._association.cancel(self._message_id, MOVE)
            self._thread.join(_CANCEL_TIMEOUT_S)
        if not self.finished:
            self._association.abort()
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._association:
                self.begun = True
                self._report_change()
                self.outcome = self._carry_out()
        except MkisodError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - a defect, and nobody above this frame would see it
            self.error = Permanent(Code.INTERNAL, f"A C-MOVE ended in {type(error).__name__}.")
        finally:
            self._report_change()

    def _carry_out(self) -> MoveOutcome:
        if not any(context.abstract_syntax == MOVE for context in self._association.raw.accepted_contexts):
            raise Permanent(Code.MOVE_FAILED, f"{self._peer} does not offer C-MOVE in the Study Root model.")
        responses = self._association.exchange(
            lambda raw: raw.send_c_move(self._identifier, self._destination, MOVE, msg_id=self._message_id), "a C-MOVE"
        )
        for response, identifier in responses:
            if "Status" not in response:
                raise Transient(Code.PACS_UNREACHABLE, f"{self._peer} ended the association during a C-MOVE.")
            if response.Status not in _PENDING:
                return _make_outcome(response, identifier)
            self.responses += 1
        raise Transient(Code.PACS_UNREACHABLE, f"{self._peer} ended a C-MOVE without a final response.")


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


def _make_outcome(response: Dataset, identifier: Dataset | None) -> MoveOutcome:
    failed_uids = identifier.get("FailedSOPInstanceUIDList") if identifier is not None else None
    if isinstance(failed_uids, bytes):  # more than 64 KiB of it comes as VR UN in Explicit VR (PS3.5 6.2.2)
        failed_uids = failed_uids.decode("ascii", "replace").rstrip("\0 ").split("\\")
    elif isinstance(failed_uids, str):
        failed_uids = [failed_uids]
    return MoveOutcome(
        response.Status,
        response.get("NumberOfCompletedSuboperations"),
        response.get("NumberOfFailedSuboperations"),
        response.get("NumberOfWarningSuboperations"),
        tuple(str(uid) for uid in failed_uids or () if _UID.fullmatch(str(uid))),
    )


def explain_outcome(peer: Peer, destination: str, outcome: MoveOutcome, *, has_sent: bool = False) -> MkisodError | None:
    """The error that a final DIMSE status stands for (PS3.4 Table C.4-2). None for success and warnings, where the manifest decides.

    `has_sent`: an instance has come from it before, so it knows us. Some archives say A801H too where they could not connect just then.
    """
    dimse_status = outcome.dimse_status
    if dimse_status == SUCCESS or 0xB000 <= dimse_status <= 0xBFFF:
        return None
    if dimse_status == DESTINATION_UNKNOWN and not has_sent:
        return Permanent(Code.MOVE_DESTINATION_UNKNOWN, f"{peer} does not know the move destination {destination}.")
    return Transient(Code.MOVE_FAILED, f"{peer} answered a C-MOVE with DIMSE status {dimse_status:04X}H.")
