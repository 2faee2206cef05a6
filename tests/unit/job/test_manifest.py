"""What is missing, what is asked for, and who it belongs to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkisod.errors import Code, Permanent
from mkisod.job.manifest import (
    MAX_UIDS_IN_MOVE,
    Manifest,
    Move,
    ReceivedInstance,
    SeriesListing,
    StudyListing,
    check_patients,
    check_received,
    count_expected,
    describe_accessions,
    plan_moves,
)
from mkisod.job.patient import PatientIdentity
from mkisod.job.status import State

JOHN = PatientIdentity("123", "", "Doe^John", "19700101")
ANNA = PatientIdentity("124", "", "Smith^Anna", "19800202")


def study(uid: str, *series: int, accession: str = "A1", patient: PatientIdentity = JOHN) -> StudyListing:
    """Study `1` with series of so many instances: series 1.1, 1.2; instances 1.1.1, 1.1.2 ..."""
    listings = (SeriesListing(f"{uid}.{s}", "CT", tuple(f"{uid}.{s}.{i}" for i in range(1, n + 1))) for s, n in enumerate(series, 1))
    return StudyListing(accession, uid, patient, ("CT",), tuple(listings))


def receive(*uids: str, patient: PatientIdentity = JOHN) -> dict[str, ReceivedInstance]:
    return {uid: ReceivedInstance(uid, uid.split(".")[0], uid.rpartition(".")[0], patient, 1) for uid in uids}


def asked_by(move: Move, manifest: Manifest) -> list[str]:
    """What an archive sends in answer to a move (PS3.4 C.4.2.2.1)."""
    return list(
        dict.fromkeys(
            uid
            for listing in manifest.studies
            for series in listing.series
            for uid in series.sop_instance_uids
            if listing.study_instance_uid == move.study_instance_uid
            and move.series_instance_uid in (None, series.series_instance_uid)
            and (not move.sop_instance_uids or uid in move.sop_instance_uids)
        )
    )


@st.composite
def retrievals(draw: st.DrawFn) -> tuple[Manifest, set[str]]:
    """A manifest, and what of it is there already."""
    studies = [study(str(n), *draw(st.lists(st.integers(0, 4), max_size=3))) for n in range(1, draw(st.integers(1, 3)) + 1)]
    if draw(st.booleans()):  # one study under two accession numbers
        studies.append(study("1", *(len(s.sop_instance_uids) for s in studies[0].series), accession="A2"))
    manifest = Manifest(tuple(studies))
    every = sorted(manifest.missing(()))
    return manifest, set(draw(st.lists(st.sampled_from(every)))) if every else set()


@given(retrievals(), st.integers(0, 4))
def test_a_round_asks_once_for_all_that_is_missing_and_never_for_what_is_there(retrieval: tuple[Manifest, set[str]], number: int) -> None:
    manifest, received = retrieval
    asked = [uid for move in plan_moves(manifest, received, number) for uid in asked_by(move, manifest)]
    assert len(asked) == len(set(asked))
    assert set(asked) == set(manifest.missing(received))


@given(retrievals())
def test_later_rounds_ask_by_smaller_parts(retrieval: tuple[Manifest, set[str]]) -> None:
    manifest, received = retrieval
    assert all(move.series_instance_uid for move in plan_moves(manifest, received, 1))
    assert all(move.sop_instance_uids for move in plan_moves(manifest, received, 2))


def test_a_first_round_asks_for_the_study_a_second_for_the_series_a_third_for_the_instances() -> None:
    manifest = Manifest((study("1", 2, 1),))
    assert plan_moves(manifest, (), 0) == [Move("1")]
    assert plan_moves(manifest, {"1.1.1"}, 0) == [Move("1", "1.1", ("1.1.2",)), Move("1", "1.2")]
    assert plan_moves(manifest, {"1.1.1", "1.1.2"}, 1) == [Move("1", "1.2")]
    assert plan_moves(manifest, {"1.2.1"}, 2) == [Move("1", "1.1", ("1.1.1", "1.1.2"))]
    assert plan_moves(manifest, manifest.missing(()), 0) == []


def test_a_list_of_uids_is_cut() -> None:
    moves = plan_moves(Manifest((study("1", 2 * MAX_UIDS_IN_MOVE + 1),)), (), 2)
    assert [len(move.sop_instance_uids) for move in moves] == [MAX_UIDS_IN_MOVE, MAX_UIDS_IN_MOVE, 1]


def test_what_came_unlisted_belongs_to_the_set() -> None:
    manifest = Manifest((study("1", 2), study("1", 2, accession="A2")))
    assert count_expected(manifest, {}) == 2
    assert count_expected(manifest, receive("1.1.1", "1.9.9")) == 3


def test_the_status_of_an_accession_counts_its_studies_and_names_what_does_not_come() -> None:
    manifest = Manifest((study("1", 2), study("2", 1), study("3", 1, accession="A2")))
    received = receive("1.1.1", "1.9.9", "3.1.1")
    a1, a2, a3 = describe_accessions(["A1", "A2", "A3"], manifest, received, State.RETRIEVING, name_missing=False)
    assert [(s.instances_expected, s.instances_received, s.missing) for s in a1.studies] == [(3, 2, ()), (1, 0, ())]
    assert [(s.study_instance_uid, s.instances_expected, s.instances_received) for s in a2.studies] == [("3", 1, 1)]
    assert a3.studies == ()
    a1, *_ = describe_accessions(["A1"], manifest, received, State.FAILED, name_missing=True)
    assert [s.missing for s in a1.studies] == [("1.1.2",), ("2.1.1",)]


@pytest.mark.parametrize(
    ("identities", "belief", "several_allowed", "code"),
    [
        ([JOHN, JOHN], {}, False, None),
        ([JOHN, ANNA], {}, False, Code.PATIENT_MISMATCH),
        ([JOHN, ANNA], {}, True, None),
        ([JOHN, ANNA], {"patient_id": "123"}, True, Code.PATIENT_MISMATCH),
        ([JOHN], {"patient_id": "123", "birth_date": "19700101"}, False, None),
        ([JOHN], {"birth_date": "19800202"}, False, Code.PATIENT_MISMATCH),
        ([PatientIdentity()], {}, False, None),
        ([PatientIdentity(), PatientIdentity()], {}, False, Code.PATIENT_MISMATCH),
        ([PatientIdentity("UNKNOWN"), PatientIdentity("UNKNOWN")], {}, False, Code.PATIENT_MISMATCH),
        ([PatientIdentity()], {"patient_id": "123"}, False, None),
    ],
)
def test_the_answers_of_the_archive(
    identities: list[PatientIdentity], belief: dict[str, str], several_allowed: bool, code: Code | None
) -> None:
    def check() -> None:
        check_patients(
            identities, patient_id=belief.get("patient_id"), birth_date=belief.get("birth_date"), several_allowed=several_allowed
        )

    if code is None:
        check()
        return
    with pytest.raises(Permanent) as raised:
        check()
    assert raised.value.code is code
    assert not any(word in str(raised.value) for word in ("Doe", "Smith", "1970", "1980"))


@pytest.mark.parametrize(
    ("received", "belief", "agrees"),
    [
        (receive("1.1.1", "1.1.2"), {}, True),
        ({**receive("1.1.1"), **receive("1.1.2", patient=ANNA)}, {}, False),
        (receive("1.1.1", "1.1.2", patient=ANNA), {}, False),  # by an earlier attempt: the archive has changed its mind since
        (receive("1.1.1"), {"birth_date": "19700101"}, True),
        (receive("1.1.1"), {"birth_date": "19700102"}, False),
        (receive("1.1.1"), {"patient_id": "124"}, False),
        ({**receive("1.1.1"), **receive("1.1.2", patient=PatientIdentity("123", "", "Doe^John"))}, {"birth_date": "19700101"}, True),
    ],
)
def test_the_instances_are_held_to_the_same_rule(received: dict[str, ReceivedInstance], belief: dict[str, str], agrees: bool) -> None:
    def check() -> None:
        manifest = Manifest((study("1", 2),))
        check_received(manifest, received.values(), patient_id=belief.get("patient_id"), birth_date=belief.get("birth_date"))

    if agrees:
        check()
        return
    with pytest.raises(Permanent) as raised:
        check()
    assert raised.value.code is Code.PATIENT_MISMATCH


def test_a_belief_that_nobody_confirms_is_no_confirmation() -> None:
    nobody = PatientIdentity("123", "", "Doe^John")
    manifest = Manifest((study("1", 1, patient=nobody),))
    with pytest.raises(Permanent, match="Neither the PACS nor the images") as raised:
        check_received(manifest, receive("1.1.1", patient=nobody).values(), patient_id=None, birth_date="19700101")
    assert raised.value.code is Code.PATIENT_MISMATCH
