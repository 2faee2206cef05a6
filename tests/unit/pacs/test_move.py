"""A C-MOVE: how long its pending responses may be left lying, and when it is over."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from mkisod.job.moves import Move
from mkisod.pacs import command as dimse
from mkisod.pacs import pdu
from mkisod.pacs.identifier import SYNTAXES
from mkisod.pacs.move import RunningMove, find_pause_s
from mkisod.pacs.pdu import ContextResult
from mkisod.pacs.peer import Peer
from mkisod.pacs.wire import Wire
from tests.processes import HOST

REQUEST = dimse.Command(field=dimse.C_MOVE_RQ, message_id=7, has_data_set=True)


@pytest.mark.parametrize(("remaining", "pause_s"), [(None, 0), (0, 0), (1, 0.0002), (100, 0.02), (250, 0.05), (65535, 0.05)])
def test_the_fewer_remain_the_shorter_is_the_pause(remaining: int | None, pause_s: float) -> None:
    assert find_pause_s(remaining) == pytest.approx(pause_s)


def test_a_response_says_how_many_remain() -> None:
    raw = dimse.encode_response(REQUEST, 0xFF00)
    assert dimse.decode_command(raw).remaining is None
    counted = dimse.decode_command(raw + b"\0\0\x20\x10\2\0\0\0\x2a\0\0\0\x21\x10\2\0\0\0\3\0")
    assert (counted.remaining, counted.completed) == (42, 3)


def test_a_move_is_over_once_its_association_is_released() -> None:
    """Not when the final response has come: an archive may have room for one association, and the next is asked for at once."""
    asked, allowed = threading.Event(), threading.Event()
    interrupt_fd = os.eventfd(0, os.EFD_CLOEXEC)
    with socket.create_server((HOST, 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                wire = Wire(connection, interrupt_fd)
                wire.limit_total(30)
                request = pdu.decode_associate_request(wire.read(wire.unpack(pdu.PDU_HEADER)[1]))
                results = [ContextResult(one.context_id, 0, one.abstract_syntax_uid, SYNTAXES[0]) for one in request.contexts]
                wire.send(
                    pdu.encode_associate_accept(
                        request, results, (), max_length_bytes=0, implementation_class_uid="1.2", implementation_version_name="X"
                    )
                )
                wire.send(pdu.encode_command(1, dimse.encode_response(REQUEST, 0), 0))
                while (header := wire.unpack(pdu.PDU_HEADER))[0] != pdu.A_RELEASE_RQ:
                    wire.skip(header[1])
                asked.set()
                assert allowed.wait(30)
                wire.send(pdu.encode_release_response())

        archive = threading.Thread(target=answer)
        archive.start()
        peer = Peer("ABPACS", HOST, server.getsockname()[1], "ABPACS")
        running = RunningMove(peer, "CDRECORD", Move("1.2"), destination="CDRECORD", message_id=7, report_change=lambda: None)
        running.start()
        try:
            assert asked.wait(30)
            assert not running.finished
        finally:
            allowed.set()
            running.end()
            archive.join()
        assert running.outcome is not None
        assert running.outcome.succeeded
