"""An association requestor that sends exactly the bytes a test asks for, right or wrong. Its encodings are pynetdicom's, not mkisod's."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydicom import dcmread
from pydicom.uid import UID
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import build_context

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
IMPLICIT_LE = "1.2.840.10008.1.2"

Context = tuple[str, Sequence[str]]
DEFAULT_CONTEXTS: tuple[Context, ...] = ((CT_IMAGE_STORAGE, [EXPLICIT_LE]), (VERIFICATION, [IMPLICIT_LE]))


def encode_associate_rq(
    contexts: Iterable[Context] = DEFAULT_CONTEXTS,
    *,
    called: str = "CDRECORD",
    calling: str = "TESTER",
    max_length_bytes: int = 16382,
    user_items: Iterable[Any] = (),
) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID("1.2.840.10008.3.1.1.1")
    primitive.calling_ae_title, primitive.called_ae_title = calling, called
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = max_length_bytes, UID("2.25.7")
    primitive.user_information = [length, implementation, *user_items]
    proposed = [build_context(abstract, list(transfer)) for abstract, transfer in contexts]
    for number, context in enumerate(proposed):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = proposed
    return A_ASSOCIATE_RQ(primitive).encode()


def encode_store_rq(sop_class_uid: str, sop_instance_uid: str, message_id: int = 1, **more: Any) -> bytes:
    """The command set of a C-STORE-RQ."""
    request = C_STORE()
    request.MessageID, request.Priority = message_id, 2
    # Around pynetdicom's own checks: tests send what these would not let pass.
    request._affected_sop_class_uid = UID(sop_class_uid) if sop_class_uid else None
    request._affected_sop_instance_uid = UID(sop_instance_uid) if sop_instance_uid else None
    for keyword, value in more.items():
        setattr(request, keyword, value)
    request.DataSet = BytesIO(b"x")
    return encode_command_set(C_STORE_RQ(), request)


def encode_echo_rq(message_id: int = 1) -> bytes:
    request = C_ECHO()
    request.MessageID, request.AffectedSOPClassUID = message_id, UID(VERIFICATION)
    return encode_command_set(C_ECHO_RQ(), request)


def encode_command_set(message: DIMSEMessage, primitive: Any) -> bytes:
    message.primitive_to_message(primitive)
    encoded = encode(message.command_set, is_implicit_vr=True, is_little_endian=True)
    assert encoded
    return encoded


def encode_pdu(pdu_type: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BxI", pdu_type, len(body) if length is None else length) + body


def encode_pdv(context_id: int, control: int, data: bytes, length: int | None = None) -> bytes:
    return struct.pack(">IBB", len(data) + 2 if length is None else length, context_id, control) + data


def encode_message(context_id: int, command: bytes, data_set: bytes = b"", fragment_bytes: int = 16000) -> bytes:
    """A command set and a data set as P-DATA-TF PDUs, one PDV in each."""
    pdus = [encode_pdu(4, encode_pdv(context_id, 3, command))]
    starts = range(0, len(data_set), fragment_bytes)
    for start in starts:
        control = 2 if start == starts[-1] else 0
        pdus.append(encode_pdu(4, encode_pdv(context_id, control, data_set[start : start + fragment_bytes])))
    return b"".join(pdus)


def read_data_set(path: Path) -> bytes:
    """The bytes of a Part 10 file behind its File Meta Information."""
    with path.open("rb") as file:
        dcmread(file, specific_tags=[], stop_before_pixels=True, defer_size=1)
        file.seek(140)
        (length,) = struct.unpack("<I", file.read(4))
        file.seek(144 + length)
        return file.read()


class Client:
    """A connection. `pdu` reads the next PDU whole; None when the receiver has closed."""

    def __init__(self, address: tuple[str, int], timeout_s: float = 20) -> None:
        self.socket = socket.create_connection(("127.0.0.1", address[1]), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, size: int) -> bytes:
        collected = b""
        while len(collected) < size:
            try:
                piece = self.socket.recv(size - len(collected))
            except ConnectionResetError:
                piece = b""
            if not piece:
                break
            collected += piece
        return collected

    def pdu(self) -> tuple[int, bytes] | None:
        header = self.read(6)
        if len(header) < 6:
            return None
        pdu_type, length = struct.unpack(">BxI", header)
        return pdu_type, self.read(length)

    def associate(self, contexts: Iterable[Context] = DEFAULT_CONTEXTS, **more: Any) -> A_ASSOCIATE_AC:
        self.send(encode_associate_rq(contexts, **more))
        answer = self.pdu()
        assert answer is not None
        assert answer[0] == 2, answer
        accept = A_ASSOCIATE_AC()
        accept.decode(encode_pdu(*answer))
        return accept

    def rejection(self, **more: Any) -> tuple[int, int, int]:
        """Result, source and reason of the A-ASSOCIATE-RJ that answers."""
        self.send(encode_associate_rq(**more))
        answer = self.pdu()
        assert answer is not None
        assert answer[0] == 3, answer
        reject = A_ASSOCIATE_RJ()
        reject.decode(encode_pdu(*answer))
        return reject.result, reject.source, reject.reason_diagnostic  # type: ignore[return-value]

    def abort(self) -> tuple[int, int]:
        """Source and reason of the A-ABORT that comes next."""
        answer = self.pdu()
        assert answer is not None
        assert answer[0] == 7, answer
        return answer[1][2], answer[1][3]

    def response(self) -> Any:
        """The next message, one PDU long, as a pydicom data set: the command set of a response."""
        answer = self.pdu()
        assert answer is not None
        assert answer[0] == 4, answer
        assert answer[1][5] == 3, "not a whole command set"
        return dcmread(BytesIO(answer[1][6:]), force=True)

    def store(self, sop_class_uid: str, sop_instance_uid: str, data_set: bytes, *, context_id: int = 1, **more: Any) -> Any:
        self.send(encode_message(context_id, encode_store_rq(sop_class_uid, sop_instance_uid, **more), data_set))
        return self.response()

    def release(self) -> None:
        self.send(encode_pdu(5, bytes(4)))
        assert self.pdu() == (6, bytes(4))
