"""The journal: what goes where, and what never goes anywhere."""

from __future__ import annotations

import array
import io
import json
import logging
import os
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from mkisod.errors import Code, Permanent
from mkisod.system.events import describe
from mkisod.system.journal import make_log, make_operator_log
from mkisod.system.journald import MOST_FIELDS, encode_entry, is_connected, make_fields, send_entry
from mkisod.system.last_words import catch_last_words, tell_exception, write_last_words

NAME = "Doe^Jane"


def decode_entry(data: bytes) -> list[tuple[str, str]]:
    """The fields of an entry, read by the rules of systemd's description, apart from the code under test."""
    fields = []
    while data:
        head, _, rest = data.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            length = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        fields.append((name.decode("ascii"), value.decode()))
        data = rest
    return fields


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    """What make_log sets up for a process goes again."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class Listener:
    """A journal that keeps what it is sent."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "socket"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(os.fspath(self.path))
        self._socket.settimeout(10)

    def read(self) -> list[tuple[str, str]]:
        data, ancillary, _, _ = self._socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        for level, kind, value in ancillary:
            assert (level, kind, data) == (socket.SOL_SOCKET, socket.SCM_RIGHTS, b"")
            (fd,) = array.array("i", value)
            with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor
                return decode_entry(os.pread(file.fileno(), 1 << 30, 0))
        return decode_entry(data)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(tmp_path)
    yield listener
    listener.close()


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[TextIO]:
    with (tmp_path / "stderr").open("w+", encoding="utf-8") as stream:
        yield stream


def environment_of(stream: TextIO) -> dict[str, str]:
    status = os.fstat(stream.fileno())
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


# --- The protocol ------------------------------------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[A-Z0-9][A-Z0-9_]{0,63}", fullmatch=True)


@given(st.lists(st.tuples(NAMES, st.text()), max_size=20))
def test_what_is_encoded_is_what_was_said(fields: list[tuple[str, str]]) -> None:
    printable = [(name, value.encode(errors="backslashreplace").decode()) for name, value in fields]
    assert decode_entry(encode_entry(fields)) == printable


@pytest.mark.parametrize("name", ["", "_HOSTNAME", "lower", "A=B", "A\nB", "X" * 65])
def test_no_field_has_a_name_that_the_journal_does_not_take(name: str) -> None:
    with pytest.raises(ValueError, match="journal"):
        encode_entry([(name, "x")])


@pytest.mark.parametrize("key", ["ticket", "UPPER", "with-dash", "ünïcode", "x" * 100, "a=b\nPRIORITY"])
def test_every_key_makes_a_name_that_the_journal_takes(key: str) -> None:
    ((name, value),) = decode_entry(encode_entry(make_fields(key, "x")))
    assert name.startswith("MKISOD_")
    assert value == "x"


def test_a_list_is_a_field_for_each_of_its_things() -> None:
    assert make_fields("accessions", ("A", "B")) == [("MKISOD_ACCESSION", "A"), ("MKISOD_ACCESSION", "B")]
    assert make_fields("audit", value=True) == [("MKISOD_AUDIT", "1")]
    assert make_fields("retry_at", None) == []


def test_an_entry_never_has_more_fields_than_the_journal_takes_and_loses_none() -> None:
    accessions = make_fields("accessions", [f"A{number}" for number in range(1000)])
    studies = make_fields("study_instance_uids", [f"1.2.{number}" for number in range(2000)])
    fields = decode_entry(encode_entry([("MESSAGE", "x"), *accessions, *studies]))
    assert len(fields) <= MOST_FIELDS
    values = [line for _, value in fields for line in value.split("\n")]
    assert sorted(values) == sorted(["x", *(value for _, value in (*accessions, *studies))])


@pytest.mark.parametrize("size", [10, 200_000, 20_000_000], ids=["small", "large", "huge"])
def test_an_entry_of_any_size_arrives(listener: Listener, size: int) -> None:
    """What fits into no datagram comes as a sealed file."""
    send_entry(encode_entry([("MESSAGE", "ä" * size)]), listener.path)
    assert listener.read() == [("MESSAGE", "ä" * size)]


# --- Where it goes -----------------------------------------------------------------------------------------------------------------


def test_a_stream_is_the_journals_by_device_and_inode_alone(stream: TextIO) -> None:
    right = environment_of(stream)["JOURNAL_STREAM"]
    assert is_connected(stream, {"JOURNAL_STREAM": right})
    for wrong in ("", "1", ":", "x:y", "1:2:3", right + "0", f"-{right}"):
        assert not is_connected(stream, {"JOURNAL_STREAM": wrong}), wrong
    assert not is_connected(stream, {})
    assert not is_connected(io.StringIO(), {"JOURNAL_STREAM": right})


def test_the_journal_gets_fields_and_the_stream_nothing(listener: Listener, stream: TextIO) -> None:
    log = make_log(stream, environment=environment_of(stream), socket_path=listener.path)
    bound = log.bind(ticket="web-4711", job="20261122T081500Z-k3f9ab")
    bound.warning("job_deferred", attempt=2, retry_at="soon", error=Code.PACS_UNREACHABLE, message="No answer.", advice="Look.\nTwice.")
    fields = dict(listener.read())
    assert fields["MESSAGE"].startswith("web-4711: Attempt 2 failed, the next one begins at soon. No answer. Look.")
    assert fields["MESSAGE"].endswith("[pacs_unreachable]")
    expected = {
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "mkisod",
        "MKISOD_EVENT": "job_deferred",
        "MKISOD_TICKET": "web-4711",
        "MKISOD_JOB": "20261122T081500Z-k3f9ab",
        "MKISOD_ERROR": "pacs_unreachable",
        "MKISOD_ATTEMPT": "2",
        "CODE_FUNC": "test_the_journal_gets_fields_and_the_stream_nothing",
        "CODE_FILE": __file__,
    }
    assert expected.items() <= fields.items()
    assert "MKISOD_MESSAGE" not in fields
    stream.seek(0)
    assert stream.read() == ""


def test_what_is_no_list_is_never_crowded_out(listener: Listener, stream: TextIO) -> None:
    log = make_log(stream, environment=environment_of(stream), socket_path=listener.path)
    accessions = [f"A{number}" for number in range(1000)]
    log.info("job_retrieved", accessions=accessions, study_instance_uids=["1.2"] * 2000, instances=5, audit=True)
    fields = dict(listener.read())
    assert (fields["MKISOD_INSTANCES"], fields["MKISOD_AUDIT"], fields["MKISOD_EVENT"]) == ("5", "1", "job_retrieved")
    assert "A999" in fields["MKISOD_ACCESSION_MORE"].split("\n")


@pytest.mark.parametrize(("method", "priority"), [("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")])
def test_priorities_are_those_of_syslog(listener: Listener, stream: TextIO, method: str, priority: str) -> None:
    log = make_log(stream, environment=environment_of(stream), socket_path=listener.path)
    getattr(log, method)("daemon_stopped")
    assert dict(listener.read())["PRIORITY"] == priority


def test_a_journal_that_is_gone_leaves_the_text_on_the_stream(tmp_path: Path, stream: TextIO) -> None:
    log = make_log(stream, environment=environment_of(stream), socket_path=tmp_path / "nowhere")
    log.warning("tls_handshake_failed", peer="192.0.2.1", why="first\nsecond")
    stream.seek(0)
    assert stream.read() == "<4>No TLS with 192.0.2.1: first second.\n"


def test_a_journal_that_was_started_anew_is_found(tmp_path: Path, stream: TextIO) -> None:
    first = Listener(tmp_path)
    log = make_log(stream, environment=environment_of(stream), socket_path=first.path)
    log.info("daemon_stopped")
    first.read()
    first.close()
    first.path.unlink()
    second = Listener(tmp_path)
    log.info("daemon_stopped")
    assert dict(second.read())["MKISOD_EVENT"] == "daemon_stopped"
    second.close()


def test_elsewhere_it_is_one_json_object_a_line(stream: TextIO) -> None:
    log = make_log(stream, environment={})
    log.info("job_claimed", ticket="t", accessions=("A\n1", "B"), owner_uid=33)
    stream.seek(0)
    (event,) = map(json.loads, stream.read().splitlines())
    assert event["message"] == "t: Request taken over from uid 33: A 1, B."
    assert (event["event"], event["level"], event["accessions"]) == ("job_claimed", "info", ["A\n1", "B"])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_the_sentence() -> None:
    terminal = Terminal()
    make_log(terminal, environment={}).info("daemon_stopping", reason="SIGTERM")
    (line,) = terminal.getvalue().splitlines()
    assert "The daemon stops: SIGTERM." in line


def test_an_observer_is_told_of_every_event_and_only_those_that_count_are_written(stream: TextIO) -> None:
    seen: list[tuple[str, Mapping[str, Any]]] = []
    log = make_log(stream, observe=lambda name, fields: seen.append((name, dict(fields))), environment={})
    log.debug("association_accepted", association=1)
    log.info("daemon_stopped")
    assert [name for name, _ in seen] == ["association_accepted", "daemon_stopped"]
    stream.seek(0)
    assert "association_accepted" not in stream.read()


def test_what_an_operator_does_goes_to_the_journal_and_nowhere_else(
    listener: Listener, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_operator_log(listener.path).info("job_released", ticket="t", attempt=2, by="operator")
    fields = dict(listener.read())
    assert fields["MESSAGE"] == "t: Released: it is queued again for attempt 2."
    assert fields["MKISOD_BY"] == "operator"
    make_operator_log(tmp_path / "nowhere").info("job_released", ticket="t")
    assert capsys.readouterr() == ("", "")


# --- What is never said ------------------------------------------------------------------------------------------------------------


def fail_with(error: BaseException) -> BaseException:
    try:
        try:
            raise ValueError(f"cannot decode {NAME}")
        except ValueError as cause:
            raise error from cause
    except BaseException as raised:  # noqa: BLE001 - given back
        return raised


QUOTING = [
    ValueError(NAME),
    KeyError(NAME),
    UnicodeDecodeError("ascii", NAME.encode(), 0, 1, NAME),
    ExceptionGroup(NAME, [ValueError(NAME)]),
]


@pytest.mark.parametrize("error", QUOTING, ids=lambda error: type(error).__name__)
def test_a_traceback_names_places_and_no_patient(error: BaseException) -> None:
    told = tell_exception(fail_with(error))
    assert NAME not in told
    assert "fail_with" in told
    assert type(error).__name__ in told
    assert "ValueError" in told, "of the cause too"


def test_what_our_own_errors_and_the_system_say_is_told() -> None:
    assert "No space left" in tell_exception(fail_with(OSError(28, "No space left", "/spool")))
    assert "[timeout]" in tell_exception(fail_with(Permanent(Code.TIMEOUT, "It took too long.")))


def test_a_ring_of_causes_has_an_end() -> None:
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    assert tell_exception(one).count("withheld") == 2


def test_neither_libraries_nor_warnings_nor_exceptions_bring_a_name_in(stream: TextIO) -> None:
    log = make_log(stream, environment={})
    try:
        raise KeyError(NAME)
    except KeyError as error:
        log.exception("job_hit_defect")
        for name in ("pydicom", "pynetdicom.association", "watchdog", "prometheus_client"):
            logging.getLogger(name).exception(error)  # noqa: TRY401 - as libraries do it
            logging.getLogger(name).exception("it said")
    logging.getLogger("pydicom").error("value %s", NAME)
    logging.getLogger("watchdog").warning(NAME)
    logging.getLogger("pynetdicom").info(NAME)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(NAME, stacklevel=1)
    stream.seek(0)
    lines = stream.read().splitlines()
    assert len(lines) == 11
    assert not [line for line in lines if NAME in line]
    assert all(json.loads(line) for line in lines)


def test_pynetdicoms_own_words_are_told(stream: TextIO) -> None:
    make_log(stream, environment={})
    logging.getLogger("pynetdicom.acse").error("Association %s", "Rejected")
    stream.seek(0)
    event = json.loads(stream.read())
    assert (event["event"], event["library"], event["said"]) == ("library_message", "pynetdicom.acse", "Association Rejected")
    assert event["level"] == "info", "the failure is said by an error of ours"


@given(st.text())
def test_no_text_writes_into_a_terminal_through_a_sentence(text: str) -> None:
    said = describe("association_rejected", {"calling_ae_title": text, "peer": text, "why": text, "ticket": text})
    assert said.isprintable()
    assert len(said) < 10_000


# --- Last words --------------------------------------------------------------------------------------------------------------------


def test_last_words_are_plain_where_nobody_wants_a_priority(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    write_last_words("mkisod: one\ntwo")
    assert capsys.readouterr().err == "mkisod: one\ntwo\n"


def test_last_words_have_their_priority_under_systemd(stream: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", environment_of(stream)["JOURNAL_STREAM"])
    monkeypatch.setattr(sys, "stderr", stream)
    write_last_words("mkisod: one\ntwo")
    stream.seek(0)
    assert stream.read() == "<2>mkisod: one\n<2>two\n"


def test_what_ends_a_thread_or_the_process_is_told_without_a_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    catch_last_words()

    def fail() -> None:
        raise ValueError(NAME)

    thread = threading.Thread(target=fail, name="poor-thing")
    thread.start()
    thread.join()
    sys.excepthook(ValueError, fail_with(ValueError(NAME)), None)
    said = capsys.readouterr().err
    assert "poor-thing" in said
    assert said.count("withheld") == 3, "one has a cause"
    assert NAME not in said
