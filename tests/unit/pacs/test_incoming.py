"""A wait for a response that is interrupted: between two messages nothing is lost, and within one it is known that something is."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from mkisod.pacs import command as dimse
from mkisod.pacs.command import Command
from mkisod.pacs.incoming import IncomingMessages
from mkisod.pacs.pdu import PDU_HEADER, PDV_HEADER, encode_command
from mkisod.pacs.wire import Interrupted, Wire
from tests.processes import wait_for

REQUEST = Command(field=dimse.C_MOVE_RQ, message_id=7, has_data_set=True)
RESPONSE = encode_command(1, dimse.encode_response(REQUEST, 0xFE00), 0)


class Line:
    """Our end of a connection, and the other one."""

    def __init__(self, ours: socket.socket, theirs: socket.socket, interrupt_fd: int) -> None:
        self.theirs = theirs
        self.interrupt_fd = interrupt_fd
        self.wire = Wire(ours, interrupt_fd)
        self.wire.limit_total(30)
        self.messages = IncomingMessages(self.wire, {1})

    def interrupt(self) -> None:
        self.wire.interrupt()
        os.eventfd_write(self.interrupt_fd, 1)


@pytest.fixture
def line() -> Iterator[Line]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as theirs:
        ours, _ = server.accept()
        interrupt_fd = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            with ours:
                yield Line(ours, theirs, interrupt_fd)
        finally:
            os.close(interrupt_fd)


@pytest.mark.parametrize("come", range(PDU_HEADER.size + PDV_HEADER.size))
def test_what_has_come_of_the_next_message_is_not_lost(line: Line, come: int) -> None:
    line.theirs.sendall(RESPONSE + RESPONSE[:come])
    assert line.messages.receive()[0].dimse_status == 0xFE00
    line.interrupt()
    with pytest.raises(Interrupted):
        line.messages.receive()
    assert not line.messages.in_message
    line.wire.part(30)
    line.theirs.sendall(RESPONSE[come:])
    assert line.messages.receive()[0].message_id == REQUEST.message_id


def test_an_interruption_within_a_message_is_known(line: Line) -> None:
    line.theirs.sendall(RESPONSE[: PDU_HEADER.size + PDV_HEADER.size + 1])

    def interrupt() -> None:
        wait_for(lambda: line.messages.in_message, 30, "the beginning of a message")
        line.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted):
        line.messages.receive()
    thread.join()
    assert line.messages.in_message


def test_what_comes_meanwhile_is_read_at_once(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there wakes nobody before the time is over; what was read is not kept waiting, and of many nothing is lost."""
    fills: list[Wire] = []
    fill = Wire._fill

    def count(wire: Wire) -> None:
        fills.append(wire)
        fill(wire)

    monkeypatch.setattr(Wire, "_fill", count)
    line.theirs.sendall(RESPONSE * 100)
    line.wire.gather(0.01)
    for number in range(100):
        if number:
            line.interrupt()  # whoever slept would notice
            line.wire.gather(3600)
        assert line.messages.receive()[0].dimse_status == 0xFE00
    assert len(fills) <= 3


def test_an_interruption_ends_the_gathering(line: Line) -> None:
    line.interrupt()
    with pytest.raises(Interrupted):
        line.wire.gather(3600)
    assert not line.messages.in_message


def test_under_tls_nothing_is_waited_for(line: Line) -> None:
    """A read gives one record there, so each response would be waited for anew."""
    ours = ssl.create_default_context().wrap_socket(line.theirs, server_hostname="archive", do_handshake_on_connect=False)
    with ours:
        wire = Wire(ours, line.interrupt_fd)
        wire.interrupt()
        os.eventfd_write(line.interrupt_fd, 1)
        wire.gather(3600)
