"""The questions of one request, in their order: the studies of every accession number, then what is in each.

Promises a manifest of one patient that announces something for every accession number, or an error that names each one that it does not.
Costs one query for each accession number, one for each study, and one for each series, and an association for each of the two parts: the
second may be asked while a C-MOVE is under way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from mkisod.errors import Code, MkisodError, Permanent
from mkisod.job.manifest import Manifest, ReceivedInstance, StudyListing, check_patients, find_empty_accessions
from mkisod.job.request import Request
from mkisod.job.status import Evidence
from mkisod.pacs.find import find_studies, list_study
from mkisod.pacs.peer import Peer
from mkisod.pacs.questions import Questions


class Asking:
    """What one job asks of its archive. `look_up` is called before every query, and may raise."""

    def __init__(self, peer: Peer, ae_title: str) -> None:
        self._peer = peer
        self._ae_title = ae_title
        self._questions: Questions | None = None

    def interrupt(self) -> None:
        """End the wait for an answer. Called from another thread, once `look_up` raises."""
        if (questions := self._questions) is not None:
            questions.abort()

    @contextmanager
    def _associate(self, look_up: Callable[[], None]) -> Iterator[Questions]:
        self._questions = Questions(self._peer, self._ae_title)  # before it is opened: that takes time too
        with self._questions as questions:
            look_up()
            yield questions

    def find(self, request: Request, look_up: Callable[[], None]) -> list[StudyListing]:
        """The studies of every accession number. What is permanently wrong with several of them is said of all at once."""
        found: list[StudyListing] = []
        errors: dict[str, Permanent] = {}
        with self._associate(look_up) as questions:
            for accession in request.accessions:
                look_up()
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

    def list(self, request: Request, found: Iterable[StudyListing], wanted: Evidence, look_up: Callable[[], None]) -> Manifest:
        """What is in the studies that were found, as far as the request wants it. `wanted`: the evidence to ask for."""
        with self._associate(look_up) as questions:
            studies = [list_study(questions, study, modalities=request.modalities, wanted=wanted, look_up=look_up) for study in found]
        manifest = Manifest(tuple(studies), modalities=request.modalities)
        refuse_empty(self._peer.name, request, manifest, {})
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
