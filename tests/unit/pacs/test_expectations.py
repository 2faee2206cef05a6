"""Whose an instance is, and whose turn it is: the decisions between receiver and jobs, without a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from attrs import evolve

from mkisod.config.settings import Config, PacsSettings
from mkisod.errors import Code
from mkisod.job.manifest import Manifest, SeriesListing, StudyListing
from mkisod.job.patient import PatientIdentity
from mkisod.pacs.expectation import Expectation
from mkisod.pacs.expectations import Expectations, ExpectedMove, StudiesInUse
from mkisod.pacs.reception import NOT_AUTHORIZED, Arrival, Header, Offer, Refusal
from mkisod.pacs.turns import Turns
from mkisod.spool.durable import Disk
from mkisod.spool.objects import Objects

JOHN = PatientIdentity("123", "", "Doe^John", "19700101")


def study(uid: str, *instances: int, modality: str = "CT") -> StudyListing:
    series = tuple(
        SeriesListing(f"{uid}.{s}", modality, tuple(f"{uid}.{s}.{i}" for i in range(1, n + 1))) for s, n in enumerate(instances, 1)
    )
    return StudyListing("A1", uid, JOHN, series=series)


def offer(uid: str, *, modality: str = "CT", accession: str = "A1", message_id: int | None = None, originator: str = "") -> Offer:
    """Instance 1.2.3 is of series 1.2 of study 1."""
    header = Header("1.2.840", uid, uid.partition(".")[0], uid.rpartition(".")[0], accession, modality, JOHN)
    return Offer("1.2.840", uid, "1.2.840.10008.1.2.1", header, "ABPACS", "127.0.0.1", originator, message_id)


def store(arrival: Arrival) -> None:
    arrival.commit(1)


@pytest.fixture
def expectations() -> Expectations:
    return Expectations(has_room=lambda: True)


def expect(manifest: Manifest, tmp_path: Path, job: str = "job") -> Expectation:
    return Expectation(job, "ticket", manifest, Objects(tmp_path / job, Disk()), ())


def move_of(expectation: Expectation) -> ExpectedMove:
    return ExpectedMove(expectation, "CDRECORD", "ABPACS")


def test_two_jobs_never_expect_one_study_and_nobody_waits(expectations: Expectations, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first, second = expect(Manifest((study("1", 1),)), tmp_path, "a"), expect(Manifest((study("2", 1), study("1", 1))), tmp_path, "b")
    with expectations.expect(first):
        with pytest.raises(StudiesInUse) as raised, expectations.expect(second):
            pytest.fail("it was expected all the same")
        assert not expectations.are_free(raised.value.study_instance_uids)
        assert expectations.are_free(["2"]), "all at once or none"
        with pytest.raises(Refusal):
            expectations.admit(offer("2.1.1"))
    assert expectations.are_free(["1", "2"])
    with expectations.expect(second):
        store(expectations.admit(offer("1.1.1")))
    assert set(second.received) == {"1.1.1"}


def test_what_equals_is_held_once_and_what_came_is_told_once(expectations: Expectations, tmp_path: Path) -> None:
    """Twenty thousand instances have one patient: copies of it, one from each association, would weigh more than all the rest."""
    expectation = expect(Manifest((study("1", 2),)), tmp_path)
    with expectations.expect(expectation):
        for uid in ("1.1.1", "1.1.2"):
            copied = offer(uid)
            store(expectations.admit(evolve(copied, header=evolve(copied.header, patient=evolve(JOHN), accession_number="".join("A1")))))
            assert expectation.wait_untold() == [uid]
    expectation.close()
    assert expectation.wait_untold() is None
    one, other = expectation.received.values()
    assert one.patient is other.patient
    assert one.study_instance_uid is other.study_instance_uid
    assert one.series_instance_uid is other.series_instance_uid
    again = Expectation("job", "ticket", Manifest((study("1", 2),)), expectation.objects, expectation.received.values())
    assert again.wait_untold() == ["1.1.1", "1.1.2"]
    assert (again.bytes_received, again.missing) == (2, set())


def test_what_comes_late_is_expected_beside_the_rest_unless_another_job_has_it(expectations: Expectations, tmp_path: Path) -> None:
    first, second = expect(Manifest((study("1", 1),)), tmp_path, "a"), expect(Manifest((study("2", 1),)), tmp_path, "b")
    with expectations.expect(first):
        with expectations.expect(second), pytest.raises(StudiesInUse):
            expectations.change(first, Manifest((study("1", 2), study("2", 1))))
        assert first.manifest == Manifest((study("1", 1),))
        expectations.change(first, Manifest((study("1", 2), study("2", 1))))
        for uid in ("1.1.1", "1.1.2", "2.1.1"):
            store(expectations.admit(offer(uid)))
    assert not first.find_shortage()
    assert expectations.are_free(["1", "2"])


@pytest.mark.parametrize(
    ("uid", "modality", "kept"),
    [
        ("1.1.1", "CT", True),
        ("1.1.9", "CT", True),  # further ones of a series that was chosen
        ("1.1.9", "OT", True),
        ("1.7.1", "CT", True),  # a series that came late
        ("1.7.1", "MR", False),
        ("1.7.1", "", False),
    ],
)
def test_what_the_filter_leaves_out_is_answered_with_success_and_dropped(
    uid: str, modality: str, kept: bool, expectations: Expectations, tmp_path: Path
) -> None:
    chosen = evolve(study("1", 2), is_selection=True)
    expectation = expect(Manifest((chosen,), modalities=("CT",)), tmp_path)
    with expectations.expect(expectation):
        arrival = expectations.admit(offer(uid, modality=modality))
        assert (arrival.fd is not None) is kept
        store(arrival)
    assert set(expectation.received) == ({uid} if kept else set())
    assert expectation.arrivals == 1, "the archive is not idle"
    assert len(list((tmp_path / "job").iterdir())) == len(expectation.received)


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        ({"message_id": 1, "originator": "CDRECORD"}, True),
        ({"message_id": 1}, True),
        ({"message_id": 1, "originator": "OTHER"}, False),  # another mover, who uses the same numbers
        ({"message_id": 2, "originator": "CDRECORD"}, False),
        ({}, True),  # the archive omits it
    ],
)
def test_by_accession_number_the_move_tells_whose_an_instance_is(
    told: Mapping[str, object], taken: bool, expectations: Expectations, tmp_path: Path
) -> None:
    expectation = expect(Manifest(by_accession={"A1": None}), tmp_path)
    with expectations.expect(expectation), expectations.move(move_of(expectation)) as message_id:
        assert message_id == 1
        if not taken:
            with pytest.raises(Refusal):
                expectations.admit(offer("1.1.1", **told))  # type: ignore[arg-type]
            assert expectation.fault is None
            return
        store(expectations.admit(offer("1.1.1", **told)))  # type: ignore[arg-type]
        assert not expectations.are_free(["1"]), "from now on no other job may expect its study"
    assert [study.study_instance_uid for study in expectation.manifest.studies] == ["1"]


@pytest.mark.parametrize("accession", ["A2", "A10", ""])
def test_the_first_other_accession_number_fails_the_job(accession: str, expectations: Expectations, tmp_path: Path) -> None:
    expectation = expect(Manifest(by_accession={"A1": None}), tmp_path)
    with expectations.expect(expectation), expectations.move(move_of(expectation)):
        store(expectations.admit(offer("1.1.1", accession="B\\A1")))
        with pytest.raises(Refusal) as refused:
            expectations.admit(offer("1.1.2", accession=accession))
    assert refused.value.dimse_status == NOT_AUTHORIZED
    assert expectation.fault is not None
    assert expectation.fault.code is Code.ACCESSION_MISMATCH
    assert set(expectation.received) == {"1.1.1"}


def make_turns(expectations: Expectations) -> Turns:
    pacs = {"A": PacsSettings(max_moves=2), "B": PacsSettings(), "NONE": PacsSettings(query="none", max_moves=9)}
    return Turns(Config(pacs=pacs), expectations)


def test_each_pacs_has_its_slots(expectations: Expectations) -> None:
    turns = make_turns(expectations)
    for job, pacs in (("1", None), ("2", "A"), ("3", "B"), ("4", "NONE")):
        assert turns.may_begin(job, pacs)
        turns.begin(job, pacs)
    for pacs in (None, "A", "B", "NONE"):
        assert not turns.may_begin("5", pacs)
    assert turns.may_begin("5", "GONE"), "it is not configured any more; the job is about to say so"
    turns.end("2")
    turns.end("2")
    assert turns.may_begin("5", None)
    turns.end("4")
    assert turns.may_begin("5", "NONE")


def test_a_reload_changes_the_slots(expectations: Expectations) -> None:
    turns = make_turns(expectations)
    turns.begin("1", "B")
    assert not turns.may_begin("2", "B")
    turns.renew(Config(pacs={"B": PacsSettings(max_moves=2)}))
    assert turns.may_begin("2", "B")
    assert turns.may_begin("2", None), "B is the default now"


def test_who_waits_for_a_study_begins_once_it_is_free(expectations: Expectations, tmp_path: Path) -> None:
    turns = make_turns(expectations)
    turns.begin("1", "A")
    turns.begin("2", "A")
    with expectations.expect(expect(Manifest((study("1", 1),)), tmp_path)):
        turns.end("2", ["1", "2"])
        turns.end("2")
        assert not turns.may_begin("2", "A")
        assert turns.may_begin("3", "A"), "who waits stands in nobody's way"
    assert turns.may_begin("2", "A")
