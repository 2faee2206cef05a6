"""The identifiers of C-FIND and C-MOVE (PS3.4 C.4.1.1.3, C.4.2.1.4): decoded to text by keyword, encoded from stored values."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from io import BytesIO

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import decode

TRANSFER_SYNTAX_UIDS = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})  # the VRs that Specific Character Set governs (PS3.5 6.1.2.3)


class MalformedIdentifier(Exception):
    """The identifier is not a data set in the transfer syntax of its presentation context."""


def decode_identifier(encoded: bytes, transfer_syntax_uid: str) -> dict[str, str]:
    """The keys by keyword, as text; a private attribute goes by its tag, a sequence is there with an empty value."""
    try:
        data_set = decode(BytesIO(encoded), transfer_syntax_uid == ImplicitVRLittleEndian, True)
        elements = list(map(data_set.get_item, data_set.keys()))
        character_set = data_set.get("SpecificCharacterSet") or ""
    except (ValueError, EOFError, struct.error, NotImplementedError, KeyError, AttributeError) as error:  # pydicom on hostile bytes
        raise MalformedIdentifier("the identifier cannot be decoded") from error
    names = [character_set] if isinstance(character_set, str) else [str(name) for name in character_set]
    keys: dict[str, str] = {}
    for element in elements:
        keyword = keyword_for_tag(element.tag) or str(element.tag)
        value = element.value
        if isinstance(value, bytes) and value_representation(keyword) != "SQ":
            keys[keyword] = decode_value(keyword, value, names)
        else:  # the character set itself, or a sequence
            keys[keyword] = "\\".join(names) if keyword == "SpecificCharacterSet" else ""
    return keys


def decode_value(keyword: str, value: bytes, character_sets: list[str]) -> str:
    """A stored value as text without padding, by the terms of Specific Character Set that govern it."""
    if value_representation(keyword) in _TEXT_VRS:
        return decode_bytes(value, convert_encodings(character_sets or [""]), set(b"\\^=")).strip(" \0")
    return value.decode("latin-1").strip(" \0")


def encode_identifier(values: Mapping[str, bytes], transfer_syntax_uid: str) -> bytes:
    """Encode values by keyword, padded where their length is odd. Only VRs with a length of two bytes occur in our answers."""
    explicit = transfer_syntax_uid == ExplicitVRLittleEndian
    encoded = bytearray()
    for tag, keyword in sorted((tag_for_keyword(keyword) or 0, keyword) for keyword in values):
        value, vr = values[keyword], value_representation(keyword)
        if len(value) % 2:
            value += b"\0" if vr == "UI" else b" "
        group, element = tag >> 16, tag & 0xFFFF
        if not explicit:
            encoded += struct.pack("<HHI", group, element, len(value))
        elif len(value) <= 0xFFFF:
            encoded += struct.pack("<HH2sH", group, element, vr.encode(), len(value))
        else:  # a list of UIDs may be longer than its VR can say: PS3.5 6.2.2 note 2, VR UN with a length of four bytes
            encoded += struct.pack("<HH2sHI", group, element, b"UN", 0, len(value))
        encoded += value
    return bytes(encoded)


def value_representation(keyword: str) -> str:
    """The VR of a keyword; UN where the dictionary has none."""
    tag = tag_for_keyword(keyword)
    return "UN" if tag is None else dictionary_VR(tag)
