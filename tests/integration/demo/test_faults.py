"""Each fault of the demo PACS, seen by a stock pynetdicom SCU: it does what its name says, and nothing else goes wrong with it."""

from __future__ import annotations

import threading

import pytest
from attrs import fields

from mkisod.demo.faults import LEVELS, Faults, coerced_uid
from mkisod.demo.pacs import DemoPacs
from tests.integration.demo.scu import FIND, MOVE, Answer, associated, find, identifier, move, sink
from tests.processes import wait_for

STUDY_KEYS = {
    "QueryRetrieveLevel": "STUDY",
    "AccessionNumber": "ACC1",
    "StudyInstanceUID": "",
    "NumberOfStudyRelatedInstances": None,
    "NumberOfStudyRelatedSeries": None,
    "ModalitiesInStudy": "",
    "InstanceAvailability": "",
}


def find_study(pacs: DemoPacs) -> Answer:
    return find(pacs, **STUDY_KEYS)


def find_series(pacs: DemoPacs, study_uid: str) -> Answer:
    return find(pacs, QueryRetrieveLevel="SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID="", NumberOfSeriesRelatedInstances=None)


def find_instances(pacs: DemoPacs, study_uid: str, series_uid: str) -> Answer:
    return find(pacs, QueryRetrieveLevel="IMAGE", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid, SOPInstanceUID="")


def move_study(pacs: DemoPacs, study_uid: str) -> Answer:
    return move(pacs, QueryRetrieveLevel="STUDY", StudyInstanceUID=study_uid)


def failed_uids(answer: Answer) -> list[str]:
    failed = answer.identifiers[-1]
    assert failed is not None
    value = failed.FailedSOPInstanceUIDList
    return [value] if isinstance(value, str) else list(value)


# --- What C-FIND answers -----------------------------------------------------------------------------------------------------------


def test_find_status(pacs: DemoPacs) -> None:
    pacs.faults = Faults(find_status=0xC001)
    assert [status.Status for status in find_study(pacs).statuses] == [0xC001]
    assert pacs.queries[-1].dimse_status == 0xC001


def test_refused_levels(pacs: DemoPacs, study_uid: str) -> None:
    (series_uid, *_) = pacs.archive.studies[study_uid].series
    pacs.faults = Faults(refused_levels=frozenset({"SERIES", "IMAGE"}))
    assert find_study(pacs).final == 0
    assert find_series(pacs, study_uid).final == 0xA900
    assert find_instances(pacs, study_uid, series_uid).final == 0xA900
    pacs.faults = Faults(refused_levels=frozenset({"IMAGE"}))
    assert find_series(pacs, study_uid).final == 0
    assert find_instances(pacs, study_uid, series_uid).final == 0xA900


def test_listing_limit(pacs: DemoPacs, study_uid: str) -> None:
    (series_uid, *_) = pacs.archive.studies[study_uid].series
    pacs.faults = Faults(listing_limit=3)
    answer = find_instances(pacs, study_uid, series_uid)
    assert (len(answer.matches), answer.final) == (3, 0xFE00)
    pacs.faults = Faults(listing_limit=4)
    answer = find_instances(pacs, study_uid, series_uid)
    assert (len(answer.matches), answer.final) == (4, 0)


def test_silent_levels(pacs: DemoPacs) -> None:
    pacs.faults = Faults(silent_levels=LEVELS)
    with associated(pacs) as association:
        association.dimse_timeout = 0.3
        ((status, _),) = association.send_c_find(identifier(STUDY_KEYS), FIND)
        assert "Status" not in status
        assert association.is_aborted
    pacs.faults = Faults()
    assert find_study(pacs).final == 0


def test_prefix_match(pacs: DemoPacs) -> None:
    pacs.faults = Faults(prefix_match=True)
    assert sorted(study.AccessionNumber for study in find_study(pacs).matches) == ["ACC1", "ACC10"]


def test_also_accession(pacs: DemoPacs) -> None:
    pacs.faults = Faults(also_accession="OTHER")
    (study,) = find_study(pacs).matches
    assert list(study.AccessionNumber) == ["ACC1", "OTHER"]
    assert len(find(pacs, QueryRetrieveLevel="STUDY", AccessionNumber="OTHER").matches) == 4


def test_other_accession(pacs: DemoPacs, study_uid: str) -> None:
    pacs.faults = Faults(other_accession="OTHER")
    (study,) = find_study(pacs).matches
    assert (study.AccessionNumber, study.StudyInstanceUID) == ("OTHER", study_uid)


def test_count_error(pacs: DemoPacs, study_uid: str) -> None:
    pacs.faults = Faults(count_error=-2)
    (study,) = find_study(pacs).matches
    assert (study.NumberOfStudyRelatedInstances, study.NumberOfStudyRelatedSeries) == (5, 0)
    assert [one.NumberOfSeriesRelatedInstances for one in find_series(pacs, study_uid).matches] == [2, 1]


def test_without_counts(pacs: DemoPacs) -> None:
    pacs.faults = Faults(without_counts=True)
    (study,) = find_study(pacs).matches
    for keyword in ("NumberOfStudyRelatedInstances", "NumberOfStudyRelatedSeries", "ModalitiesInStudy", "InstanceAvailability"):
        assert study[keyword].is_empty, keyword


def test_empty_study(pacs: DemoPacs, study_uid: str) -> None:
    pacs.faults = Faults(empty_study=True)
    (study,) = find_study(pacs).matches
    assert (study.NumberOfStudyRelatedInstances, study.NumberOfStudyRelatedSeries) == (0, 0)
    assert not find_series(pacs, study_uid).matches
    with sink(pacs) as received:
        assert move_study(pacs, study_uid).counters == (None, 0, 0, 0)
    assert not received.received


@pytest.mark.parametrize("where", ["NEARLINE", "OFFLINE", "UNAVAILABLE"])
def test_availability_for_good(pacs: DemoPacs, study_uid: str, where: str) -> None:
    pacs.faults = Faults(availability=where)  # type: ignore[arg-type]
    with sink(pacs) as received:
        for _ in range(3):
            assert find_study(pacs).matches[0].InstanceAvailability == where
            assert move_study(pacs, study_uid).final == 0xA702
    assert not received.received


def test_availability_for_a_while(pacs: DemoPacs, study_uid: str, other_uid: str) -> None:
    pacs.faults = Faults(availability="NEARLINE", availability_answers=2)
    with sink(pacs):
        assert find_study(pacs).matches[0].InstanceAvailability == "NEARLINE"
        assert move_study(pacs, study_uid).final == 0xA702
        assert find_study(pacs).matches[0].InstanceAvailability == "NEARLINE"
        assert move_study(pacs, study_uid).final == 0
        assert find_study(pacs).matches[0].InstanceAvailability == "ONLINE"
        assert move_study(pacs, other_uid).final == 0xA702  # of which nothing was answered yet


def test_late_instances(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    pacs.faults = Faults(late_instances=4, late_until_moves=2)
    with sink(pacs) as received:
        for _ in range(2):
            (study,) = find_study(pacs).matches
            assert (study.NumberOfStudyRelatedInstances, study.NumberOfStudyRelatedSeries) == (3, 1)
            assert move_study(pacs, study_uid).counters == (None, 3, 0, 0)
            assert received.uids == uids[:3]
            received.received.clear()
        (study,) = find_study(pacs).matches
        assert (study.NumberOfStudyRelatedInstances, study.NumberOfStudyRelatedSeries) == (7, 2)
        assert move_study(pacs, study_uid).counters == (None, 7, 0, 0)
        assert received.uids == uids


# --- What C-MOVE does --------------------------------------------------------------------------------------------------------------


# Every failure of PS3.4 Table C.4-2, and the general ones of PS3.7 9.1.4.1.7 that an archive may answer.
@pytest.mark.parametrize("status", [0xA701, 0xA702, 0xA801, 0xA900, 0xAA00, 0xC000, 0xC514, 0x0122, 0x0124, 0x0210, 0x0211, 0x0212])
def test_move_status(pacs: DemoPacs, study_uid: str, status: int) -> None:
    pacs.faults = Faults(move_status=status)
    with sink(pacs) as received:
        answer = move_study(pacs, study_uid)
    assert (answer.final, answer.counters) == (status, (None, 0, 7, 0))
    assert not received.received


def test_move_status_after(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    pacs.faults = Faults(move_status=0xC000, move_status_after=3)
    with sink(pacs) as received:
        answer = move_study(pacs, study_uid)
    assert (answer.final, answer.counters) == (0xC000, (None, 3, 4, 0))
    assert received.uids == uids[:3]


def test_drop_instance(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    pacs.faults = Faults(drop_instance=2)
    with sink(pacs) as received:
        answer = move_study(pacs, study_uid)
    assert (answer.final, answer.counters) == (0, (None, 7, 0, 0))
    assert received.uids == uids[:1] + uids[2:]
    assert pacs.moves[-1].sent_uids == tuple(received.uids)


def test_fail_instance(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    pacs.faults = Faults(fail_instance=7)
    with sink(pacs) as received:
        answer = move_study(pacs, study_uid)
    assert (answer.final, answer.counters, failed_uids(answer)) == (0xB000, (None, 6, 1, 0), uids[6:])
    assert received.uids == uids[:6]


def test_never_sent_uids(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    pacs.faults = Faults(never_sent_uids=frozenset(uids[:2]))
    with sink(pacs) as received:
        assert move_study(pacs, study_uid).counters == (None, 7, 0, 0)
        (series_uid, *_) = pacs.archive.studies[study_uid].series
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid, "SOPInstanceUID": uids[0]}
        assert move(pacs, QueryRetrieveLevel="IMAGE", **keys).counters == (None, 1, 0, 0)
    assert received.uids == uids[2:]


def test_send_nothing(pacs: DemoPacs, study_uid: str) -> None:
    pacs.faults = Faults(send_nothing=True)
    with sink(pacs) as received:
        answer = move_study(pacs, study_uid)
    assert (answer.final, answer.counters) == (0, (None, 7, 0, 0))
    assert received.associations == 0


def test_send_twice(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    pacs.faults = Faults(send_twice=True)
    with sink(pacs) as received:
        answer = move_study(pacs, study_uid)
    assert (answer.final, answer.counters) == (0, (None, 7, 0, 0))
    assert received.uids == [uid for uid in uids for _ in range(2)]


def test_after_final(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    pacs.faults = Faults(after_final=True, stall_after=2)
    with sink(pacs) as received:
        answer = move_study(pacs, study_uid)
        assert (len(answer.statuses), answer.final, answer.counters) == (1, 0, (None, 7, 0, 0))
        wait_for(lambda: len(received.uids) == 2, 30, "two instances")
        assert not pacs.moves
        pacs.faults = Faults()
        wait_for(lambda: pacs.moves, 30, "the end of the move")
    assert received.uids == uids
    assert (pacs.moves[-1].sent_uids, pacs.moves[-1].dimse_status) == (tuple(uids), 0)


def test_hidden_instances(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    first, second = pacs.archive.studies[study_uid].series
    pacs.faults = Faults(hidden_instances=4)
    assert find_study(pacs).matches[0].NumberOfStudyRelatedInstances == 3
    assert [match.SeriesInstanceUID for match in find_series(pacs, study_uid).matches] == [first]
    with sink(pacs) as received:
        assert move_study(pacs, study_uid).final == 0
        assert received.uids == uids
    assert find_instances(pacs, study_uid, second).matches == []


def test_ends_at_uids(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    pacs.faults = Faults(ends_at_uids=frozenset({uids[2]}))
    with sink(pacs) as received:
        answer = move_study(pacs, study_uid)
        assert (answer.final, received.uids) == (0xC000, uids[:2])
        assert answer.statuses[-1].NumberOfCompletedSuboperations == 0
        assert not answer.identifiers[-1]


def test_without_counters(pacs: DemoPacs, study_uid: str) -> None:
    pacs.faults = Faults(without_counters=True)
    with sink(pacs):
        answer = move_study(pacs, study_uid)
    assert answer.final == 0
    assert len(answer.statuses) > 1
    assert not any("NumberOf" in element.keyword for status in answer.statuses for element in status)


def test_whole_study(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    (first, *_) = pacs.archive.studies[study_uid].series
    pacs.faults = Faults(whole_study=True)
    with sink(pacs) as received:
        move(pacs, QueryRetrieveLevel="SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID=first)
        assert received.uids == uids


def test_refuse_lists(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    (first, *_) = pacs.archive.studies[study_uid].series
    pacs.faults = Faults(refuse_lists=True)
    with sink(pacs) as received:
        for wanted, final in ((uids[:2], 0xA801), (uids[0], 0)):
            answer = move(pacs, QueryRetrieveLevel="IMAGE", StudyInstanceUID=study_uid, SeriesInstanceUID=first, SOPInstanceUID=wanted)
            assert answer.final == final
        assert received.uids == uids[:1]


def test_what_comes_after_the_final_response_ends_with_the_pacs(pacs: DemoPacs, study_uid: str) -> None:
    pacs.faults = Faults(after_final=True, pause_s=3600)
    with sink(pacs) as received:
        assert move_study(pacs, study_uid).final == 0
        wait_for(lambda: received.associations, 30, "the association with the destination")
        pacs.stop()
    assert not received.received


def test_no_pending(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    pacs.faults = Faults(no_pending=True)
    with sink(pacs) as received:
        answer = move_study(pacs, study_uid)
    assert [status.Status for status in answer.statuses] == [0]
    assert received.uids == uids


def test_omit_move_originator(pacs: DemoPacs, study_uid: str) -> None:
    pacs.faults = Faults(omit_move_originator=True)
    with sink(pacs) as received:
        move_study(pacs, study_uid)
    assert [(one.originator, one.originator_message_id) for one in received.received] == [(None, None)] * 7


def test_coerce_study_uid(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    pacs.faults = Faults(coerce_study_uid=True)
    with sink(pacs) as received:
        assert move_study(pacs, study_uid).final == 0
    assert received.uids == uids
    assert {one.study_instance_uid for one in received.received} == {coerced_uid(study_uid)} != {study_uid}


def test_foreign_study_uid(pacs: DemoPacs, study_uid: str, other_uid: str, uids: list[str]) -> None:
    pacs.faults = Faults(foreign_study_uid=other_uid)
    with sink(pacs) as received:
        answer = move_study(pacs, study_uid)
    assert (answer.final, answer.counters) == (0, (None, 7, 0, 0))
    foreign = [instance.sop_instance_uid for instance in pacs.archive.studies[other_uid].instances()]
    assert received.uids == [uids[0], *foreign, *uids[1:]]


def test_ignore_accession(pacs: DemoPacs) -> None:
    pacs.faults = Faults(ignore_accession=True)
    with sink(pacs) as received:
        answer = move(pacs, QueryRetrieveLevel="STUDY", AccessionNumber="NONE")
    everything = [instance.sop_instance_uid for instance in pacs.archive.instances()]
    assert (answer.final, answer.counters[1]) == (0, len(everything))
    assert received.uids == everything


def test_stall_after(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    pacs.faults = Faults(stall_after=3)
    with sink(pacs) as received:
        answers: list[Answer] = []
        mover = threading.Thread(target=lambda: answers.append(move_study(pacs, study_uid)))
        mover.start()
        wait_for(lambda: len(received.uids) == 3, 30, "three instances")
        assert mover.is_alive()
        assert not pacs.moves
        pacs.faults = Faults()
        mover.join(30)
        assert received.uids == uids
        assert answers[0].final == 0


def test_a_stall_ends_with_the_association_or_with_the_pacs(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    pacs.faults = Faults(stall_after=3)
    with sink(pacs) as received, associated(pacs) as association:
        responses = association.send_c_move(identifier({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study_uid}), "SINK", MOVE)
        for _ in range(3):
            next(responses)
        association.abort()
        wait_for(lambda: pacs.moves, 30, "the end of the move")
        assert (pacs.moves[-1].sent_uids, pacs.moves[-1].dimse_status) == (tuple(uids[:3]), None)
        received.received.clear()
        mover = threading.Thread(target=lambda: move_study(pacs, study_uid))
        mover.start()
        wait_for(lambda: len(received.uids) == 3, 30, "three instances")
        pacs.stop()
        mover.join(30)
        assert not mover.is_alive()


def test_pause(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    pacs.faults = Faults(pause_s=0.01)
    with sink(pacs) as received:
        assert move_study(pacs, study_uid).final == 0
        assert received.uids == uids
        received.received.clear()
        pacs.faults = Faults(pause_s=3600)
        mover = threading.Thread(target=lambda: move_study(pacs, study_uid))
        mover.start()
        pacs.faults = Faults()
        mover.join(30)
        assert received.uids == uids


@pytest.mark.parametrize("after", [0, 3, 7])
def test_abort_after(pacs: DemoPacs, study_uid: str, uids: list[str], after: int) -> None:
    pacs.faults = Faults(abort_after=after)
    with sink(pacs) as received:
        answer = move_study(pacs, study_uid)
    assert answer.final == -1  # no final response came
    assert received.uids == uids[:after]
    assert (pacs.moves[-1].sent_uids, pacs.moves[-1].dimse_status) == (tuple(uids[:after]), None)


@pytest.mark.parametrize(("after", "status"), [(0, 0xA702), (3, 0xB000)])
def test_abort_store_after(pacs: DemoPacs, study_uid: str, uids: list[str], after: int, status: int) -> None:
    pacs.faults = Faults(abort_store_after=after)
    with sink(pacs) as received:
        answer = move_study(pacs, study_uid)
    assert (answer.final, answer.counters, failed_uids(answer)) == (status, (None, after, 7 - after, 0), uids[after:])
    assert received.uids == uids[:after]


def test_moves_bounds_the_faults_of_c_move_alone(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    pacs.faults = Faults(moves=2, drop_instance=1, count_error=1)
    with sink(pacs) as received:
        move(pacs, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3")  # matches nothing, so it doesn't count
        for _ in range(2):
            move_study(pacs, study_uid)
            assert received.uids == uids[1:]
            received.received.clear()
        move_study(pacs, study_uid)
        assert received.uids == uids
        assert find_study(pacs).matches[0].NumberOfStudyRelatedInstances == 8


def test_every_fault_has_its_test() -> None:
    tests = [name for name in globals() if name.startswith("test_")]
    named_otherwise = {
        "availability_answers": "test_availability_for_a_while",
        "late_until_moves": "test_late_instances",
        "pause_s": "test_pause",
    }
    for field in fields(Faults):
        name = named_otherwise.get(field.name, f"test_{field.name}")
        assert any(test.startswith(name) for test in tests), field.name
