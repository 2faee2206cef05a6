"""Finds what must never be merged silently: one SOP instance in two places, one series in two studies, two patients.

A resend within its series is kept once. Everything else is refused with both sides named by UID (no patient name is ever quoted), or,
where several patients are allowed, kept apart: two people never share a PATIENT record, and people who share a Patient ID or a study
never share a file-set (PS3.3 F.5.1, F.5.2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from attrs import frozen

from mkisod.errors import Code, Permanent
from mkisod.job.patient import PatientIdentity, group_patients, same_patient
from mkisod.media.record_types import ROOT_RECORD_TYPES
from mkisod.media.records import Instance


@frozen
class Content:
    """What goes into one file-set: the instances of each person, and those without a patient."""

    patients: tuple[tuple[Instance, ...], ...]
    rootless: tuple[Instance, ...] = ()


def sort_out(
    instances: Iterable[Instance], *, allow_several_patients: bool, have_same_content: Callable[[str, str], bool]
) -> tuple[Content, ...]:
    """The contents of the file-sets that the instances need: one, unless people clash who may be on one disc but not in one file-set.

    Raises `Permanent`: PATIENT_MISMATCH or NONCONFORMANT.
    """
    kept = _drop_resends(instances, have_same_content)
    rootless = tuple(instance for instance in kept if instance.record_type in ROOT_RECORD_TYPES)
    people = _tell_people_apart([instance for instance in kept if instance.record_type not in ROOT_RECORD_TYPES], allow_several_patients)
    if len(people) > 1 and not allow_several_patients:
        studies = ", ".join(sorted({instance.study_instance_uid for person in people for instance in person})[:10])
        raise Permanent(Code.PATIENT_MISMATCH, f"The objects belong to {len(people)} patients (studies {studies}).")
    contents: list[list[tuple[Instance, ...]]] = []
    for person in people:
        ids, studies_of = _find_ids(person)
        for content in contents:
            if all(not (ids & other_ids or studies_of & other_studies) for other_ids, other_studies in map(_find_ids, content)):
                content.append(person)
                break
        else:
            contents.append([person])
    if not contents:
        return (Content((), rootless),)
    return tuple(Content(tuple(content), rootless if number == 0 else ()) for number, content in enumerate(contents))


def _drop_resends(instances: Iterable[Instance], have_same_content: Callable[[str, str], bool]) -> list[Instance]:
    by_uid: dict[str, Instance] = {}
    study_of: dict[str, str] = {}
    for instance in sorted(instances, key=lambda i: (i.sop_instance_uid, i.path)):
        first = by_uid.setdefault(instance.sop_instance_uid, instance)
        if first is not instance:
            places = [f"series {i.series_instance_uid} of study {i.study_instance_uid}" for i in (first, instance)]
            if places[0] != places[1]:
                raise _refuse(f"SOP instance {instance.sop_instance_uid} is in two places: {places[0]}, and {places[1]}.")
            if not have_same_content(first.path, instance.path):
                raise _refuse(f"SOP instance {instance.sop_instance_uid} of {places[0]} came twice, with different content.")
            continue
        if instance.series_instance_uid and study_of.setdefault(instance.series_instance_uid, instance.study_instance_uid) != (
            instance.study_instance_uid
        ):
            studies = sorted((study_of[instance.series_instance_uid], instance.study_instance_uid))
            raise _refuse(f"Series {instance.series_instance_uid} is in two studies: {studies[0]} and {studies[1]}.")
    return list(by_uid.values())


def _tell_people_apart(instances: Sequence[Instance], allow_several_patients: bool) -> list[tuple[Instance, ...]]:
    """First within each study, which its UID holds together; then across studies."""
    studies: dict[str, dict[PatientIdentity, list[Instance]]] = defaultdict(lambda: defaultdict(list))
    for instance in instances:
        studies[instance.study_instance_uid][instance.identity].append(instance)
    people: list[tuple[list[PatientIdentity], list[Instance]]] = []
    for study_uid, by_identity in sorted(studies.items()):
        groups = group_patients(list(by_identity), same_study=True)
        if len(groups) > 1 and not allow_several_patients:
            raise Permanent(
                Code.PATIENT_MISMATCH,
                f"The instances of study {study_uid} belong to {len(groups)} patients; two patients were merged, or it was filed twice.",
                "Have the archive correct the study, or allow several patients: each then gets a volume of its own.",
            )
        for identities in groups:
            members = [instance for identity in identities for instance in by_identity[identity]]
            for known, collected in people:
                if not {i.study_instance_uid for i in collected} & {study_uid} and all(
                    same_patient(a, b) for a in known for b in identities
                ):
                    known.extend(identities)
                    collected.extend(members)
                    break
            else:
                people.append((list(identities), members))
    return [tuple(collected) for _, collected in people]


def _find_ids(person: Sequence[Instance]) -> tuple[set[str], set[str]]:
    return {i.identity.patient_id.strip() for i in person if i.identity.patient_id.strip()}, {i.study_instance_uid for i in person}


def _refuse(message: str) -> Permanent:
    return Permanent(Code.NONCONFORMANT, message, "Have the archive correct it, or ask for the accession numbers separately.")
