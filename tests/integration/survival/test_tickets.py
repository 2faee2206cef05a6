"""Tickets: used again, dropped twice, cancelled, published and discarded, by who may and by who may not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mkisod.demo.faults import LEVELS, Faults
from mkisod.demo.pacs import DemoPacs
from tests.integration.survival.conftest import NOBODY, SOMEBODY, as_user
from tests.integration.survival.site import (
    Site,
    check_disc_of,
    lines,
    make_site,
    told,
    wait_logged,
    wait_received,
    wait_until,
    write_archive,
)
from tests.processes import wait_for

CANCELLED = 0xFE00  # PS3.4 Table C.4-2: sub-operations terminated due to cancel


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_archive(folder, "ACC1", "ACC2")
    return folder


@pytest.fixture
def site(pacs: DemoPacs, port: int, tmp_path: Path) -> Site:
    return make_site(tmp_path, {"ABPACS": pacs.address}, port=port, jobs={"retry_first_s": 600, "retry_max_s": 600, "workers": 1})


def wait_obeyed(site: Site, name: str) -> None:
    wait_for(lambda: not (site.inbox / name).exists(), 30, f"{name} to go")


def list_results(site: Site, ticket: str) -> set[str]:
    return {path.name for path in (site.spool / "outbox" / ticket).iterdir()} - {"status.json"}


def test_a_ticket_that_is_used_again(site: Site, pacs: DemoPacs, archive: Path) -> None:
    """The old result goes only when the new one stands: not while the new job runs, nor when it fails."""
    with site.daemon() as daemon:
        daemon.drop("t", lines("ACC1"))
        first = daemon.wait_status("t", "done")
        with told(pacs, Faults(stall_after=2)):
            daemon.drop("t", lines("ACC2"))
            second = wait_until(
                daemon, "t", lambda s: s["job"] != first["job"] and s["progress"]["instances_received"] >= 2, "the new job to receive"
            )
            assert second["result"] is None
            assert list_results(site, "t") == {first["job"]}
        second = daemon.wait_status("t", "done")
        check_disc_of(site, second, archive, ["ACC2"])
        with told(pacs, Faults(availability="OFFLINE")):
            daemon.drop("t", lines("ACC1"))
            wait_for(lambda: (status := daemon.status("t")) and status["state"] == "failed", 30, "the failure")
            assert list_results(site, "t") == {second["job"]}


def test_a_second_drop_waits_for_the_first(site: Site, pacs: DemoPacs, archive: Path) -> None:
    with site.daemon() as daemon:
        with told(pacs, Faults(stall_after=2)):
            daemon.drop("t", lines("ACC1"))
            first = wait_received(daemon, "t", 2)
            daemon.drop("t", lines("ACC2"))
            # A later drop is served or queued: so the inbox has been looked at.
            daemon.drop("later", lines("ACC2"))
            daemon.wait_status("later", "queued")
            status = daemon.status("t")
            assert status is not None
            assert status["job"] == first["job"]
            assert (site.inbox / "t.req").exists()
        second = wait_until(daemon, "t", lambda status: status["job"] != first["job"] and status["finished"], "the second")
        check_disc_of(site, second, archive, ["ACC2"])


@pytest.mark.parametrize("when", ["queued", "deferred", "active", "asking", "at_once"])
def test_cancelled(site: Site, pacs: DemoPacs, archive: Path, when: str) -> None:
    with site.daemon() as daemon:
        if when == "queued":
            pacs.faults = Faults(stall_after=1)
            daemon.drop("first", lines("ACC1"))
            wait_received(daemon, "first", 1)
            daemon.drop("t", lines("ACC2"))
            daemon.wait_status("t", "queued")
        elif when == "deferred":
            pacs.faults = Faults(find_status=0xC001)
            daemon.drop("t", lines("ACC1"))
            daemon.wait_status("t", "deferred")
        elif when == "asking":
            pacs.faults = Faults(silent_levels=LEVELS)
            daemon.drop("t", lines("ACC1"))
            daemon.wait_status("t", "retrieving")
        elif when == "active":
            pacs.faults = Faults(stall_after=3)
            daemon.drop("t", lines("ACC1"))
            wait_received(daemon, "t", 3)
        else:  # before it is claimed, or while it is, or while it is taken
            pacs.faults = Faults(pause_s=0.05)
            daemon.drop("t", lines("ACC1"))
        site.control("t.cancel")
        status = daemon.wait_status("t", "cancelled")
        assert (status["error"]["code"], status["result"]) == ("cancelled", None)
        wait_obeyed(site, "t.cancel")
        wait_for(lambda: not list((site.spool / "work").rglob(status["job"])), 30, "the job to go")
        if when == "active":
            assert [move.dimse_status for move in pacs.moves] == [CANCELLED]
        pacs.faults = Faults()
        daemon.drop("next", lines("ACC2"))
        check_disc_of(site, daemon.wait_status("next", "done"), archive, ["ACC2"])


def test_a_cancel_for_another_job_or_a_finished_one_is_void(site: Site) -> None:
    with site.daemon() as daemon:
        daemon.drop("t", lines("ACC1"))
        done = daemon.wait_status("t", "done")
        for text in ("", done["job"], "20260101T000000Z-aaaaaa"):
            site.control("t.cancel", text)
            wait_obeyed(site, "t.cancel")
        assert daemon.status("t") == done
        site.control("never-heard-of.cancel")
        wait_obeyed(site, "never-heard-of.cancel")


def test_a_control_file_that_names_another_job_is_void(site: Site, pacs: DemoPacs) -> None:
    with site.daemon() as daemon, told(pacs, Faults(stall_after=1)):
        daemon.drop("t", lines("ACC1"))
        status = wait_received(daemon, "t", 1)
        site.control("t.cancel", "20260101T000000Z-aaaaaa")
        wait_obeyed(site, "t.cancel")
        assert daemon.wait_status("t", "retrieving")["job"] == status["job"]
        site.control("t.cancel", status["job"])
        daemon.wait_status("t", "cancelled")


def test_discarded(site: Site) -> None:
    with site.daemon() as daemon:
        daemon.drop("t", lines("ACC1"))
        done = daemon.wait_status("t", "done")
        site.control("t.discard")
        wait_obeyed(site, "t.discard")
        status = daemon.status("t")
        assert status is not None
        assert (status["state"], status["job"], status["result"]) == ("done", done["job"], None)
        assert list_results(site, "t") == set()


def test_a_running_one_is_not_discarded(site: Site, pacs: DemoPacs, archive: Path) -> None:
    with site.daemon() as daemon:
        with told(pacs, Faults(stall_after=1)):
            daemon.drop("t", lines("ACC1"))
            wait_received(daemon, "t", 1)
            site.control("t.discard")
            wait_obeyed(site, "t.discard")
        check_disc_of(site, daemon.wait_status("t", "done"), archive, ["ACC1"])
        assert site.events("result_not_discarded")


# --- By another user --------------------------------------------------------------------------------------------------------------


def act_as(uid: int, inbox: Path, name: str, text: str = "") -> None:
    """Drop a file as another user does, who is a member of the clients' group."""
    program = "import os, sys; d, n, t = sys.argv[1:]; open(d + '/.' + n, 'w').write(t); os.rename(d + '/.' + n, d + '/' + n)"
    command = [*as_user(uid), "/usr/bin/python3", "-c", program, str(inbox), name, text]
    subprocess.run(command, check=True, env={"PATH": f"/usr/bin:{Path(sys.executable).parent}"}, cwd="/", timeout=30)


@pytest.fixture
def shared(open_folder: Path, public_python: Path, pacs: DemoPacs, port: int) -> Site:
    """A spool whose clients' group has two members that are neither root nor the daemon's user."""
    jobs = {"retry_first_s": 600, "retry_max_s": 600, "workers": 1}
    site = make_site(open_folder, {"ABPACS": pacs.address}, port=port, jobs=jobs, python=public_python)
    site.spool.mkdir()
    os.chown(site.spool, -1, NOBODY)
    site.spool.chmod(0o2755)  # the daemon makes the rest, and hands the group down
    return site


@pytest.mark.parametrize("control", ["cancel", "publish", "discard", "req"])
def test_what_another_user_says_does_not_count(shared: Site, pacs: DemoPacs, control: str) -> None:
    lost = write_archive(shared.folder / "same", "ACC1")["ACC1"].sop_instance_uids[1]
    with shared.daemon() as daemon:
        if control == "cancel":
            pacs.faults = Faults(stall_after=1)
            act_as(SOMEBODY, shared.inbox, "t.req", lines("ACC1"))
            before = wait_received(daemon, "t", 1)
        elif control == "publish":
            pacs.faults = Faults(never_sent_uids=frozenset({lost}))
            act_as(SOMEBODY, shared.inbox, "t.req", lines("ACC1"))
            before = daemon.wait_status("t", "deferred")
        else:
            act_as(SOMEBODY, shared.inbox, "t.req", lines("ACC1"))
            before = daemon.wait_status("t", "done")
        act_as(NOBODY, shared.inbox, f"t.{control}", lines("ACC2") if control == "req" else "")
        if control == "req":
            wait_logged(daemon.process, "inbox_file_ignored")
            assert (shared.inbox / "t.req").exists()
        else:
            assert f'"uid": {NOBODY}' in wait_logged(daemon.process, "control_refused")
            wait_obeyed(shared, f"t.{control}")
        after = daemon.status("t")
        assert after is not None
        assert (after["state"], after["job"], after["result"]) == (before["state"], before["job"], before["result"])
        # The one whose request it is may say it, and so may root.
        if control != "req":
            act_as(SOMEBODY if control != "discard" else 0, shared.inbox, f"t.{control}")
            wait_obeyed(shared, f"t.{control}")
            said = {"cancel": "cancelled", "publish": "partial", "discard": "done"}[control]
            wait_for(lambda: (status := daemon.status("t")) and status["state"] == said, 30, said)


@pytest.mark.parametrize("kind", ["directory", "full_directory", "fifo", "link", "unreadable"])
def test_a_control_file_that_is_no_file_does_not_stop_the_daemon(shared: Site, kind: str) -> None:
    """A directory of somebody else's is not always the daemon's to remove."""
    os.chown(shared.folder, NOBODY, NOBODY)
    os.chown(shared.spool, NOBODY, NOBODY)
    with shared.started(prefix=as_user(NOBODY)) as daemon:
        path = shared.inbox / ".made"
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to("/etc/hostname")
        elif kind == "unreadable":
            path.touch(mode=0)
        else:
            path.mkdir()
            if kind == "full_directory":
                (path / "x").touch()
        if "directory" in kind:
            path.chmod(0o700)
        os.chown(path, SOMEBODY, NOBODY, follow_symlinks=False)
        path.rename(shared.inbox / "t.cancel")
        act_as(SOMEBODY, shared.inbox, "t.req", lines("ACC1"))
        daemon.wait_status("t", ["done", "cancelled"])
        act_as(SOMEBODY, shared.inbox, "u.req", lines("ACC1"))
        daemon.wait_status("u", "done")
        daemon.stop()
    with shared.started(prefix=as_user(NOBODY)) as daemon:
        act_as(SOMEBODY, shared.inbox, "v.req", lines("ACC1"))
        daemon.wait_status("v", "done")
        daemon.stop()
