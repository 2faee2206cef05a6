"""What a destination may answer, and what it may do instead: each is told apart, none is believed, none is waited for too long."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve
from pydicom import dcmread

from mkisod.errors import Code, MkisodError, Permanent, Transient
from mkisod.job.forwarding import Outcome
from mkisod.pacs.forward import MOST_SETBACKS, Sender
from mkisod.pacs.stored import StoredInstance, read_stored
from mkisod.pacs.wire import Interrupted
from tests.forward import Answer, Connection, Stored, accepting, answer_with, contexts_of
from tests.integration.forward.conftest import Send, find
from tests.processes import HOST, free_port
from tests.receiver.client import encode_pdu, encode_pdv, read_data_set

MakeSender = Callable[..., Sender]
MakeSeries = Callable[[int], list[StoredInstance]]
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
CT_UID = "1.2.840.10008.5.1.4.1.1.2"


@pytest.mark.parametrize("max_length_bytes", [0, 8, 100, 4096, 16384, 65536, 131072, 1 << 24])
def test_a_data_set_arrives_byte_for_byte_whatever_the_limit_of_a_pdu(send: Send, max_length_bytes: int) -> None:
    files = [find("CT_small.dcm"), find("test-SR.dcm"), find("examples_ybr_color.dcm"), find("liver_expb_1frame.dcm")]
    if max_length_bytes < 1000:
        files = files[:2]
    with accepting(max_length_bytes=max_length_bytes) as acceptor:
        sent = send(files, acceptor.port)
    assert {one.outcome for one in sent} == {Outcome.SENT}
    assert sorted(one.data_set for one in acceptor.stored) == sorted(map(read_data_set, files))
    if max_length_bytes:
        assert max(one.largest_pdu_bytes for one in acceptor.stored) <= max_length_bytes
    assert acceptor.releases == 1
    assert not acceptor.aborts


def test_what_is_proposed(send: Send) -> None:
    """PS3.5 section 10.1: beside what is held, both plain ones; each in a context of its own, so that each is answered."""
    with accepting() as acceptor:
        send([find("CT_small.dcm"), find("JPEG2000.dcm")], acceptor.port)
    lossy = str(dcmread(find("JPEG2000.dcm")).file_meta.TransferSyntaxUID)
    nm = "1.2.840.10008.5.1.4.1.1.7"
    assert set(contexts_of(acceptor)) == {(CT_UID, EXPLICIT), (CT_UID, IMPLICIT), (nm, lossy), (nm, EXPLICIT), (nm, IMPLICIT)}


def test_more_than_128_contexts_go_by_several_associations(make_sender: MakeSender, series: MakeSeries) -> None:
    instances = [evolve(one, sop_class_uid=f"1.2.3.{number // 2}") for number, one in enumerate(series(150))]
    with accepting() as acceptor:
        sent = list(make_sender(acceptor.port).send(instances))
    assert [one.outcome for one in sent] == [Outcome.SENT] * 150
    assert [len(proposed) for proposed in acceptor.associations] == [128, 22]
    assert acceptor.releases == 2


def test_one_class_in_more_syntaxes_than_an_association_holds(make_sender: MakeSender, series: MakeSeries) -> None:
    instances = [evolve(one, transfer_syntax_uid=f"1.2.3.{number}") for number, one in enumerate(series(140))]
    with accepting() as acceptor:
        sent = list(make_sender(acceptor.port).send(instances))
    assert [one.outcome for one in sent] == [Outcome.SENT] * 140
    assert all(len(proposed) <= 128 for proposed in acceptor.associations)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, Outcome.SENT),
        (0xB000, Outcome.SENT),
        (0xB006, Outcome.SENT),
        (0xB007, Outcome.SENT),
        (0xA700, Outcome.SETBACK),
        (0xA701, Outcome.SETBACK),
        (0x0110, Outcome.SETBACK),
        (0xA900, Outcome.FAILED),
        (0xC000, Outcome.FAILED),
        (0xC123, Outcome.FAILED),
        (0x0122, Outcome.FAILED),
        (0x0124, Outcome.FAILED),
        (0x0117, Outcome.FAILED),
        (0xFF00, Outcome.FAILED),
    ],
)
def test_a_dimse_status(make_sender: MakeSender, series: MakeSeries, status: int, outcome: Outcome) -> None:
    with accepting(answer_with(0, status, 0)) as acceptor:
        sent = list(make_sender(acceptor.port).send(series(3)))
    assert [one.outcome for one in sent] == [Outcome.SENT, outcome, Outcome.SENT]
    assert sent[1].dimse_status == status
    assert (f"{status:04X}H" in sent[1].reason) == (outcome is not Outcome.SENT)


def test_a_destination_without_room_is_left_alone_soon(make_sender: MakeSender, series: MakeSeries) -> None:
    with accepting(answer_with(0xA700)) as acceptor, pytest.raises(Transient, match="A700H"):
        list(make_sender(acceptor.port).send(series(10)))
    assert len(acceptor.stored) == MOST_SETBACKS


def test_a_class_that_is_not_taken(send: Send) -> None:
    with accepting(accept=lambda abstract, _: abstract == CT_UID) as acceptor:
        sent = send([find("CT_small.dcm"), find("MR_small.dcm")], acceptor.port)
    assert [(one.outcome, one.dimse_status) for one in sent] == [(Outcome.SENT, 0), (Outcome.FAILED, None)]
    assert "does not take the SOP class 1.2.840.10008.5.1.4.1.1.4" in sent[1].reason


def test_nothing_that_was_not_proposed_is_accepted(make_sender: MakeSender, series: MakeSeries) -> None:
    """An acceptance of another transfer syntax, which has as many characters."""

    def forge(encoded: bytes) -> bytes:
        return encoded.replace(b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.5")

    with accepting(accept=lambda _abstract, syntax: syntax == EXPLICIT, forge=forge) as acceptor:
        sent = list(make_sender(acceptor.port).send(series(1)))
    assert [one.outcome for one in sent] == [Outcome.FAILED]
    assert not acceptor.stored


def test_a_context_that_nobody_proposed_is_not_used(make_sender: MakeSender, series: MakeSeries) -> None:
    def forge(encoded: bytes) -> bytes:
        return encoded.replace(b"\x21\0\0\x1b\x01\0\0\0", b"\x21\0\0\x1b\x63\0\0\0")

    with accepting(accept=lambda _abstract, syntax: syntax == EXPLICIT, forge=forge) as acceptor:
        sent = list(make_sender(acceptor.port).send(series(1)))
    assert [one.outcome for one in sent] == [Outcome.FAILED]
    assert not acceptor.stored


def abort(connection: Connection, _: Stored) -> None:
    connection.socket.sendall(encode_pdu(7, bytes((0, 0, 2, 0))))


def release(connection: Connection, _: Stored) -> None:
    connection.socket.sendall(encode_pdu(5, bytes(4)))


def close(connection: Connection, _: Stored) -> None:
    connection.close()


def answer_another(connection: Connection, stored: Stored) -> None:
    connection.respond(stored, 0, message_id=stored.message_id + 7)


def answer_in_no_context(connection: Connection, stored: Stored) -> None:
    connection.send_pdv(stored.context_id + 200 & 0xFF, 3, b"")


def send_garbage(connection: Connection, _: Stored) -> None:
    connection.socket.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def send_an_endless_pdu(connection: Connection, _: Stored) -> None:
    connection.socket.sendall(encode_pdu(4, b"", length=0xFFFFFFF0))


def send_a_short_pdv(connection: Connection, stored: Stored) -> None:
    connection.socket.sendall(encode_pdu(4, encode_pdv(stored.context_id, 3, b"", length=1)))


def send_a_long_pdv(connection: Connection, stored: Stored) -> None:
    connection.socket.sendall(encode_pdu(4, encode_pdv(stored.context_id, 3, b"", length=1 << 30)))


def send_an_endless_command(connection: Connection, stored: Stored) -> None:
    for _ in range(40):
        connection.send_pdv(stored.context_id, 1, bytes(1000))


def send_a_broken_command(connection: Connection, stored: Stored) -> None:
    connection.send_pdv(stored.context_id, 3, b"\0\0\0\1\xff\xff\xff\xff")


def send_an_empty_command(connection: Connection, stored: Stored) -> None:
    connection.send_pdv(stored.context_id, 3, b"")


def send_data_first(connection: Connection, stored: Stored) -> None:
    connection.send_pdv(stored.context_id, 2, b"data")


def associate_again(connection: Connection, _: Stored) -> None:
    connection.socket.sendall(encode_pdu(1, bytes(68)))


VIOLATIONS: list[Answer] = [
    answer_another,
    answer_in_no_context,
    send_garbage,
    send_an_endless_pdu,
    send_a_short_pdv,
    send_a_long_pdv,
    send_an_endless_command,
    send_a_broken_command,
    send_an_empty_command,
    send_data_first,
    associate_again,
]


def misbehave_once(fault: Answer) -> Answer:
    """At the second instance."""
    done = threading.Event()

    def answer(connection: Connection, stored: Stored) -> None:
        if stored.sop_instance_uid == "2.25.2" and not done.is_set():
            done.set()
            fault(connection, stored)
        else:
            connection.respond(stored, 0)

    return answer


@pytest.mark.parametrize("fault", [abort, release, close, *VIOLATIONS], ids=lambda fault: fault.__name__)
def test_an_association_that_breaks_costs_one_instance(make_sender: MakeSender, series: MakeSeries, fault: Answer) -> None:
    with accepting(misbehave_once(fault)) as acceptor:
        sent = list(make_sender(acceptor.port).send(series(4)))
        assert [one.outcome for one in sent] == [Outcome.SENT, Outcome.SETBACK, Outcome.SENT, Outcome.SENT]
        assert "DESTINATION (STORESCP@" in sent[1].reason
        assert ("against the rules of DICOM" in sent[1].reason) == (fault in VIOLATIONS)
        assert len(acceptor.associations) == 2
    assert len(acceptor.aborts) <= 1
    assert (len(acceptor.aborts) == 1) == (fault in VIOLATIONS), "who breaks the rules is told by an A-ABORT"


def test_a_destination_that_always_breaks_is_left_alone(make_sender: MakeSender, series: MakeSeries) -> None:
    with accepting(close) as acceptor, pytest.raises(Transient, match="ended the connection"):
        list(make_sender(acceptor.port).send(series(10)))
    assert len(acceptor.associations) == MOST_SETBACKS


def test_a_destination_that_does_not_answer(make_sender: MakeSender, series: MakeSeries) -> None:
    with accepting(lambda _connection, _stored: None) as acceptor, pytest.raises(Transient, match="did not answer a C-STORE in time"):
        list(make_sender(acceptor.port, response_timeout_s=0.1).send(series(10)))
    assert len(acceptor.stored) == len(acceptor.aborts) == MOST_SETBACKS


def test_an_interruption_while_the_destination_takes_no_bytes(make_sender: MakeSender, tmp_path: Path) -> None:
    """It has accepted, and reads no more."""
    accepted, over = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def serve(connection: Connection) -> None:
        connection.associate()
        accepted.set()
        over.wait(20)

    def run() -> None:
        try:
            list(sender.send([huge]))
        except Interrupted as error:
            errors.append(error)

    huge = make_large(tmp_path / "huge.dcm", 64 << 20)
    with accepting(serve=serve) as acceptor:
        sender = make_sender(acceptor.port)
        thread = threading.Thread(target=run)
        thread.start()
        assert accepted.wait(20)
        sender.interrupt()
        thread.join(20)
        over.set()
        assert not thread.is_alive()
    assert len(errors) == 1


def make_large(path: Path, size_bytes: int) -> StoredInstance:
    """A CT whose pixel data are so many zeros, on no disk."""
    head = find("CT_small.dcm").read_bytes()
    path.write_bytes(head)
    with path.open("ab") as file:
        file.truncate(len(head) + size_bytes)
    return read_stored(path)


def test_memory_stays_flat_however_large_an_object(make_sender: MakeSender, tmp_path: Path) -> None:
    counted: list[int] = []

    def serve(connection: Connection) -> None:
        connection.associate()
        buffer = bytearray(1 << 20)
        while count := connection.socket.recv_into(buffer):
            counted.append(count)

    large = make_large(tmp_path / "large.dcm", 256 << 20)
    with accepting(serve=serve) as acceptor:
        sending = make_sender(acceptor.port, response_timeout_s=0.2).send([large])
        tracemalloc.start()
        sent = next(sending)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        sending.close()  # type: ignore[attr-defined]
    assert sent.outcome is Outcome.SETBACK, "nobody has answered"
    assert sum(counted) > large.size_bytes
    assert peak_bytes < 4 << 20


def test_nobody_is_there(make_sender: MakeSender, series: MakeSeries) -> None:
    with pytest.raises(Transient, match="cannot be reached: Connection refused") as raised:
        list(make_sender(free_port()).send(series(1)))
    assert raised.value.code is Code.PACS_UNREACHABLE


def test_no_host_of_that_name(series: MakeSeries, make_sender: MakeSender) -> None:
    sender = make_sender(104)
    sender._peer = evolve(sender._peer, host="no-such-host.invalid")
    with pytest.raises(Transient, match="cannot be reached"):
        list(sender.send(series(1)))


def test_a_file_that_shrinks_ends_its_association_and_no_more(make_sender: MakeSender, series: MakeSeries) -> None:
    instances = series(3)
    instances[1] = evolve(instances[1], size_bytes=instances[1].size_bytes + 1000)
    with accepting() as acceptor:
        sent = list(make_sender(acceptor.port).send(instances))
    assert [one.outcome for one in sent] == [Outcome.SENT, Outcome.FAILED, Outcome.SENT]
    assert acceptor.aborts == [(0, 0)]


def test_a_file_that_has_gone(make_sender: MakeSender, series: MakeSeries) -> None:
    instances = series(2)
    instances[0].path.unlink()
    with accepting() as acceptor:
        sent = list(make_sender(acceptor.port).send(instances))
    assert [one.outcome for one in sent] == [Outcome.FAILED, Outcome.SENT]
    assert not acceptor.aborts


def test_an_interruption_while_an_answer_is_awaited(make_sender: MakeSender, series: MakeSeries) -> None:
    with accepting(lambda _connection, _stored: sender.interrupt()) as acceptor:
        sender = make_sender(acceptor.port)
        with pytest.raises(Interrupted):
            list(sender.send(series(2)))
    assert len(acceptor.stored) == len(acceptor.aborts) == 1


def test_who_stops_asking_ends_the_association(make_sender: MakeSender, series: MakeSeries) -> None:
    with accepting() as acceptor:
        sending = make_sender(acceptor.port).send(series(2))
        next(sending)
        sending.close()  # type: ignore[attr-defined]
    assert acceptor.aborts == [(0, 0)]


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        (encode_pdu(3, bytes((0, 1, 1, 7))), Permanent, "called AE title not recognized"),
        (encode_pdu(3, bytes((0, 2, 3, 2))), Transient, "local limit exceeded"),
        (encode_pdu(3, bytes(2)), Transient, "against the rules"),
        (encode_pdu(7, bytes(4)), Transient, "it aborted"),
        (encode_pdu(2, bytes(10)), Transient, "cut short"),
        (encode_pdu(2, bytes(68) + b"\x21\0\xff\xff"), Transient, "longer than what holds it"),
        (encode_pdu(2, b"", length=1 << 30), Transient, "against the rules"),
        (encode_pdu(4, bytes(100)), Transient, "against the rules"),
        (b"", Transient, "ended the connection"),
    ],
)
def test_an_answer_to_the_request_that_is_none(
    make_sender: MakeSender, series: MakeSeries, answer: bytes, error: type[MkisodError], match: str
) -> None:
    def serve(connection: Connection) -> None:
        connection.pdu()
        connection.socket.sendall(answer)
        while answer and connection.socket.recv(1000):
            pass

    with accepting(serve=serve) as acceptor, pytest.raises(error, match=match):
        list(make_sender(acceptor.port).send(series(1)))


def test_the_host_is_named_in_what_is_said(make_sender: MakeSender, series: MakeSeries) -> None:
    port = free_port()
    with pytest.raises(Transient, match=rf"DESTINATION \(STORESCP@{HOST}:{port}\)"):
        list(make_sender(port).send(series(1)))
