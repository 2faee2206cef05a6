"""What must come: every SOP instance of the studies a request names, and what of it is still missing.

Pure. A `Manifest` is what the archive announced; `received` is what stands in the job's directory. Completeness is the comparison of
the two, never a counter of a C-MOVE response: an archive that answers Success may have sent nothing at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping

from attrs import frozen

from mkisod.errors import Code, Permanent
from mkisod.job.patient import PatientIdentity, confirms_belief, contradicts_belief, group_patients
from mkisod.job.status import AccessionStatus, Evidence, State, StudyStatus


@frozen
class SeriesListing:
    series_instance_uid: str
    modality: str
    sop_instance_uids: tuple[str, ...]


@frozen
class StudyListing:
    accession: str
    study_instance_uid: str
    patient: PatientIdentity
    modalities: tuple[str, ...] = ()
    series: tuple[SeriesListing, ...] = ()
    evidence: Evidence = Evidence.INSTANCES

    @property
    def sop_instance_uids(self) -> Iterator[str]:
        return (uid for series in self.series for uid in series.sop_instance_uids)


@frozen
class Move:
    """The unique keys of one C-MOVE (PS3.4 C.4.2.1.4): a study, some of its series, or single instances of one series."""

    study_instance_uid: str
    series_instance_uid: str | None = None
    sop_instance_uids: tuple[str, ...] = ()


@frozen
class ReceivedInstance:
    """One instance that stands whole in the job's directory."""

    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    patient: PatientIdentity
    size_bytes: int


@frozen
class Manifest:
    studies: tuple[StudyListing, ...] = ()

    @property
    def study_instance_uids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(study.study_instance_uid for study in self.studies))

    def missing(self, received: Container[str]) -> tuple[str, ...]:
        return tuple(uid for study in self.studies for uid in study.sop_instance_uids if uid not in received)


# A list of UIDs travels as one value of VR UI; archives and their databases have limits that nobody documents.
MAX_UIDS_IN_MOVE = 200


def plan_moves(manifest: Manifest, received: Container[str], round_number: int) -> list[Move]:
    """The C-MOVEs that ask for what is missing, and for nothing else.

    Round 0 asks by study, round 1 by series, later ones by list of SOP Instance UIDs.
    A study of which something is there already is never asked for whole.
    """
    moves: list[Move] = []
    for study in _unique_studies(manifest):
        missing = {series: [uid for uid in series.sop_instance_uids if uid not in received] for series in study.series}
        uid = study.study_instance_uid
        if not any(missing.values()):
            continue
        if round_number == 0 and all(len(uids) == len(series.sop_instance_uids) for series, uids in missing.items()):
            moves.append(Move(uid))
            continue
        for series, uids in missing.items():
            if not uids:
                continue
            if round_number <= 1 and len(uids) == len(series.sop_instance_uids):
                moves.append(Move(uid, series.series_instance_uid))
            else:
                starts = range(0, len(uids), MAX_UIDS_IN_MOVE)
                moves += [Move(uid, series.series_instance_uid, tuple(uids[i : i + MAX_UIDS_IN_MOVE])) for i in starts]
    return moves


def _unique_studies(manifest: Manifest) -> Iterator[StudyListing]:
    """One study may be listed under two accessions of a request; it is moved once."""
    return iter({study.study_instance_uid: study for study in manifest.studies}.values())


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

    They are compared with the listing of their study (that was done on arrival, but what an earlier attempt brought was held to an earlier
    listing), with each other, and with the client's belief.
    """
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


def count_expected(manifest: Manifest, received: Mapping[str, ReceivedInstance]) -> int:
    """The listed instances, and those that came although nobody listed them: a further instance of an expected study belongs to the set."""
    listed = {uid for study in manifest.studies for uid in study.sop_instance_uids}
    return len(listed | received.keys())


def describe_accessions(
    accessions: Collection[str], manifest: Manifest, received: Mapping[str, ReceivedInstance], state: State, *, name_missing: bool
) -> tuple[AccessionStatus, ...]:
    """The `accessions` part of a status. `name_missing`: the moves are over, so what is not there does not come."""
    counts = Counter(instance.study_instance_uid for instance in received.values())
    return tuple(
        AccessionStatus(
            accession,
            state,
            studies=tuple(_describe_study(s, received, counts, name_missing) for s in manifest.studies if s.accession == accession),
        )
        for accession in accessions
    )


def _describe_study(
    study: StudyListing, received: Mapping[str, ReceivedInstance], counts: Mapping[str, int], name_missing: bool
) -> StudyStatus:
    missing = tuple(uid for uid in study.sop_instance_uids if uid not in received)
    instances_received = counts.get(study.study_instance_uid, 0)
    return StudyStatus(
        study_instance_uid=study.study_instance_uid,
        modalities=study.modalities,
        instances_expected=instances_received + len(missing),
        instances_received=instances_received,
        missing=missing if name_missing else (),
        evidence=study.evidence,
    )
