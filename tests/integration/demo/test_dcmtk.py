"""The demo PACS with the phantom, asked by DCMTK's echoscu, findscu and movescu; what it writes, judged by dciodvfy."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.phantom import CT_ACCESSION, MR_ACCESSION, write_phantom
from mkisod.demo.series import write_series
from tests.peers import echo, require, storescp
from tests.processes import free_port, wait_for


def run(tool: str, address: tuple[str, int], *options: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [require(tool), "-v", "-S", "-aec", "ABPACS", *options, address[0], str(address[1])]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=cwd)


@pytest.mark.parametrize("accession", [CT_ACCESSION, MR_ACCESSION])
def test_an_accession_is_found_and_moved(pacs: DemoPacs, tmp_path: Path, accession: str) -> None:
    assert echo("ABPACS", pacs.address[1])
    wanted = ["-k", "StudyInstanceUID", "-k", "NumberOfStudyRelatedInstances"]
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"AccessionNumber={accession}", *wanted]
    found = run("findscu", pacs.address, "-X", *keys, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    (response,) = [pydicom.dcmread(path, force=True) for path in tmp_path.glob("rsp*.dcm")]
    with storescp(tmp_path, ae_title="SINK") as peer:
        pacs.add_destination("SINK", peer.host, peer.port)
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={response.StudyInstanceUID}"]
        moved = run("movescu", pacs.address, "-aem", "SINK", *keys)
        assert moved.returncode == 0, moved.stderr
        came = [pydicom.dcmread(path) for path in peer.files()]
        assert len(came) == response.NumberOfStudyRelatedInstances
        assert {data_set.AccessionNumber for data_set in came} == {accession}
        held = {one.sop_instance_uid: one for one in pacs.archive.instances()}
        for path, data_set in zip(peer.files(), came, strict=True):
            stored = held[data_set.SOPInstanceUID]
            assert path.read_bytes().endswith(stored.path.read_bytes()[stored.offset :])


def test_the_line_without_a_level_moves_nothing(pacs: DemoPacs, tmp_path: Path) -> None:
    with storescp(tmp_path, ae_title="SINK") as peer:
        pacs.add_destination("SINK", peer.host, peer.port)
        moved = run("movescu", pacs.address, "-aem", "SINK", "-k", "0008,0050=ACC1", "-k", "0010,0020=")
        assert moved.returncode != 0
        assert "DataSetDoesNotMatchSOPClass" in moved.stdout + moved.stderr  # its name for A900H
        assert not peer.files()


def test_another_called_ae_title_is_rejected(pacs: DemoPacs) -> None:
    """Asked by findscu: pynetdicom takes a rejection that comes very fast for a connection that failed."""
    asked = run("findscu", pacs.address, "-aec", "ELSEWHERE", "-k", "QueryRetrieveLevel=STUDY")
    assert asked.returncode != 0
    assert "Result: Rejected Permanent, Source: Service User" in asked.stdout + asked.stderr
    assert "Reason: Called AE Title Not Recognized" in asked.stdout + asked.stderr


@pytest.mark.parametrize(
    ("faults", "exit_status", "said", "came"),
    [
        (Faults(), 0, "(Success)", 7),
        (Faults(fail_instance=2), 68, "SubOperationsCompleteOneOrMoreFailures", 6),
        (Faults(move_status=0xA702), 69, "OutOfResourcesSubOperations", 0),
        (Faults(after_final=True), 0, "(Success)", 7),
        (Faults(abort_after=3), 0, "Peer aborted Association", 3),
        (Faults(send_nothing=True), 0, "(Success)", 0),
        (Faults(send_twice=True, no_pending=True, omit_move_originator=True), 0, "(Success)", 7),
    ],
    ids=["none", "fail", "status", "after final", "abort", "nothing", "twice"],
)
def test_faults_look_the_same_to_movescu(
    pacs: DemoPacs, study_uid: str, tmp_path: Path, *, faults: Faults, exit_status: int, said: str, came: int
) -> None:
    pacs.faults = faults
    with storescp(tmp_path, ae_title="SINK") as peer:
        pacs.add_destination("SINK", peer.host, peer.port)
        moved = run("movescu", pacs.address, "-aem", "SINK", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study_uid}")
        wait_for(lambda: pacs.moves, 30, "the end of the move")
        assert (moved.returncode, said in moved.stdout + moved.stderr) == (exit_status, True), moved.stdout + moved.stderr
        assert len(peer.files()) == came


def test_a_listing_cut_short_looks_the_same_to_findscu(pacs: DemoPacs, tmp_path: Path) -> None:
    pacs.faults = Faults(listing_limit=2)
    found = run("findscu", pacs.address, "-X", "-k", "QueryRetrieveLevel=STUDY", "-k", "AccessionNumber=*", cwd=tmp_path)
    assert "Cancel" in found.stdout + found.stderr
    assert len(list(tmp_path.glob("rsp*.dcm"))) == 2


def test_every_object_written_is_conformant(tmp_path: Path) -> None:
    dciodvfy = require("dciodvfy")
    write_phantom(tmp_path / "p", seed=5, ct_slices=3, mr_slices=3)
    write_series(tmp_path / "ct", accession="A1", count=2, rows=7, columns=11)
    write_series(tmp_path / "mr", accession="A1", count=2, modality="MR", series_number=2)
    files = sorted(tmp_path.rglob("*.dcm"))
    assert len(files) == 12
    for path in files:
        checked = subprocess.run([dciodvfy, path], check=False, capture_output=True, text=True, timeout=60)
        said = checked.stdout + checked.stderr
        assert checked.returncode == 0, said
        assert said.strip() in {"CTImage", "MRImage", "BasicTextSR", "EncapsulatedPDF"}, f"{path}: {said}"


def test_it_runs_as_a_process_of_its_own(folder: Path, tmp_path: Path) -> None:
    with storescp(tmp_path, ae_title="SINK") as peer:
        port = free_port()
        command = [sys.executable, "-m", "mkisod.demo.pacs", "--from", str(folder), "--port", str(port), "--accession-moves"]
        faults = json.dumps({"drop_instance": 1, "refused_levels": ["IMAGE"]})
        command += ["--destination", f"SINK={peer.host}:{peer.port}", "--faults", faults]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == f"listening on 127.0.0.1 {port}\n"
                moved = run("movescu", ("127.0.0.1", port), "-aem", "SINK", "-k", "QueryRetrieveLevel=STUDY", "-k", "AccessionNumber=ACC1")
                assert moved.returncode == 0, moved.stderr
                assert len(peer.files()) == 6
            finally:
                process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--destination", "SINK"], "is not AE=HOST:PORT"),
        (["--faults", '{"no_such_fault": 1}'], "is no set of faults"),
        (["--faults", "nonsense"], "is no set of faults"),
        (["--from", "/nonexistent"], "is not a folder"),
    ],
)
def test_wrong_arguments_are_named(folder: Path, arguments: list[str], said: str) -> None:
    command = [sys.executable, "-m", "mkisod.demo.pacs", "--from", str(folder), *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
