"""What time it is. Everything else is given the time, or a callable that reads it."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    return datetime.now(UTC)
