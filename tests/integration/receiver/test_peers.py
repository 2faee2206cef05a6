"""Real programs on the other side. What arrives is compared with what they were given, value by value, by pydicom."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pynetdicom import AE, StoragePresentationContexts

from mkisod.pacs.receiver import Receiver
from tests.integration.receiver.conftest import Instance
from tests.peers import dcmqrscp, dicomdirtests, echo, orthanc, require
from tests.receiver.client import read_data_set
from tests.receiver.directory import DirectoryReception

# Uncompressed in every way, compressed with and without loss, and no image at all; each with storescu's option for its transfer syntax.
OPTIONS = {
    "CT_small.dcm": "-xe",
    "rtplan.dcm": "-xi",
    "MR_small_bigendian.dcm": "-xb",
    "image_dfl.dcm": "-xd",
    "SC_rgb_rle.dcm": "-xr",
    "GDCMJ2K_TextGBR.dcm": "-xv",
    "693_J2KI.dcm": "-xw",
    "JPEGLSNearLossless_08.dcm": "-xu",
    "SC_jpeg_no_color_transform.dcm": "-xy",
    "reportsi.dcm": "-xe",
}
FILES = [Path(str(get_testdata_file(name))) for name in OPTIONS]


def compare(received: list[Path], sent: list[Path]) -> None:
    """Every one has come once, and with every value; the order and the transfer syntax are the other side's choice."""
    expected = {data_set.SOPInstanceUID: data_set for data_set in map(pydicom.dcmread, sent)}
    actual = {data_set.SOPInstanceUID: data_set for data_set in map(pydicom.dcmread, received)}
    assert len(received) == len(actual)
    assert actual.keys() == expected.keys()
    for uid, data_set in actual.items():
        if data_set.file_meta.TransferSyntaxUID == expected[uid].file_meta.TransferSyntaxUID:
            assert keep_values(data_set) == keep_values(expected[uid])


def keep_values(data_set: pydicom.Dataset) -> list[tuple[int, object]]:
    """Senders leave group lengths and trailing padding out or put them in, and DCMTK corrects the VR of compressed pixel data."""
    kept = [element for element in data_set if element.tag.element != 0 and element.keyword != "DataSetTrailingPadding"]
    return [(element.tag, element.value) for element in kept]


def run(*command: object) -> None:
    completed = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True, timeout=120)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_echoscu(receiver: Receiver) -> None:
    assert echo("CDRECORD", receiver.address[1])


def test_storescu(receiver: Receiver, reception: DirectoryReception) -> None:
    for path in FILES:
        run(require("storescu"), "-R", OPTIONS[path.name], "-aec", "CDRECORD", "127.0.0.1", receiver.address[1], path)
    compare(reception.files, FILES)


def test_dcmsend(receiver: Receiver, reception: DirectoryReception) -> None:
    run(require("dcmsend"), "--decompress-never", "-aec", "CDRECORD", "127.0.0.1", receiver.address[1], *FILES)
    compare(reception.files, FILES)


def test_pynetdicoms_storescu(receiver: Receiver, reception: DirectoryReception) -> None:
    for path in FILES:
        run(sys.executable, "-m", "pynetdicom", "storescu", "-cx", "-aec", "CDRECORD", "127.0.0.1", receiver.address[1], path)
    compare(reception.files, FILES)


def test_pynetdicom_sends_what_was_in_the_file_bit_for_bit(receiver: Receiver, reception: DirectoryReception, ct: Instance) -> None:
    entity = AE("TESTER")
    entity.requested_contexts = StoragePresentationContexts[:128]
    association = entity.associate("127.0.0.1", receiver.address[1], ae_title="CDRECORD")
    assert association.is_established
    assert association.send_c_store(ct.path).Status == 0
    association.release()
    assert read_data_set(reception.files[0]) == ct.data_set


@pytest.mark.parametrize("archive", [dcmqrscp, orthanc], ids=["dcmqrscp", "orthanc"])
def test_moved_by_an_archive(
    run_receiver: Callable[..., Receiver], reception: DirectoryReception, archive: Callable[..., object], tmp_path: Path
) -> None:
    receiver = run_receiver()
    files = [path for path in dicomdirtests() if pydicom.dcmread(path, specific_tags=["PatientID"]).PatientID == "98890234"]
    destinations = {"CDRECORD": ("127.0.0.1", receiver.address[1])}
    with archive(tmp_path / "archive", files, destinations=destinations) as pacs:  # type: ignore[attr-defined]
        studies = {str(pydicom.dcmread(path, specific_tags=["StudyInstanceUID"]).StudyInstanceUID) for path in files}
        for uid in studies:
            keys = ["-k", "0008,0052=STUDY", "-k", f"0020,000D={uid}"]
            run(require("movescu"), "-S", "-aet", "TESTER", "-aec", pacs.ae_title, "-aem", "CDRECORD", *keys, pacs.host, pacs.port)
    compare(reception.files, files)
    assert {offer.move_originator_ae_title for offer in reception.offers} == {"TESTER"}
    assert {offer.calling_ae_title for offer in reception.offers} == {"ABPACS"}


def test_several_at_once(receiver: Receiver, reception: DirectoryReception) -> None:
    files = dicomdirtests()
    command = [require("dcmsend"), "-aec", "CDRECORD", "127.0.0.1", str(receiver.address[1])]
    groups = [files[start::6] for start in range(6)]
    senders = [subprocess.Popen([*command, *map(os.fspath, group)], stdout=subprocess.DEVNULL) for group in groups]
    assert [sender.wait(60) for sender in senders] == [0] * 6
    compare(reception.files, files)
