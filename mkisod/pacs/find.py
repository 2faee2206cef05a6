"""Asking the archive what there is: C-FIND at STUDY, SERIES and IMAGE level of the Study Root model (PS3.4 C.4.1, C.6.2).

Promises a listing of every SOP Instance UID, or an error; never a listing that was cut short. A response counts when its accession number
is the one that was asked for: archives match by prefix, ignore case, or ignore the key altogether.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import evolve, frozen
from pydicom.dataset import Dataset

from mkisod.errors import Code, Permanent, Transient
from mkisod.job.manifest import SeriesListing, StudyListing
from mkisod.job.patient import PatientIdentity
from mkisod.pacs.associate import FIND, Association

_PENDING = (0xFF00, 0xFF01)  # PS3.4 Table C.4-1: the second says that optional keys were not supported
_SUCCESS = 0x0000
_UNREACHABLE = ("OFFLINE", "UNAVAILABLE")

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


@frozen
class FoundStudy:
    """One response at STUDY level, and the number of instances the archive claims (None: it does not say)."""

    listing: StudyListing
    number_of_instances: int | None
    availability: str


def find_studies(association: Association, accession: str, clock_s: Callable[[], float]) -> list[FoundStudy]:
    """The studies with this accession number.

    Raises `Permanent`: `accession_not_found`, `accession_mismatch` where only others were answered, `study_unavailable`;
    `Transient`: `query_failed`, `timeout`, `pacs_unreachable`.
    """
    exact, others = [], 0
    for answer in _query(association, _make_identifier("STUDY", {"AccessionNumber": accession}, _STUDY_KEYS), clock_s):
        if accession in _values(answer, "AccessionNumber"):
            exact.append(answer)
        else:
            others += 1  # only counted: an archive that ignores the key answers with all that it has
    if others and not exact:
        raise Permanent(
            Code.ACCESSION_MISMATCH,
            f"{association.peer.name} has no study with accession number {accession}, but answered with {others} others.",
        )
    if not exact:
        raise Permanent(Code.ACCESSION_NOT_FOUND, f"{association.peer.name} has no study with accession number {accession}.")
    studies = {study.listing.study_instance_uid: study for study in (_make_study(association, answer, accession) for answer in exact)}
    for study in studies.values():
        if study.availability in _UNREACHABLE:
            raise Permanent(Code.STUDY_UNAVAILABLE, f"{association.peer.name} holds the study of {accession} {study.availability.lower()}.")
    return list(studies.values())


def list_study(association: Association, study: FoundStudy, clock_s: Callable[[], float]) -> StudyListing:
    """Every instance of a study. Raises as `find_studies` does; `query_failed` also where the listing is shorter than the counts."""
    uid = study.listing.study_instance_uid
    series = []
    # One query at a time on an association: all series first.
    for answer in list(_query(association, _make_identifier("SERIES", {"StudyInstanceUID": uid}, _SERIES_KEYS), clock_s)):
        series_uid = _uid(association, answer, "SeriesInstanceUID")
        keys = {"StudyInstanceUID": uid, "SeriesInstanceUID": series_uid}
        instances = _query(association, _make_identifier("IMAGE", keys, _INSTANCE_KEYS), clock_s)
        uids = tuple(dict.fromkeys(_uid(association, instance, "SOPInstanceUID") for instance in instances))
        _check_length(association, "series", len(uids), _number(answer, "NumberOfSeriesRelatedInstances"))
        series.append(SeriesListing(series_uid, _text(answer, "Modality"), uids))
    listing = evolve(study.listing, series=tuple(series))
    listed = sum(len(s.sop_instance_uids) for s in series)
    _check_length(association, "study", listed, study.number_of_instances)
    if not listed:
        raise Permanent(Code.ACCESSION_NOT_FOUND, f"{association.peer.name} lists no instance in the study of {study.listing.accession}.")
    modalities = study.listing.modalities or tuple(dict.fromkeys(s.modality for s in series))
    return evolve(listing, modalities=modalities)


def _check_length(association: Association, level: str, listed: int, claimed: int | None) -> None:
    if claimed is not None and listed < claimed:
        raise Transient(
            Code.QUERY_FAILED, f"{association.peer.name} lists {listed} instances of a {level}, but says that it has {claimed}."
        )


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


def _query(association: Association, identifier: Dataset, clock_s: Callable[[], float]) -> Iterator[Dataset]:
    """The identifiers of the pending responses. Raises where the final DIMSE status is not success: then the listing is not whole."""
    what = f"a C-FIND at {identifier.QueryRetrieveLevel} level"
    if not any(context.abstract_syntax == FIND for context in association.raw.accepted_contexts):
        raise Permanent(Code.QUERY_FAILED, f"{association.peer} does not offer C-FIND in the Study Root model.")
    asked_s = clock_s()
    for response, answer in association.exchange(lambda raw: raw.send_c_find(identifier, FIND), what):
        if "Status" not in response:
            raise association.explain_silence(what, clock_s() - asked_s)
        if response.Status in _PENDING:
            if answer is None:
                raise Transient(Code.QUERY_FAILED, f"{association.peer} answered {what} with an identifier that cannot be decoded.")
            yield answer
            asked_s = clock_s()
        elif response.Status != _SUCCESS:
            raise Transient(Code.QUERY_FAILED, f"{association.peer} answered {what} with DIMSE status {response.Status:04X}H.")


def _make_study(association: Association, answer: Dataset, accession: str) -> FoundStudy:
    listing = StudyListing(
        accession=accession,
        study_instance_uid=_uid(association, answer, "StudyInstanceUID"),
        patient=PatientIdentity(
            patient_id=_text(answer, "PatientID"),
            issuer=_text(answer, "IssuerOfPatientID"),
            name=_text(answer, "PatientName"),
            birth_date=_text(answer, "PatientBirthDate"),
        ),
        modalities=_values(answer, "ModalitiesInStudy"),
    )
    return FoundStudy(listing, _number(answer, "NumberOfStudyRelatedInstances"), _text(answer, "InstanceAvailability"))


def _uid(association: Association, answer: Dataset, keyword: str) -> str:
    """A unique key of an answer. Without it nothing can be asked further: an empty key matches the whole archive (PS3.4 C.2.2.2.3)."""
    uid = _text(answer, keyword)
    if not uid or "\\" in uid or "*" in uid or "?" in uid:
        raise Transient(Code.QUERY_FAILED, f"{association.peer.name} answered a C-FIND without a usable {keyword}.")
    return uid


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
