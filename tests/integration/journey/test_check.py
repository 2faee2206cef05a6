"""`mkisod check`: the whole circle, from our question to an instance at our port, against real archives and each way it breaks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.phantom import CT_ACCESSION, write_phantom
from tests.integration.journey.site import AE_TITLE, make_config, run_command, running_site
from tests.peers import dcmqrscp, dicomdirtests, orthanc, storescp
from tests.processes import HOST, free_port

MR_ACCESSION = "134"  # of dicomdirtests
Finding = dict[str, object]


def check(config: Path, *arguments: str, exit_code: int) -> dict[object, Finding]:
    """The findings by subject; what is said to a person says the same."""
    said = run_command("check", "--json", "--config", config, *arguments)
    assert said.exit_code == exit_code, said
    findings: list[Finding] = json.loads(said.output)
    return {finding["subject"]: finding for finding in findings}


def write_config(folder: Path, port: int, address: tuple[str, int], extra: str = "", keys: Mapping[str, object] | None = None) -> Path:
    path = folder / "mkisod.toml"
    path.write_text(make_config(folder / "spool", port, {"ABPACS": address}, pacs_keys={"first_arrival_s": 2} | dict(keys or {})) + extra)
    return path


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "archive"
    write_phantom(folder, seed=1, ct_slices=3, mr_slices=2, rows=16, columns=16)
    return folder


@pytest.fixture
def archive(phantom: Path) -> Iterator[tuple[DemoPacs, int]]:
    """The demo PACS, and the port it sends to as CDRECORD."""
    port = free_port()
    with DemoPacs(phantom, destinations={AE_TITLE: (HOST, port)}) as pacs:
        yield pacs, port


def test_without_an_accession_the_return_path_is_said_to_be_unproven(tmp_path: Path, archive: tuple[DemoPacs, int]) -> None:
    pacs, port = archive
    config = write_config(tmp_path, port, pacs.address)
    finding = check(config, exit_code=0)["return path from ABPACS"]
    assert (finding["ok"], pacs.moves) == (None, [])
    assert "unproven" in str(finding["found"])
    assert "--accession" in str(finding["advice"])
    (line,) = [line for line in run_command("check", "--config", config).output.splitlines() if "return path" in line]
    assert line.startswith("open ")


def test_one_instance_proves_it_where_nobody_has_the_port(tmp_path: Path, archive: tuple[DemoPacs, int]) -> None:
    pacs, port = archive
    config = write_config(tmp_path, port, pacs.address)
    finding = check(config, "--accession", CT_ACCESSION, exit_code=0)["return path from ABPACS"]
    assert finding["ok"] is True
    assert f"to CDRECORD on port {port}" in str(finding["found"])
    (move,) = pacs.moves
    assert move.level == "IMAGE"
    assert not (tmp_path / "spool").exists(), "nothing is kept, and nothing changed"


def test_one_instance_proves_it_beside_a_running_daemon(tmp_path: Path, archive: tuple[DemoPacs, int]) -> None:
    """The daemon refuses what nobody asked for, and leaves word that it came."""
    pacs, port = archive
    with running_site(tmp_path, {"ABPACS": pacs.address}, port=port) as site:
        found = check(site.config_path, "--accession", CT_ACCESSION, exit_code=0)
        assert found["return path from ABPACS"]["ok"] is True, found
        assert "sent an instance" in str(found["return path from ABPACS"]["found"])
        assert not list((site.spool / "work").glob(".witness*")), "the question goes with the asking"
        assert not list(site.spool.rglob("*.dcm"))
        # The daemon has taken no harm.
        site.request("after", CT_ACCESSION)


def test_beside_a_daemon_one_check_at_a_time(tmp_path: Path, archive: tuple[DemoPacs, int]) -> None:
    pacs, port = archive
    with running_site(tmp_path, {"ABPACS": pacs.address}, port=port) as site:
        (site.spool / "work" / ".witness-main").touch()
        finding = check(site.config_path, "--accession", CT_ACCESSION, exit_code=1)["return path from ABPACS"]
        assert "Another mkisod check" in str(finding["found"])


def test_an_archive_that_answers_before_it_sends(tmp_path: Path, archive: tuple[DemoPacs, int]) -> None:
    pacs, port = archive
    pacs.faults = Faults(after_final=True, pause_s=0.3)
    config = write_config(tmp_path, port, pacs.address)
    assert check(config, "--accession", CT_ACCESSION, exit_code=0)["return path from ABPACS"]["ok"] is True


def test_another_title_for_us_at_the_archive(tmp_path: Path, phantom: Path) -> None:
    """The archive sends to the right port, but calls it by a name that is not ours."""
    port = free_port()
    with DemoPacs(phantom, destinations={AE_TITLE: (HOST, port)}) as pacs:
        config = write_config(tmp_path, port, pacs.address)
        text = config.read_text().replace("[receiver]\n", '[receiver]\nallowed_calling_ae_titles = ["ELSEWHERE"]\n')
        config.write_text(text)
        finding = check(config, "--accession", CT_ACCESSION, exit_code=1)["return path from ABPACS"]
    assert "was not accepted: calling AE title not recognized" in str(finding["found"])
    assert "[receiver]" in str(finding["advice"])


@pytest.mark.parametrize("accession", ["NOWHERE", "A*"])
def test_an_accession_that_proves_nothing(tmp_path: Path, archive: tuple[DemoPacs, int], accession: str) -> None:
    pacs, port = archive
    config = write_config(tmp_path, port, pacs.address)
    said = run_command("check", "--config", config, "--accession", accession)
    assert said.exit_code == 1
    assert "no study with accession number" in said.output or "[accession_invalid]" in said.messages
    assert pacs.moves == []


def test_destinations_are_asked_too(tmp_path: Path, archive: tuple[DemoPacs, int]) -> None:
    pacs, port = archive
    with storescp(tmp_path / "workstation") as workstation:
        extra = (
            f'\n[forward.WORKSTATION]\nhost = "{HOST}"\nport = {workstation.port}\nae_title = "STORESCP"\n'
            f'\n[forward.GONE]\nhost = "{HOST}"\nport = {free_port()}\n'
        )
        found = check(write_config(tmp_path, port, pacs.address, extra), exit_code=1)
    assert found["destination WORKSTATION"]["ok"] is True
    assert found["destination GONE"]["ok"] is False
    assert "cannot be reached" in str(found["destination GONE"]["found"])


@pytest.mark.parametrize("daemon_runs", [False, True])
@pytest.mark.parametrize("make_archive", [dcmqrscp, orthanc], ids=["dcmqrscp", "Orthanc"])
def test_real_archives(tmp_path: Path, make_archive: type, daemon_runs: bool) -> None:
    """Known to the archive: proven. Unknown to it, or known with a port where nobody listens: never taken for proven."""
    port, elsewhere = free_port(), free_port()
    destinations = {AE_TITLE: (HOST, port), "LOST": (HOST, elsewhere)}
    with make_archive(tmp_path / "archive", dicomdirtests(), destinations=destinations) as peer:
        config = write_config(tmp_path, port, (HOST, peer.port))

        def prove(exit_code: int) -> Finding:
            return check(config, "--accession", MR_ACCESSION, exit_code=exit_code)["return path from ABPACS"]

        if daemon_runs:
            with running_site(tmp_path, {"ABPACS": (HOST, peer.port)}, port=port):
                finding = prove(0)
                assert "sent an instance" in str(finding["found"])
            return
        finding = prove(0)
        assert f"sent an instance from {HOST} as ABPACS to CDRECORD" in str(finding["found"])
        known = config.read_text()
        config.write_text(known.replace("[receiver]\n", '[receiver]\nae_title = "NOBODY"\n'))
        finding = prove(1)
        assert "NOBODY" in f"{finding['found']} {finding['advice']}"
        config.write_text(known.replace("[receiver]\n", '[receiver]\nae_title = "LOST"\n'))
        finding = prove(1)
        assert f"Nobody connected to port {port}" in str(finding["found"])
        assert "firewall" in str(finding["advice"])
