"""What real programs send in an association, byte for byte: they talk to a receiver through a relay that keeps it."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from mkisod.pacs.receiver import Receiver, ReceiverSettings
from tests.peers import require
from tests.receiver.client import CT_IMAGE_STORAGE, Client, encode_echo_rq, encode_message, encode_pdu
from tests.receiver.directory import DirectoryReception
from tests.receiver.journal import Journal


def relay(target_port: int, talk: Callable[[int], object]) -> bytes:
    """What whoever `talk` runs sends to the port it is given, on its one connection."""
    captured = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        talker = threading.Thread(target=talk, args=(listener.getsockname()[1],))
        talker.start()
        listener.settimeout(20)
        near, _ = listener.accept()
        with near, socket.create_connection(("127.0.0.1", target_port)) as far:

            def answer() -> None:
                while piece := far.recv(65536):
                    near.sendall(piece)

            answering = threading.Thread(target=answer)
            answering.start()
            while piece := near.recv(65536):
                captured += piece
                far.sendall(piece)
            far.shutdown(socket.SHUT_WR)
            answering.join()
        talker.join()
    return bytes(captured)


def capture_associations(files: list[Path]) -> list[bytes]:
    """Associations of storescu, dcmsend and echoscu, and one of pynetdicom's encodings."""
    with tempfile.TemporaryDirectory(prefix="mkisod-capture-") as name:
        receiver = Receiver(ReceiverSettings(host="127.0.0.1", port=0), DirectoryReception(Path(name)), log=Journal().log)
        receiver.bind()
        receiver.start()

        def run(program: str, *arguments: object) -> Callable[[int], object]:
            def talk(port: int) -> object:
                command = [require(program), "-aec", "CDRECORD", "127.0.0.1", str(port), *map(str, arguments)]
                return subprocess.run(command, check=True, capture_output=True, timeout=30)

            return talk

        def echo(port: int) -> None:
            with Client(("127.0.0.1", port)) as client:
                client.associate([(CT_IMAGE_STORAGE, ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70"])] * 3)
                client.send(encode_message(1, encode_echo_rq()) + encode_pdu(5, bytes(4)))
                client.response()
                client.pdu()

        try:
            talks = [run("storescu", *files), run("dcmsend", *files), run("echoscu"), echo]
            return [relay(receiver.address[1], talk) for talk in talks]
        finally:
            receiver.stop(1)
