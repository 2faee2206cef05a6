"""`mkisod send`: any folder, any destination, nothing silently left out."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mkisod.cli.send import find_peer
from mkisod.config.settings import Config
from tests.daemon import ROOT
from tests.forward import accepting, answer_with
from tests.integration.forward.conftest import find, make_distinct
from tests.integration.journey.site import run_command
from tests.peers import dicomdirtests, require, storescp
from tests.processes import HOST, free_port
from tests.receiver.client import read_data_set


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file-set with its DICOMDIR, and things beside it that are none of its."""
    top = tmp_path / "disc"
    (top / "DICOM").mkdir(parents=True)
    for number, path in enumerate(dicomdirtests()[-5:]):
        shutil.copyfile(path, top / "DICOM" / f"IM{number}")
    subprocess.run([require("dcmmkdir"), "+r", "+id", top, "+D", top / "DICOMDIR", "DICOM"], check=True, capture_output=True)
    (top / "README.TXT").write_text("to be read by people", encoding="ascii")
    (top / "deep" / "er").mkdir(parents=True)
    make_distinct(["CT_small.dcm"], top / "deep" / "er" / "copy")
    os.mkfifo(top / "pipe")
    (top / "dangling").symlink_to("nowhere")
    (top / "around").symlink_to(top)
    return top


def configure(tmp_path: Path, port: int) -> Path:
    path = tmp_path / "mkisod.toml"
    path.write_text(f'[forward.WORKSTATION]\nhost = "{HOST}"\nport = {port}\nae_title = "STORESCP"\n', encoding="ascii")
    return path


def test_a_disc_to_a_configured_destination(tmp_path: Path, folder: Path) -> None:
    with storescp(tmp_path / "peer") as peer:
        said = run_command("send", folder, "WORKSTATION", "--config", configure(tmp_path, peer.port))
        assert said.exit_code == 0, said
        assert f"6 instances sent to WORKSTATION (STORESCP@{HOST}:{peer.port}), 0 not" in said.output
        assert "skipped: 1 DICOMDIR, 1 files that are no DICOM files" in said.output
        sent = [*(folder / "DICOM").iterdir(), folder / "deep" / "er" / "copy" / "CT_small.dcm"]
        assert sorted(map(read_data_set, peer.files())) == sorted(map(read_data_set, sent))


def test_to_an_address_as_json(tmp_path: Path, folder: Path) -> None:
    with storescp(tmp_path / "peer", options=["+xi"]) as peer:
        said = run_command("send", folder, f"STORESCP@{HOST}:{peer.port}", "--json", "--config", configure(tmp_path, 1))
    assert said.exit_code == 0, said
    report = json.loads(said.output)
    assert report["sent"] == len(report["conversions"]) == 6
    assert report["failed"] == report["warnings"] == []
    assert report["skipped"] == {"dicomdirs": 1, "not_dicom": 1}
    assert {one["to_transfer_syntax_uid"] for one in report["conversions"]} == {"1.2.840.10008.1.2"}


def test_every_failure_is_named(tmp_path: Path, folder: Path) -> None:
    broken = os.fsencode(folder) + b"/broken \xff \x1b[31m"
    Path(os.fsdecode(broken)).write_bytes(find("CT_small.dcm").read_bytes()[:200])
    with accepting(answer_with(0, 0xC000, 0xB000, 0)) as acceptor:
        said = run_command("send", folder, f"X@{HOST}:{acceptor.port}", "--config", configure(tmp_path, 1))
    assert said.exit_code == 1
    lines = [line for line in said.output.splitlines() if line.startswith("not sent: ")]
    assert len(lines) == 2
    assert lines[0].startswith("not sent: broken \\udcff \\x1b[31m: ")
    assert acceptor.uids[1] in lines[1]
    assert "C000H" in lines[1]
    (warning,) = [line for line in said.output.splitlines() if line.startswith("sent with a warning: ")]
    assert acceptor.uids[2] in warning
    assert "B000H" in warning
    assert "5 instances sent" in said.output


def test_a_destination_that_is_not_there(tmp_path: Path, folder: Path) -> None:
    said = run_command("send", folder, "WORKSTATION", "--json", "--config", configure(tmp_path, free_port()))
    assert said.exit_code == 1
    assert len(json.loads(said.output)["failed"]) == 6
    assert "Connection refused" in said.messages


@pytest.mark.parametrize("destination", ["NOBODY", "X@host", "X@host:0", "X@host:99999", "@host:104", f"{'X' * 17}@host:104"])
def test_no_destination(tmp_path: Path, folder: Path, destination: str) -> None:
    said = run_command("send", folder, destination, "--config", configure(tmp_path, 1))
    assert said.exit_code == 1
    assert "[destination_unknown]" in said.messages
    assert "AE@HOST:PORT" in said.messages


def test_an_address_of_ipv6() -> None:
    peer = find_peer(Config(), "PACS@[::1]:104")
    assert (peer.ae_title, peer.host, peer.port) == ("PACS", "::1", 104)


def test_no_folder_and_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run_command("send", tmp_path / "none", f"X@{HOST}:1", "--config", configure(tmp_path, 1)).exit_code == 2
    said = run_command("send", tmp_path / "empty", f"X@{HOST}:1", "--config", configure(tmp_path, 1))
    assert said.exit_code == 1
    assert "There is no DICOM file" in said.messages


def test_progress_on_a_terminal(tmp_path: Path, folder: Path) -> None:
    with storescp(tmp_path / "peer") as peer:
        here, there = pty.openpty()
        command = [sys.executable, "-m", "mkisod", "send", folder, f"STORESCP@{HOST}:{peer.port}", "--config", configure(tmp_path, 1)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
        done = subprocess.run(list(map(str, command)), check=False, stdout=subprocess.PIPE, stderr=there, env=environment, timeout=60)
        os.close(there)
        shown = os.read(here, 1 << 16).decode()
        os.close(here)
    assert done.returncode == 0
    assert "6/6" in shown
