"""What a C-MOVE does: which instances it names, in which order and on which associations they are sent, and what is answered (PS3.4 C.4.2).

The first half decides and is pure; `serve_move` carries it out. Instances are sent as their files hold them, over one association for each
128 presentation contexts (PS3.8 9.3.2.2: the IDs are odd numbers of one byte).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from attrs import frozen

from mkisod.demo.commands import DESTINATION_UNKNOWN, IDENTIFIER_MISMATCH
from mkisod.demo.faults import Faults, Level
from mkisod.demo.identifiers import decode_value
from mkisod.demo.index import Archive, Instance
from mkisod.demo.matching import matches
from mkisod.demo.query import UNIQUE_KEYS, Refused, check_level

MOST_CONTEXTS = 128


@frozen
class Delivery:
    """One instance of a move: send it, claim that it was sent, or fail it. What is not `counted` is no sub-operation of the move."""

    instance: Instance
    outcome: Literal["send", "claim", "fail"]
    counted: bool = True


def select_instances(
    archive: Archive, identifier: Mapping[str, str], faults: Faults, accession_moves: bool
) -> tuple[Level, list[Instance]]:
    """The level, and the instances that the identifier names. Raises `Refused` with A900H.

    Beside Query/Retrieve Level and Specific Character Set only the unique keys of the level and of those above it have a place there.
    """
    level = check_level(identifier)
    unique = UNIQUE_KEYS[level]
    known = {UNIQUE_KEYS[upper] for upper in get_args(Level)[: get_args(Level).index(level) + 1]}
    others = set(identifier) - known - {"QueryRetrieveLevel", "SpecificCharacterSet"}
    if level == "STUDY" and not identifier.get(unique) and (accession_moves or faults.ignore_accession) and others == {"AccessionNumber"}:
        return level, _select_by_accession(archive, identifier["AccessionNumber"], faults)
    if others:
        raise Refused(IDENTIFIER_MISMATCH, f"{min(others)} is no unique key of {level}")
    wanted = [uid for uid in (part.strip() for part in identifier.get(unique, "").split("\\")) if uid]
    if not wanted:
        raise Refused(IDENTIFIER_MISMATCH, f"{unique} is missing")
    if faults.refuse_lists and len(wanted) > 1:
        raise Refused(DESTINATION_UNKNOWN, "as told")
    if level == "STUDY":
        return level, [instance for uid in wanted if uid in archive.studies for instance in archive.studies[uid].instances()]
    study = archive.studies.get(identifier["StudyInstanceUID"])
    if study is None:
        return level, []
    if faults.whole_study:
        return level, list(study.instances())
    if level == "SERIES":
        return level, [instance for uid in wanted if uid in study.series for instance in study.series[uid].instances.values()]
    series = study.series.get(identifier["SeriesInstanceUID"])
    return level, [] if series is None else [series.instances[uid] for uid in wanted if uid in series.instances]


def _select_by_accession(archive: Archive, accession: str, faults: Faults) -> list[Instance]:
    if faults.ignore_accession:
        return list(archive.instances())
    if not accession:
        raise Refused(IDENTIFIER_MISMATCH, "AccessionNumber is empty")
    return [
        instance
        for study in archive.studies.values()
        if matches("SH", accession, decode_value("AccessionNumber", study.attributes["AccessionNumber"], []))
        for instance in study.instances()
    ]


def plan_deliveries(archive: Archive, instances: Sequence[Instance], faults: Faults) -> list[Delivery]:
    """What becomes of each instance, in order."""
    deliveries: list[Delivery] = []
    for number, instance in enumerate(instances, start=1):
        claimed = faults.send_nothing or number == faults.drop_instance or instance.sop_instance_uid in faults.never_sent_uids
        deliveries.append(Delivery(instance, "claim" if claimed else "fail" if number == faults.fail_instance else "send"))
        if faults.send_twice and not claimed:
            deliveries.append(Delivery(instance, "send", counted=False))
        if number == 1 and faults.foreign_study_uid:
            foreign = archive.studies[faults.foreign_study_uid]
            deliveries += [Delivery(other, "send", counted=False) for other in foreign.instances()]
    return deliveries


def split_deliveries(deliveries: Sequence[Delivery]) -> list[tuple[dict[int, tuple[str, str]], list[Delivery]]]:
    """Presentation contexts and deliveries for one association after the other: each SOP class with each transfer syntax it is held in."""
    pairs: dict[tuple[str, str], int] = {}
    for delivery in deliveries:
        pairs.setdefault(context_of(delivery.instance), len(pairs))
    batches: list[tuple[dict[int, tuple[str, str]], list[Delivery]]] = [({}, []) for _ in range(0, len(pairs), MOST_CONTEXTS)]
    for pair, position in pairs.items():
        batches[position // MOST_CONTEXTS][0][position % MOST_CONTEXTS * 2 + 1] = pair
    for delivery in deliveries:
        batches[pairs[context_of(delivery.instance)] // MOST_CONTEXTS][1].append(delivery)
    return batches


def context_of(instance: Instance) -> tuple[str, str]:
    """The SOP class and the transfer syntax it is held in."""
    return instance.sop_class_uid, instance.transfer_syntax_uid
