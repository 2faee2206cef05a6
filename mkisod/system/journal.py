"""Events, as structlog writes them: readable lines on a terminal, JSON lines elsewhere.

One event a transition, with ticket and job. Never a patient's name or birth date. What libraries log goes the same way: pynetdicom's
warnings, since its information is several lines an association; pydicom's errors alone, since its warnings quote values.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import FilteringBoundLogger


def make_log(stream: TextIO, level: int = logging.INFO) -> FilteringBoundLogger:
    """The daemon's logger. Set up once, at the start of a process."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if stream.isatty():
        # Not the default one: that shows local variables, and those hold patients' names.
        rendering: list[structlog.typing.Processor] = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        tracebacks = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
        rendering = [tracebacks, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    foreign = [structlog.stdlib.add_logger_name, *shared]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=foreign, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering]
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
    for name, least in (("pynetdicom", logging.WARNING), ("pydicom", logging.ERROR), ("py.warnings", logging.ERROR)):
        logging.getLogger(name).setLevel(least)
    log: FilteringBoundLogger = structlog.get_logger()
    return log


def make_quiet_log() -> FilteringBoundLogger:
    """For commands whose output is for a person: warnings and worse only. What pynetdicom warns of, the command says in its own words."""
    log = make_log(sys.stderr, logging.WARNING)
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    return log
