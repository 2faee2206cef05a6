"""The questions of one request, in their order: the studies of every accession number, then what is in each.

Promises a manifest of one patient that announces something for every accession number, or an error that names each one that it does not.
Costs one query for each accession number, one for each study, and one for each series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from mkisod.errors import Code, MkisodError, Permanent
from mkisod.job.manifest import Manifest, ReceivedInstance, StudyListing, check_patients, find_empty_accessions
from mkisod.job.request import Request
from mkisod.job.status import Evidence
from mkisod.pacs.find import find_studies, list_study
from mkisod.pacs.questions import Questions


def find_all(questions: Questions, request: Request, check_interrupted: Callable[[], None]) -> list[StudyListing]:
    """The studies of every accession number. What is permanently wrong with several of them is said of all at once."""
    found: list[StudyListing] = []
    errors: dict[str, Permanent] = {}
    for accession in request.accessions:
        check_interrupted()
        try:
            found += find_studies(questions, accession)
        except Permanent as error:
            errors[accession] = error
    if errors:
        raise _join(errors)
    check_patients(
        # One study may come under two accession numbers.
        [patient for _, patient in dict.fromkeys((study.study_instance_uid, study.patient) for study in found)],
        patient_id=request.patient_id,
        birth_date=request.birth_date,
        several_allowed="several-patients" in request.allow,
    )
    return found


def list_all(
    questions: Questions,
    request: Request,
    found: Iterable[StudyListing],
    *,
    wanted: Evidence,
    check_interrupted: Callable[[], None],
) -> Manifest:
    """What is in the studies that were found, as far as the request wants it."""
    studies = []
    for study in found:
        check_interrupted()
        studies.append(list_study(questions, study, modalities=request.modalities, wanted=wanted))
    manifest = Manifest(tuple(studies), modalities=request.modalities)
    refuse_empty(questions.peer.name, request, manifest, {})
    return manifest


def refuse_empty(pacs: str, request: Request, manifest: Manifest, received: Mapping[str, ReceivedInstance]) -> None:
    """Raises `Permanent` (`accession_not_found`, `nothing_selected`) where an accession number announces nothing and brought nothing."""
    errors = {}
    for accession in find_empty_accessions(request.accessions, manifest, received):
        if request.modalities:
            text = f"{pacs} has no series of {' or '.join(request.modalities)} for accession number {accession}."
            errors[accession] = Permanent(Code.NOTHING_SELECTED, text)
        else:
            errors[accession] = Permanent(Code.ACCESSION_NOT_FOUND, f"{pacs} has no instance for accession number {accession}.")
    if errors:
        raise _join(errors)


def _join(errors: Mapping[str, MkisodError]) -> Permanent:
    first = next(iter(errors.values()))
    whole = Permanent(first.code, " ".join(error.message for error in errors.values()), first.advice)
    whole.accessions = {accession: error.problem for accession, error in errors.items()}
    return whole
