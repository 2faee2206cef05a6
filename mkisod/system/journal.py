"""Where events go: systemd's journal with all their fields, readable lines on a terminal, JSON lines elsewhere.

One event a transition, with ticket and job; `events` has their names and their sentences. Never a patient's name or birth date: what an
exception says is told only where it is known to quote no data set, and what libraries say is told as far as it is (pynetdicom's warnings,
since its information is several lines an association; of pydicom only that something was wrong, and where). On failure of the journal an
event goes to the stream, as text.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final, TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from mkisod.system.events import describe
from mkisod.system.journald import SOCKET, encode_entry, is_connected, make_fields, send_entry
from mkisod.system.last_words import tell_exception

Event = MutableMapping[str, Any]
Observer = Callable[[str, Mapping[str, Any]], None]  # given the name of each event, and its fields

_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # syslog(3)
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_NOT_FIELDS: Final = frozenset({"event", "level", "timestamp", "message", "exception", "stack", "pathname", "lineno", "func_name", "place"})
_LIBRARIES: Final = (("pynetdicom", logging.WARNING), ("pydicom", logging.ERROR), ("py.warnings", logging.ERROR))


def make_log(
    stream: TextIO,
    level: int = logging.INFO,
    *,
    observe: Observer | None = None,
    environment: Mapping[str, str] = os.environ,
    socket_path: Path = SOCKET,
) -> FilteringBoundLogger:
    """The daemon's logger. Set up once, at the start of a process. `observe` is called for every event, whatever its level."""
    shared: list[Processor] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level]
    if observe is not None:
        shared.append(_make_observer(observe))
    shared += [_make_filter(level), _tell_exception]
    time = structlog.processors.TimeStamper(fmt="iso", utc=True)
    factory: Callable[..., Any] = structlog.PrintLoggerFactory(stream)
    if is_connected(stream, environment):
        logger = _JournalLogger(socket_path, stream)
        factory = lambda *_: logger  # noqa: E731 - it says nothing that a name would say better
        rendering: list[Processor] = [_add_place(), _to_entry]
    elif stream.isatty():
        rendering = [time, _put_sentence_first, structlog.dev.ConsoleRenderer()]
    else:
        rendering = [time, _add_sentence, _drop_place, structlog.processors.JSONRenderer(default=str)]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level if observe is None else logging.DEBUG),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    log: FilteringBoundLogger = structlog.get_logger()
    logging.basicConfig(handlers=[_Libraries(log)], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
    for name, least in _LIBRARIES:
        logging.getLogger(name).setLevel(least)
    return log


def make_quiet_log() -> FilteringBoundLogger:
    """For commands whose output is for a person: warnings and worse only. What pynetdicom warns of, the command says in its own words."""
    log = make_log(sys.stderr, logging.WARNING)
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    return log


def make_operator_log(socket_path: Path = SOCKET) -> FilteringBoundLogger:
    """For what a command does to a job: to the journal, where there is one. The person at the terminal is told by the command."""
    rendering: list[Processor] = [_tell_exception, _add_place(), _to_entry] if socket_path.exists() else [_make_filter(logging.CRITICAL)]
    log: FilteringBoundLogger = structlog.wrap_logger(
        _JournalLogger(socket_path, sys.stderr),
        processors=[structlog.processors.add_log_level, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    return log


class _Libraries(logging.Handler):
    """What libraries log, as events."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        place = (record.pathname, record.lineno, record.funcName)
        # LOGGER.exception(error) makes the words of an exception its own.
        is_told = record.name.partition(".")[0] == "pynetdicom" and not record.exc_info and not isinstance(record.msg, BaseException)
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else "something is wrong"
        said = record.getMessage() if is_told else f"{kind}, in {record.funcName}, line {record.lineno} of {record.filename}"
        # What pynetdicom says in its own words, `pacs` turns into an error of ours, with a ticket: it would be said twice as trouble.
        level = logging.INFO if is_told else record.levelno
        self._log.log(level, "library_message", library=record.name, said=said, place=place)


class _JournalLogger:
    """The end of the chain under systemd. All levels are one: the priority stands in the entry."""

    def __init__(self, path: Path, stream: TextIO) -> None:
        self._path = path
        self._stream = stream

    def msg(self, entry: bytes, text: str) -> None:
        try:
            send_entry(entry, self._path)
        except OSError:
            print(text, file=self._stream, flush=True)

    debug = info = warning = error = critical = msg


def _make_observer(observe: Observer) -> Processor:
    def tell(_: object, __: str, event: Event) -> Event:
        observe(event["event"], event)
        return event

    return tell


def _make_filter(level: int) -> Processor:
    def drop(_: object, __: str, event: Event) -> Event:
        if _LEVELS[event["level"]] < level:
            raise structlog.DropEvent
        return event

    return drop


def _tell_exception(_: object, __: str, event: Event) -> Event:
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["exception"] = tell_exception(error)
    return event


def _add_place() -> Processor:
    parameters = structlog.processors.CallsiteParameter
    return structlog.processors.CallsiteParameterAdder(
        (parameters.PATHNAME, parameters.LINENO, parameters.FUNC_NAME), additional_ignores=[__name__]
    )


def _drop_place(_: object, __: str, event: Event) -> Event:
    event.pop("place", None)
    return event


def _add_sentence(_: object, __: str, event: Event) -> Event:
    event["message"] = describe(event["event"], event)
    return event


def _put_sentence_first(_: object, __: str, event: Event) -> Event:
    sentence, name = describe(event["event"], event), event["event"]
    for key in ("place", "message", "advice", "ticket"):
        event.pop(key, None)
    event["event"], event["name"] = sentence, name
    return event


def _to_entry(_: object, __: str, event: Event) -> tuple[tuple[bytes, str], Mapping[str, Any]]:
    sentence, priority = describe(event["event"], event), _PRIORITIES[event["level"]]
    path, line, function = event.get("place") or (event["pathname"], event["lineno"], event["func_name"])
    told = "\n".join([sentence, *(event[key] for key in ("exception", "stack") if key in event)])
    fields = [
        ("MESSAGE", told),
        ("PRIORITY", str(priority)),
        ("SYSLOG_IDENTIFIER", "mkisod"),
        ("CODE_FILE", str(path)),
        ("CODE_LINE", str(line)),
        ("CODE_FUNC", str(function)),
        ("MKISOD_EVENT", str(event["event"])),
    ]
    # Lists last: of what is too much for an entry, they are to give way.
    for key, value in sorted(event.items(), key=lambda item: isinstance(item[1], list | tuple)):
        if key not in _NOT_FIELDS:
            fields += make_fields(key, value)
    return (encode_entry(fields), "\n".join(f"<{priority}>{text}" for text in told.splitlines())), {}
