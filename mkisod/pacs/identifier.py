"""The data sets of queries and retrievals (PS3.4 C.2.2.1), in whichever of the two syntaxes their presentation context has."""

from __future__ import annotations

from io import BytesIO
from typing import Final

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode

from mkisod.pacs.negotiation import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from mkisod.pacs.pdu import ContextResult

SYNTAXES: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)  # what to propose


class InvalidIdentifier(ValueError):
    """Bytes that are no data set. What they hold is not quoted."""


def encode_identifier(identifier: Dataset, context: ContextResult) -> bytes:
    encoded = encode(identifier, context.transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN, True)
    if encoded is None:
        raise RuntimeError("an identifier of ours cannot be encoded")
    return encoded


def decode_identifier(raw: bytes, context: ContextResult) -> Dataset:
    """With every value decoded. Raises `InvalidIdentifier`."""
    try:
        identifier = decode(BytesIO(raw), context.transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN, True)
        for element in identifier:  # pydicom decodes an element when it is asked for: here, and not where nobody expects that it fails
            _ = element.value
    except Exception as error:
        # Whatever pydicom makes of bytes that anybody may have sent: it has no error of its own for them.
        raise InvalidIdentifier(type(error).__name__) from error
    return identifier
