"""The client that it is all for: a PHP script, which knows the contract and nothing else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mkisod.demo.pacs import DemoPacs
from tests.integration.journey.site import AE_TITLE, Site, running_site
from tests.peers import dicomdirtests, require
from tests.processes import HOST, free_port

SCRIPT = Path(__file__).parent / "drop_and_poll.php"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, port = tmp_path_factory.mktemp("php"), free_port()
    with (
        DemoPacs(dicomdirtests()[0].parents[2], destinations={AE_TITLE: (HOST, port)}) as pacs,
        running_site(folder, {"ABPACS": pacs.address}, port=port) as running,
    ):
        yield running


def run_script(site: Site, ticket: str, *accessions: str) -> dict[str, Any]:
    command = [require("php"), str(SCRIPT), str(site.spool), ticket, *accessions]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stderr) == (0, ""), done
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_it_drops_polls_and_finds_the_files(site: Site) -> None:
    answer = run_script(site, "php-4711", "134", "428")
    assert (answer["state"], answer["error"]) == ("done", None)
    assert answer["states"][-1] == "done"
    order = ["queued", "retrieving", "assembling", "publishing", "done"]
    assert answer["states"] == [state for state in order if state in answer["states"]], "never backwards"
    status = site.daemon.wait_status("php-4711", "done")
    (volume,) = status["result"]["volumes"]
    names = {f"{volume['directory']}/{name}" for name in ("DICOMDIR", "README.TXT", "INDEX.HTM")} | {volume["image"]}
    assert {name for name, size in answer["files"].items() if size} == names
    assert answer["files"][volume["image"]] == volume["size_bytes"]


def test_it_is_told_why_there_are_none(site: Site) -> None:
    answer = run_script(site, "php-4712", "134", "*")
    assert (answer["state"], answer["error"], answer["files"]) == ("failed", "accession_invalid", [])


def test_several_scripts_at_once(site: Site) -> None:
    tickets = {f"php-at-once-{number}": accession for number, accession in enumerate(["134", "428", "1", "134"])}
    scripts = [
        subprocess.Popen([require("php"), SCRIPT, site.spool, ticket, accession], stdout=subprocess.PIPE, text=True)
        for ticket, accession in tickets.items()
    ]
    answers = [json.loads(script.communicate(timeout=90)[0]) for script in scripts]
    assert [answer["state"] for answer in answers] == ["done"] * len(scripts)
