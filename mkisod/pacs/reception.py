"""What the receiver says about an instance on its way in, and what it is told in return.

Values and protocols only. The receiver knows associations, PDUs and files' bytes; it does not know jobs. For each C-STORE it makes an
`Offer` and asks a `Reception`; it gets an `Arrival` to write to, or a `Refusal` that names the DIMSE status to answer with.
"""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

from mkisod.job.patient import PatientIdentity

# DIMSE statuses of C-STORE: PS3.4 Table B.2-1 and PS3.7 Annex C.
SUCCESS = 0x0000
NOT_AUTHORIZED = 0x0124
OUT_OF_RESOURCES = 0xA700
DATA_SET_MISMATCH = 0xA900


@frozen
class Header:
    """The attributes at the head of a data set that identify it, as text without padding; '' where absent."""

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    accession_number: str = ""
    modality: str = ""
    patient: PatientIdentity = PatientIdentity()


@frozen
class Offer:
    """One C-STORE request whose data set has begun to arrive."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    header: Header
    calling_ae_title: str
    peer: str  # the address of the other side, for the journal
    move_originator_ae_title: str = ""
    move_originator_message_id: int | None = None


class Refusal(Exception):
    """The instance is not taken. `dimse_status` is answered; `comment` (at most 64 ASCII characters, VR LO) goes with it.

    `about`: what the journal is told besides, the ticket for instance.
    """

    def __init__(self, dimse_status: int, comment: str, **about: str) -> None:
        super().__init__(f"{comment} (DIMSE status {dimse_status:04X}H)")
        self.dimse_status = dimse_status
        self.comment = comment
        self.about = about


class Arrival(Protocol):
    """One instance that is being written. Used by one thread; ended by exactly one of `commit` and `abort`."""

    @property
    def fd(self) -> int | None:
        """Where the bytes go, from offset 0: preamble, file meta information, data set. None: read them, drop them, answer with success."""

    def commit(self, size_bytes: int) -> None:
        """All is written: make it visible under its final name. Closes `fd`. Raises `Refusal` or OSError; then nothing is left of it."""

    def abort(self, error: OSError | None = None) -> None:
        """It did not arrive whole, or could not be written (`error`): leave nothing of it. Closes `fd`."""


class Reception(Protocol):
    """Whoever knows what is expected. Called from many threads at once."""

    def admit(self, offer: Offer) -> Arrival:
        """Raises `Refusal` where nobody expects the instance, OSError where it cannot be written."""
