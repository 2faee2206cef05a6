"""The keys of a directory record, as a DICOMDIR has them, from an object in whatever encoding. Pure.

Values are encoded in Explicit VR Little Endian (PS3.10 8.6). Text passes through byte for byte. What is too long for its VR, or is no
sequence although it should be one, makes the object unfit for a disc.
"""

from __future__ import annotations

import io

from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_sequence
from pydicom.filewriter import write_sequence_item
from pydicom.uid import EncapsulatedCDAStorage

from mkisod.errors import Code, Permanent
from mkisod.media.elements import EXPLICIT_LITTLE_ENDIAN, LONG_VRS, Encoding, read_items
from mkisod.media.header import Header
from mkisod.media.keys import KEYS, TAGS, Key

_NUMBER_BYTES = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8}
# What a Specific Character Set says something about (PS3.5 6.1.2.3); in the items of a sequence there may be such values too.
_CHARACTER_SET_VRS = frozenset({"LO", "LT", "PN", "SH", "SQ", "ST", "UC", "UT"})
# An item tag in little and in big endian: what the value of a sequence begins with.
_ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
_SHORT_LENGTH_MAX = 0xFFFE
_SPECIFIC_CHARACTER_SET = TAGS["SpecificCharacterSet"]
_RELATIONSHIP_TYPE = 0x0040A010
_VERIFICATION_DATE_TIME = 0x0040A030


def copy_keys(header: Header, record_type: str) -> dict[int, bytes]:
    """The keys that the object has. A Type 2 key that it lacks is there and empty; a Type 1 key that it lacks is left out.

    Raises `Permanent(NONCONFORMANT)`, or `StructureDefect` where a sequence is damaged.
    """
    values: dict[int, bytes] = {}
    for key in KEYS[record_type]:
        value = header.values.get(key.tag, b"")
        value = value.strip(b" \0") if key.is_text else _encode_value(value, key, header.encoding)
        if not value and key.in_functional_groups:
            value = _find_in_functional_groups(header, key)
        if len(value) > _SHORT_LENGTH_MAX and key.vr.encode() not in LONG_VRS:
            raise refuse(header.media_sop_instance_uid, f"its {key.keyword} is {len(value)} bytes long")
        if value or key.type == "2":
            values[key.tag] = value
    if _SPECIFIC_CHARACTER_SET in values and not any(
        key.vr in _CHARACTER_SET_VRS and (key.type != "1C" or key.tag in values) for key in KEYS[record_type]
    ):
        del values[_SPECIFIC_CHARACTER_SET]
    if record_type == "ENCAP DOC" and header.media_sop_class_uid != EncapsulatedCDAStorage:
        values.pop(TAGS["HL7InstanceIdentifier"], None)  # belongs to CDA documents alone (PS3.3 F.5.33)
    if record_type == "SR DOCUMENT":
        values.pop(_VERIFICATION_DATE_TIME, None)  # belongs to the verifying observers, and is found there
    return values


def _encode_value(value: bytes, key: Key, encoding: Encoding) -> bytes:
    """The value of a key in Explicit VR Little Endian, from one in the encoding of the object. Text is the same in all of them."""
    if key.is_text:
        return value.strip(b" \0")
    if key.vr == "SQ":
        if key.keyword == "ContentSequence":
            value = b"".join(
                item
                for _, item, elements in read_items(value, encoding, (_RELATIONSHIP_TYPE,))
                if elements.get(_RELATIONSHIP_TYPE, b"").strip(b" \0") == b"HAS CONCEPT MOD"
            )
        return value if not value or encoding == EXPLICIT_LITTLE_ENDIAN else _encode_sequence(value, encoding)
    if encoding.is_little_endian or key.vr not in _NUMBER_BYTES:
        return value
    width = _NUMBER_BYTES[key.vr]
    return b"".join(value[at : at + width][::-1] for at in range(0, len(value), width))


def _encode_sequence(value: bytes, encoding: Encoding) -> bytes:
    """The items of a sequence, encoded anew by pydicom, which knows the VRs that Implicit VR leaves out."""
    sequence = read_sequence(io.BytesIO(value), encoding.is_implicit_vr, encoding.is_little_endian, len(value), "iso8859")
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    for item in sequence:
        item.is_undefined_length_sequence_item = False
        write_sequence_item(buffer, item, ["iso8859"])
    return bytes(buffer.getvalue())


def _find_in_functional_groups(header: Header, key: Key) -> bytes:
    """A key in the Shared Functional Groups Sequence: the only item of the sequence of one macro holds it (PS3.3 C.7.6.16)."""
    groups = header.values.get(TAGS["SharedFunctionalGroupsSequence"], b"")
    for _, _, macros in read_items(groups, header.encoding):
        for macro in macros.values():
            if macro[:4] in _ITEM_TAGS:
                for _, _, elements in read_items(macro, header.encoding, (key.tag,)):
                    if value := _encode_value(elements.get(key.tag, b""), key, header.encoding):
                        return value
    return b""


def refuse(instance_uid: str, reason: str) -> Permanent:
    """For raising: no record can be made for this SOP instance."""
    return Permanent(Code.NONCONFORMANT, f"SOP instance {instance_uid} cannot be put on a disc: {reason}.")
