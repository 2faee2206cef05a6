"""What is missing, by name or by number, and who it belongs to."""

from __future__ import annotations

import pytest
from attrs import evolve

from mkisod.errors import Code, Permanent
from mkisod.job.manifest import (
    Manifest,
    ReceivedInstance,
    SeriesListing,
    StudyListing,
    check_patients,
    check_received,
    count_expected,
    describe_accessions,
    find_empty_accessions,
    has_accession,
)
from mkisod.job.patient import PatientIdentity
from mkisod.job.status import Evidence, State

JOHN = PatientIdentity("123", "", "Doe^John", "19700101")
ANNA = PatientIdentity("124", "", "Smith^Anna", "19800202")


def study(uid: str, *series: int, accession: str = "A1", patient: PatientIdentity = JOHN) -> StudyListing:
    """Study `1` with series of so many instances: series 1.1, 1.2; instances 1.1.1, 1.1.2 ..."""
    listings = (SeriesListing(f"{uid}.{s}", "CT", tuple(f"{uid}.{s}.{i}" for i in range(1, n + 1))) for s, n in enumerate(series, 1))
    return StudyListing(accession, uid, patient, ("CT",), tuple(listings))


def receive(*uids: str, patient: PatientIdentity = JOHN) -> dict[str, ReceivedInstance]:
    return {uid: ReceivedInstance(uid, uid.split(".")[0], uid.rpartition(".")[0], patient, 1) for uid in uids}


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


@pytest.mark.parametrize("place", [("1", "1.2"), ("2", "1.1")], ids=["series", "study"])
def test_an_instance_that_came_in_another_place_than_it_is_listed_in_is_refused(place: tuple[str, str]) -> None:
    """It may have come before the listing, when nobody could tell."""
    manifest = Manifest((study("1", 2, 1), study("2", 1)))
    check_received(manifest, receive("1.1.1", "1.1.2", "1.2.1", "2.1.1", "1.9.9").values(), patient_id=None, birth_date=None)
    strayed = ReceivedInstance("1.1.2", *place, JOHN, 1)
    with pytest.raises(Permanent) as raised:
        check_received(manifest, [*receive("1.1.1").values(), strayed], patient_id=None, birth_date=None)
    assert (raised.value.code, "1.1.2" in raised.value.message) == (Code.NONCONFORMANT, True)


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


@pytest.mark.parametrize(
    ("value", "matches"),
    [
        ("A1", True),
        (" A1 ", True),
        ("A1\0", True),
        ("B2\\A1", True),
        ("B2\\ A1 \\C3", True),
        ("A10", False),
        ("A", False),
        ("a1", False),
        ("B2\\A10", False),
        ("", False),
        ("\\", False),
    ],
)
def test_an_accession_number_counts_whole_trimmed_and_as_one_of_several(value: str, matches: bool) -> None:
    assert has_accession(value, "A1") is matches


def by_number(uid: str, number: int | None, *series: int | None, evidence: Evidence = Evidence.COUNTS) -> StudyListing:
    """A study of which no UIDs are known, with series of so many instances."""
    listings = tuple(SeriesListing(f"{uid}.{s}", "CT", (), n) for s, n in enumerate(series, 1))
    return StudyListing("A1", uid, JOHN, ("CT",), listings, evidence, number)


@pytest.mark.parametrize(
    ("listing", "count", "is_known"),
    [
        (study("1", 3), 1, True),
        (by_number("1", 3), 1, True),
        (by_number("1", 2), 0, True),
        (by_number("1", 1), 0, True),  # more came than are counted
        (by_number("1", None, 3), 1, True),
        (by_number("1", 3, 2, 1), 1, True),
        (by_number("1", 2, 2, 1), 1, True),  # the series say more than the study
        (by_number("1", 3, 2, None), 1, True),
        (by_number("1", None, 2, None), 0, False),
        (by_number("1", None, evidence=Evidence.RESPONSES), 0, False),
        (by_number("1", 3, evidence=Evidence.RESPONSES), 1, True),
        (evolve(by_number("1", 9, 2), is_selection=True), 0, True),  # what the whole study has is not wanted
        (evolve(by_number("1", 9, None), is_selection=True), 0, False),
        (evolve(study("1", 2), evidence=Evidence.COUNTS, number_of_instances=4), 2, True),
        (evolve(study("1", 2), failed_uids=("1.7.7",)), 1, True),
    ],
)
def test_what_is_missing_is_counted_by_what_is_known(listing: StudyListing, count: int, is_known: bool) -> None:
    shortage = Manifest((listing,)).find_shortage(receive("1.1.1", "1.1.2"))
    assert (shortage.count, shortage.is_known) == (count, is_known)
    assert bool(shortage) is not (count == 0 and is_known)


def test_what_is_known_by_name_is_missing_by_name_whatever_the_numbers_say() -> None:
    cut_short = evolve(study("1", 2), evidence=Evidence.COUNTS, number_of_instances=3)
    shortage = Manifest((cut_short,)).find_shortage(receive("1.1.1", "1.1.8", "1.1.9"))
    assert (shortage.named, shortage.count) == (("1.1.2",), 1)


def test_by_accession_number_what_its_move_counted_must_have_come_with_that_number() -> None:
    numbers = {"1.1.1": "A1", "1.1.2": " A1", "2.1.1": "B\\A2"}
    received = {uid: evolve(instance, accession=numbers[uid]) for uid, instance in receive(*numbers).items()}
    for counted, count, is_known in (({"A1": 2, "A2": 1}, 0, True), ({"A1": 3, "A2": 1}, 1, True), ({"A1": 2, "A2": None}, 0, False)):
        shortage = Manifest(by_accession=counted).find_shortage(received)
        assert (shortage.count, shortage.is_known) == (count, is_known)


def test_nothing_is_never_complete() -> None:
    nothing = StudyListing("A1", "1", JOHN)
    manifest = Manifest((nothing, study("2", 1, accession="A2"), by_number("3", 0), evolve(by_number("4", 2), accession="A4")))
    assert find_empty_accessions(["A1", "A2", "A3", "A4"], manifest, {}) == ["A1", "A3"]
    assert find_empty_accessions(["A1"], manifest, receive("1.1.1")) == []
    beside_another = Manifest((nothing, study("2", 1)))
    assert find_empty_accessions(["A1"], beside_another, {}) == []
    unknown = Manifest((by_number("1", None, evidence=Evidence.RESPONSES),))
    assert find_empty_accessions(["A1"], unknown, {}) == []
    assert find_empty_accessions(["A1", "A2", "A3"], Manifest(by_accession={"A1": 0, "A2": None, "A3": 1}), {}) == ["A1"]
