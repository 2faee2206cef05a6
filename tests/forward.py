"""A Storage SCP that does what a test tells it, right or wrong. Its encodings are pynetdicom's, not mkisod's."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO

from pydicom import dcmread
from pydicom.uid import UID
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification
from pynetdicom.presentation import build_context

from tests.processes import HOST
from tests.receiver.client import encode_command_set, encode_pdu, encode_pdv

_TIMEOUT_S = 20.0


@dataclass
class Stored:
    """One C-STORE as it came."""

    context_id: int
    sop_class_uid: str
    sop_instance_uid: str
    message_id: int
    data_set: bytes
    largest_pdu_bytes: int


Answer = Callable[["Connection", Stored], None]


@dataclass
class Acceptor:
    """What it is told, and what it has seen. `answer` is called for each C-STORE; `accept` says which contexts it takes, and how."""

    answer: Answer
    accept: Callable[[str, str], bool]
    max_length_bytes: int
    port: int
    forge: Callable[[bytes], bytes]  # its A-ASSOCIATE-AC, before it is sent
    stored: list[Stored] = field(default_factory=list)
    associations: list[list[tuple[str, str]]] = field(default_factory=list)  # the contexts proposed in each
    aborts: list[tuple[int, int]] = field(default_factory=list)
    releases: int = 0

    @property
    def uids(self) -> list[str]:
        return [one.sop_instance_uid for one in self.stored]


def answer_with(*statuses: int) -> Answer:
    """One status after the other, the last one for all that follow."""
    left = list(statuses)

    def answer(connection: Connection, stored: Stored) -> None:
        connection.respond(stored, left.pop(0) if len(left) > 1 else left[0])

    return answer


class Connection:
    """One association, from its first byte on."""

    def __init__(self, sock: socket.socket, acceptor: Acceptor) -> None:
        self.socket = sock
        self._acceptor = acceptor

    def read(self, size: int) -> bytes:
        collected = bytearray()
        while len(collected) < size:
            if not (piece := self.socket.recv(size - len(collected))):
                raise ConnectionError("closed")
            collected += piece
        return bytes(collected)

    def pdu(self) -> tuple[int, bytes]:
        pdu_type, length = struct.unpack(">BxI", self.read(6))
        return pdu_type, self.read(length)

    def associate(self) -> None:
        pdu_type, body = self.pdu()
        assert pdu_type == 1, pdu_type
        request = A_ASSOCIATE_RQ()
        request.decode(encode_pdu(pdu_type, body))
        proposed = [(c.context_id or 0, str(c.abstract_syntax), [str(t) for t in c.transfer_syntax]) for c in request.presentation_context]
        self._acceptor.associations.append([(abstract, syntax) for _, abstract, syntaxes in proposed for syntax in syntaxes])
        primitive = A_ASSOCIATE()
        primitive.application_context_name = UID("1.2.840.10008.3.1.1.1")
        primitive.calling_ae_title, primitive.called_ae_title = request.calling_ae_title, request.called_ae_title
        primitive.result, primitive.result_source = 0, 1
        length = MaximumLengthNotification()
        length.maximum_length_received = self._acceptor.max_length_bytes
        primitive.user_information = [length]
        results = []
        for context_id, abstract, syntaxes in proposed:
            context = build_context(abstract, syntaxes[:1])
            context.context_id = context_id
            context.result = 0 if self._acceptor.accept(abstract, syntaxes[0]) else 3
            results.append(context)
        primitive.presentation_context_definition_results_list = results
        self.socket.sendall(self._acceptor.forge(A_ASSOCIATE_AC(primitive).encode()))

    def serve(self) -> None:
        self.associate()
        while True:
            fragments: list[tuple[int, bytes]] = []
            largest, context_id = 0, 0
            while not fragments or not (fragments[-1][0] & 2 and (not fragments[-1][0] & 1)):
                pdu_type, body = self.pdu()
                if pdu_type == 5:
                    self._acceptor.releases += 1
                    self.socket.sendall(encode_pdu(6, bytes(4)))
                    return
                if pdu_type == 6:
                    return
                if pdu_type == 7:
                    self._acceptor.aborts.append((body[2], body[3]))
                    return
                assert pdu_type == 4, pdu_type
                largest = max(largest, len(body))
                while body:
                    item_length, context_id, control = struct.unpack_from(">IBB", body)
                    fragments.append((control, body[6 : 4 + item_length]))
                    body = body[4 + item_length :]
            command = dcmread(BytesIO(b"".join(data for control, data in fragments if control & 1)), force=True)
            data_set = b"".join(data for control, data in fragments if not control & 1)
            uids = (str(command.AffectedSOPClassUID), str(command.AffectedSOPInstanceUID))
            stored = Stored(context_id, *uids, command.MessageID, data_set, largest)
            self._acceptor.stored.append(stored)
            self._acceptor.answer(self, stored)

    def respond(self, stored: Stored, status: int, *, message_id: int | None = None) -> None:
        response = C_STORE()
        response.MessageIDBeingRespondedTo = stored.message_id if message_id is None else message_id
        response.AffectedSOPClassUID, response.AffectedSOPInstanceUID = UID(stored.sop_class_uid), UID(stored.sop_instance_uid)
        response.Status = status
        self.send_pdv(stored.context_id, 3, encode_command_set(C_STORE_RSP(), response))

    def send_pdv(self, context_id: int, control: int, data: bytes) -> None:
        self.socket.sendall(encode_pdu(4, encode_pdv(context_id, control, data)))

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)


@contextmanager
def accepting(
    answer: Answer | None = None,
    *,
    accept: Callable[[str, str], bool] = lambda _abstract, _syntax: True,
    max_length_bytes: int = 16384,
    forge: Callable[[bytes], bytes] = lambda encoded: encoded,
    serve: Callable[[Connection], None] = Connection.serve,
) -> Iterator[Acceptor]:
    """Serves one connection after the other until the block ends: as a Storage SCP, if `serve` does nothing else."""
    with socket.create_server((HOST, 0)) as listener:
        acceptor = Acceptor(answer or answer_with(0), accept, max_length_bytes, listener.getsockname()[1], forge)
        current: list[socket.socket] = []

        def run() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                current[:] = [sock]
                sock.settimeout(_TIMEOUT_S)
                with sock:
                    try:
                        serve(Connection(sock, acceptor))
                    except OSError:
                        continue

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield acceptor
        listener.shutdown(socket.SHUT_RDWR)
        for sock in current:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        thread.join()


def contexts_of(acceptor: Acceptor) -> Sequence[tuple[str, str]]:
    """All that was ever proposed."""
    return [pair for proposed in acceptor.associations for pair in proposed]
