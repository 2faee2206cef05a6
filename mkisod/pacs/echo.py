"""C-ECHO as SCU (PS3.7 section 9.1.5): whether the other side answers, and accepts us."""

from __future__ import annotations

from mkisod.errors import Code, Permanent, Transient
from mkisod.pacs import command as dimse
from mkisod.pacs.identifier import SYNTAXES
from mkisod.pacs.negotiation import VERIFICATION_UID
from mkisod.pacs.pdu import ProposedContext
from mkisod.pacs.peer import Peer
from mkisod.pacs.requestor import RequestedAssociation

_CONTEXT = ProposedContext(1, VERIFICATION_UID, SYNTAXES)
_MESSAGE_ID = 1


def send_echo(peer: Peer, ae_title: str) -> None:
    """Raises `MkisodError` where the peer does not answer with success."""
    with RequestedAssociation(peer, ae_title, [_CONTEXT]) as association:
        if _CONTEXT.context_id not in association.contexts:
            raise Permanent(Code.ASSOCIATION_REJECTED, f"{peer} does not offer Verification (C-ECHO).")
        association.ask(_CONTEXT.context_id, dimse.encode_echo_request(VERIFICATION_UID, _MESSAGE_ID))
        response, _ = association.receive("a C-ECHO", dimse.C_ECHO_RQ | dimse.RESPONSE, _MESSAGE_ID)
        if response.dimse_status != dimse.SUCCESS:
            raise Transient(Code.PACS_UNREACHABLE, f"{peer} answered a C-ECHO with DIMSE status {response.dimse_status:04X}H.")
