"""Reads what identifies an instance off the head of its data set, while the rest is still on its way.

It walks the elements in order and stops at the first tag beyond Series Instance UID, usually within 4 KiB. Values and sequences in
between are stepped over, not decoded; a sequence or UN of undefined length is followed by its items and delimiters, with a list for
a stack. Whatever is malformed ends the walk: what was found until then is the answer, and the caller compares it with what was promised.
Pure but for what a `Walker` remembers.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from pydicom import charset

from mkisod.explicit_vr import SHORT_VRS, Walker
from mkisod.job.patient import PatientIdentity
from mkisod.pacs.negotiation import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from mkisod.pacs.reception import Header

LIMIT_BYTES: Final = 1 << 20  # nothing that identifies an instance is looked for beyond

_SPECIFIC_CHARACTER_SET = 0x00080005
_SERIES_INSTANCE_UID = 0x0020000E
_WANTED = frozenset(
    {
        _SPECIFIC_CHARACTER_SET,
        *(0x00080016, 0x00080018, 0x00080050, 0x00080060),  # SOP Class UID, SOP Instance UID, Accession Number, Modality
        *(0x00100010, 0x00100020, 0x00100021, 0x00100030),  # name, ID, issuer of the ID, birth date of the patient
        *(0x0020000D, _SERIES_INSTANCE_UID),
    }
)
_WINDOW_BYTES: Final = 16384  # nearly every head; copied, since a slice of bytes costs a third of one of a view
_UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM_GROUP, _DELIMITATIONS = 0xFFFE, (0xE00D, 0xE0DD)  # PS3.5 section 7.5: items and delimiters have no VR
_LITTLE_ENDIAN, _BIG_ENDIAN = struct.Struct("<HH2sH"), struct.Struct(">HH2sH")  # Explicit VR; of Implicit VR the tag alone counts
_LENGTH_LITTLE_ENDIAN, _LENGTH_BIG_ENDIAN = struct.Struct("<I"), struct.Struct(">I")
_PERSON_NAME_DELIMITERS = {0x0D, 0x0A, 0x09, 0x0C, 0x5E, 0x3D}  # PS3.5 section 6.1.2.5.3: these bring back the first character set
_TEXT_DELIMITERS = {0x0D, 0x0A, 0x09, 0x0C}


def make_walker() -> Walker:
    """One that `scan_header` takes, and that remembers what it has seen."""
    return Walker(_WANTED, _SERIES_INSTANCE_UID)


def scan_header(head: bytes | bytearray | memoryview, transfer_syntax_uid: str, walker: Walker, *, whole: bool) -> Header | None:
    """The identifying attributes in `head`, the first bytes of a data set.

    None: more bytes may hold more of them. With `whole` there are no more, or no more will be looked at, and the answer is final.
    """
    if transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)  # PS3.5 section A.5
        try:
            head = inflater.decompress(head, LIMIT_BYTES)
        except zlib.error:
            return Header()
        whole = whole or inflater.eof or len(head) == LIMIT_BYTES
    found: dict[int, bytes] = {}
    complete = _walk(
        head,
        found,
        walker,
        big_endian=transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN,
        implicit=transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN,
    )
    return _decode_header(found) if complete or whole else None


def _walk(data: bytes | bytearray | memoryview, found: dict[int, bytes], walker: Walker, *, big_endian: bool, implicit: bool) -> bool:
    """Puts the wanted values into `found`. True: nothing more is to be had; False: the data ended first."""
    unpack = (_BIG_ENDIAN if big_endian else _LITTLE_ENDIAN).unpack_from
    unpack_length = (_LENGTH_BIG_ENDIAN if big_endian else _LENGTH_LITTLE_ENDIAN).unpack_from
    position, end = 0, len(data)
    window = b"" if implicit or big_endian else bytes(data[:_WINDOW_BYTES])
    outer: list[bool] = []  # the open sequences and items of undefined length; whether what is around each is Implicit VR
    while position + 8 <= end:
        if window and not outer:
            position = walker.walk(window, position, len(window), found)
            if _SERIES_INSTANCE_UID in found:
                return True
            if position + 8 > end:
                return False
        group, element, vr, length = unpack(data, position)
        position += 8
        if implicit or group == _ITEM_GROUP:
            length = unpack_length(data, position - 4)[0]
        elif vr not in SHORT_VRS:
            if not (vr.isalpha() and vr.isupper()):
                return True
            if position + 4 > end:  # a long one, as are all those yet to come (PS3.5 section 7.1.2)
                return False
            length = unpack_length(data, position)[0]
            position += 4
        if group == _ITEM_GROUP:
            if not outer:
                return True
            if element in _DELIMITATIONS:
                implicit = outer.pop()
            elif length == _UNDEFINED_LENGTH:
                outer.append(implicit)
            else:
                position += length
            continue
        if not outer:
            tag = group << 16 | element
            if tag > _SERIES_INSTANCE_UID:
                return True
            if tag in _WANTED and length != _UNDEFINED_LENGTH:
                if position + length > end:
                    return False
                found[tag] = bytes(data[position : position + length])
                if tag == _SERIES_INSTANCE_UID:
                    return True
        if length == _UNDEFINED_LENGTH:
            outer.append(implicit)
            implicit = implicit or vr == b"UN"  # PS3.5 section 6.2.2, note 4: in it is Implicit VR Little Endian
        else:
            position += length
    return False


def _decode_header(found: dict[int, bytes]) -> Header:
    def plain(tag: int) -> str:
        return found.get(tag, b"").decode("latin-1").strip(" \0")

    def text(tag: int, delimiters: set[int] = _TEXT_DELIMITERS) -> str:
        raw = found.get(tag, b"")
        if raw.isascii() and charset.ESC not in raw:
            return raw.decode("ascii").strip(" \0")
        return charset.decode_bytes(raw, _choose_encodings(found.get(_SPECIFIC_CHARACTER_SET, b"")), delimiters).strip(" \0")

    return Header(
        sop_class_uid=plain(0x00080016),
        sop_instance_uid=plain(0x00080018),
        study_instance_uid=plain(0x0020000D),
        series_instance_uid=plain(_SERIES_INSTANCE_UID),
        accession_number=text(0x00080050),
        modality=plain(0x00080060),
        patient=PatientIdentity(
            patient_id=text(0x00100020),
            issuer=text(0x00100021),
            name=text(0x00100010, _PERSON_NAME_DELIMITERS),
            birth_date=plain(0x00100030),
        ),
    )


def _choose_encodings(specific_character_set: bytes) -> list[str]:
    """Python's names of the character sets; what is misspelled (`ISO IR 192` is common) is understood, what is unknown is passed over.

    pydicom would warn about either, and a warning that quotes what came over the network would be kept for ever by Python's registry.
    """
    encodings = []
    for term in specific_character_set.decode("latin-1").split("\\")[:16]:
        name = " ".join(term.strip(" \0").upper().replace("_", " ").replace("-", " ").split())
        for known in (name, name.replace("ISO IR", "ISO_IR"), name.replace("ISO 2022 IR", "ISO 2022 IR ").replace("  ", " ")):
            if known in charset.python_encoding:
                encodings.append(charset.python_encoding[known])
                break
    return encodings or [charset.default_encoding]
