"""Real destinations: DCMTK's storescp and dcmqrscp, Orthanc, and our own receiver. What they got is what was sent, by bytes or by DCMTK."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pydicom import dcmread

from mkisod.errors import Permanent, Transient
from mkisod.job.forwarding import Outcome
from mkisod.pacs.contexts import choose_context
from mkisod.pacs.forward import Sent
from mkisod.pacs.pdu import ContextResult
from mkisod.pacs.receiver import Receiver, ReceiverSettings
from mkisod.pacs.stored import NotDicom, read_stored
from tests.integration.forward.conftest import Send, find, make_distinct
from tests.peers import dcmqrscp, dicomdirtests, orthanc, require, storescp
from tests.processes import wait_for
from tests.receiver.client import read_data_set
from tests.receiver.directory import DirectoryReception
from tests.receiver.journal import Journal

NAMES = (
    "CT_small.dcm",  # Explicit VR Little Endian
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "image_dfl.dcm",  # deflated
    "MR_small_RLE.dcm",
    "SC_rgb_jpeg_gdcm.dcm",  # JPEG lossless
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "test-SR.dcm",
    "waveform_ecg.dcm",
    "rtplan.dcm",
    "SC_rgb_rle_2frame.dcm",
    "reportsi.dcm",
)
LOSSY = ("SC_rgb_small_odd_jpeg.dcm", "JPEG2000.dcm", "examples_ybr_color.dcm")
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"


def describe(sent: Sequence[Sent]) -> list[tuple[str, str, str]]:
    return [(one.instance.path.name, one.outcome, one.reason) for one in sent]


def read_received(files: Sequence[Path]) -> dict[str, Path]:
    """By SOP Instance UID."""
    return {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in files}


def test_storescp_gets_every_byte(send: Send, tmp_path: Path) -> None:
    files = [*make_distinct((*NAMES, *LOSSY), tmp_path / "sent"), *dicomdirtests()[:20]]
    with storescp(tmp_path / "peer") as peer:
        sent = send(files, peer.port)
        assert {one.outcome for one in sent} == {Outcome.SENT}, describe(sent)
        assert not any(one.converted_to for one in sent)
        received = read_received(peer.files())
    for path in files:
        assert read_data_set(received[str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)]) == read_data_set(path), path.name


@pytest.mark.parametrize(("options", "wanted"), [(["+xi"], IMPLICIT), (["+xe"], EXPLICIT), (["+x="], EXPLICIT)])
def test_conversion_for_a_destination_that_takes_only_plain_ones(send: Send, tmp_path: Path, options: list[str], wanted: str) -> None:
    """`+xi`: Implicit VR alone; `+xe`, `+x=`: anything uncompressed. What is lossy stays here, and that is said."""
    files = make_distinct((*NAMES, *LOSSY), tmp_path / "sent")
    with storescp(tmp_path / "peer", options=options) as peer:
        sent = send(files, peer.port)
        received = read_received(peer.files())
    for one in sent:
        name = one.instance.path.name
        if name in LOSSY:
            assert one.outcome is Outcome.FAILED, describe([one])
            assert "without loss it cannot be converted" in one.reason
            continue
        assert one.outcome is Outcome.SENT, describe([one])
        after, before = dcmread(received[one.instance.sop_instance_uid]), dcmread(one.instance.path)
        if one.converted_to:
            assert one.converted_to == wanted
            assert after.file_meta.TransferSyntaxUID in (IMPLICIT, EXPLICIT)
        assert (after.PatientID, after.SeriesInstanceUID) == (before.PatientID, before.SeriesInstanceUID)
        # What came out of a compression is held against other decoders in tests/integration/media/test_conversion.py.
        if before.file_meta.TransferSyntaxUID in (IMPLICIT, EXPLICIT):
            assert after.get("PixelData") == before.get("PixelData"), name
        elif "PixelData" in before:
            samples = before.Rows * before.Columns * before.SamplesPerPixel * int(before.get("NumberOfFrames", 1))
            assert len(after.PixelData) == samples * before.BitsAllocated // 8, name
    assert sum(bool(one.converted_to) for one in sent) >= 6


@pytest.mark.parametrize("start", [dcmqrscp, orthanc])
def test_an_archive(send: Send, tmp_path: Path, start: Callable[..., object]) -> None:
    """Sent, and asked for again by an SCU that is not ours. dcmqrscp with its own options takes uncompressed ones alone."""
    files = [*map(find, ("CT_small.dcm", "MR_small_RLE.dcm", "test-SR.dcm")), *dicomdirtests()[:10]]
    with start(tmp_path / "archive") as peer:  # type: ignore[attr-defined]
        sent = send(files, peer.port, peer.ae_title)
        assert {one.outcome for one in sent} == {Outcome.SENT}, describe(sent)
        for path in (files[0], files[2], files[-1]):
            uid = str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
            keys = ["-k", "0008,0052=STUDY", "-k", f"0020,000D={uid}"]
            command = [require("findscu"), "-S", "-aec", peer.ae_title, *keys, peer.host, str(peer.port)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
            assert uid in done.stdout + done.stderr


def test_our_own_receiver(send: Send, tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    reception = DirectoryReception(tmp_path / "objects")
    receiver = Receiver(ReceiverSettings(host="127.0.0.1", port=0), reception, log=Journal().log)
    receiver.bind()
    receiver.start()
    files = make_distinct((*NAMES, *LOSSY), tmp_path / "sent")
    try:
        sent = send(files, receiver.address[1], "CDRECORD")
    finally:
        receiver.stop(5)
    assert {one.outcome for one in sent} == {Outcome.SENT}, describe(sent)
    assert sorted(map(read_data_set, reception.files)) == sorted(map(read_data_set, files))


def test_storescp_that_refuses(send: Send, tmp_path: Path) -> None:
    with storescp(tmp_path / "peer") as peer:
        port = peer.port
    command = [require("storescp"), "--refuse", "-aet", "STORESCP", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:

            def refused() -> str | None:
                try:
                    send([find("CT_small.dcm")], port)
                except Permanent as error:
                    return error.message
                except Transient:
                    return None
                return None

            assert "rejected the association" in wait_for(refused, 20, "a refusal")
        finally:
            process.kill()


@pytest.mark.parametrize("option", ["--abort-during", "--abort-after"])
def test_storescp_that_aborts(send: Send, tmp_path: Path, option: str) -> None:
    with storescp(tmp_path / "peer", options=[option]) as peer, pytest.raises(Transient, match="setbacks"):
        send([find("CT_small.dcm")] * 10, peer.port)


def test_what_is_no_dicom_file(tmp_path: Path) -> None:
    for content in (b"", b"text", bytes(200)):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(NotDicom):
            read_stored(tmp_path / "x")
    whole = find("CT_small.dcm").read_bytes()
    for content in (whole[:140], whole[:200], whole[:300], whole[:132] + b"\xff" * 500, bytes(128) + b"DICM"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(Permanent, match="cannot be sent"):
            read_stored(tmp_path / "x")


def test_a_lossy_one_never_chooses_a_plain_context() -> None:
    for name in LOSSY:
        stored = read_stored(find(name))
        assert choose_context({1: ContextResult(1, 0, stored.sop_class_uid, EXPLICIT)}, stored) is None
