"""A stock pynetdicom SCU and Storage SCP, for asking the demo PACS and for seeing what it sends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.transport import ThreadedAssociationServer

from mkisod.demo.pacs import DemoPacs

FIND, MOVE = UID("1.2.840.10008.5.1.4.1.2.2.1"), UID("1.2.840.10008.5.1.4.1.2.2.2")  # Study Root


@dataclass
class Received:
    """One C-STORE as it came."""

    sop_instance_uid: str
    data: bytes
    originator: str | None
    originator_message_id: int | None
    study_instance_uid: str


@dataclass
class Sink:
    """A Storage SCP. `statuses` says what to answer by SOP Instance UID; the others get 0000H."""

    port: int = 0
    associations: int = 0
    received: list[Received] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)

    @property
    def uids(self) -> list[str]:
        return [one.sop_instance_uid for one in self.received]


@dataclass
class Answer:
    """What a C-MOVE or a C-FIND was answered: DIMSE status and counters or identifier, response by response."""

    statuses: list[Dataset]
    identifiers: list[Dataset | None]

    @property
    def final(self) -> int:
        """The last DIMSE status; -1 where none came, since the association ended."""
        return int(self.statuses[-1].get("Status", -1))

    @property
    def matches(self) -> list[Dataset]:
        pairs = zip(self.statuses, self.identifiers, strict=True)
        return [found for status, found in pairs if status.get("Status") in {0xFF00, 0xFF01} and found]

    @property
    def counters(self) -> tuple[int | None, ...]:
        """Remaining, completed, failed, warning of the last response."""
        names = ("Remaining", "Completed", "Failed", "Warning")
        return tuple(self.statuses[-1].get(f"NumberOf{name}Suboperations") for name in names)


@contextmanager
def sink(pacs: DemoPacs, ae_title: str = "SINK") -> Iterator[Sink]:
    """Run a Storage SCP and make it known to the PACS."""
    collected = Sink()

    def store(event: evt.Event) -> int:
        request = event.request
        assert isinstance(request, C_STORE)
        collected.received.append(
            Received(
                str(request.AffectedSOPInstanceUID),
                event.encoded_dataset(include_meta=False),
                request.MoveOriginatorApplicationEntityTitle,
                request.MoveOriginatorMessageID,
                str(event.dataset.StudyInstanceUID),
            )
        )
        return collected.statuses.get(str(request.AffectedSOPInstanceUID), 0)

    def establish(_event: evt.Event) -> None:
        collected.associations += 1

    ae = AE(ae_title)
    ae.supported_contexts = StoragePresentationContexts
    handlers: list[evt.EventHandlerType] = [(evt.EVT_C_STORE, store), (evt.EVT_ESTABLISHED, establish)]
    server = ae.make_server(("127.0.0.1", 0), evt_handlers=handlers, server_class=ThreadedAssociationServer)
    serving = Thread(target=server.serve_forever, args=(0.01,))  # start_server would look for its end twice a second
    serving.start()
    ae._servers.append(server)
    collected.port = server.server_address[1]
    pacs.add_destination(ae_title, "127.0.0.1", collected.port)
    try:
        yield collected
    finally:
        ae.shutdown()
        serving.join()


@contextmanager
def associated(pacs: DemoPacs, calling_ae_title: str = "ASKER") -> Iterator[Association]:
    """An association for C-FIND and C-MOVE."""
    ae = AE(calling_ae_title)
    ae.add_requested_context(FIND)
    ae.add_requested_context(MOVE)
    ae.dimse_timeout = 30
    association = ae.associate(*pacs.address, ae_title=pacs.ae_title)
    assert association.is_established
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        ae.shutdown()


def identifier(keys: Mapping[str, object]) -> Dataset:
    data_set = Dataset()
    for keyword, value in keys.items():
        setattr(data_set, keyword, value)
    return data_set


def find(pacs: DemoPacs, /, **keys: object) -> Answer:
    """Ask, and collect every response."""
    with associated(pacs) as association:
        return _collect(association.send_c_find(identifier(keys), FIND))


def move(pacs: DemoPacs, /, **keys: object) -> Answer:
    """Move, to SINK or where `destination` says, and collect every response."""
    destination = str(keys.pop("destination", "SINK"))
    with associated(pacs) as association:
        return _collect(association.send_c_move(identifier(keys), destination, MOVE, msg_id=7))


def _collect(responses: Iterator[tuple[Dataset, Dataset | None]]) -> Answer:
    pairs = list(responses)
    return Answer([status for status, _ in pairs], [found for _, found in pairs])
