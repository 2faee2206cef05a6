"""The client's side of the spool, for `mkisod submit` and `mkisod status`: drop a request, read its status.

Does what any client has to do: write under a temporary name, fsync, rename. Raises `Permanent` (`spool_unusable`) where it may not.
"""

from __future__ import annotations

from datetime import datetime

from mkisod.errors import Code, Permanent
from mkisod.job.status import Status
from mkisod.spool.durable import Disk
from mkisod.spool.layout import Layout
from mkisod.spool.outbox import Outbox


def make_ticket(now: datetime, random_bytes: bytes) -> str:
    """A ticket that nobody guesses: results can be read by whoever knows it."""
    return f"cli-{now:%Y%m%dT%H%M%S}-{random_bytes.hex()}"


def write_drop(layout: Layout, disk: Disk, ticket: str, text: str) -> None:
    target = layout.drop(ticket)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        disk.write(temporary, text.encode())
        disk.sync(temporary)
        disk.rename(temporary, target)
    except OSError as error:
        raise Permanent(
            Code.SPOOL_UNUSABLE,
            f"The request cannot be written to {layout.inbox}: {error.strerror}.",
            "Run the command as a member of the group that may drop requests, and see that the daemon has been started once.",
        ) from error


def read_ticket_status(layout: Layout, ticket: str) -> Status | None:
    """None where there is none (yet)."""
    try:
        return Outbox(layout, Disk()).read_status(ticket)
    except ValueError as error:
        raise Permanent(
            Code.INTERNAL, f"The status of {ticket} cannot be understood.", "See that this command and the daemon are of the same version."
        ) from error
    except OSError as error:
        raise Permanent(
            Code.SPOOL_UNUSABLE,
            f"The status of {ticket} cannot be read: {error.strerror}.",
            "Run the command as a member of the group that may read results.",
        ) from error
