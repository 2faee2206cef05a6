"""The status of a request, as the client reads it.

Pure values, and their JSON form. The schema is docs/status.schema.json. No patient name and no birth date has a place here.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import cattrs
from attrs import field, frozen

from mkisod.errors import Code, Problem

VERSION = 1


class State(StrEnum):
    """Where a job is. docs/architecture.md draws how one leads to the next."""

    QUEUED = "queued"
    RETRIEVING = "retrieving"
    ASSEMBLING = "assembling"
    PUBLISHING = "publishing"
    FORWARDING = "forwarding"
    DEFERRED = "deferred"
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        return self in (State.DONE, State.PARTIAL, State.FAILED, State.CANCELLED)


class Evidence(StrEnum):
    """How it is known that a study is complete."""

    INSTANCES = "instances"  # every SOP Instance UID was listed by the PACS and has arrived
    COUNTS = "counts"  # the numbers of the PACS agree with what arrived
    RESPONSES = "responses"  # only the counters of the C-MOVE responses


@frozen
class Progress:
    instances_expected: int = 0
    instances_received: int = 0
    bytes_received: int = 0
    eta_s: int | None = None
    percent_assembled: int | None = None


@frozen
class StudyStatus:
    study_instance_uid: str
    modalities: tuple[str, ...] = ()
    instances_expected: int = 0
    instances_received: int = 0
    missing: tuple[str, ...] = ()  # SOP Instance UIDs, once it is known that they do not come
    evidence: Evidence | None = None


@frozen
class AccessionStatus:
    accession: str
    state: State
    error: Problem | None = None
    studies: tuple[StudyStatus, ...] = ()


@frozen
class Volume:
    """One file-set. Paths are relative to `result.path`, None where not asked for; digest and size are the image's, else the archive's."""

    file_set_id: str
    directory: str | None
    image: str | None
    archive: str | None
    sha256: str | None
    size_bytes: int | None
    instances: int
    profile: str | None


@frozen
class Result:
    path: str  # relative to the outbox directory of the ticket
    volumes: tuple[Volume, ...]
    substitutions: tuple[str, ...] = ()
    conversions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@frozen
class InstanceResult:
    """`dimse_status`: four hexadecimal digits; None where the destination answered none. `reason`: why it was not taken."""

    sop_instance_uid: str
    dimse_status: str | None
    reason: str = ""


@frozen
class Forwarding:
    """Of one destination. `warnings` are among the sent; `conversions`: what went in another transfer syntax than it was received in."""

    destination: str
    sent: int = 0
    failed: tuple[InstanceResult, ...] = ()
    warnings: tuple[InstanceResult, ...] = ()
    conversions: tuple[str, ...] = ()


@frozen
class Status:
    ticket: str
    job: str
    state: State
    created: datetime
    updated: datetime
    attempt: int = 1
    retry_at: datetime | None = None
    progress: Progress = Progress()
    accessions: tuple[AccessionStatus, ...] = ()
    result: Result | None = None
    forward: tuple[Forwarding, ...] = ()
    error: Problem | None = None
    owner_uid: int | None = None  # who dropped the request, and so who may cancel it, publish it, discard its result, reuse its ticket
    version: int = field(default=VERSION)

    @property
    def finished(self) -> bool:
        return self.state.finished


def format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    converter.register_unstructure_hook(datetime, format_time)
    converter.register_structure_hook(datetime, lambda text, _: datetime.fromisoformat(text))
    converter.register_unstructure_hook(Code, str)
    return converter


CONVERTER: Final = _make_converter()  # from values to what JSON knows and back; of job.json too


def encode_status(status: Status) -> bytes:
    """The bytes of status.json: one JSON object, UTF-8, with the keys in the order of the contract."""
    document: dict[str, Any] = CONVERTER.unstructure(status)
    head = {key: document.pop(key) for key in ("version", "ticket", "job", "state")}
    # `finished` is derived from the state; it stands in the file for clients that do not want to know the states.
    ordered = {**head, "finished": status.finished, **document}
    return (json.dumps(ordered, ensure_ascii=False) + "\n").encode()


def decode_status(data: bytes) -> Status:
    """The status in the bytes of status.json. Raises ValueError where it is none of this version."""
    try:
        status = CONVERTER.structure(json.loads(data), Status)
    except (ValueError, TypeError, KeyError, cattrs.BaseValidationError) as error:
        raise ValueError(f"no status of version {VERSION}: {error}") from error
    if status.version != VERSION:
        raise ValueError(f"no status of version {VERSION}: it is of version {status.version}")
    return status
