"""What the receiver is told by the configuration. Values only."""

from __future__ import annotations

from attrs import frozen


@frozen
class TlsSettings:
    """Paths of PEM files. With `ca` a peer has to show a certificate signed by it; without, peers are not asked for one."""

    certificate: str
    key: str
    ca: str = ""


@frozen
class ReceiverSettings:
    """The Storage SCP. An empty list allows everybody; an empty `host` is every address, IPv4 and IPv6; port 0 is any free port."""

    ae_title: str = "CDRECORD"
    host: str = ""
    port: int = 10104
    allowed_calling_ae_titles: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()  # addresses, networks (10.1.0.0/16) or names
    max_associations: int = 32
    tls: TlsSettings | None = None
    # These get compressed syntaxes refused, so that the archive does the decompressing.
    uncompressed_calling_ae_titles: tuple[str, ...] = ()
    # ARTIM of PS3.8 section 9.1.5: for the TLS handshake and the A-ASSOCIATE-RQ together, and for closing once the association is over.
    artim_s: float = 30.0
    # An association on which nothing moves for so long is aborted. Longer than any archive needs to fetch the next instance from a tape.
    idle_timeout_s: float = 600.0
