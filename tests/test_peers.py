"""The peers are what the other tests believe: each serves what it was given, and moves it to where it was told."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pydicom
import pytest

from tests import peers
from tests.processes import HOST, free_port, wait_for

Archive = Callable[..., AbstractContextManager[peers.Peer]]
ARCHIVES = pytest.mark.parametrize("archive", [peers.dcmqrscp, peers.orthanc], ids=["dcmqrscp", "orthanc"])


def query_retrieve(program: str, peer: peers.Peer, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run findscu or movescu with the Study Root model."""
    command = [peers.require(program), "-v", "-S", "-aet", "TESTER", "-aec", peer.ae_title, *arguments, peer.host, str(peer.port)]
    return subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_dicomdirtests_are_what_their_table_says() -> None:
    heads = [pydicom.dcmread(path, stop_before_pixels=True) for path in peers.dicomdirtests()]
    assert Counter((head.AccessionNumber, head.PatientID, head.Modality) for head in heads) == {
        ("1", "12345678", "CT"): 50,
        ("134", "98890234", "MR"): 4,
        ("428", "98890234", "MR"): 2,
        ("2", "98890234", "CT"): 7,
        ("2", "98890234", "MR"): 11,
        ("2", "77654033", "CR"): 3,
        ("2", "77654033", "CT"): 4,
    }
    assert not any(head.get("PatientBirthDate") for head in heads)


@ARCHIVES
def test_archive_serves_what_it_was_given(archive: Archive, tmp_path: Path) -> None:
    files = peers.dicomdirtests()
    heads = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    [study_instance_uid] = {head.StudyInstanceUID for head in heads if head.AccessionNumber == "1"}
    with peers.storescp(tmp_path / "scp", ae_title="CDRECORD") as scp:
        destinations = {"CDRECORD": (HOST, scp.port), "TESTER": (HOST, free_port())}
        with archive(tmp_path / "archive", files, destinations=destinations) as peer:
            found = query_retrieve("findscu", peer, "-k", "0008,0052=STUDY", "-k", "0008,0050=2", "-k", "0020,000d")
            assert found.stderr.count(b"(Pending)") == 4, found.stderr.decode()
            query_retrieve("movescu", peer, "-aem", "CDRECORD", "-k", "0008,0052=STUDY", "-k", f"0020,000d={study_instance_uid}")
            wait_for(lambda: len(scp.files()) == 50, 20, "50 instances")
        received = {pydicom.dcmread(path).SOPInstanceUID for path in scp.files()}
    assert received == {head.SOPInstanceUID for head in heads if head.StudyInstanceUID == study_instance_uid}


def test_dcmqrscp_takes_options(tmp_path: Path) -> None:
    """With -XM it refuses a C-MOVE by accession number."""
    with (
        peers.storescp(tmp_path / "scp", ae_title="CDRECORD") as scp,
        peers.dcmqrscp(tmp_path / "archive", peers.dicomdirtests(), destinations={"CDRECORD": (HOST, scp.port)}, options=["-XM"]) as peer,
    ):
        with pytest.raises(subprocess.CalledProcessError) as refused:
            query_retrieve("movescu", peer, "-aem", "CDRECORD", "-k", "0008,0052=STUDY", "-k", "0008,0050=1")
        assert b"Error: DataSetDoesNotMatchSOPClass" in refused.value.stderr  # DIMSE status A900H
        assert not scp.files()


def test_a_peer_that_dies_at_once_is_a_failure_with_its_last_words(tmp_path: Path) -> None:
    with (
        pytest.raises(pytest.fail.Exception, match=r"[Uu]nknown option"),
        peers.storescp(tmp_path, options=["--no-such-option"]),
    ):
        pass


def test_a_free_port_is_refused_until_somebody_listens_there() -> None:
    port = free_port()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port), timeout=5)
    with socket.create_server((HOST, port)), socket.create_connection((HOST, port), timeout=5):
        pass


def test_programs_of_the_virtual_environment_are_no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """pynetdicom installs an echoscu of its own."""
    own = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{own}{os.pathsep}{os.environ['PATH']}")
    assert Path(peers.require("echoscu")).parent != own


def test_a_missing_program_is_skipped_by_name_and_fails_where_nothing_may_be_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match=r"storescp .*Debian package dcmtk"):
        peers.require("storescp")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"storescp .*Debian package dcmtk"):
        peers.require("storescp")
