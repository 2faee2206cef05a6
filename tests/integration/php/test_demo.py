"""`make demo-web`: one command that starts a PACS, the daemon and PHP, says where to look, and leaves nothing behind."""

from __future__ import annotations

import http.client
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.daemon import ROOT
from tests.integration.php.site import PHP_FOLDER
from tests.peers import require
from tests.processes import HOST, started, wait_for

WEB = PHP_FOLDER / "examples/web"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_to_look_and_stops_all_of_it(tmp_path: Path, ending: signal.Signals) -> None:
    require("php")
    command = [sys.executable, "-m", "mkisod.demo.web", "--root", WEB]
    environment = {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with started("demo-web", command, tmp_path / "demo.log", env=environment, end_signal=ending) as demo:
        demo.wait_ready(lambda: "Open http" in demo.output, deadline_s=60)
        address = re.search(rf"http://{HOST}:(\d+)/ and ask for PHANTOM", demo.output)
        assert address
        connection = http.client.HTTPConnection(HOST, int(address[1]), timeout=10)
        connection.request("GET", "/")
        assert "Make a disc" in connection.getresponse().read().decode()
        connection.close()
        php = session_of_php(address[1])
        assert php
        assert demo.end() == []
        assert "Stopped." in demo.output
        assert "Traceback" not in demo.output
        wait_for(lambda: not session_of_php(address[1]), 10, f"PHP ({php}) to end")
    assert [path.name for path in tmp_path.iterdir()] == ["demo.log"]


def session_of_php(port: str) -> list[int]:
    """The processes that serve pages on this port, PHP's workers too."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"{HOST}:{port}".encode() in words:
                found.append(int(entry.name))
    return found


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    require("php")
    command = [sys.executable, "-m", "mkisod.demo.web", "--root", tmp_path]
    with started("demo-web", command, tmp_path / "demo.log", env={"PYTHONPATH": str(ROOT)}) as demo:
        wait_for(lambda: "There is no index.php" in demo.output, 60, "the complaint")
        assert "Traceback" not in demo.output
