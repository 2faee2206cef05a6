"""The PDUs that a requestor of associations writes and reads (PS3.8 sections 9.3.2 to 9.3.4): A-ASSOCIATE-RQ, its answers, A-RELEASE-RQ.

Pure, and as wary as pdu.py: whatever breaks the rules of PS3.8 raises `InvalidPdu`, and an acceptance counts only as far as it answers
what was proposed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from mkisod import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from mkisod.pacs import pdu
from mkisod.pacs.pdu import ContextResult, InvalidPdu, ProposedContext, decode_text, encode_item, encode_pdu, iterate_items

MOST_CONTEXTS = 128  # IDs are the odd numbers of one byte (PS3.8 Table 9-13)


@frozen
class AssociateAcceptance:
    """`contexts`: those accepted, by their IDs. `max_length_bytes` 0: no limit."""

    contexts: Mapping[int, ContextResult]
    max_length_bytes: int
    implementation: str


def encode_associate_request(
    called_ae_title: str, calling_ae_title: str, contexts: Sequence[ProposedContext], *, max_length_bytes: int
) -> bytes:
    items = [encode_item(pdu.APPLICATION_CONTEXT, pdu.APPLICATION_CONTEXT_UID.encode())]
    for context in contexts:
        syntaxes = [encode_item(pdu.ABSTRACT_SYNTAX, context.abstract_syntax_uid.encode())]
        syntaxes += [encode_item(pdu.TRANSFER_SYNTAX, uid.encode()) for uid in context.transfer_syntax_uids]
        items.append(encode_item(pdu.CONTEXT_RQ, bytes((context.context_id, 0, 0, 0)) + b"".join(syntaxes)))
    user = (
        encode_item(pdu.MAXIMUM_LENGTH, max_length_bytes.to_bytes(4, "big")),
        encode_item(pdu.IMPLEMENTATION_CLASS, IMPLEMENTATION_CLASS_UID.encode()),
        encode_item(pdu.IMPLEMENTATION_VERSION, IMPLEMENTATION_VERSION_NAME.encode()),
    )
    items.append(encode_item(pdu.USER_INFORMATION, b"".join(user)))
    titles = (title.encode("ascii").ljust(16) for title in (called_ae_title, calling_ae_title))
    return encode_pdu(pdu.A_ASSOCIATE_RQ, pdu.FIXED.pack(1, *titles, b"") + b"".join(items))


def decode_associate_acceptance(body: bytes, proposed: Sequence[ProposedContext]) -> AssociateAcceptance:
    """The variable field of an A-ASSOCIATE-AC. A context that was not proposed, or not so, is not accepted. Raises `InvalidPdu`."""
    if len(body) < pdu.FIXED.size:
        raise InvalidPdu("the A-ASSOCIATE-AC is cut short")
    by_id = {context.context_id: context for context in proposed}
    accepted: dict[int, ContextResult] = {}
    max_length, implementation = 0, ["", ""]
    for item_type, value in iterate_items(body[pdu.FIXED.size :]):
        if item_type == pdu.CONTEXT_AC:
            result = _decode_result(value, by_id)
            if result is not None:
                accepted[result.context_id] = result
        elif item_type == pdu.USER_INFORMATION:
            for user_type, user_value in iterate_items(value):
                if user_type == pdu.MAXIMUM_LENGTH:
                    if len(user_value) != 4:
                        raise InvalidPdu("the maximum length item has a wrong length")
                    max_length = int.from_bytes(user_value, "big")
                elif user_type == pdu.IMPLEMENTATION_CLASS:
                    implementation[0] = decode_text(user_value[:64])
                elif user_type == pdu.IMPLEMENTATION_VERSION:
                    implementation[1] = decode_text(user_value[:16])
    return AssociateAcceptance(accepted, max_length, " ".join(filter(None, implementation)))


def _decode_result(value: bytes, proposed: Mapping[int, ProposedContext]) -> ContextResult | None:
    if len(value) < 4:
        raise InvalidPdu("a presentation context is cut short")
    context = proposed.get(value[0])
    if context is None or value[2] != 0:  # PS3.8 Table 9-18: 0 is acceptance, and else the transfer syntax is not significant
        return None
    syntaxes = [decode_text(item) for item_type, item in iterate_items(value[4:]) if item_type == pdu.TRANSFER_SYNTAX]
    if len(syntaxes) != 1 or syntaxes[0] not in context.transfer_syntax_uids:
        return None
    return ContextResult(context.context_id, 0, context.abstract_syntax_uid, syntaxes[0])


def decode_associate_rejection(body: bytes) -> tuple[int, int, int]:
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 Table 9-21). Raises `InvalidPdu`."""
    if len(body) != 4:
        raise InvalidPdu("the A-ASSOCIATE-RJ has a wrong length")
    return body[1], body[2], body[3]


def encode_release_request() -> bytes:
    return encode_pdu(pdu.A_RELEASE_RQ, bytes(4))
