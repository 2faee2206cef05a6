"""What it means to withdraw a job, by how far it is. Pure."""

from __future__ import annotations

from attrs import evolve

from mkisod.errors import ADVICE, Code, Problem
from mkisod.job.lifecycle import Event
from mkisod.job.record import JobRecord

CANCELLED = Problem(Code.CANCELLED, "The request was cancelled.", ADVICE[Code.CANCELLED], transient=False)
FORWARDING_CANCELLED = Problem(
    Code.CANCELLED, "Forwarding was cancelled. The disc is published, and stays.", ADVICE[Code.CANCELLED], transient=False
)


def withdraw(record: JobRecord) -> tuple[JobRecord, Event]:
    """The record that says so, and the event that does it: a disc that is published stays, and only the rest is not done."""
    problem, event = (FORWARDING_CANCELLED, Event.FORWARDED_PARTIAL) if record.published else (CANCELLED, Event.CANCELLED)
    return evolve(record, problem=problem, retry_at=None), event
