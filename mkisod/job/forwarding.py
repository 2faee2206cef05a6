"""What has become of each instance at each destination: the entries of `forward.jsonl`, and what follows from them. Pure.

An entry is written when a destination has answered, or when it is certain that it never will say yes. What it has taken, and what it will
never take, is not tried again; what had a setback is tried again, after those that had none, so that one bad instance holds up nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from enum import StrEnum

import cattrs
from attrs import frozen

from mkisod.job.status import CONVERTER, Forwarding, InstanceResult


class Outcome(StrEnum):
    SENT = "sent"
    FAILED = "failed"  # and it would again
    SETBACK = "setback"  # it may succeed later


@frozen
class Entry:
    """`dimse_status`: four hexadecimal digits, None where none was answered; `reason`: why not; `converted_to`: a transfer syntax."""

    destination: str
    sop_instance_uid: str
    outcome: Outcome
    dimse_status: str | None = None
    reason: str = ""
    converted_from: str = ""
    converted_to: str = ""


def encode_entry(entry: Entry) -> bytes:
    return (json.dumps(CONVERTER.unstructure(entry)) + "\n").encode()


def decode_entries(data: bytes) -> tuple[list[Entry], int]:
    """The entries up to the first that is not whole, and how many bytes they take: a death may have left a part of the last ones."""
    entries: list[Entry] = []
    size = 0
    for line in data.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            entries.append(CONVERTER.structure(json.loads(line), Entry))
        except (ValueError, TypeError, KeyError, cattrs.BaseValidationError):
            break
        size += len(line)
    return entries, size


def plan_sending(uids: Iterable[str], destination: str, entries: Sequence[Entry]) -> list[str]:
    """The SOP Instance UIDs that this destination still has to be sent, those that had the fewest setbacks first."""
    settled, setbacks = set[str](), dict[str, int]()
    for entry in entries:
        if entry.destination == destination:
            if entry.outcome is Outcome.SETBACK:
                setbacks[entry.sop_instance_uid] = setbacks.get(entry.sop_instance_uid, 0) + 1
            else:
                settled.add(entry.sop_instance_uid)
    return sorted(set(uids) - settled, key=lambda uid: (setbacks.get(uid, 0), uid))


def describe_forwarding(
    uids: Iterable[str], destinations: Sequence[str], entries: Sequence[Entry], *, is_over: bool, reason: str = ""
) -> tuple[Forwarding, ...]:
    """The `forward` part of a status. Once it `is_over`, every instance is sent or failed; `reason` is of those that were never tried."""
    uids = tuple(uids)
    return tuple(_describe(uids, destination, entries, is_over, reason) for destination in destinations)


def _describe(uids: Sequence[str], destination: str, entries: Sequence[Entry], is_over: bool, reason: str) -> Forwarding:
    last = {entry.sop_instance_uid: entry for entry in entries if entry.destination == destination}
    sent = [entry for entry in last.values() if entry.outcome is Outcome.SENT]
    failed = [_to_result(e) for e in last.values() if e.outcome is Outcome.FAILED or (is_over and e.outcome is Outcome.SETBACK)]
    if is_over:
        failed += [InstanceResult(uid, None, reason) for uid in uids if uid not in last]
    return Forwarding(
        destination,
        sent=len(sent),
        failed=tuple(failed),
        warnings=tuple(_to_result(entry) for entry in sent if entry.dimse_status != "0000"),
        conversions=tuple(
            f"{entry.sop_instance_uid}: from {entry.converted_from} to {entry.converted_to}" for entry in sent if entry.converted_to
        ),
    )


def _to_result(entry: Entry) -> InstanceResult:
    return InstanceResult(entry.sop_instance_uid, entry.dimse_status, entry.reason)
