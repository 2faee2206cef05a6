"""Who came to our port, and what became of it: what `mkisod check` goes by when it proves that a PACS can reach us.

Values, their form as a line of text, and two receptions that report: `Noted` in front of a daemon's own, which reports what nobody
expected, and `Sink`, which takes everything and keeps nothing. A report that fails is the reporter's to handle.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from attrs import asdict, frozen

from mkisod.pacs.reception import Arrival, Offer, Reception, Refusal


@frozen
class Contact:
    """One connection to our port (`refused` empty: its association was accepted), or one instance that came and nobody expected."""

    peer: str
    calling_ae_title: str = ""
    called_ae_title: str = ""
    refused: str = ""
    sop_instance_uid: str = ""


def encode_contact(contact: Contact) -> bytes:
    """One line."""
    return json.dumps(asdict(contact)).encode() + b"\n"


def decode_contact(line: bytes) -> Contact:
    """Raises ValueError where the line is none of ours."""
    try:
        return Contact(**json.loads(line))
    except TypeError as error:
        raise ValueError(f"no contact: {error}") from error


def _describe(offer: Offer) -> Contact:
    return Contact(offer.peer, offer.calling_ae_title, sop_instance_uid=offer.sop_instance_uid)


@frozen
class Noted:
    """A reception whose refusals are reported."""

    reception: Reception
    report_contact: Callable[[Contact], None]

    def admit(self, offer: Offer) -> Arrival:
        try:
            return self.reception.admit(offer)
        except Refusal:
            self.report_contact(_describe(offer))
            raise


class _Dropped:
    fd = None

    def commit(self, size_bytes: int) -> None:
        pass

    def abort(self, error: OSError | None = None) -> None:
        pass


@frozen
class Sink:
    """Takes every instance with success, reports it and keeps nothing."""

    report_contact: Callable[[Contact], None]

    def admit(self, offer: Offer) -> Arrival:
        self.report_contact(_describe(offer))
        return _Dropped()
