"""The three scripts that take the place of the old ones, from the command line and by include: what they leave, and what they say."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from mkisod.demo.faults import Faults
from mkisod.demo.phantom import CT_ACCESSION, MR_ACCESSION
from tests.integration.journey.site import Said
from tests.integration.php.site import PHP_FOLDER, Site, running_site
from tests.oracles import check_directory, check_sums, read_objects
from tests.peers import require, storescp
from tests.processes import HOST, free_port, wait_for

EXAMPLES = PHP_FOLDER / "examples"


@pytest.fixture(scope="module")
def workstation_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory, workstation_port: int) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("scripts"), more=name_workstation(workstation_port)) as site:
        yield site


def name_workstation(port: int) -> str:
    return f'[forward.WORKSTATION]\nhost = "{HOST}"\nport = {port}\nae_title = "ANY-SCP"\n'


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    yield shared_site
    shared_site.pacs.faults = Faults()


def start(site: Site, *command: object, timeout_s: float = 30) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [require("php"), "-d", "error_reporting=-1", "-d", "display_errors=stderr", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MKISOD_SPOOL": str(site.spool), "MKISOD_TIMEOUT_S": str(timeout_s)},
    )


def run(site: Site, *command: object, timeout_s: float = 30) -> Said:
    process = start(site, *command, timeout_s=timeout_s)
    output, messages = process.communicate(timeout=90)
    return Said(process.returncode, output, messages)


def run_script(site: Site, script: str, *arguments: object, timeout_s: float = 30) -> Said:
    return run(site, EXAMPLES / script, *arguments, timeout_s=timeout_s)


def ticket_of(said: Said) -> str:
    match = re.search(r"\(ticket (php-\S+)\)", said.messages)
    assert match, said
    return match[1]


def check_file_set(folder: Path, instances: int) -> None:
    assert {path.name for path in folder.iterdir()} == {"DICOMDIR", "DICOM", "README.TXT", "INDEX.HTM"}
    check_directory(folder)
    assert len(read_objects(folder)) == instances


@pytest.mark.parametrize("exists", [False, True])
def test_mkiso(site: Site, tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "disc").mkdir()
    said = run_script(site, "mkiso.php", CT_ACCESSION, tmp_path / "disc")
    assert said == Said(0, "", "")
    check_file_set(tmp_path / "disc", 13)
    assert [path.name for path in tmp_path.iterdir()] == ["disc"]


def test_mkiso_multiple(site: Site, tmp_path: Path) -> None:
    assert run_script(site, "mkiso_multiple.php", CT_ACCESSION, MR_ACCESSION, tmp_path / "disc") == Said(0, "", "")
    check_file_set(tmp_path / "disc", 26)


def test_mkiso2(site: Site, tmp_path: Path, workstation_port: int) -> None:
    with storescp(tmp_path / "workstation", ae_title="ANY-SCP", port=workstation_port) as workstation:
        assert run_script(site, "mkiso2.php", CT_ACCESSION, tmp_path / "disc") == Said(0, "", "")
        sent = sorted(str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in workstation.files())
    check_file_set(tmp_path / "disc", 13)
    assert sent == sorted(read_objects(tmp_path / "disc"))


def test_mkiso2_while_the_workstation_is_down(site: Site, tmp_path: Path, workstation_port: int) -> None:
    """Nobody waits for ever: the disc is there, the exit status says that something is not, and the daemon sends once it can."""
    said = run_script(site, "mkiso2.php", MR_ACCESSION, tmp_path / "disc", timeout_s=2)
    assert said.exit_code == 1
    assert "not all of it has been sent" in said.messages
    assert "[wait_timeout]" in said.messages
    check_file_set(tmp_path / "disc", 13)
    with storescp(tmp_path / "workstation", ae_title="ANY-SCP", port=workstation_port) as workstation:
        site.daemon.wait_status(ticket_of(said), "done")
        assert len(workstation.files()) == 13


def test_mkiso2_when_sending_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    more = "give_up_after_h = 0.0001\n" + name_workstation(free_port())
    with running_site(tmp_path / "site", more=more) as site:
        said = run_script(site, "mkiso2.php", CT_ACCESSION, tmp_path / "disc")
        assert (said.exit_code, "[forward_failed]" in said.messages) == (1, True)
        assert site.daemon.wait_status(ticket_of(said), "partial")["error"]["code"] == "forward_failed"
    check_file_set(tmp_path / "disc", 13)


def test_mkiso2_without_such_a_destination(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    with running_site(tmp_path / "site") as site:
        said = run_script(site, "mkiso2.php", CT_ACCESSION, tmp_path / "disc")
    assert (said.exit_code, "[destination_unknown]" in said.messages) == (1, True)
    assert not (tmp_path / "disc").exists()


def test_more_than_one_volume(tmp_path: Path) -> None:
    """Each in a folder of its own, and nothing beside them but the checksums."""
    (tmp_path / "site").mkdir()
    with running_site(tmp_path / "site", more='[media]\nmedium = "1"\n', slices=40, rows=128) as site:
        assert run_script(site, "mkiso.php", CT_ACCESSION, tmp_path / "disc") == Said(0, "", "")
    check_sums(tmp_path / "disc")
    folders = [path for path in sorted(tmp_path.glob("disc/*")) if path.name != "SHA256SUMS"]
    for folder in folders:
        check_directory(folder)
    assert len(folders) > 1
    assert sum(len(read_objects(folder)) for folder in folders) == 41


def test_the_spool_is_free_again(site: Site, tmp_path: Path) -> None:
    before = {path.name for path in site.daemon.outbox.iterdir()}
    run_script(site, "mkiso.php", MR_ACCESSION, tmp_path / "disc")
    (ticket,) = {path.name for path in site.daemon.outbox.iterdir()} - before
    wait_for(lambda: (status := site.daemon.status(ticket)) and status["result"] is None, 20, "the result to go")


@pytest.mark.parametrize(
    ("script", "variables"),
    [
        ("mkiso.php", "$accession_number = 'PHANTOM.CT.1';"),
        ("mkiso_multiple.php", "$as = ['PHANTOM.CT.1', 'PHANTOM.CT.1'];"),
    ],
)
def test_by_include(site: Site, tmp_path: Path, script: str, variables: str) -> None:
    code = f"{variables} $dicomdir = $argv[2]; $result = include $argv[1]; echo json_encode([$result, $mkiso_complaint]);"
    said = run(site, "-r", code, "--", EXAMPLES / script, tmp_path / "disc")
    assert said == Said(0, '[0,""]', "")
    check_file_set(tmp_path / "disc", 13)
    said = run(site, "-r", code, "--", EXAMPLES / script, tmp_path / "disc")
    assert said.output.startswith("[1,")
    assert "not empty" in said.output


def test_not_found(site: Site, tmp_path: Path) -> None:
    for script in ("mkiso.php", "mkiso2.php", "mkiso_multiple.php"):
        said = run_script(site, script, "NOT.THERE", tmp_path / "disc")
        assert (said.exit_code, said.output) == (1, "")
        assert "NOT.THERE" in said.messages
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("accession", ["", "*", "@forward X", "#", "A\n@allow several-patients", "../../etc/passwd.."])
def test_a_hostile_accession_is_never_submitted(site: Site, tmp_path: Path, accession: str) -> None:
    before = set(site.daemon.outbox.iterdir())
    said = run_script(site, "mkiso.php", accession, tmp_path / "disc")
    assert (said.exit_code, "[accession_invalid]" in said.messages) == (1, True)
    assert set(site.daemon.outbox.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


def test_nothing_given(site: Site, tmp_path: Path) -> None:
    assert run_script(site, "mkiso.php").exit_code == 2
    said = run(site, "-r", "echo include $argv[1];", "--", EXAMPLES / "mkiso.php")
    assert (said.output, "Fatal" in said.messages) == ("1", False)
    said = run(site, "-r", "$dicomdir = $argv[2]; echo include $argv[1];", "--", EXAMPLES / "mkiso_multiple.php", tmp_path / "disc")
    assert (said.output, "no accession number" in said.messages) == ("1", True)


def test_the_pacs_is_down(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    with running_site(tmp_path / "site", pacs_runs=False) as site:
        said = run_script(site, "mkiso.php", CT_ACCESSION, tmp_path / "disc", timeout_s=1.5)
        assert said.exit_code == 1
        assert "[wait_timeout]" in said.messages
        assert "[pacs_unreachable]" in said.messages or "it is retrieving" in said.messages
        assert not (tmp_path / "disc").exists()
        site.daemon.wait_status(ticket_of(said), "cancelled")


def test_no_daemon(site: Site, tmp_path: Path) -> None:
    for folder in ("inbox", "outbox"):
        (tmp_path / "spool" / folder).mkdir(parents=True)
    said = run_script(Site(site.daemon, site.pacs, tmp_path / "spool"), "mkiso.php", CT_ACCESSION, tmp_path / "disc", timeout_s=0.3)
    assert (said.exit_code, "has not been accepted" in said.messages) == (1, True)
    (cancel,) = (tmp_path / "spool/inbox").glob("*.cancel")
    assert cancel.with_suffix(".req").exists()


def test_time_out_in_the_middle(site: Site, tmp_path: Path) -> None:
    site.pacs.faults = Faults(stall_after=3)
    said = run_script(site, "mkiso.php", CT_ACCESSION, tmp_path / "disc", timeout_s=1)
    assert (said.exit_code, "it is retrieving" in said.messages, "It has been cancelled" in said.messages) == (1, True, True)
    assert list(tmp_path.iterdir()) == []
    site.daemon.wait_status(ticket_of(said), "cancelled")


def test_the_operator_cancels(site: Site, tmp_path: Path) -> None:
    site.pacs.faults = Faults(stall_after=3)
    before = {path.name for path in site.daemon.outbox.iterdir()}
    process = start(site, EXAMPLES / "mkiso.php", CT_ACCESSION, tmp_path / "disc")
    (ticket,) = wait_for(lambda: {path.name for path in site.daemon.outbox.iterdir()} - before, 20, "the request to be accepted")
    site.php("$mkisod->cancel($argv[0]);", ticket)
    messages = process.communicate(timeout=60)[1]
    assert (process.returncode, "[cancelled]" in messages) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_half_a_study_is_no_disc(site: Site, tmp_path: Path) -> None:
    site.pacs.faults = Faults(drop_instance=1)
    said = run_script(site, "mkiso.php", CT_ACCESSION, tmp_path / "disc")
    assert (said.exit_code, "[incomplete]" in said.messages) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_several_at_once(site: Site, tmp_path: Path) -> None:
    """What the old scripts could not do: their receivers met on one port."""
    processes = [start(site, EXAMPLES / "mkiso.php", accession, tmp_path / accession) for accession in (CT_ACCESSION, MR_ACCESSION)]
    assert [process.communicate(timeout=90)[1] for process in processes] == ["", ""]
    for accession in (CT_ACCESSION, MR_ACCESSION):
        check_file_set(tmp_path / accession, 13)
