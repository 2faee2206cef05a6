"""What the receiver accepts of an association request. Pure choices; PS3.8 section 9.3 and PS3.7 Annex D say how they are told.

Presentation contexts: every storage SOP class, standard, retired or private, and Verification. Of the transfer syntaxes proposed in one
context the first of: Explicit VR Little Endian, a lossless compressed one, Implicit VR Little Endian, Explicit VR Big Endian, a private
one, and a lossy one only where nothing else is proposed: choosing it could make an archive degrade an original. Never one that carries
a reference instead of pixels (JPIP, SMPTE ST 2110): a disc with it would be empty.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable

from attrs import frozen
from pydicom.uid import UID

from mkisod.pacs import pdu
from mkisod.pacs.pdu import AssociateRequest, ContextResult, ProposedContext, RoleSelection

VERIFICATION_UID = "1.2.840.10008.1.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"

# PS3.8 Table 9-18.
ACCEPTANCE, USER_REJECTION, ABSTRACT_SYNTAX_NOT_SUPPORTED, TRANSFER_SYNTAXES_NOT_SUPPORTED = 0, 1, 3, 4

_UNCOMPRESSED = {EXPLICIT_VR_LITTLE_ENDIAN: 0, IMPLICIT_VR_LITTLE_ENDIAN: 2, EXPLICIT_VR_BIG_ENDIAN: 3}
LOSSLESS = frozenset(
    "1.2.840.10008.1.2." + end
    for end in (
        *("1.98", "1.99", "5", "8.1"),  # encapsulated uncompressed, deflated, RLE, deflated image frame
        *("4.57", "4.58", "4.65", "4.66", "4.70"),  # JPEG lossless
        *("4.80", "4.90", "4.92", "4.110", "4.201", "4.202"),  # JPEG-LS, JPEG 2000, JPEG XL, HTJ2K: their lossless-only syntaxes
    )
)
_LOSSLESS_RANK, _PRIVATE_RANK, _LOSSY_RANK = 1, 4, 5
_PIXEL_FAMILY = "1.2.840.10008.1.2.4."  # every standard syntax of compressed pixels or video but RLE
_REFERENCES = frozenset(_PIXEL_FAMILY + end for end in ("94", "95", "204", "205"))  # JPIP
_REFERENCE_FAMILY = "1.2.840.10008.1.2.7."  # SMPTE ST 2110

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_STANDARD_ROOT = "1.2.840.10008."
_STORAGE_FAMILY = "1.2.840.10008.5.1.4.1.1."
_NOT_STORED = re.compile("Storage (Commitment|Management)|Media Storage Directory")


@frozen
class Rejection:
    """The A-ASSOCIATE-RJ to send: PS3.8 Table 9-21. `why` is for the journal."""

    result: int
    source: int
    reason: int
    why: str


@frozen
class Acceptance:
    results: tuple[ContextResult, ...]
    roles: tuple[RoleSelection, ...]


PROTOCOL_VERSION_NOT_SUPPORTED = Rejection(1, 2, 2, "protocol version not supported")
APPLICATION_CONTEXT_NOT_SUPPORTED = Rejection(1, 1, 2, "application context name not supported")
CALLED_AE_TITLE_NOT_RECOGNIZED = Rejection(1, 1, 7, "called AE title not recognized")
CALLING_AE_TITLE_NOT_RECOGNIZED = Rejection(1, 1, 3, "calling AE title not recognized")
ADDRESS_NOT_ALLOWED = Rejection(1, 1, 1, "address not allowed")  # the standard has no reason for it: no reason given
LOCAL_LIMIT_EXCEEDED = Rejection(2, 3, 2, "too many associations")


def is_uid(text: str) -> bool:
    """Whether it is a UID (PS3.5 section 9.1), leading zeros forgiven: some vendors write them. What passes is never part of a path."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def is_storage_sop_class(uid: str) -> bool:
    """Standard and retired ones go by the registry of PS3.6; a class newer than it, by its family; a private one is taken at its word."""
    if not is_uid(uid):
        return False
    if not uid.startswith(_STANDARD_ROOT):
        return True
    name = UID(uid).name  # the UID itself where the registry does not know it
    if name == uid:
        return uid.startswith(_STORAGE_FAMILY)
    return "Storage" in name and UID(uid).type == "SOP Class" and not _NOT_STORED.search(name)


def _rank_transfer_syntax(uid: str) -> int | None:
    if uid in _UNCOMPRESSED:
        return _UNCOMPRESSED[uid]
    if uid in _REFERENCES or uid.startswith(_REFERENCE_FAMILY) or not is_uid(uid):
        return None
    if uid in LOSSLESS:
        return _LOSSLESS_RANK
    return _LOSSY_RANK if uid.startswith(_PIXEL_FAMILY) else _PRIVATE_RANK


def choose_transfer_syntax(proposed: Iterable[str], *, uncompressed: bool = False) -> str | None:
    """The best of those proposed; of equals the first proposed. None: none of them is taken."""
    ranked = [(rank, uid) for uid in proposed if (rank := _rank_transfer_syntax(uid)) is not None]
    if uncompressed:
        ranked = [(rank, uid) for rank, uid in ranked if uid in _UNCOMPRESSED]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _choose_context(context: ProposedContext, roles: dict[str, RoleSelection], uncompressed: bool) -> ContextResult:
    def answer(result: int, transfer_syntax_uid: str = IMPLICIT_VR_LITTLE_ENDIAN) -> ContextResult:
        return ContextResult(context.context_id, result, context.abstract_syntax_uid, transfer_syntax_uid)

    if context.abstract_syntax_uid != VERIFICATION_UID and not is_storage_sop_class(context.abstract_syntax_uid):
        return answer(ABSTRACT_SYNTAX_NOT_SUPPORTED)
    role = roles.get(context.abstract_syntax_uid)
    if role is not None and not role.scu:
        return answer(USER_REJECTION)  # the requestor wants to be SCP only, and we are never SCU on an association that others open
    chosen = choose_transfer_syntax(context.transfer_syntax_uids, uncompressed=uncompressed)
    return answer(TRANSFER_SYNTAXES_NOT_SUPPORTED) if chosen is None else answer(ACCEPTANCE, chosen)


def negotiate(
    request: AssociateRequest,
    *,
    ae_title: str,
    allowed_calling_ae_titles: tuple[str, ...] = (),
    uncompressed_calling_ae_titles: tuple[str, ...] = (),
) -> Acceptance | Rejection:
    """Decides about a request by what it says. Address and number of associations are checked by who knows them."""
    if not request.protocol_version & 1:
        return PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context_uid != pdu.APPLICATION_CONTEXT_UID:
        return APPLICATION_CONTEXT_NOT_SUPPORTED
    if request.called_ae_title != ae_title:
        return CALLED_AE_TITLE_NOT_RECOGNIZED
    if allowed_calling_ae_titles and request.calling_ae_title not in allowed_calling_ae_titles:
        return CALLING_AE_TITLE_NOT_RECOGNIZED
    roles = {role.sop_class_uid: role for role in request.roles}
    uncompressed = request.calling_ae_title in uncompressed_calling_ae_titles
    results = tuple(_choose_context(context, roles, uncompressed) for context in request.contexts)
    # PS3.7 section D.3.3.4: an answer may grant what was proposed or less. The SCP role is never granted.
    return Acceptance(results, tuple(RoleSelection(uid, role.scu, False) for uid, role in roles.items()))


def is_address_allowed(address: str, allowed_hosts: tuple[str, ...], resolve: Callable[[str], Iterable[str]]) -> bool:
    """Whether `address` is, or lies in, one of the addresses, networks and names. `resolve` gives the addresses of a name."""
    if not allowed_hosts:
        return True
    peer = ipaddress.ip_address(address)
    for host in allowed_hosts:
        try:
            networks = [ipaddress.ip_network(host, strict=False)]
        except ValueError:
            networks = [ipaddress.ip_network(one) for one in resolve(host)]
        if any(peer in network for network in networks):
            return True
    return False
