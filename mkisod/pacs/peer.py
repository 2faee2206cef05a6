"""The other side of an association that we request: who it is, and what its refusal of one means. Values only."""

from __future__ import annotations

from attrs import frozen

from mkisod.config.settings import DestinationSettings, PacsSettings, TlsSettings
from mkisod.errors import Code, MkisodError, Permanent, Transient

# A-ASSOCIATE-RJ: result 1 is permanent, 2 transient (PS3.8 Table 9-21); (source, reason) -> what an administrator can do about it.
_REJECTED_PERMANENT = 1
_REASONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


@frozen
class Peer:
    """The other side, as messages name it."""

    name: str
    host: str
    port: int
    ae_title: str
    connect_timeout_s: float = 10.0
    response_timeout_s: float = 60.0
    tls: TlsSettings | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.ae_title}@{self.host}:{self.port})"


def make_peer(name: str, settings: PacsSettings | DestinationSettings) -> Peer:
    timeouts_s = (settings.connect_timeout_s, settings.response_timeout_s)
    return Peer(name, settings.host, settings.port, settings.ae_title, *timeouts_s, tls=settings.tls)


def explain_rejection(peer: Peer, result: int, source: int, reason: int) -> MkisodError:
    """The error that an A-ASSOCIATE-RJ stands for."""
    text = _REASONS.get((source, reason), f"source {source}, reason {reason}")
    kind = Permanent if result == _REJECTED_PERMANENT else Transient
    return kind(Code.ASSOCIATION_REJECTED, f"{peer} rejected the association: {text}.")
