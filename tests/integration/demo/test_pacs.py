"""The demo PACS without faults, asked by a stock pynetdicom SCU."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from tests.integration.demo.scu import FIND, MOVE, associated, find, identifier, move, sink
from tests.processes import free_port

ACCESSIONS = ["ACC1", "ACC10", "PHANTOM.CT.1", "PHANTOM.MR.1"]


def test_study_level_counts_and_describes(pacs: DemoPacs, study_uid: str) -> None:
    answer = find(
        pacs,
        QueryRetrieveLevel="STUDY",
        AccessionNumber="ACC1",
        StudyInstanceUID="",
        ModalitiesInStudy="",
        NumberOfStudyRelatedSeries=None,
        NumberOfStudyRelatedInstances=None,
        InstanceAvailability="",
        PatientName="",
    )
    assert answer.final == 0
    (study,) = answer.matches
    assert study.StudyInstanceUID == study_uid
    assert list(study.ModalitiesInStudy) == ["CT", "MR"]
    assert (study.NumberOfStudyRelatedSeries, study.NumberOfStudyRelatedInstances) == (2, 7)
    assert (study.InstanceAvailability, study.RetrieveAETitle, study.QueryRetrieveLevel) == ("ONLINE", "ABPACS", "STUDY")
    assert study.SpecificCharacterSet == "ISO_IR 192"
    assert str(study.PatientName) == "Phantôme^Zoë"


def test_a_name_is_passed_through_in_the_character_set_it_is_stored_in(pacs: DemoPacs) -> None:
    (study,) = find(pacs, QueryRetrieveLevel="STUDY", AccessionNumber="PHANTOM.MR.1", PatientName="").matches
    assert study.SpecificCharacterSet == "ISO_IR 100"
    assert str(study.PatientName) == "Phantôme^Zoë"


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("ACC1", ["ACC1"]),
        ("ACC1?", ["ACC10"]),
        ("ACC*", ["ACC1", "ACC10"]),
        ("*MR*", ["PHANTOM.MR.1"]),
        ("", ACCESSIONS),
        ("*", ACCESSIONS),
        ("acc1", []),
        ("ACC", []),
        ("[A]CC1", []),
    ],
)
def test_accession_numbers_match_as_the_standard_says(pacs: DemoPacs, key: str, found: list[str]) -> None:
    answer = find(pacs, QueryRetrieveLevel="STUDY", AccessionNumber=key)
    assert answer.final == 0
    assert sorted(study.AccessionNumber for study in answer.matches) == found


def test_names_match_across_character_sets_without_regard_to_case(pacs: DemoPacs) -> None:
    answer = find(pacs, SpecificCharacterSet="ISO_IR 100", QueryRetrieveLevel="STUDY", PatientName="PHANTÔME*", AccessionNumber="")
    assert sorted(study.AccessionNumber for study in answer.matches) == ACCESSIONS


def test_series_and_image_level_list_everything(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    keys: dict[str, object] = {"SeriesInstanceUID": "", "Modality": "", "NumberOfSeriesRelatedInstances": None}
    series = find(pacs, QueryRetrieveLevel="SERIES", StudyInstanceUID=study_uid, **keys)
    assert [(one.Modality, one.NumberOfSeriesRelatedInstances) for one in series.matches] == [("CT", 4), ("MR", 3)]
    listed = []
    for one in series.matches:
        images = find(
            pacs,
            QueryRetrieveLevel="IMAGE",
            StudyInstanceUID=study_uid,
            SeriesInstanceUID=one.SeriesInstanceUID,
            SOPInstanceUID="",
            SOPClassUID="",
            InstanceNumber=None,
        )
        assert images.final == 0
        assert [image.InstanceNumber for image in images.matches] == list(range(1, len(images.matches) + 1))
        assert {image.StudyInstanceUID for image in images.matches} == {study_uid}
        listed += [image.SOPInstanceUID for image in images.matches]
    assert listed == uids


def test_a_list_of_uids_matches_each(pacs: DemoPacs, study_uid: str, other_uid: str) -> None:
    answer = find(pacs, QueryRetrieveLevel="STUDY", StudyInstanceUID=[study_uid, other_uid, "1.2.3"])
    assert {study.StudyInstanceUID for study in answer.matches} == {study_uid, other_uid}


def test_a_key_that_is_not_supported_is_said_to_be(pacs: DemoPacs) -> None:
    answer = find(pacs, QueryRetrieveLevel="STUDY", AccessionNumber="ACC1", EthnicGroup="X")
    assert [status.Status for status in answer.statuses] == [0xFF01, 0]
    assert "EthnicGroup" not in answer.matches[0]


@pytest.mark.parametrize(
    "keys",
    [
        {"StudyInstanceUID": "1.2"},
        {"QueryRetrieveLevel": "PATIENT", "PatientID": "1"},
        {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": ""},
        {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": "1.2", "SOPInstanceUID": ""},
        {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": ["1.2", "1.3"], "SeriesInstanceUID": ""},
    ],
    ids=["no level", "patient", "no study", "no series", "two studies"],
)
def test_a_query_without_its_unique_keys_is_refused(pacs: DemoPacs, keys: dict[str, object]) -> None:
    answer = find(pacs, **keys)
    assert answer.final == 0xA900
    assert not answer.matches


def test_a_study_is_moved_byte_for_byte_with_its_originator(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    with sink(pacs) as received:
        answer = move(pacs, QueryRetrieveLevel="STUDY", StudyInstanceUID=study_uid)
    assert [status.Status for status in answer.statuses] == [0xFF00] * 7 + [0]
    assert [status.NumberOfRemainingSuboperations for status in answer.statuses[:-1]] == [6, 5, 4, 3, 2, 1, 0]
    assert answer.counters == (None, 7, 0, 0)
    assert received.uids == uids
    assert {(one.originator, one.originator_message_id) for one in received.received} == {("ASKER", 7)}
    stored = {one.sop_instance_uid: one for one in pacs.archive.instances()}
    for one in received.received:
        instance = stored[one.sop_instance_uid]
        assert one.data == instance.path.read_bytes()[instance.offset :]
    (record,) = pacs.moves
    assert (record.calling_ae_title, record.destination, record.level, record.sent_uids) == ("ASKER", "SINK", "STUDY", tuple(uids))
    assert record.dimse_status == 0


def test_series_and_instances_are_moved_by_lists(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    ct, mr = pacs.archive.studies[study_uid].series
    with sink(pacs) as received:
        assert move(pacs, QueryRetrieveLevel="SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID=mr).final == 0
        assert received.uids == uids[4:]
        received.received.clear()
        assert move(pacs, QueryRetrieveLevel="SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID=[ct, mr]).final == 0
        assert received.uids == uids
        received.received.clear()
        wanted = [uids[2], uids[0], "1.2.3"]
        answer = move(pacs, QueryRetrieveLevel="IMAGE", StudyInstanceUID=study_uid, SeriesInstanceUID=ct, SOPInstanceUID=wanted)
        assert answer.counters == (None, 2, 0, 0)
        assert received.uids == wanted[:2]


def test_a_move_that_matches_nothing_succeeds_with_nothing(pacs: DemoPacs) -> None:
    with sink(pacs) as received:
        answer = move(pacs, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3")
    assert (answer.final, answer.counters) == (0, (None, 0, 0, 0))
    assert not received.received


@pytest.mark.parametrize(
    "keys",
    [
        {"StudyInstanceUID": "ITS"},
        {"QueryRetrieveLevel": "STUDY"},
        {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""},
        {"QueryRetrieveLevel": "STUDY", "AccessionNumber": "ACC1"},
        {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "ITS", "AccessionNumber": "ACC1"},
        {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "ITS", "PatientID": ""},
        {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": "1.2"},
        {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": "ITS", "SOPInstanceUID": "1.2"},
    ],
    ids=["no level", "no key", "empty key", "accession", "key too many", "empty key too many", "no study", "no series"],
)
def test_a_move_by_anything_but_unique_keys_is_refused(pacs: DemoPacs, study_uid: str, keys: dict[str, object]) -> None:
    with sink(pacs) as received:
        answer = move(pacs, **{keyword: study_uid if value == "ITS" else value for keyword, value in keys.items()})
    assert answer.final == 0xA900
    assert not received.received


def test_an_archive_that_takes_accession_numbers(folder: Path) -> None:
    with DemoPacs(folder, accession_moves=True) as pacs, sink(pacs) as received:
        assert move(pacs, QueryRetrieveLevel="STUDY", AccessionNumber="ACC1").final == 0
        assert len(received.uids) == 7
        received.received.clear()
        assert move(pacs, QueryRetrieveLevel="STUDY", AccessionNumber="").final == 0xA900
        assert move(pacs, QueryRetrieveLevel="STUDY", AccessionNumber="NONE").counters == (None, 0, 0, 0)
        assert not received.received


def test_an_unknown_destination(pacs: DemoPacs, study_uid: str) -> None:
    assert move(pacs, destination="NOBODY", QueryRetrieveLevel="STUDY", StudyInstanceUID=study_uid).final == 0xA801


def test_a_destination_that_does_not_listen(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    pacs.add_destination("DEAF", "127.0.0.1", free_port())
    answer = move(pacs, destination="DEAF", QueryRetrieveLevel="STUDY", StudyInstanceUID=study_uid)
    assert (answer.final, answer.counters) == (0xA702, (None, 0, 7, 0))
    failed = answer.identifiers[-1]
    assert failed is not None
    assert list(failed.FailedSOPInstanceUIDList) == uids


def test_a_destination_that_says_nothing_does_not_keep_the_pacs(pacs: DemoPacs, study_uid: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        pacs.add_destination("MUTE", *mute.getsockname())
        with associated(pacs) as association:
            responses = association.send_c_move(
                identifier({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study_uid}), "MUTE", MOVE
            )
            with mute.accept()[0]:
                pacs.stop()
            assert "Status" not in list(responses)[-1][0]  # pending ones may have come before
    assert pacs.moves[-1].dimse_status is None


def test_failures_and_warnings_of_the_destination_are_counted_and_named(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    with sink(pacs) as received:
        received.statuses = {uids[1]: 0xA700, uids[3]: 0xB007}
        answer = move(pacs, QueryRetrieveLevel="STUDY", StudyInstanceUID=study_uid)
    assert (answer.final, answer.counters) == (0xB000, (None, 5, 1, 1))
    failed = answer.identifiers[-1]
    assert failed is not None
    assert failed.FailedSOPInstanceUIDList == uids[1]
    assert received.uids == uids


def test_a_move_is_cancelled(pacs: DemoPacs, study_uid: str, uids: list[str]) -> None:
    with sink(pacs) as received, associated(pacs) as association:
        pacs.faults = Faults(stall_after=3)
        responses = association.send_c_move(
            identifier({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study_uid}), "SINK", MOVE, msg_id=5
        )
        status = Dataset()
        for status, _ in responses:
            if status.get("NumberOfCompletedSuboperations") == 3 and status.Status == 0xFF00:
                association.send_c_cancel(5, query_model=MOVE)
        assert status.Status == 0xFE00
        assert (status.NumberOfRemainingSuboperations, status.NumberOfCompletedSuboperations) == (4, 3)
    assert received.uids == uids[:3]
    assert pacs.moves[-1].dimse_status == 0xFE00


def test_several_requests_on_one_association_and_a_late_cancel(pacs: DemoPacs, study_uid: str) -> None:
    with associated(pacs) as association:
        keys = identifier({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study_uid})
        for _ in range(2):
            assert len(list(association.send_c_find(keys, FIND, msg_id=3))) == 2
            association.send_c_cancel(3, query_model=FIND)
        assert association.is_established


def test_contexts_are_answered_one_by_one(pacs: DemoPacs) -> None:
    ae = AE("ASKER")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.2.1.1")  # Patient Root C-FIND is not served
    ae.add_requested_context(FIND, "1.2.840.10008.1.2.2")  # nor is Explicit VR Big Endian
    ae.add_requested_context(MOVE, ["1.2.840.10008.1.2.2", ExplicitVRLittleEndian])
    association = ae.associate(*pacs.address, ae_title="ABPACS")
    assert [context.abstract_syntax for context in association.accepted_contexts] == [MOVE]
    assert association.accepted_contexts[0].transfer_syntax == [ExplicitVRLittleEndian]
    assert sorted(context.result or 0 for context in association.rejected_contexts) == [3, 4]
    association.release()
    ae.shutdown()


@pytest.mark.parametrize("garbage", [b"", b"GET / HTTP/1.0\r\n\r\n", b"\x01\0\0\0\0\x08" + b"\xff" * 8, b"\x01\0\xff\xff\xff\xff"])
def test_it_outlives_those_who_speak_no_dicom(pacs: DemoPacs, garbage: bytes) -> None:
    with socket.create_connection(pacs.address, timeout=10) as stranger:
        try:
            stranger.sendall(garbage)
            stranger.shutdown(socket.SHUT_WR)
            assert stranger.recv(100) == b""
        except OSError as error:  # reset, since not all that was sent had been read
            assert not isinstance(error, TimeoutError)  # noqa: PT017
    assert find(pacs, QueryRetrieveLevel="STUDY", AccessionNumber="ACC1").final == 0


def test_new_files_are_seen_after_a_refresh(tmp_path: Path, folder: Path) -> None:
    with DemoPacs(tmp_path) as pacs:
        assert not find(pacs, QueryRetrieveLevel="STUDY", AccessionNumber="ACC1").matches
        for path in (folder / "a").iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        pacs.refresh()
        assert len(find(pacs, QueryRetrieveLevel="STUDY", AccessionNumber="ACC1").matches) == 1
