"""The data sets of queries and retrievals (PS3.4 C.2.2.1), in whichever of the two syntaxes their presentation context has."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Final

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pynetdicom.dsutils import decode, encode

from mkisod.explicit_vr import SHORT_VRS
from mkisod.pacs.negotiation import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from mkisod.pacs.pdu import ContextResult

SYNTAXES: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)  # what to propose


_ELEMENT: Final = struct.Struct("<HHI")  # in Explicit VR the length is the upper half of the last, behind the VR
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF


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


def find_uid(raw: bytes, context: ContextResult, tag: int) -> str:
    """One attribute of VR UI without padding, with backslashes where it has several values; '' where it is absent.

    Raises `InvalidIdentifier`. An archive lists instances by the thousand, and of each answer this is all that is wanted: pydicom takes
    twenty times as long. It has the last word wherever there is more than short values in the syntax that was agreed on.
    """
    is_implicit_vr = context.transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
    if (raw[4:6] in SHORT_VRS) != is_implicit_vr:
        at, end, length, uid = 0, len(raw), 0, b""
        while at + _ELEMENT.size <= end:
            group, element, length = _ELEMENT.unpack_from(raw, at)
            if not is_implicit_vr:
                if raw[at + 4 : at + 6] not in SHORT_VRS:
                    break
                length >>= 16
            value_at, at = at + _ELEMENT.size, at + _ELEMENT.size + length
            if group << 16 | element == tag:
                uid = raw[value_at:at]
        if at > end and length != _UNDEFINED_LENGTH:
            raise InvalidIdentifier("it is cut short")  # pydicom would take half a value
        if at == end:
            return uid.decode("latin-1").strip(" \0")
    identifier = decode_identifier(raw, context)
    value = identifier[tag].value if tag in identifier else None
    if isinstance(value, MultiValue):
        return "\\".join(map(str, value))
    return "" if value is None else str(value).strip(" \0")
