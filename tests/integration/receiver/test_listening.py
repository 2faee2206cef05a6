"""The port: bound, handed in, taken, and given up."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mkisod.errors import Code, Permanent
from mkisod.pacs.receiver import Receiver, ReceiverSettings, TlsSettings
from tests.integration.receiver.conftest import Instance
from tests.processes import wait_for
from tests.receiver.client import Client, encode_echo_rq, encode_message, encode_pdu, encode_pdv, encode_store_rq
from tests.receiver.directory import DirectoryReception
from tests.receiver.journal import Journal


def make(reception: DirectoryReception, journal: Journal, **settings: object) -> Receiver:
    return Receiver(ReceiverSettings(**settings), reception, log=journal.log)  # type: ignore[arg-type]


@pytest.mark.parametrize("taken_on", ["127.0.0.1", ""])
@pytest.mark.parametrize("host", ["", "127.0.0.1"], ids=["all", "one"])
def test_a_port_in_use_is_one_sentence(reception: DirectoryReception, journal: Journal, taken_on: str, host: str) -> None:
    with socket.create_server((taken_on, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Permanent) as raised:
            make(reception, journal, host=host, port=port).bind()
    assert raised.value.code is Code.PORT_UNAVAILABLE
    assert raised.value.message == f"Port {port} is already in use."


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_one_sentence(reception: DirectoryReception, journal: Journal, host: str) -> None:
    with pytest.raises(Permanent) as raised:
        make(reception, journal, host=host, port=0).bind()
    assert raised.value.code is Code.PORT_UNAVAILABLE
    assert raised.value.message.startswith(f"The receiver cannot listen on {host}:0: ")


def test_certificates_that_cannot_be_read_are_one_sentence(reception: DirectoryReception, journal: Journal, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    with pytest.raises(Permanent) as raised:
        make(reception, journal, port=0, tls=TlsSettings(missing, missing)).bind()
    assert raised.value.code is Code.CONFIGURATION_INVALID


@pytest.mark.parametrize("blocking", [True, False])
def test_a_socket_that_was_handed_in_stays_open_for_its_owner(run_receiver: Callable[..., Receiver], blocking: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(blocking)
        for _ in range(2):  # and can be handed in again
            receiver = run_receiver(listener=socket.socket(fileno=os.dup(listener.fileno())))
            assert receiver.address == listener.getsockname()
            with Client(receiver.address) as client:
                client.associate()
                client.release()
            receiver.stop(1)
            assert receiver._listener is not None
            assert receiver._listener.fileno() >= 0
            receiver._listener.close()
        assert os.get_blocking(listener.fileno()) is blocking
        late = socket.create_connection(listener.getsockname())  # it still listens
        listener.settimeout(10)
        listener.accept()[0].close()
        late.close()


def test_after_the_end_the_port_is_free(run_receiver: Callable[..., Receiver]) -> None:
    receiver = run_receiver()
    port = receiver.address[1]
    receiver.stop(0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    socket.create_server(("127.0.0.1", port)).close()


# --- Stop ---


def test_stop_lets_a_running_association_finish(run_receiver: Callable[..., Receiver], ct: Instance, reception: DirectoryReception) -> None:
    receiver = run_receiver()
    with Client(receiver.address) as client, Client(receiver.address) as silent:
        client.associate()
        client.send(encode_message(1, encode_store_rq(ct.sop_class_uid, ct.sop_instance_uid)))
        client.send(encode_pdu(4, encode_pdv(1, 0, ct.data_set[:30000])))
        wait_for(lambda: reception.files, 10, "the instance to begin")
        stopping = threading.Thread(target=receiver.stop, args=(30,))
        stopping.start()
        assert silent.pdu() is None  # who has no association yet gets none
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(receiver_address_of(client))
        client.send(encode_pdu(4, encode_pdv(1, 2, ct.data_set[30000:])))
        assert client.response().Status == 0
        client.release()
        client.socket.close()
        stopping.join(10)
        assert not stopping.is_alive()
    assert [path.suffix for path in reception.files] == [".dcm"]


def receiver_address_of(client: Client) -> tuple[str, int]:
    host, port = client.socket.getpeername()
    return host, port


def test_stop_aborts_what_goes_on_after_the_grace(
    run_receiver: Callable[..., Receiver], ct: Instance, reception: DirectoryReception
) -> None:
    receiver = run_receiver()
    with Client(receiver.address) as idle, Client(receiver.address) as storing, Client(receiver.address) as released:
        for client in (idle, storing, released):
            client.associate()
        released.release()  # and does not close its connection
        storing.send(encode_message(1, encode_store_rq(ct.sop_class_uid, ct.sop_instance_uid)))
        storing.send(encode_pdu(4, encode_pdv(1, 0, ct.data_set[:30000])))
        wait_for(lambda: reception.files, 10, "the instance to begin")
        receiver.stop(0.1)
        assert idle.abort() == (0, 0)
        assert storing.abort() == (0, 0)
        assert released.pdu() is None
    assert not reception.files
    assert receiver.associations == 0


def test_stop_aborts_one_that_never_stops_sending(run_receiver: Callable[..., Receiver], journal: Journal) -> None:
    receiver = run_receiver()
    with Client(receiver.address) as client:
        client.associate()
        echoes = encode_message(3, encode_echo_rq()) * 100

        def send_for_ever() -> None:
            try:
                while True:
                    client.send(echoes)
                    client.socket.recv(1 << 20)
            except OSError:
                return

        sending = threading.Thread(target=send_for_ever)
        sending.start()
        began = time.monotonic()
        receiver.stop(0.1)
        assert time.monotonic() - began < 10  # it would be 600 s for the idle time-out
        sending.join(10)
        assert not sending.is_alive()
    assert [event["why"] for event in journal.named("association_aborted")] == ["stopping"]


def test_a_receiver_that_was_only_bound_can_be_stopped(reception: DirectoryReception, journal: Journal) -> None:
    receiver = make(reception, journal, port=0, host="127.0.0.1")
    receiver.bind()
    receiver.stop(0)


def test_the_death_of_the_accepting_thread_is_told(run_receiver: Callable[..., Receiver], journal: Journal) -> None:
    with socket.socket() as never_listened:
        never_listened.bind(("127.0.0.1", 0))
        receiver = run_receiver(listener=never_listened)
        assert receiver.failed.wait(10)
        receiver.stop(0)
    assert journal.named("receiver_failed")
