"""The operator's commands, while the daemon runs and while it is down, and as root on a spool that somebody else owns."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from tests.daemon import ROOT, Daemon, Status
from tests.integration.survival.conftest import NOBODY, as_user
from tests.integration.survival.site import Site, check_disc_of, lines, make_site, wait_received, write_archive
from tests.processes import wait_for

LATER = {"retry_first_s": 600, "retry_max_s": 600, "not_found_retry_s": []}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_archive(folder, "ACC1", "ACC2")
    return folder


@pytest.fixture
def site(pacs: DemoPacs, port: int, tmp_path: Path) -> Site:
    return make_site(tmp_path, {"ABPACS": pacs.address}, port=port, jobs=LATER, pacs_keys={"max_moves": 2})


def listed(site: Site, *options: str) -> dict[str, Any]:
    said = site.command("queue", "--json", *options)
    assert (said.exit_code, said.messages) == (0, "")
    found: dict[str, Any] = json.loads(said.output)
    return found


def fill(pacs: DemoPacs, daemon: Daemon) -> dict[str, Status]:
    """One job deferred, one held, two in hand with an instance each, and one queued."""
    pacs.faults = Faults(find_status=0xC001)
    statuses = {}
    daemon.drop("deferred", lines("ACC1"))
    statuses["deferred"] = daemon.wait_status("deferred", "deferred")
    pacs.faults = Faults(stall_after=1)
    daemon.drop("held", lines("NOWHERE"))
    statuses["held"] = daemon.wait_status("held", "failed")
    daemon.drop("active", lines("ACC1"))
    statuses["active"] = wait_received(daemon, "active", 1)
    daemon.drop("active-too", lines("ACC2"))
    statuses["active-too"] = wait_received(daemon, "active-too", 1)
    daemon.drop("queued", lines("ACC1"))
    statuses["queued"] = daemon.wait_status("queued", "queued")
    return statuses


def test_queue_shows_every_job(site: Site, pacs: DemoPacs) -> None:
    with site.daemon() as daemon:
        statuses = fill(pacs, daemon)
        found = listed(site)
        assert found["counts"] == {"active": 2, "queued": 1, "deferred": 1, "held": 1}
        jobs = {job["ticket"]: job for job in found["jobs"]}
        assert {ticket: job["job"] for ticket, job in jobs.items()} == {ticket: status["job"] for ticket, status in statuses.items()}
        states = {"active": "retrieving", "active-too": "retrieving", "queued": "queued", "deferred": "deferred", "held": "failed"}
        assert {ticket: job["state"] for ticket, job in jobs.items()} == states
        assert (jobs["deferred"]["error"], jobs["held"]["error"]) == ("query_failed", "accession_not_found")
        assert jobs["active"]["instances_received"] == 1
        said = site.command("queue").output.splitlines()
        assert said[0] == "2 active, 1 queued, 1 deferred, 1 held"
        assert len(said) == 6
        assert [words[0] for line in said[1:] if (words := line.split())] == [job["ticket"] for job in found["jobs"]]
        assert any("query_failed" in line and "again in" in line for line in said)
        assert site.command("queue", "--all").output.splitlines()[0] == said[0]


def test_every_command_on_every_job_while_the_daemon_runs(site: Site, pacs: DemoPacs, archive: Path) -> None:
    with site.daemon() as daemon:
        fill(pacs, daemon)
        wrong = [("release", "deferred"), ("retry", "held"), ("release", "active"), ("retry", "queued"), ("drop", "nothing")]
        for command, ticket in wrong:
            said = site.command(command, ticket)
            assert (said.exit_code, said.output) == (2, ""), (command, ticket)
            assert ticket in said.messages
        assert "queued again" in site.command("release", "held").output
        assert "queued again" in site.command("retry", "deferred").output
        assert "cancelled" in site.command("drop", "queued").output
        assert daemon.wait_status("queued", "cancelled")["error"]["code"] == "cancelled"
        assert "being cancelled" in site.command("drop", "active").output
        daemon.wait_status("active", "cancelled")
        assert 0xFE00 in [move.dimse_status for move in pacs.moves], "the C-MOVE was ended by C-CANCEL"
        pacs.faults = Faults()
        # `held` asks for what is still not there, `deferred` for what is.
        daemon.wait_status("held", "failed")
        check_disc_of(site, daemon.wait_status("deferred", "done"), archive, ["ACC1"])
        check_disc_of(site, daemon.wait_status("active-too", "done"), archive, ["ACC2"])
        assert "removed" in site.command("drop", "held").output
        status = daemon.status("held")
        assert status is not None
        assert status["state"] == "failed", "the status stays"
        assert listed(site) == {"counts": {"active": 0, "queued": 0, "deferred": 0, "held": 0}, "jobs": []}
        wait_for(lambda: not list(site.inbox.iterdir()), 30, "the control file to go")


def test_every_command_while_the_daemon_is_down(site: Site, pacs: DemoPacs, archive: Path) -> None:
    with site.daemon() as daemon:
        fill(pacs, daemon)
        daemon.kill()
    assert listed(site)["counts"] == {"active": 2, "queued": 1, "deferred": 1, "held": 1}
    assert "queued again" in site.command("retry").output, "all that is deferred"
    assert "queued again" in site.command("release", "held").output
    assert "cancelled" in site.command("drop", "queued").output
    assert "being cancelled" in site.command("drop", "active").output
    assert {status["state"] for ticket in ("deferred", "held") if (status := daemon.status(ticket))} == {"queued"}
    assert listed(site)["counts"] == {"active": 2, "queued": 2, "deferred": 0, "held": 0}
    pacs.faults = Faults()
    with site.daemon() as daemon:
        daemon.wait_status("active", "cancelled")
        daemon.wait_status("held", "failed")
        for ticket, accession in (("deferred", "ACC1"), ("active-too", "ACC2")):
            check_disc_of(site, daemon.wait_status(ticket, "done"), archive, [accession])
        wait_for(lambda: not list(site.inbox.iterdir()), 30, "the control file to go")


def test_a_released_job_begins_anew(site: Site, pacs: DemoPacs, archive: Path) -> None:
    """From `failed` back to `queued`, under the same job."""
    with site.daemon() as daemon:
        pacs.faults = Faults(availability="OFFLINE")
        daemon.drop("t", lines("ACC1"))
        failed = daemon.wait_status("t", "failed")
        assert failed["error"]["code"] == "study_unavailable"
        pacs.faults = Faults()
        assert site.command("release", failed["job"]).exit_code == 0
        done = wait_for(lambda: status if (status := daemon.status("t")) and status["state"] == "done" else None, 60, "the job")
        assert (done["job"], done["error"]) == (failed["job"], None)
        check_disc_of(site, done, archive, ["ACC1"])


def test_a_refused_request_is_not_released(site: Site) -> None:
    with site.daemon() as daemon:
        daemon.drop("t", "*\n")
        daemon.wait_status("t", "failed")
        said = site.command("release", "t")
        assert (said.exit_code, "refused" in said.messages) == (2, True)
        assert site.command("drop", "t").exit_code == 0
        assert site.jobs("held") == []


def test_as_root_the_command_becomes_the_owner_of_the_spool(open_folder: Path, public_python: Path, pacs: DemoPacs, port: int) -> None:
    """What it leaves in the spool is the daemon's, which could otherwise neither read nor remove it."""
    os.chown(open_folder, NOBODY, NOBODY)
    site = make_site(open_folder, {"ABPACS": pacs.address}, port=port, jobs=LATER, pacs_keys={"max_moves": 2}, python=public_python)
    with site.started(prefix=as_user(NOBODY)) as daemon:
        fill(pacs, daemon)
        assert site.command("retry", "deferred").exit_code == 0
        assert site.command("release", "held").exit_code == 0
        assert site.command("drop", "queued").exit_code == 0
        assert site.command("drop", "active").exit_code == 0
        daemon.wait_status("active", "cancelled")
        pacs.faults = Faults()
        daemon.wait_status("held", "failed")
        for ticket in ("deferred", "active-too"):
            daemon.wait_status(ticket, "done")
        owners = {path.lstat().st_uid for place in ("work", "outbox") for path in (site.spool / place).rglob("*")}
        assert owners == {NOBODY}
        daemon.stop()


def test_another_user_is_told_what_to_do(open_folder: Path, public_python: Path, pacs: DemoPacs, port: int) -> None:
    site = make_site(open_folder, {"ABPACS": pacs.address}, port=port)
    with site.daemon():
        command = [*as_user(NOBODY), str(public_python), "-m", "mkisod", "queue", "--config", str(site.config_path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, cwd="/")
        assert done.returncode == 78
        assert "as root" in done.stderr
        assert "Traceback" not in done.stderr
