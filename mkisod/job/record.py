"""`job.json`: what has to be known about a job and cannot be derived from its directory.

Pure values and their JSON form; `spool` replaces the file durably.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import cattrs
from attrs import field, frozen

from mkisod.errors import Code, Problem
from mkisod.job.status import AccessionStatus, State, Status, format_time

VERSION = 1
_JOB_ID = re.compile(r"\d{8}T\d{6}Z-[a-z0-9]{6}")
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def make_job_id(now: datetime, random_bytes: bytes) -> str:
    """`20261122T081500Z-k3f9ab`: sorts by time, never reused. `now` in UTC; `random_bytes`: 6 of them."""
    return f"{now:%Y%m%dT%H%M%SZ}-" + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in random_bytes[:6])


def is_job_id(name: str) -> bool:
    return _JOB_ID.fullmatch(name) is not None


@frozen
class JobRecord:
    """`attempt` counts tries; `owner_uid` is who dropped the request; `problem` is why it failed."""

    job: str
    ticket: str
    created: datetime
    state: State = State.QUEUED
    attempt: int = 1
    priority: str = "normal"
    owner_uid: int | None = None
    problem: Problem | None = None
    version: int = field(default=VERSION)


def make_status(record: JobRecord, updated: datetime, accessions: Sequence[str] = ()) -> Status:
    """What the record alone tells the client. The phases of a job put more into it."""
    return Status(
        ticket=record.ticket,
        job=record.job,
        state=record.state,
        created=record.created,
        updated=updated,
        attempt=record.attempt,
        accessions=tuple(AccessionStatus(accession, record.state) for accession in accessions),
        error=record.problem,
    )


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    converter.register_unstructure_hook(datetime, format_time)
    converter.register_structure_hook(datetime, lambda text, _: datetime.fromisoformat(text))
    converter.register_unstructure_hook(Code, str)
    return converter


_CONVERTER: Final = _make_converter()


def encode_record(record: JobRecord) -> bytes:
    return (json.dumps(_CONVERTER.unstructure(record), indent=1) + "\n").encode()


def decode_record(data: bytes) -> JobRecord:
    """Raises ValueError where the bytes are no record of this version."""
    try:
        return _CONVERTER.structure(json.loads(data), JobRecord)
    except (ValueError, TypeError, KeyError, cattrs.BaseValidationError) as error:
        raise ValueError(f"no job record of version {VERSION}: {error}") from error
