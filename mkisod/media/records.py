"""From the head of an object to what the directory records over it hold. Pure but for what `Siblings` remember.

An `Instance` carries the keys of its leaf record and what it says about its series, study and patient, all as values encoded in Explicit
VR Little Endian, the only encoding of a DICOMDIR (PS3.10 8.6); those of the leaf record as one piece of it (encoding.py). Text passes
through byte for byte, so that a mislabelled character set does no further harm. A Type 1 key that the object lacks is stood in for as the
tables of keys.py say, and each time a `Substitution` says so; where no honest value exists, `Permanent(NONCONFORMANT)` names the SOP
instance.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from typing import Any, NamedTuple, TypeVar

from attrs import frozen

from mkisod.job.patient import PatientIdentity
from mkisod.media.elements import StructureDefect, read_items
from mkisod.media.encoding import Elements, EncodedElements, encode_elements
from mkisod.media.header import Header
from mkisod.media.keys import FALLBACKS, KEYS, MIME_TYPES, MOMENTS, NO_DATE, NO_TIME, NUMBERS, TAGS, Key
from mkisod.media.record_types import PRIVATE_RECORD_UID, ROOT_RECORD_TYPES, find_record_type
from mkisod.media.values import copy_keys, refuse

_Value = TypeVar("_Value", bound=Hashable)


_PRIVATE_RECORD_UID = 0x00041432
_REFERENCED_SOP_CLASS_UID = 0x00041510
_REFERENCED_SOP_INSTANCE_UID = 0x00041511
_REFERENCED_TRANSFER_SYNTAX_UID = 0x00041512
# What a lineage is made of: texts, which are the same in every encoding.
_ABOVE = ("PATIENT", "STUDY", "SERIES")
_LINEAGE_TAGS = tuple(sorted({TAGS["IssuerOfPatientID"], *(key.tag for record_type in _ABOVE for key in KEYS[record_type])}))
_VERIFICATION_DATE_TIME = 0x0040A030


@frozen
class Substitution:
    """A key of a directory record that the object does not have. Objects are never altered. Holds no patient name and no birth date."""

    record_type: str
    keyword: str
    value: str
    reason: str
    study_instance_uid: str
    series_instance_uid: str = ""
    sop_instance_uid: str = ""


@frozen
class Instance:
    """What a DICOMDIR needs to know of one object."""

    path: str  # a Path weighs four times as much
    size_bytes: int
    record_type: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str  # "" below the root, where there is no patient
    series_instance_uid: str
    identity: PatientIdentity
    moment: tuple[str, str]  # a date and a time near those of the study, or two empty strings
    patient: Elements
    study: Elements
    series: Elements
    leaf: EncodedElements
    substitutions: tuple[Substitution, ...]  # of the leaf record


class Lineage(NamedTuple):
    """What an instance says about what is above it."""

    study_instance_uid: str
    series_instance_uid: str
    identity: PatientIdentity
    patient: Elements
    study: Elements
    series: Elements


class Siblings:
    """What instances say alike, made once and held once. Threads may share it."""

    def __init__(self) -> None:
        self._lineages: dict[tuple[object, ...], Lineage] = {}  # by the values in the objects
        self._shared: dict[Hashable, Any] = {}

    def find_lineage(self, header: Header, *, at_root: bool) -> Lineage:
        """Raises `Permanent(NONCONFORMANT)`."""
        key = (at_root, *map(header.values.get, _LINEAGE_TAGS))
        if (lineage := self._lineages.get(key)) is None:
            lineage = self._lineages[key] = self._make_lineage(header, at_root=at_root)
        return lineage

    def share(self, value: _Value) -> _Value:
        """An equal value that somebody holds already, or this one."""
        shared: _Value = self._shared.setdefault(value, value)
        return shared

    def _make_lineage(self, header: Header, *, at_root: bool) -> Lineage:
        identity = PatientIdentity(
            header.find_text("PatientID"),
            header.find_text("IssuerOfPatientID"),
            header.find_text("PatientName"),
            header.find_text("PatientBirthDate"),
        )
        if at_root:
            return Lineage("", "", self.share(identity), {}, {}, {})
        return Lineage(
            self.share(header.find_text("StudyInstanceUID")),
            self.share(header.find_text("SeriesInstanceUID")),
            self.share(identity),
            *(self._share_elements(copy_keys(header, record_type)) for record_type in _ABOVE),
        )

    def _share_elements(self, elements: Elements) -> Elements:
        shared: Elements = self._shared.setdefault(tuple(elements.items()), elements)
        return shared


def describe_instance(header: Header, siblings: Siblings | None = None) -> Instance:
    """What the records over this object hold. A missing number, study date or Patient ID is left to hierarchy.py.

    `siblings` remembers the other instances of a disc. Raises `Permanent(NONCONFORMANT)` that names the SOP instance where a record
    cannot be made.
    """
    instance_uid = header.media_sop_instance_uid
    if (own_uid := header.find_text("SOPInstanceUID") or instance_uid) != instance_uid or not instance_uid:
        raise refuse(own_uid or header.path.name, "its file meta information names another SOP instance, or none")
    if not header.media_sop_class_uid or not header.transfer_syntax_uid:
        raise refuse(instance_uid, "its file meta information names no SOP class or no transfer syntax")
    record_type = find_record_type(header.media_sop_class_uid)
    at_root = record_type in ROOT_RECORD_TYPES
    siblings = siblings or Siblings()
    study_uid, series_uid, identity, patient, study, series = siblings.find_lineage(header, at_root=at_root)
    if not at_root and not (study_uid and series_uid):
        raise refuse(instance_uid, "it has no Study Instance UID or no Series Instance UID")
    try:
        leaf, substitutions = _describe_leaf(header, record_type, instance_uid, study_uid, series_uid)
    except StructureDefect as defect:
        raise refuse(instance_uid, f"one of its sequences is damaged ({defect})") from defect
    return Instance(
        os.fspath(header.path),
        header.size_bytes,
        record_type,
        header.media_sop_class_uid,
        instance_uid,
        header.transfer_syntax_uid,
        study_uid,
        series_uid,
        identity,
        siblings.share(_find_moment(header, "StudyDate")),
        patient,
        study,
        series,
        encode_elements(leaf),
        substitutions,
    )


def _describe_leaf(
    header: Header, record_type: str, instance_uid: str, study_uid: str, series_uid: str
) -> tuple[Elements, tuple[Substitution, ...]]:
    leaf = {
        _REFERENCED_SOP_CLASS_UID: header.media_sop_class_uid.encode(),
        _REFERENCED_SOP_INSTANCE_UID: instance_uid.encode(),
        _REFERENCED_TRANSFER_SYNTAX_UID: header.transfer_syntax_uid.encode(),
        **copy_keys(header, record_type),
    }
    if record_type == "PRIVATE":
        leaf[_PRIVATE_RECORD_UID] = PRIVATE_RECORD_UID.encode()
    if record_type == "SR DOCUMENT" and header.find_value("VerificationFlag") == b"VERIFIED":
        leaf[_VERIFICATION_DATE_TIME] = _find_latest_verification(header, instance_uid)
    substitutions = []
    for key in KEYS[record_type]:
        if key.type == "1" and key.tag not in leaf and key.keyword not in NUMBERS:
            value, reason = _find_fallback(header, key, instance_uid)
            leaf[key.tag] = value.encode()
            substitutions.append(Substitution(record_type, key.keyword, value, reason, study_uid, series_uid, instance_uid))
    return leaf, tuple(substitutions)


def _find_latest_verification(header: Header, instance_uid: str) -> bytes:
    """PS3.3 F.5.22: the most recent Verification DateTime of the Verifying Observer Sequence."""
    observers = header.values.get(TAGS["VerifyingObserverSequence"], b"")
    moments = [
        elements.get(_VERIFICATION_DATE_TIME, b"").strip(b" \0")
        for _, _, elements in read_items(observers, header.encoding, (_VERIFICATION_DATE_TIME,))
    ]
    if not any(moments):
        raise refuse(instance_uid, "it is verified, but nothing says when (Verification DateTime)")
    return max(moments)


def _find_fallback(header: Header, key: Key, instance_uid: str) -> tuple[str, str]:
    """A value and a reason for a Type 1 key that the object lacks."""
    if key.keyword in MOMENTS or key.keyword.replace("Time", "Date") in MOMENTS:
        date, time = _find_moment(header, key.keyword.replace("Time", "Date"))
        if key.vr == "DA":
            return (date, "taken from the nearest date that the object has") if date else (NO_DATE, "the object has no date at all")
        own_date = header.find_text(key.keyword.replace("Time", "Date"))
        return (time, "the time that goes with the date") if time and own_date in ("", date) else (NO_TIME, "the object has no time for it")
    if key.keyword == "MIMETypeOfEncapsulatedDocument" and header.media_sop_class_uid in MIME_TYPES:
        return MIME_TYPES[header.media_sop_class_uid], "the SOP class has no other"
    if key.keyword in FALLBACKS:
        return FALLBACKS[key.keyword]
    raise refuse(instance_uid, f"it has no {key.keyword}, and no value could stand for it")


def _find_moment(header: Header, date_keyword: str) -> tuple[str, str]:
    """The first date, with its time, of those that say nearly the same; two empty strings where there is none."""
    for date, time in MOMENTS[date_keyword]:
        if value := header.find_text(date):
            return value, header.find_text(time)
    return "", ""


def parse_number(value: bytes | None) -> float:
    """An IS value as a number to sort by; what is none sorts last."""
    try:
        return int(value or b"")
    except ValueError:
        return float("inf")
