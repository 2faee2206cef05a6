"""How far a job is, as its status shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from attrs import Factory, evolve, frozen

from mkisod.errors import Problem
from mkisod.job.manifest import Manifest, ReceivedInstance, count_expected, describe_accessions
from mkisod.job.record import JobRecord, make_status
from mkisod.job.request import Request
from mkisod.job.status import AccessionStatus, Forwarding, Progress, Result, Status


@frozen
class Account:
    """What a job knows of itself at a moment. `received_before`: how many instances an earlier attempt had brought."""

    request: Request
    manifest: Manifest = Factory(Manifest)
    received: Mapping[str, ReceivedInstance] = Factory(dict)
    bytes_received: int = 0
    received_before: int = 0
    moves_over: bool = False  # what is not there now does not come
    accession_problems: Mapping[str, Problem] = Factory(dict)
    percent_assembled: int | None = None  # of the disc; None before that is known
    result: Result | None = None


def describe_job(record: JobRecord, account: Account, updated: datetime, elapsed_s: float) -> Status:
    """The whole status. `elapsed_s`: how long instances have been arriving in this attempt."""
    status = make_status(record, updated)
    expected = count_expected(account.manifest, account.received)
    received = len(account.received)
    progress = Progress(
        instances_expected=expected,
        instances_received=received,
        bytes_received=account.bytes_received,
        eta_s=estimate_eta(expected - received, received - account.received_before, elapsed_s) if expected else None,
        percent_assembled=account.percent_assembled,
    )
    forward = tuple(Forwarding(destination) for destination in account.request.forward)
    return evolve(status, progress=progress, accessions=_describe_accessions(record, account), result=account.result, forward=forward)


def _describe_accessions(record: JobRecord, account: Account) -> tuple[AccessionStatus, ...]:
    name_missing, state = account.moves_over or record.published or record.state.finished, record.told_state
    described = describe_accessions(account.request.accessions, account.manifest, account.received, state, name_missing=name_missing)
    return tuple(evolve(accession, error=account.accession_problems.get(accession.accession)) for accession in described)


def estimate_eta(left: int, arrived: int, elapsed_s: float) -> int | None:
    """Seconds until the last instance, by the rate of this attempt; None before anything has come."""
    if left <= 0:
        return 0
    if arrived <= 0 or elapsed_s <= 0:
        return None
    return round(left * elapsed_s / arrived)
