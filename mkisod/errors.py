"""Every failure that mkisod can name, with its code and the advice that goes with it.

A failure has one code out of a fixed, documented list, one clear sentence, and one sentence of advice. `Transient` says that the
same thing may succeed later without anybody doing anything; `Permanent` says that somebody has to do something first. Whatever else is
raised is a defect of mkisod and is reported as `internal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar

from attrs import frozen


class Code(StrEnum):
    """The codes of `error.code` in a status, of messages on the terminal and of events in the journal."""

    REQUEST_MALFORMED = "request_malformed"
    ACCESSION_INVALID = "accession_invalid"
    NOT_SUPPORTED = "not_supported"
    ACCESSION_NOT_FOUND = "accession_not_found"
    ACCESSION_MISMATCH = "accession_mismatch"
    NOTHING_SELECTED = "nothing_selected"
    STUDY_UNAVAILABLE = "study_unavailable"
    PATIENT_MISMATCH = "patient_mismatch"
    PACS_UNKNOWN = "pacs_unknown"
    DESTINATION_UNKNOWN = "destination_unknown"
    PACS_UNREACHABLE = "pacs_unreachable"
    ASSOCIATION_REJECTED = "association_rejected"
    TLS_FAILED = "tls_failed"
    QUERY_FAILED = "query_failed"
    MOVE_DESTINATION_UNKNOWN = "move_destination_unknown"
    MOVE_FAILED = "move_failed"
    INCOMPLETE = "incomplete"
    TIMEOUT = "timeout"
    DISK_FULL = "disk_full"
    OBJECT_TOO_LARGE = "object_too_large"
    NONCONFORMANT = "nonconformant"
    FORWARD_FAILED = "forward_failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    CONFIGURATION_INVALID = "configuration_invalid"
    SPOOL_UNUSABLE = "spool_unusable"
    PORT_UNAVAILABLE = "port_unavailable"
    INSTANCE_IN_USE = "instance_in_use"
    USAGE = "usage"
    INTERNAL = "internal"


ADVICE: dict[Code, str] = {
    Code.REQUEST_MALFORMED: "Correct the named lines and drop the request again under a new ticket.",
    Code.ACCESSION_INVALID: "Correct the named accession numbers (1 to 16 characters, no *, ?, backslash or control character)"
    " and drop the request again.",
    Code.NOT_SUPPORTED: "Leave the named directive out.",
    Code.ACCESSION_NOT_FOUND: "Check the accession number, and that the study has been archived; then drop the request again.",
    Code.ACCESSION_MISMATCH: "The PACS matches accession numbers loosely. Give the full accession number as the PACS holds it.",
    Code.NOTHING_SELECTED: "Name modalities that the study has, or leave the filter out.",
    Code.STUDY_UNAVAILABLE: "Ask the PACS administrator to bring the study back on line, then drop the request again.",
    Code.PATIENT_MISMATCH: "Check every accession number against the patient. Nothing was written.",
    Code.PACS_UNKNOWN: "Use a PACS name from the configuration, or leave @pacs out for the default.",
    Code.DESTINATION_UNKNOWN: "Name a destination ([forward.NAME]) of the configuration.",
    Code.PACS_UNREACHABLE: "Check that the PACS runs and that host and port in the configuration are right (mkisod check).",
    Code.ASSOCIATION_REJECTED: "Check the AE titles on both sides (mkisod check).",
    Code.TLS_FAILED: "Check certificate, key and ca in the configuration, and the certificate and the authorities of the other side.",
    Code.QUERY_FAILED: "Look for the cause in the log of the PACS; mkisod find shows what it answers.",
    Code.MOVE_DESTINATION_UNKNOWN: "Make the AE title, host and port of mkisod known to the PACS as a move destination.",
    Code.MOVE_FAILED: "Look for the cause in the log of the PACS, then drop the request again.",
    Code.INCOMPLETE: "Instances are missing. Check them at the PACS, then drop the request again, or allow a partial disc.",
    Code.TIMEOUT: "The PACS stopped answering. Check it, then drop the request again.",
    Code.DISK_FULL: "Free space on the file system of the spool.",
    Code.OBJECT_TOO_LARGE: "Choose a larger medium.",
    Code.NONCONFORMANT: "The named instance cannot be put on a conformant disc. Ask for it without that study, or have it corrected.",
    Code.FORWARD_FAILED: "Check the destination (mkisod check). Then mkisod send sends the disc, or drop the request again.",
    Code.CANCELLED: "Nothing is left to do.",
    Code.EXPIRED: "Drop the request again.",
    Code.CONFIGURATION_INVALID: "Correct the configuration file; man mkisod.toml lists the keys.",
    Code.SPOOL_UNUSABLE: "Give the daemon a spool directory on one file system that it may write to.",
    Code.PORT_UNAVAILABLE: "End the program that holds the port, or choose another port in the configuration.",
    Code.INSTANCE_IN_USE: "Stop the other daemon, or give this one another [spool] instance.",
    Code.USAGE: "Call the command with --help.",
    Code.INTERNAL: "This is a defect of mkisod. Please report it with the journal of this job.",
}


@frozen
class Problem:
    """A failure as it is shown: in `error` of a status, on the terminal, in the journal."""

    code: Code
    message: str
    advice: str
    transient: bool


class MkisodError(Exception):
    """The base of all named failures. Raise `Transient` or `Permanent`."""

    transient: ClassVar[bool]

    def __init__(self, code: Code, message: str, advice: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.advice = ADVICE[code] if advice is None else advice
        self.accessions: Mapping[str, Problem] = {}  # where it concerns some accessions of a request and not others

    @property
    def problem(self) -> Problem:
        return Problem(self.code, self.message, self.advice, self.transient)

    def __str__(self) -> str:
        return f"{self.message} {self.advice} [{self.code}]"


class Transient(MkisodError):
    """The same attempt may succeed later."""

    transient = True


class Permanent(MkisodError):
    """The same attempt would fail again."""

    transient = False
