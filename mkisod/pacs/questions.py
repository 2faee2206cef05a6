"""An association for asking: C-FIND in the Study Root model (PS3.4 C.4.1, PS3.7 9.1.2), on our own requestor.

Promises every identifier that came, in order, and an error where the answer did not end in success. Asking stands in front of every
request: pynetdicom, whose threads hand each message over several times, took ten times as long for a thousand answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar

from pydicom.dataset import Dataset
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]

from mkisod.errors import Code, Permanent, Transient
from mkisod.pacs import command as dimse
from mkisod.pacs.identifier import SYNTAXES, InvalidIdentifier, decode_identifier, encode_identifier, find_uid
from mkisod.pacs.pdu import ContextResult, ProposedContext
from mkisod.pacs.peer import Peer
from mkisod.pacs.requestor import RequestedAssociation
from mkisod.pacs.wire import Interrupted

FIND: Final = StudyRootQueryRetrieveInformationModelFind
_CONTEXT_ID: Final = 1

_Answer = TypeVar("_Answer")


class CutShort(Transient):
    """The final DIMSE status was not success, so there may be more than was answered."""


class Questions:
    """One association, as a context manager; one question at a time. Raises `Transient` or `Permanent`. `abort` is for other threads."""

    def __init__(self, peer: Peer, ae_title: str) -> None:
        self.peer = peer
        self._association = RequestedAssociation(peer, ae_title, [ProposedContext(_CONTEXT_ID, FIND, SYNTAXES)])
        self._message_id = 0

    def __enter__(self) -> Self:
        with self._explaining_abort():
            self._association.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._association.__exit__(kind, error, trace)

    def abort(self) -> None:
        """End it at once; whoever waits for an answer gets `pacs_unreachable`."""
        self._association.interrupt()

    def ask(self, identifier: Dataset) -> Iterator[Dataset]:
        """The identifiers of the pending responses. Raises `CutShort` where the final DIMSE status is not success."""
        return self._ask(identifier, decode_identifier)

    def ask_for_uids(self, identifier: Dataset, tag: int) -> Iterator[str]:
        """Of each of them only this attribute, of VR UI; '' where it is absent. Raises as `ask` does."""
        return self._ask(identifier, partial(find_uid, tag=tag))

    def _ask(self, identifier: Dataset, read: Callable[[bytes, ContextResult], _Answer]) -> Iterator[_Answer]:
        what = f"a C-FIND at {identifier.QueryRetrieveLevel} level"
        if (context := self._association.contexts.get(_CONTEXT_ID)) is None:
            raise Permanent(Code.QUERY_FAILED, f"{self.peer} does not offer C-FIND in the Study Root model.")
        self._message_id = self._message_id % 0xFFFF + 1
        with self._explaining_abort():
            request = dimse.encode_find_request(FIND, self._message_id)
            self._association.ask(_CONTEXT_ID, request, encode_identifier(identifier, context))
        while True:
            with self._explaining_abort():
                response, answer = self._association.receive(what, dimse.C_FIND_RQ | dimse.RESPONSE, self._message_id)
            if response.dimse_status in dimse.PENDING:
                try:
                    yield read(answer, context)
                except InvalidIdentifier as error:
                    raise Transient(
                        Code.QUERY_FAILED, f"{self.peer} answered {what} with an identifier that cannot be decoded ({error})."
                    ) from error
            elif response.dimse_status == dimse.SUCCESS:
                return
            else:
                raise CutShort(Code.QUERY_FAILED, f"{self.peer} answered {what} with DIMSE status {response.dimse_status:04X}H.")

    @contextmanager
    def _explaining_abort(self) -> Iterator[None]:
        try:
            yield
        except Interrupted as interrupted:
            raise Transient(Code.PACS_UNREACHABLE, f"The association with {self.peer} was given up.") from interrupted
