"""What to ask for: the C-MOVEs that bring what is missing and nothing else, and what their counters teach.

Pure. First the whole study, then by series, then by lists of SOP Instance UIDs. Where no list of UIDs counts, the numbers decide, and the
smallest part that is known to lack something is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from attrs import evolve, frozen

from mkisod.job.manifest import (
    Manifest,
    Places,
    ReceivedInstance,
    SeriesListing,
    StudyListing,
    count_by_place,
    count_series_shortage,
    find_study_shortage,
)
from mkisod.job.status import Evidence

# A list of UIDs travels as one value of VR UI; archives and their databases have limits that nobody documents.
MAX_UIDS_IN_MOVE = 200


@frozen
class Move:
    """The unique keys of one C-MOVE (PS3.4 C.4.2.1.4): a study, one of its series, or single instances of one series.

    Or, for an archive that answers no C-FIND, the accession number alone.
    """

    study_instance_uid: str = ""
    series_instance_uid: str | None = None
    sop_instance_uids: tuple[str, ...] = ()
    accession: str = ""

    def halve(self) -> tuple[Move, ...]:
        """Two moves of half the list each; none where it cannot be halved."""
        uids = self.sop_instance_uids
        if len(uids) < 2:
            return ()
        return tuple(evolve(self, sop_instance_uids=half) for half in (uids[: len(uids) // 2], uids[len(uids) // 2 :]))

    def split(self) -> tuple[Move, ...]:
        """A move of each SOP Instance UID in the list; itself where it is of no list."""
        return tuple(evolve(self, sop_instance_uids=(uid,)) for uid in self.sop_instance_uids) or (self,)


def must_list_first(manifest: Manifest, received: Collection[str]) -> bool:
    """Whether the first C-MOVEs depend on what the studies that were found have: only then they have to be listed before anything moves.

    Else each is asked for whole. Of an archive that answers no C-FIND nothing can be listed.
    """
    if manifest.by_accession:
        return False
    return bool(manifest.modalities or received) or any(study.number_of_instances == 0 for study in manifest.studies)


def plan_moves(manifest: Manifest, received: Mapping[str, ReceivedInstance], round_number: int) -> list[Move]:
    """The C-MOVEs of a round: 0 asks by study, 1 by series, later ones by list of SOP Instance UIDs.

    A study of which something is there already is not asked for whole, unless nothing smaller is known.
    """
    if manifest.by_accession:
        return [Move(accession=accession) for accession in manifest.by_accession if manifest.find_accession_shortage(accession, received)]
    counts = count_by_place(received)
    return [move for study in manifest.unique_studies for move in _plan_study(study, received, counts, round_number)]


def _plan_study(study: StudyListing, received: Mapping[str, ReceivedInstance], counts: Places, round_number: int) -> list[Move]:
    shortage = find_study_shortage(study, received, counts)
    if not shortage:
        return []
    uid = study.study_instance_uid
    whole = [] if study.is_selection else [Move(uid)]
    if whole and (not shortage.is_known or (round_number == 0 and not counts.get((uid, ""), 0))):
        return whole
    moves: list[Move] = []
    for series in study.series:
        moves += _plan_series(study, series, received, counts, round_number)
    return moves or whole


def _plan_series(
    study: StudyListing, series: SeriesListing, received: Mapping[str, ReceivedInstance], counts: Places, round_number: int
) -> list[Move]:
    uid, series_uid = study.study_instance_uid, series.series_instance_uid
    missing = [uid for uid in series.sop_instance_uids if uid not in received]
    by_name = study.evidence is Evidence.INSTANCES
    if not by_name:
        lack = count_series_shortage(uid, series, received, counts)
        if not lack and series.number_of_instances is not None:
            return []
        by_name = lack == len(missing) and series.number_of_instances is not None
    if not by_name:
        return [Move(uid, series_uid)]
    if round_number <= 1 and missing and len(missing) == len(series.sop_instance_uids):
        return [Move(uid, series_uid)]
    return [Move(uid, series_uid, tuple(missing[i : i + MAX_UIDS_IN_MOVE])) for i in range(0, len(missing), MAX_UIDS_IN_MOVE)]


def learn_from_move(manifest: Manifest, move: Move, number: int | None, failed_uids: tuple[str, ...]) -> Manifest:
    """The manifest with what a finished C-MOVE says: how many instances it was about (None: nothing), and which could not be sent.

    A listing that is shorter than that does not count any more; then the number does.
    """
    if move.accession:
        known = manifest.by_accession[move.accession]
        if number is None or (known is not None and known >= number):
            return manifest
        return evolve(manifest, by_accession={**manifest.by_accession, move.accession: number})
    if move.sop_instance_uids:
        return manifest  # it was about what was asked for
    studies = (
        _learn_study(study, move, number, failed_uids) if study.study_instance_uid == move.study_instance_uid else study
        for study in manifest.studies
    )
    return evolve(manifest, studies=tuple(studies))


def list_counted(manifest: Manifest) -> dict[str, int]:
    """What only the counters of C-MOVEs have told, by study: it has to outlive the attempt, since the next one may have nothing to move."""
    return {
        study.study_instance_uid: study.number_of_instances
        for study in manifest.studies
        if study.evidence is Evidence.RESPONSES and study.number_of_instances is not None and not study.is_selection
    }


def recall_counted(manifest: Manifest, counted: Mapping[str, int]) -> Manifest:
    """The manifest with what earlier attempts have been told."""
    for uid, number in counted.items():
        manifest = learn_from_move(manifest, Move(uid), number, ())
    return manifest


def _learn_study(study: StudyListing, move: Move, number: int | None, failed_uids: tuple[str, ...]) -> StudyListing:
    listed = frozenset(study.sop_instance_uids)
    more = tuple(uid for uid in dict.fromkeys(failed_uids) if uid not in listed)
    if move.series_instance_uid is None:
        study = evolve(study, failed_uids=study.failed_uids + more)
        return study if number is None else _learn_number(study, number)
    series = tuple(
        _learn_series(s, number, more) if s.series_instance_uid == move.series_instance_uid else s for s in study.series
    )
    lists_less = any(
        s.series_instance_uid == move.series_instance_uid and number is not None and number > len(s.sop_instance_uids) for s in series
    )
    study = evolve(study, series=series)
    return _distrust_listing(study, number or 0) if study.evidence is Evidence.INSTANCES and lists_less else study


def _learn_series(series: SeriesListing, number: int | None, more_uids: tuple[str, ...]) -> SeriesListing:
    uids = series.sop_instance_uids + more_uids
    known = series.number_of_instances
    return evolve(series, sop_instance_uids=uids, number_of_instances=known if number is None else max(known or 0, number))


def _learn_number(study: StudyListing, number: int) -> StudyListing:
    if study.evidence is Evidence.INSTANCES:
        known: int | None = sum(1 for _ in study.sop_instance_uids)
    else:
        known = study.number_of_instances
        if known is None and study.evidence is Evidence.COUNTS:
            known = sum(series.number_of_instances or 0 for series in study.series)
    if known is not None and number <= known:
        return study
    if study.evidence is not Evidence.RESPONSES:
        study = _distrust_listing(study, number)
    return evolve(study, number_of_instances=number)


def _distrust_listing(study: StudyListing, number: int) -> StudyListing:
    series = (evolve(s, number_of_instances=max(s.number_of_instances or 0, len(s.sop_instance_uids))) for s in study.series)
    doubt = f"A C-MOVE of study {study.study_instance_uid} was about {number} instances, more than are listed: only its counters tell."
    return evolve(study, series=tuple(series), evidence=Evidence.RESPONSES, doubt=doubt)
