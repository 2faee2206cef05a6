"""An association for asking: C-FIND in the Study Root model (PS3.4 C.4.1, PS3.7 9.1.2), on our own requestor.

Promises every identifier that came, in order, and an error where the answer did not end in success. Asking stands in front of every
request: pynetdicom, whose threads hand each message over several times, took ten times as long for a thousand answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from types import TracebackType
from typing import Final, Self

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]

from mkisod.errors import Code, Permanent, Transient
from mkisod.pacs import command as dimse
from mkisod.pacs.associate import Peer
from mkisod.pacs.negotiation import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from mkisod.pacs.pdu import ProposedContext
from mkisod.pacs.requestor import RequestedAssociation
from mkisod.pacs.wire import Interrupted

FIND: Final = StudyRootQueryRetrieveInformationModelFind
_PENDING: Final = (0xFF00, 0xFF01)  # PS3.4 Table C.4-1: the second says that optional keys were not supported
_SUCCESS: Final = 0x0000
_CONTEXT_ID: Final = 1


class CutShort(Transient):
    """The final DIMSE status was not success, so there may be more than was answered."""


class Questions:
    """One association, as a context manager; one question at a time. Raises `Transient` or `Permanent`. `abort` is for other threads."""

    def __init__(self, peer: Peer, ae_title: str) -> None:
        self.peer = peer
        syntaxes = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
        self._association = RequestedAssociation(peer, ae_title, [ProposedContext(_CONTEXT_ID, FIND, syntaxes)])
        self._message_id = 0

    def __enter__(self) -> Self:
        with self._explaining_abort():
            self._association.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and issubclass(kind, Permanent):  # what the other side said is final, and it has said all of it
            kind = error = trace = None
        self._association.__exit__(kind, error, trace)

    def abort(self) -> None:
        """End it at once; whoever waits for an answer gets `pacs_unreachable`."""
        self._association.interrupt()

    def ask(self, identifier: Dataset) -> Iterator[Dataset]:
        """The identifiers of the pending responses. Raises `CutShort` where the final DIMSE status is not success."""
        what = f"a C-FIND at {identifier.QueryRetrieveLevel} level"
        if (context := self._association.contexts.get(_CONTEXT_ID)) is None:
            raise Permanent(Code.QUERY_FAILED, f"{self.peer} does not offer C-FIND in the Study Root model.")
        implicit = context.transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
        self._message_id = self._message_id % 0xFFFF + 1
        data_set = encode(identifier, implicit, True)
        if data_set is None:
            raise RuntimeError("an identifier of ours cannot be encoded")
        with self._explaining_abort():
            self._association.ask(_CONTEXT_ID, dimse.encode_find_request(FIND, self._message_id), data_set)
        while True:
            with self._explaining_abort():
                response, answer = self._association.receive(what, dimse.C_FIND_RQ | dimse.RESPONSE, self._message_id)
            if response.dimse_status in _PENDING:
                yield self._decode(answer, implicit, what)
            elif response.dimse_status == _SUCCESS:
                return
            else:
                raise CutShort(Code.QUERY_FAILED, f"{self.peer} answered {what} with DIMSE status {response.dimse_status:04X}H.")

    def _decode(self, answer: bytes, implicit: bool, what: str) -> Dataset:
        try:
            identifier = decode(BytesIO(answer), implicit, True)
            for element in identifier:  # pydicom decodes an element when it is asked for: here, and not where nobody expects that it fails
                _ = element.value
        except Exception as error:
            # Whatever pydicom makes of bytes that anybody may have sent: it has no error of its own for them.
            raise Transient(
                Code.QUERY_FAILED, f"{self.peer} answered {what} with an identifier that cannot be decoded ({type(error).__name__})."
            ) from error
        return identifier

    @contextmanager
    def _explaining_abort(self) -> Iterator[None]:
        try:
            yield
        except Interrupted as interrupted:
            raise Transient(Code.PACS_UNREACHABLE, f"The association with {self.peer} was given up.") from interrupted
