"""What must come: every SOP instance of the studies a request names, and what of it is still missing.

Pure. A `Manifest` is what the archive announced; `received` is what stands in the job's directory. Completeness is the comparison of
the two. What the archive announced is a list of SOP Instance UIDs, or where it gives none that counts, numbers; `evidence` says which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from attrs import Factory, frozen

from mkisod.errors import Code, Permanent
from mkisod.job.patient import PatientIdentity, confirms_belief, contradicts_belief, group_patients
from mkisod.job.status import AccessionStatus, Evidence, State, StudyStatus


@frozen
class SeriesListing:
    """`sop_instance_uids`: those that are known. `number_of_instances`: as the archive counts; None: it does not say."""

    series_instance_uid: str
    modality: str
    sop_instance_uids: tuple[str, ...] = ()
    number_of_instances: int | None = None


@frozen
class StudyListing:
    accession: str
    study_instance_uid: str
    patient: PatientIdentity
    modalities: tuple[str, ...] = ()
    series: tuple[SeriesListing, ...] = ()
    evidence: Evidence = Evidence.INSTANCES
    number_of_instances: int | None = None  # of the whole study, as the archive counts; None: it does not say
    failed_uids: tuple[str, ...] = ()  # in no listed series, but named by a C-MOVE that could not send them
    is_selection: bool = False  # `series` are those of some modalities; what else the study has is not wanted
    is_near_line: bool = False
    doubt: str = ""  # why its evidence is not what was asked for

    @property
    def sop_instance_uids(self) -> Iterator[str]:
        """Those that are known: all of them where the evidence is `instances`."""
        yield from (uid for series in self.series for uid in series.sop_instance_uids)
        yield from self.failed_uids


@frozen
class ReceivedInstance:
    """One instance that stands whole in the job's directory."""

    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    patient: PatientIdentity
    size_bytes: int
    accession: str = ""  # as the object has it, of several values all


@frozen
class Shortage:
    """What is missing: the SOP Instance UIDs that are known, and how many there are with those that are not.

    `is_known`: the archive has said how many must come. Without that nothing is complete.
    """

    named: tuple[str, ...] = ()
    count: int = 0
    is_known: bool = True

    def __bool__(self) -> bool:
        return bool(self.count) or not self.is_known


@frozen
class Manifest:
    """`by_accession`: of an archive that answers no C-FIND, each accession number and how many its C-MOVE counted (None: not yet)."""

    studies: tuple[StudyListing, ...] = ()
    by_accession: Mapping[str, int | None] = Factory(dict)
    modalities: tuple[str, ...] = ()  # what else an expected study has is left out

    @property
    def study_instance_uids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(study.study_instance_uid for study in self.studies))

    @property
    def unique_studies(self) -> Iterable[StudyListing]:
        """One study may be listed under two accessions of a request."""
        return {study.study_instance_uid: study for study in self.studies}.values()

    def find_shortage(self, received: Mapping[str, ReceivedInstance]) -> Shortage:
        if self.by_accession:  # which studies there are, is known only of those that have come
            found = [self.find_accession_shortage(accession, received) for accession in self.by_accession]
        else:
            counts = count_by_place(received)
            found = [find_study_shortage(study, received, counts) for study in self.unique_studies]
        named = tuple(uid for shortage in found for uid in shortage.named)
        return Shortage(named, sum(shortage.count for shortage in found), all(shortage.is_known for shortage in found))

    def find_accession_shortage(self, accession: str, received: Mapping[str, ReceivedInstance]) -> Shortage:
        """Of an archive that answers no C-FIND."""
        number = self.by_accession[accession]
        came = sum(has_accession(instance.accession, accession) for instance in received.values())
        return Shortage((), max(0, (number or 0) - came), number is not None)


def has_accession(value: str, accession: str) -> bool:
    """Whether an Accession Number is the one asked for, trimmed, or holds it as one of several values (split by backslashes)."""
    return any(part.strip(" \0") == accession for part in value.split("\\"))


Places = Mapping[tuple[str, str], int]  # how many instances of a study and series; of the whole study where the series is ""


def count_by_place(received: Mapping[str, ReceivedInstance]) -> Places:
    counts: Counter[tuple[str, str]] = Counter()
    for instance in received.values():
        counts[instance.study_instance_uid, instance.series_instance_uid] += 1
        counts[instance.study_instance_uid, ""] += 1
    return counts


def find_study_shortage(study: StudyListing, received: Mapping[str, ReceivedInstance], counts: Places) -> Shortage:
    named = tuple(uid for uid in study.sop_instance_uids if uid not in received)
    if study.evidence is Evidence.INSTANCES:
        return Shortage(named, len(named))
    uid = study.study_instance_uid
    count = max(len(named), sum(count_series_shortage(uid, series, received, counts) for series in study.series))
    if not study.is_selection and study.number_of_instances is not None:
        return Shortage(named, max(count, study.number_of_instances - counts.get((uid, ""), 0)))
    return Shortage(named, count, bool(study.series) and all(series.number_of_instances is not None for series in study.series))


def count_series_shortage(study_uid: str, series: SeriesListing, received: Mapping[str, ReceivedInstance], counts: Places) -> int:
    """How many are missing by what is known of the series itself."""
    named = sum(uid not in received for uid in series.sop_instance_uids)
    return max(named, (series.number_of_instances or 0) - counts.get((study_uid, series.series_instance_uid), 0))


def find_empty_accessions(accessions: Collection[str], manifest: Manifest, received: Mapping[str, ReceivedInstance]) -> list[str]:
    """The accession numbers for which nothing has come and, as far as is known, nothing will: a manifest of nothing is never complete."""
    counts = count_by_place(received)
    empty = []
    for accession in accessions:
        studies = [study for study in manifest.studies if study.accession == accession]
        came = sum(counts.get((study.study_instance_uid, ""), 0) for study in studies)
        shortages = [find_study_shortage(study, received, counts) for study in studies]
        if not came and not any(shortages) and manifest.by_accession.get(accession, 0) == 0:
            empty.append(accession)
    return empty


def check_patients(
    identities: Collection[PatientIdentity],
    *,
    patient_id: str | None,
    birth_date: str | None,
    several_allowed: bool,
    same_study: bool = False,
) -> None:
    """Raises `Permanent` (`patient_mismatch`) where identities contradict what the client believes, or are those of several patients."""
    if any(contradicts_belief(identity, patient_id, birth_date) for identity in identities):
        raise Permanent(Code.PATIENT_MISMATCH, "What the request says of the patient (@patient, @birthdate) is not what the images say.")
    if not several_allowed and (groups := len(group_patients(list(identities), same_study=same_study))) > 1:
        raise Permanent(
            Code.PATIENT_MISMATCH,
            f"The studies belong to {groups} patients.",
            "Check every accession number. If one disc for several patients is meant, write @allow several-patients.",
        )


def check_received(
    manifest: Manifest, received: Collection[ReceivedInstance], *, patient_id: str | None, birth_date: str | None
) -> None:
    """Hold the instances to the rule of the answers. Raises `Permanent` (`patient_mismatch`).

    They are compared with the listing of their study (on arrival that may not have been known yet, and what an earlier attempt brought was
    held to an earlier one), with each other, and with the client's belief.
    """
    _check_places(manifest, received)
    by_study: dict[str, set[PatientIdentity]] = {}
    for study in manifest.studies:
        by_study.setdefault(study.study_instance_uid, set()).add(study.patient)
    for instance in received:
        by_study.setdefault(instance.study_instance_uid, set()).add(instance.patient)
    for identities in by_study.values():
        check_patients(identities, patient_id=patient_id, birth_date=birth_date, several_allowed=False, same_study=True)
    seen = [patient for identities in by_study.values() for patient in identities]
    if not confirms_belief(seen, patient_id, birth_date):
        raise Permanent(
            Code.PATIENT_MISMATCH, "Neither the PACS nor the images say what the request says of the patient (@patient, @birthdate)."
        )


def _check_places(manifest: Manifest, received: Collection[ReceivedInstance]) -> None:
    """Raises `Permanent` (`nonconformant`) where an instance came as part of another series than it is listed in."""
    came = {instance.sop_instance_uid: instance for instance in received}
    for study in manifest.studies:
        for series in study.series:
            place = (study.study_instance_uid, series.series_instance_uid)
            for instance in filter(None, map(came.get, series.sop_instance_uids)):
                if (instance.study_instance_uid, instance.series_instance_uid) != place:
                    raise make_place_contradiction(instance.sop_instance_uid, place[1], instance.series_instance_uid)


def make_place_contradiction(uid: str, listed_series_uid: str, series_uid: str) -> Permanent:
    text = f"The SOP Instance UID {uid} belongs to series {listed_series_uid}, but came as part of series {series_uid}."
    return Permanent(Code.NONCONFORMANT, text)


def count_expected(manifest: Manifest, received: Mapping[str, ReceivedInstance]) -> int:
    """What has come, listed or not, since a further instance of an expected study belongs to the set; and what is missing."""
    return len(received) + manifest.find_shortage(received).count


def describe_accessions(
    accessions: Collection[str], manifest: Manifest, received: Mapping[str, ReceivedInstance], state: State, *, name_missing: bool
) -> tuple[AccessionStatus, ...]:
    """The `accessions` part of a status. `name_missing`: the moves are over, so what is not there does not come."""
    counts = count_by_place(received)
    studies: dict[str, list[StudyStatus]] = {accession: [] for accession in accessions}
    for study in manifest.studies:
        studies.setdefault(study.accession, []).append(_describe_study(study, received, counts, name_missing))
    return tuple(AccessionStatus(accession, state, studies=tuple(studies[accession])) for accession in accessions)


def _describe_study(study: StudyListing, received: Mapping[str, ReceivedInstance], counts: Places, name_missing: bool) -> StudyStatus:
    shortage = find_study_shortage(study, received, counts)
    instances_received = counts.get((study.study_instance_uid, ""), 0)
    return StudyStatus(
        study_instance_uid=study.study_instance_uid,
        modalities=study.modalities,
        instances_expected=instances_received + shortage.count,
        instances_received=instances_received,
        missing=shortage.named if name_missing else (),
        evidence=study.evidence,
    )
