"""Asking the archive what there is: C-FIND at STUDY, SERIES and IMAGE level of the Study Root model (PS3.4 C.4.1, C.6.2).

A response counts when its accession number is the one that was asked for: archives match by prefix, ignore case, or ignore the key
altogether. A listing that was cut short is said to be (job/evidence.py judges it); an archive that does not answer at all is an error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection

from attrs import evolve
from pydicom.dataset import Dataset

from mkisod.errors import Code, Permanent, Transient
from mkisod.job.evidence import judge_listing
from mkisod.job.manifest import SeriesListing, StudyListing, has_accession
from mkisod.job.patient import PatientIdentity
from mkisod.job.status import Evidence
from mkisod.pacs.questions import CutShort, Questions

_UNREACHABLE = ("OFFLINE", "UNAVAILABLE")  # PS3.3 C.4.23.1.1

_STUDY_KEYS = (
    "StudyDate",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "StudyInstanceUID",
    "ModalitiesInStudy",
    "InstanceAvailability",
    "NumberOfStudyRelatedInstances",
)
_SERIES_KEYS = ("SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances")
_INSTANCE_KEYS = ("SOPInstanceUID",)
_SOP_INSTANCE_UID = 0x00080018


def find_studies(questions: Questions, accession: str) -> list[StudyListing]:
    """The studies with this accession number, without their series: until they are listed, numbers tell what they have.

    Raises `Permanent`: `accession_not_found`, `accession_mismatch` where only others were answered, `study_unavailable`;
    `Transient`: `query_failed`, `timeout`, `pacs_unreachable`.
    """
    exact, others = [], 0
    for answer in questions.ask(_make_identifier("STUDY", {"AccessionNumber": accession}, _STUDY_KEYS)):
        if has_accession("\\".join(_values(answer, "AccessionNumber")), accession):
            exact.append(answer)
        else:
            others += 1  # only counted: an archive that ignores the key answers with all that it has
    name = questions.peer.name
    if others and not exact:
        raise Permanent(
            Code.ACCESSION_MISMATCH, f"{name} has no study with accession number {accession}, but answered with {others} others."
        )
    if not exact:
        raise Permanent(Code.ACCESSION_NOT_FOUND, f"{name} has no study with accession number {accession}.")
    for answer in exact:
        if (availability := _text(answer, "InstanceAvailability")) in _UNREACHABLE:
            raise Permanent(Code.STUDY_UNAVAILABLE, f"{name} holds the study of {accession} {availability.lower()}.")
    studies = (_make_study(questions, answer, accession) for answer in exact)
    return list({study.study_instance_uid: study for study in studies}.values())


def list_study(
    questions: Questions,
    study: StudyListing,
    *,
    modalities: Collection[str] = (),
    wanted: Evidence = Evidence.INSTANCES,
    look_up: Callable[[], None] = lambda: None,
) -> StudyListing:
    """The study with its series, those of `modalities` alone if there are any, and their instances. `look_up` is called before each query.

    Raises as `find_studies` does; `query_failed` also where modalities have to be told apart and the series are not all listed.
    """
    keys = {"StudyInstanceUID": study.study_instance_uid}
    faults: dict[str, str] = {}
    look_up()
    series, fault = _list_series(questions, keys)
    if fault:
        faults[""] = fault
        if modalities:
            raise Transient(Code.QUERY_FAILED, f"{fault} So no series can be chosen by modality.")
    if wanted is Evidence.INSTANCES:
        for i, one in enumerate(series):
            if modalities and one.modality not in modalities:
                continue
            look_up()
            keys["SeriesInstanceUID"] = one.series_instance_uid
            listed, fault = _list_instances(questions, keys)
            series[i] = evolve(one, sop_instance_uids=listed)
            if fault:
                faults[one.series_instance_uid] = fault
                if not listed:  # it does not list instances at all; the others would only cost time
                    break
    return judge_listing(study, series, faults, modalities=modalities, wanted=wanted)


def _list_series(questions: Questions, keys: dict[str, str]) -> tuple[list[SeriesListing], str]:
    """The series, and why they may not be all ('' where they are)."""
    series: dict[str, SeriesListing] = {}
    fault = ""
    try:
        for answer in questions.ask(_make_identifier("SERIES", keys, _SERIES_KEYS)):
            if uid := _find_usable(_text(answer, "SeriesInstanceUID")):
                series[uid] = SeriesListing(uid, _text(answer, "Modality"), (), _number(answer, "NumberOfSeriesRelatedInstances"))
            else:
                fault = _explain_useless(questions, "SeriesInstanceUID")
    except CutShort as error:
        fault = error.message
    return list(series.values()), fault


def _list_instances(questions: Questions, keys: dict[str, str]) -> tuple[tuple[str, ...], str]:
    """The SOP Instance UIDs, and why they may not be all."""
    listed: dict[str, None] = {}
    fault = ""
    try:
        for answered in questions.ask_for_uids(_make_identifier("IMAGE", keys, _INSTANCE_KEYS), _SOP_INSTANCE_UID):
            if uid := _find_usable(answered):
                listed[sys.intern(uid)] = None  # held once, here and where they are received
            else:
                fault = _explain_useless(questions, "SOPInstanceUID")
    except CutShort as error:
        fault = error.message
    return tuple(listed), fault


def _explain_useless(questions: Questions, keyword: str) -> str:
    return f"{questions.peer.name} answered a C-FIND without a usable {keyword}."


def _make_identifier(level: str, unique_keys: dict[str, str], return_keys: tuple[str, ...]) -> Dataset:
    """Query/Retrieve Level, the keys to match, and the attributes to return, empty (PS3.4 C.4.1.1.3)."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword in return_keys:
        setattr(identifier, keyword, None)
    for keyword, value in unique_keys.items():
        setattr(identifier, keyword, value)
        if not value.isascii():
            identifier.SpecificCharacterSet = "ISO_IR 192"
    return identifier


def _make_study(questions: Questions, answer: Dataset, accession: str) -> StudyListing:
    if not (uid := _find_usable(_text(answer, "StudyInstanceUID"))):
        raise Transient(Code.QUERY_FAILED, f"{questions.peer.name} answered a C-FIND without a usable StudyInstanceUID.")
    number = _number(answer, "NumberOfStudyRelatedInstances")
    return StudyListing(
        accession=accession,
        study_instance_uid=uid,
        patient=PatientIdentity(
            patient_id=_text(answer, "PatientID"),
            issuer=_text(answer, "IssuerOfPatientID"),
            name=_text(answer, "PatientName"),
            birth_date=_text(answer, "PatientBirthDate"),
        ),
        modalities=_values(answer, "ModalitiesInStudy"),
        evidence=Evidence.RESPONSES if number is None else Evidence.COUNTS,
        number_of_instances=number,
        is_near_line=_text(answer, "InstanceAvailability") == "NEARLINE",
    )


def _find_usable(uid: str) -> str:
    """A unique key of an answer; '' where it is of no use: an empty key, or one with wild cards, matches more than it names.

    PS3.4 C.2.2.2.3, C.2.2.2.4.
    """
    return "" if "\\" in uid or "*" in uid or "?" in uid else uid


def _text(answer: Dataset, keyword: str) -> str:
    value = answer.get(keyword)
    return "" if value is None else str(value).strip(" \0")


def _values(answer: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a multi-valued attribute, trimmed; empty ones left out."""
    return tuple(part for value in _text_values(answer, keyword) if (part := value.strip(" \0")))


def _text_values(answer: Dataset, keyword: str) -> list[str]:
    value = answer.get(keyword)
    if value is None:
        return []
    return value.split("\\") if isinstance(value, str) else [str(v) for v in value]


def _number(answer: Dataset, keyword: str) -> int | None:
    text = _text(answer, keyword)
    return int(text) if text.isdecimal() else None
