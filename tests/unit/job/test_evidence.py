"""Which listing counts, what decides where none does, and when it is worth asking again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from attrs import evolve

from mkisod.job.evidence import has_changed, judge_listing
from mkisod.job.manifest import Manifest, SeriesListing, StudyListing
from mkisod.job.patient import PatientIdentity
from mkisod.job.status import Evidence

INSTANCES, COUNTS, RESPONSES = Evidence.INSTANCES, Evidence.COUNTS, Evidence.RESPONSES
CUT = "The PACS answered a C-FIND with DIMSE status FE00H."


def found(number: int | None, uid: str = "1", accession: str = "A1") -> StudyListing:
    return StudyListing(accession, uid, PatientIdentity("123"), number_of_instances=number)


def series(number: int, listed: int, counted: int | None, modality: str = "CT") -> SeriesListing:
    return SeriesListing(f"1.{number}", modality, tuple(f"1.{number}.{i}" for i in range(listed)), counted)


@pytest.mark.parametrize(
    ("number", "answered", "faults", "evidence"),
    [
        (3, [series(1, 2, 2), series(2, 1, 1)], {}, INSTANCES),
        (None, [series(1, 2, None)], {}, INSTANCES),
        (2, [series(1, 3, 2)], {}, INSTANCES),  # longer than the counts
        (4, [series(1, 3, 3)], {}, COUNTS),  # a series is not listed
        (None, [series(1, 2, 3)], {}, COUNTS),
        (50, [series(1, 20, 50)], {"1.1": CUT}, COUNTS),
        (20, [series(1, 20, 20)], {"1.1": CUT}, COUNTS),  # not 0000H
        (None, [series(1, 20, None)], {"1.1": CUT}, RESPONSES),
        (None, [series(1, 2, 2), series(2, 1, None)], {"1.2": CUT}, RESPONSES),
        (5, [], {"": CUT}, COUNTS),
        (None, [], {"": CUT}, RESPONSES),
        (None, [series(1, 2, 2)], {"": CUT}, RESPONSES),  # of the series that are not listed nobody knows the number
        (5, [], {}, COUNTS),
    ],
)
def test_a_listing_counts_where_nothing_cut_it_and_no_number_is_larger(
    number: int | None, answered: Sequence[SeriesListing], faults: Mapping[str, str], evidence: Evidence
) -> None:
    judged = judge_listing(found(number), answered, faults)
    assert judged.evidence is evidence
    assert bool(judged.doubt) is (evidence is not INSTANCES)
    listed = [uid for one in answered for uid in one.sop_instance_uids]
    assert list(judged.sop_instance_uids) == listed, "what is known is known, whether or not it is all"
    if evidence is RESPONSES:
        assert not Manifest((judged,)).find_shortage({}).is_known


@pytest.mark.parametrize(
    ("number", "answered", "evidence", "count"),
    [
        (9, [series(1, 2, 2), series(2, 7, 7, "MR")], INSTANCES, 2),
        (9, [series(1, 2, 2), series(2, 0, 6, "MR")], COUNTS, 2),  # a series is not listed, and may be a CT
        (9, [series(1, 2, 2), series(2, 0, None, "MR")], INSTANCES, 2),
        (9, [series(1, 1, 2), series(2, 0, 7, "MR")], COUNTS, 2),
        (9, [series(1, 1, None), series(2, 0, 8, "MR")], INSTANCES, 1),
        (9, [series(1, 0, 9, "MR")], INSTANCES, 0),
    ],
)
def test_of_a_selection_the_series_that_were_chosen_count(
    number: int, answered: Sequence[SeriesListing], evidence: Evidence, count: int
) -> None:
    judged = judge_listing(found(number), answered, {}, modalities=["CT"])
    assert judged.is_selection
    assert (judged.evidence, Manifest((judged,)).find_shortage({}).count) == (evidence, count)
    assert {one.modality for one in judged.series} <= {"CT"} >= set(judged.modalities)


@pytest.mark.parametrize(
    ("number", "answered", "faults", "evidence"),
    [
        (3, [series(1, 0, 3)], {}, COUNTS),
        (3, [], {"": CUT}, COUNTS),
        (None, [series(1, 0, 3)], {}, COUNTS),
        (None, [series(1, 0, None)], {}, RESPONSES),
        (None, [], {"": CUT}, RESPONSES),
    ],
)
def test_where_counts_are_asked_for_only_less_than_counts_is_worth_a_word(
    number: int | None, answered: Sequence[SeriesListing], faults: Mapping[str, str], evidence: Evidence
) -> None:
    judged = judge_listing(found(number), answered, faults, wanted=COUNTS)
    assert judged.evidence is evidence
    assert bool(judged.doubt) is (evidence is RESPONSES)


@pytest.mark.parametrize(
    ("studies", "changed"),
    [
        ([found(3)], False),
        ([found(None)], False),  # it does not say
        ([found(4)], True),
        ([found(2)], True),
        ([found(3), found(1, "2")], True),  # a study came late
        ([found(3), found(3, accession="A2")], True),
    ],
)
def test_only_a_difference_is_worth_asking_again(studies: list[StudyListing], changed: bool) -> None:
    asked = Manifest((found(3),))
    assert has_changed(asked, asked, studies) is changed


def test_so_is_a_move_that_was_about_more_than_was_listed() -> None:
    asked = Manifest((found(3),))
    now = Manifest((evolve(found(5), evidence=RESPONSES),))
    assert has_changed(asked, now, [found(3)])
