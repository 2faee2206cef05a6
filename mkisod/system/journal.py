"""Events, as structlog writes them: readable lines on a terminal, JSON lines elsewhere.

One event a transition, with ticket and job. Never a patient's name or birth date. pynetdicom's own logger is kept at warnings: its
information is several lines an association.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import FilteringBoundLogger


def make_log(stream: TextIO, level: int = logging.INFO) -> FilteringBoundLogger:
    """The daemon's logger. Set up once, at the start of a process."""
    logging.basicConfig(stream=stream, level=logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("pynetdicom").setLevel(logging.WARNING)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if stream.isatty():
        rendering: list[structlog.typing.Processor] = [structlog.dev.ConsoleRenderer()]
    else:
        rendering = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    log: FilteringBoundLogger = structlog.get_logger()
    return log


def make_quiet_log() -> FilteringBoundLogger:
    """For commands whose output is for a person: warnings and worse only. What pynetdicom warns of, the command says in its own words."""
    log = make_log(sys.stderr, logging.WARNING)
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    return log
