"""What the code under test has logged."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger


class Journal:
    """`events` in order, each with its `level`. Safe in threads: appending is atomic."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.log: FilteringBoundLogger = structlog.wrap_logger(
            structlog.PrintLogger(), processors=[self._keep], wrapper_class=structlog.make_filtering_bound_logger(0)
        )

    def _keep(self, _logger: object, level: str, event: MutableMapping[str, Any]) -> str:
        self.events.append({**event, "level": level})
        raise structlog.DropEvent

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]
