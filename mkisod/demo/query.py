"""What a C-FIND is answered: Study Root, hierarchical, at STUDY, SERIES and IMAGE level (PS3.4 C.4.1, C.6.2).

Pure but for the tally that the faults "for a while" keep. A key that is not supported matches everything and is left out of the
answers, which then carry the pending DIMSE status FF01H.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast, get_args

from attrs import evolve, frozen

from mkisod.demo.commands import IDENTIFIER_MISMATCH
from mkisod.demo.faults import Availability, Faults, Level, Tally
from mkisod.demo.identifiers import decode_value, value_representation
from mkisod.demo.index import SERIES_KEYS, STUDY_KEYS, Archive, Instance, Series, Study
from mkisod.demo.matching import matches

UNIQUE_KEYS: dict[Level, str] = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
_ANSWERED: dict[Level, frozenset[str]] = {
    "STUDY": frozenset(STUDY_KEYS)
    | {"ModalitiesInStudy", "SOPClassesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"},
    "SERIES": frozenset(SERIES_KEYS) | {"NumberOfSeriesRelatedInstances"},
    "IMAGE": frozenset({"SpecificCharacterSet", "SOPInstanceUID", "SOPClassUID", "InstanceNumber", "AvailableTransferSyntaxUID"}),
}
_ALWAYS = frozenset({"QueryRetrieveLevel", "RetrieveAETitle", "InstanceAvailability"})
_NEVER_MATCHED = frozenset({"QueryRetrieveLevel", "SpecificCharacterSet", "RetrieveAETitle", "InstanceAvailability"})

Values = dict[str, bytes]


class Refused(Exception):
    """The identifier is answered with `dimse_status`; the message is the error comment."""

    def __init__(self, dimse_status: int, comment: str) -> None:
        super().__init__(comment)
        self.dimse_status = dimse_status


@frozen
class Query:
    """A checked identifier: its level, its keys, and the ones among them that nothing here supports."""

    level: Level
    keys: Mapping[str, str]
    unsupported: frozenset[str]


def check_level(identifier: Mapping[str, str]) -> Level:
    """The Query/Retrieve Level, and that each level above it has a single unique key. Raises `Refused` with A900H."""
    level = identifier.get("QueryRetrieveLevel", "")
    if level not in get_args(Level):
        raise Refused(IDENTIFIER_MISMATCH, "Query/Retrieve Level is missing or unknown")
    for above in get_args(Level)[: get_args(Level).index(level)]:
        uid = identifier.get(UNIQUE_KEYS[above], "")
        if not uid or "\\" in uid:
            raise Refused(IDENTIFIER_MISMATCH, f"no single {UNIQUE_KEYS[above]}")
    return cast(Level, level)


def check_query(identifier: Mapping[str, str], faults: Faults) -> Query:
    """Read an identifier. Raises `Refused`."""
    if faults.find_status:
        raise Refused(faults.find_status, "as told")
    level = check_level(identifier)
    if level in faults.refused_levels:
        raise Refused(IDENTIFIER_MISMATCH, f"{level} level is not supported")
    above = {UNIQUE_KEYS[upper] for upper in get_args(Level)[: get_args(Level).index(level)]}
    return Query(level, identifier, frozenset(identifier) - _ANSWERED[level] - _ALWAYS - above)


def shown_archive(archive: Archive, faults: Faults, tally: Tally) -> Archive:
    """The archive as the faults let it appear."""
    if faults.empty_study:
        return Archive({uid: Study(uid, study.attributes) for uid, study in archive.studies.items()})
    if not faults.late_instances:
        return archive
    return Archive(
        {
            uid: study if tally.moves(uid) >= faults.late_until_moves else _without_last(study, faults.late_instances)
            for uid, study in archive.studies.items()
        }
    )


def listed_archive(archive: Archive, faults: Faults) -> Archive:
    """What of it a C-FIND tells."""
    if not faults.hidden_instances:
        return archive
    return Archive({uid: _without_last(study, faults.hidden_instances) for uid, study in archive.studies.items()})


def availability(faults: Faults, answers: int) -> Availability:
    """Where a study is, after so many answers about it."""
    back = faults.availability_answers is not None and answers >= faults.availability_answers
    return "ONLINE" if back else faults.availability


def answer_query(archive: Archive, query: Query, ae_title: str, faults: Faults, tally: Tally) -> Iterator[Values]:
    """The matches, each with the keys that were asked for, as stored."""
    for study in archive.studies.values():
        for candidate in _candidates(study, query, faults):
            values = _alter_accession(candidate, faults) if query.level == "STUDY" else candidate
            if not _matches(query, values, candidate, faults):
                continue
            values["QueryRetrieveLevel"] = query.level.encode()
            values["RetrieveAETitle"] = ae_title.encode()
            if "InstanceAvailability" in query.keys:
                count = tally.count_answer if query.level == "STUDY" else tally.answers
                where = availability(faults, count(study.study_instance_uid))
                values["InstanceAvailability"] = b"" if faults.without_counts else where.encode()
            wanted = (set(query.keys) - query.unsupported) | {"QueryRetrieveLevel", "RetrieveAETitle", UNIQUE_KEYS[query.level]}
            if values.get("SpecificCharacterSet"):
                wanted.add("SpecificCharacterSet")  # it says how to read the rest: C.4.1.1.3.2
            else:
                wanted.discard("SpecificCharacterSet")
            yield {keyword: values[keyword] for keyword in wanted if keyword in values}


def _candidates(study: Study, query: Query, faults: Faults) -> Iterator[Values]:
    if query.level == "STUDY":
        yield _study_values(study, query, faults)
        return
    if study.study_instance_uid != query.keys["StudyInstanceUID"]:
        return
    above = {"StudyInstanceUID": study.study_instance_uid.encode()}
    if query.level == "SERIES":
        for series in study.series.values():
            yield above | _series_values(series, faults)
    elif (found := study.series.get(query.keys["SeriesInstanceUID"])) is not None:
        above["SeriesInstanceUID"] = query.keys["SeriesInstanceUID"].encode()
        for instance in found.instances.values():
            yield above | _instance_values(instance)


def _study_values(study: Study, query: Query, faults: Faults) -> Values:
    values = dict(study.attributes)
    values["ModalitiesInStudy"] = b"\\".join(sorted({series.attributes["Modality"].strip() for series in study.series.values()}))
    values["NumberOfStudyRelatedSeries"] = _count(len(study.series), faults)
    values["NumberOfStudyRelatedInstances"] = _count(sum(len(series.instances) for series in study.series.values()), faults)
    if "SOPClassesInStudy" in query.keys:
        values["SOPClassesInStudy"] = "\\".join(sorted({instance.sop_class_uid for instance in study.instances()})).encode()
    if faults.without_counts:
        values["ModalitiesInStudy"] = b""
    return values


def _series_values(series: Series, faults: Faults) -> Values:
    return dict(series.attributes) | {"NumberOfSeriesRelatedInstances": _count(len(series.instances), faults)}


def _instance_values(instance: Instance) -> Values:
    return {
        "SOPInstanceUID": instance.sop_instance_uid.encode(),
        "SOPClassUID": instance.sop_class_uid.encode(),
        "InstanceNumber": instance.instance_number,
        "AvailableTransferSyntaxUID": instance.transfer_syntax_uid.encode(),
    }


def _count(number: int, faults: Faults) -> bytes:
    return b"" if faults.without_counts else str(max(number + faults.count_error, 0)).encode()


def _alter_accession(values: Values, faults: Faults) -> Values:
    own = values["AccessionNumber"].strip()
    if faults.other_accession:
        return values | {"AccessionNumber": faults.other_accession.encode()}
    return values | {"AccessionNumber": own + b"\\" + faults.also_accession.encode()} if faults.also_accession else dict(values)


def _matches(query: Query, values: Values, candidate: Values, faults: Faults) -> bool:
    character_sets = candidate.get("SpecificCharacterSet", b"").decode("ascii", "replace").split("\\")
    for keyword, key in query.keys.items():
        if not key or keyword in query.unsupported or keyword in _NEVER_MATCHED or keyword not in candidate:
            continue
        # The fault `other_accession` matches by the study's own number and then shows another.
        value = (candidate if faults.other_accession else values)[keyword]
        text = decode_value(keyword, value, character_sets)
        if keyword == "AccessionNumber" and faults.prefix_match:
            if not any(part.strip().startswith(key) for part in text.split("\\")):
                return False
        elif not matches(value_representation(keyword), key, text):
            return False
    return True


def _without_last(study: Study, count: int) -> Study:
    """The study without its last `count` instances; a series that loses all of them is not there either."""
    shown = evolve(study, series={})
    left = sum(len(series.instances) for series in study.series.values()) - count
    for uid, series in study.series.items():
        kept = dict(list(series.instances.items())[: max(left, 0)])
        left -= len(series.instances)
        if kept:
            shown.series[uid] = evolve(series, instances=kept)
    return shown
