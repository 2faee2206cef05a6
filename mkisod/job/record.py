"""`job.json`: what has to be known about a job and cannot be derived from its directory.

Pure values and their JSON form; `spool` replaces the file durably.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

import cattrs
from attrs import Factory, evolve, field, frozen

from mkisod.errors import Problem
from mkisod.job.crashes import Crashes
from mkisod.job.retry import History
from mkisod.job.status import CONVERTER, AccessionStatus, State, Status

VERSION = 1
_JOB_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[a-z0-9]{6}")
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def make_job_id(now: datetime, random_bytes: bytes) -> str:
    """`20261122T081500Z-k3f9ab`: sorts by time, never reused. `now` in UTC; `random_bytes`: 6 of them."""
    return f"{now:%Y%m%dT%H%M%SZ}-" + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in random_bytes[:6])


def is_job_id(name: str) -> bool:
    return _JOB_ID.fullmatch(name) is not None


def read_job_time(job_id: str) -> datetime:
    """When the job was claimed, by its id, to the second."""
    return datetime.strptime(job_id[:16], "%Y%m%dT%H%M%S%z")


@frozen
class JobRecord:
    """`attempt` counts tries; `owner_uid` is who dropped the request; `problem` is why the last attempt failed.

    `boot_id` is that of the boot in which its objects were received; they are trusted in another one only if `objects_synced`.
    """

    job: str
    ticket: str
    created: datetime
    state: State = State.QUEUED
    attempt: int = 1
    priority: str = "normal"
    pacs: str | None = None  # as the request says; None: the default
    counted: Mapping[str, int] = Factory(dict)  # by study, how many instances a C-MOVE was about, where that was more than is listed
    owner_uid: int | None = None
    problem: Problem | None = None
    retry_at: datetime | None = None
    history: History = Factory(lambda self: History(begun=self.created), takes_self=True)
    crashes: Crashes = Factory(Crashes)
    boot_id: str = ""
    objects_synced: bool = False
    allow_partial: bool = False  # the client said so afterwards (.publish)
    published: bool = False  # the result stands in the outbox; to forward it is all that is left
    version: int = field(default=VERSION)

    @property
    def is_judged(self) -> bool:
        """The drop was read, and what it is worth stands here. From then on our synced copy counts: the drop may be lost yet, or change."""
        return self.owner_uid is not None

    @property
    def told_state(self) -> State:
        """The state that the client is told: what is published is `forwarding` until that is over, also while it waits."""
        return State.FORWARDING if self.published and not self.state.finished else self.state


def make_status(record: JobRecord, updated: datetime, accessions: Sequence[str] = (), previous: Status | None = None) -> Status:
    """What the record alone tells the client; with what the `previous` status of the same job knew of its studies."""
    status = Status(
        ticket=record.ticket,
        job=record.job,
        state=record.told_state,
        created=record.created,
        updated=updated,
        attempt=record.attempt,
        retry_at=record.retry_at,
        accessions=tuple(AccessionStatus(accession, record.told_state) for accession in accessions),
        error=record.problem,
        owner_uid=record.owner_uid,
    )
    if previous is None or previous.job != record.job:
        return status
    known = tuple(evolve(accession, state=record.told_state) for accession in previous.accessions)
    status = evolve(status, progress=evolve(previous.progress, eta_s=None, percent_assembled=None), accessions=known or status.accessions)
    return evolve(status, result=previous.result, forward=previous.forward) if record.published else status


def encode_record(record: JobRecord) -> bytes:
    document = CONVERTER.unstructure(record)
    if record.retry_at is not None:  # not cut to the second as in the status: a short delay would be none
        document["retry_at"] = record.retry_at.isoformat()
    return (json.dumps(document, indent=1) + "\n").encode()


def decode_record(data: bytes) -> JobRecord:
    """Raises ValueError where the bytes are no record of this version."""
    try:
        record = CONVERTER.structure(json.loads(data), JobRecord)
    except (ValueError, TypeError, KeyError, cattrs.BaseValidationError) as error:
        raise ValueError(f"no job record of version {VERSION}: {error}") from error
    if record.version != VERSION:
        raise ValueError(f"no job record of version {VERSION}: it is of version {record.version}")
    return record
