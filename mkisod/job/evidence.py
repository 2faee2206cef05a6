"""How it is known that a study is complete: whether a listing counts, and if not, which numbers do.

Pure. A listing counts where nothing cut it short and it is not shorter than what the archive itself counts (measured: an archive with a
limit answered 20 of 50 instances). Else the numbers of the archive decide (`counts`), and where it has none, the counters of its C-MOVE
responses (`responses`). The SOP Instance UIDs of a listing that does not count are known all the same, and have to come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from attrs import evolve

from mkisod.job.manifest import Manifest, SeriesListing, StudyListing
from mkisod.job.status import Evidence


def judge_listing(
    study: StudyListing,
    answered: Sequence[SeriesListing],
    faults: Mapping[str, str],
    *,
    modalities: Collection[str] = (),
    wanted: Evidence = Evidence.INSTANCES,
) -> StudyListing:
    """The study with what is known of it. `answered`: every series; `faults`: why a listing was cut short, by Series Instance UID.

    The fault of "" is that of the list of series. `wanted` is the evidence that was asked for: without `instances` no UIDs were.
    """
    chosen = tuple(series for series in answered if not modalities or series.modality in modalities)
    doubt = _find_doubt(study, answered, chosen, faults) if wanted is Evidence.INSTANCES else ""
    evidence, series = wanted, chosen
    if doubt or wanted is not Evidence.INSTANCES:
        evidence = _find_next_evidence(study, chosen, faults, is_selection=bool(modalities))
        if "" in faults:  # of those that are missing from the list nobody knows the number
            series = tuple(evolve(s, number_of_instances=None) for s in chosen)
    if evidence is not wanted and not doubt:
        doubt = faults.get("") or f"nobody says how many instances study {study.study_instance_uid} has."
    return evolve(
        study,
        series=series,
        evidence=evidence,
        is_selection=bool(modalities),
        modalities=_name_modalities(chosen) if modalities else study.modalities or _name_modalities(chosen),
        doubt=doubt,
    )


def _find_doubt(
    study: StudyListing, answered: Sequence[SeriesListing], chosen: Sequence[SeriesListing], faults: Mapping[str, str]
) -> str:
    """Why the listing does not count; '' where it does."""
    of_chosen = ["", *(series.series_instance_uid for series in chosen)]
    if fault := next((faults[uid] for uid in of_chosen if uid in faults), ""):
        return fault
    for series in chosen:
        listed, number = len(series.sop_instance_uids), series.number_of_instances
        if number is not None and listed < number:
            return f"{listed} instances of series {series.series_instance_uid} are listed, but counted are {number}."
    others = [series.number_of_instances for series in answered if series not in chosen]
    listed = sum(len(series.sop_instance_uids) for series in chosen) + sum(number or 0 for number in others)
    if study.number_of_instances is not None and None not in others and listed < study.number_of_instances:
        return f"{listed} instances of study {study.study_instance_uid} are listed, but counted are {study.number_of_instances}."
    return ""


def _find_next_evidence(
    study: StudyListing, chosen: Sequence[SeriesListing], faults: Mapping[str, str], *, is_selection: bool
) -> Evidence:
    if not is_selection and study.number_of_instances is not None:
        return Evidence.COUNTS
    all_counted = all(series.number_of_instances is not None for series in chosen)
    return Evidence.COUNTS if "" not in faults and all_counted else Evidence.RESPONSES


def _name_modalities(series: Iterable[SeriesListing]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(s.modality for s in series if s.modality))


def has_changed(asked: Manifest, now: Manifest, found: Iterable[StudyListing]) -> bool:
    """Whether it is worth listing again what was `asked` for: the archive has `found` another study or counts otherwise than it did.

    Also where a C-MOVE was about more than was listed, so that what is known `now` is less certain than it was.
    """
    numbers = {(study.accession, study.study_instance_uid): study.number_of_instances for study in asked.studies}
    for study in found:
        key = (study.accession, study.study_instance_uid)
        if key not in numbers or study.number_of_instances not in (None, numbers[key]):
            return True
    return [study.evidence for study in asked.studies] != [study.evidence for study in now.studies]
