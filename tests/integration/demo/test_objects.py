"""The demo PACS holds every kind of object and sends each as it is stored: any SOP class, any transfer syntax, any number of contexts."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pydicom.data
import pytest
from pydicom.uid import UID
from pynetdicom import _config

from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import write_series
from tests.integration.demo.scu import move, sink
from tests.peers import storescp


@pytest.fixture
def unrestricted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the Storage SCP of pynetdicom take private SOP classes and unknown transfer syntaxes."""
    monkeypatch.setattr(_config, "UNRESTRICTED_STORAGE_SERVICE", True)


@pytest.mark.usefixtures("unrestricted")
def test_whatever_pydicom_ships_is_sent_as_it_is() -> None:
    """Its test files: compressed, big endian, deflated, waveform, RT, SR, PDF, enhanced multi-frame, names in many character sets."""
    folder = Path(pydicom.data.__file__).parent
    with DemoPacs(folder) as pacs, sink(pacs) as received:
        archive = pacs.archive
        classes = {UID(instance.sop_class_uid).keyword for instance in archive.instances()}
        syntaxes = {UID(instance.transfer_syntax_uid).keyword for instance in archive.instances()}
        assert {"RTPlanStorage", "RTDoseStorage", "TwelveLeadECGWaveformStorage", "UltrasoundMultiFrameImageStorage"} <= classes
        assert {"ExplicitVRBigEndian", "DeflatedExplicitVRLittleEndian", "JPEG2000Lossless", "RLELossless"} <= syntaxes
        stored = {instance.sop_instance_uid: instance for instance in archive.instances()}
        for study_uid in archive.studies:
            received.received.clear()
            answer = move(pacs, QueryRetrieveLevel="STUDY", StudyInstanceUID=study_uid)
            assert answer.final == 0
            assert received.uids == [instance.sop_instance_uid for instance in archive.studies[study_uid].instances()]
            for one in received.received:
                instance = stored[one.sop_instance_uid]
                assert one.data == instance.path.read_bytes()[instance.offset :]


@pytest.mark.usefixtures("unrestricted")
def test_more_than_128_contexts_take_a_second_association(tmp_path: Path) -> None:
    write_series(tmp_path, accession="A", count=130, rows=2, columns=2)
    for number, path in enumerate(sorted(tmp_path.iterdir())):
        data_set = pydicom.dcmread(path)
        data_set.SOPClassUID = data_set.file_meta.MediaStorageSOPClassUID = UID(f"2.25.1234567890.{number}")
        data_set.save_as(path)
    with DemoPacs(tmp_path) as pacs, sink(pacs) as received:
        (study_uid,) = pacs.archive.studies
        answer = move(pacs, QueryRetrieveLevel="STUDY", StudyInstanceUID=study_uid)
        assert (answer.final, answer.counters) == (0, (None, 130, 0, 0))
        assert received.uids == [instance.sop_instance_uid for instance in pacs.archive.instances()]
        assert received.associations == 2


def test_an_instance_in_many_small_pieces(tmp_path: Path) -> None:
    """Two of 2 MiB each reach a Storage SCP that takes PDUs of 4 KiB."""
    series = write_series(tmp_path / "large", accession="A", count=2, rows=1024, columns=1024)
    options = ["--bit-preserving", "--accept-all", "--max-pdu", "4096"]
    with storescp(tmp_path, ae_title="SINK", options=options) as peer, DemoPacs(tmp_path / "large") as pacs:
        pacs.add_destination("SINK", peer.host, peer.port)
        answer = move(pacs, QueryRetrieveLevel="STUDY", StudyInstanceUID=series.study_instance_uid)
        assert answer.final == 0
        assert len(peer.files()) == 2
        for path in peer.files():
            stored = next(one for one in pacs.archive.instances() if path.name.endswith(one.sop_instance_uid))
            assert stored.size_bytes > 2 << 20
            assert path.read_bytes().endswith(stored.path.read_bytes()[stored.offset :])


def test_a_file_that_vanishes_fails_and_is_named(tmp_path: Path) -> None:
    write_series(tmp_path, accession="A", count=3, rows=2, columns=2)
    with DemoPacs(tmp_path) as pacs, sink(pacs) as received:
        (study_uid,) = pacs.archive.studies
        first, gone, last = list(pacs.archive.instances())
        gone.path.unlink()
        answer = move(pacs, QueryRetrieveLevel="STUDY", StudyInstanceUID=study_uid)
        assert (answer.final, answer.counters) == (0xB000, (None, 2, 1, 0))
        failed = answer.identifiers[-1]
        assert failed is not None
        assert failed.FailedSOPInstanceUIDList == gone.sop_instance_uid
        assert received.uids == [first.sop_instance_uid, last.sop_instance_uid]
