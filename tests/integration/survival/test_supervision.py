"""A daemon that is half alive goes down loudly, one that is half deaf hears all the same, and what is old or left behind goes."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from tests.daemon import Daemon
from tests.integration.survival.site import (
    AE_TITLE,
    Site,
    check_disc_of,
    lines,
    make_site,
    pause,
    read_job,
    resume,
    told,
    wait_exit,
    wait_logged,
    wait_received,
    write_archive,
)
from tests.processes import HOST, wait_for

LONE_DEATHS, DEATHS_IN_COMPANY = 5, 2
RENAME_EXCHANGE = 2
AT_FDCWD = -100
DAY_S = 86400


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_archive(folder, "ACC1", "ACC2")
    return folder


def test_a_thread_that_dies_takes_the_daemon_down(pacs: DemoPacs, archive: Path, port: int, tmp_path: Path) -> None:
    """The inbox is gone, so nobody could be served any more. The next start makes a new one, and finishes what was in hand."""
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port, spool={"scan_interval_s": 0.2})
    with told(pacs, Faults(stall_after=2)), site.started() as daemon:
        daemon.drop("t", lines("ACC1"))
        wait_received(daemon, "t", 2)
        site.inbox.rename(site.spool / "not-the-inbox")
        assert wait_exit(daemon.process) == 1
        assert '"thread_died"' in daemon.process.output
        assert '"daemon_stopped"' in daemon.process.output, "the others were stopped in order"
    assert len(site.jobs("queued")) == 1
    with site.daemon() as daemon:
        check_disc_of(site, daemon.wait_status("t", "done"), archive, ["ACC1"])


def exchange(one: Path, other: Path) -> None:
    """Give two directories each other's name, in one step (renameat2(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


def test_a_dead_observer_is_revived_and_the_timer_covers_for_it(pacs: DemoPacs, archive: Path, port: int, tmp_path: Path) -> None:
    """The watched directory is deleted, and another one stands in its place, without a moment in between."""
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port, spool={"scan_interval_s": 1})
    with site.daemon() as daemon:
        old = site.spool / "old"
        old.mkdir(mode=0o755)
        exchange(site.inbox, old)
        old.rmdir()
        wait_logged(daemon.process, "inbox_watch_died")
        daemon.drop("t", lines("ACC1"))
        check_disc_of(site, daemon.wait_status("t", "done"), archive, ["ACC1"])
        wait_for(lambda: count_watches(daemon.process.popen.pid) == 1, 30, "the new watch")
        assert len(site.events("inbox_watch_died")) == 1


def count_watches(pid: int) -> int:
    """How many directories the process watches by inotify."""
    return sum(path.read_text(encoding="ascii").count("inotify wd:") for path in Path(f"/proc/{pid}/fdinfo").iterdir())


def test_an_overflow_of_the_inotify_queue_loses_nothing(pacs: DemoPacs, archive: Path, port: int, tmp_path: Path) -> None:
    """While the daemon is stopped in its tracks more happens in the inbox than the kernel keeps; then come the drops."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port, spool={"settle_s": 0.2, "scan_interval_s": 1})
    with site.daemon() as daemon:
        pause(daemon.process)
        for _ in range(most // 3 + 1):  # created, opened, closed, deleted
            path = site.inbox / ".noise"
            path.touch()
            path.unlink()
        tickets = {f"t{number}": ["ACC1", "ACC2"][number % 2] for number in range(5)}
        for ticket, accession in tickets.items():
            daemon.drop(ticket, f"{accession}\n")  # without @end: only an event says at once that it is whole
        resume(daemon.process)
        for ticket, accession in tickets.items():
            check_disc_of(site, daemon.wait_status(ticket, "done"), archive, [accession])


def test_what_a_dead_daemon_left_half_written_is_swept(pacs: DemoPacs, archive: Path, port: int, tmp_path: Path) -> None:
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port)
    work = site.spool / "work"
    with site.daemon() as daemon, told(pacs, Faults(stall_after=2)):
        daemon.drop("t", lines("ACC1"))
        job = wait_received(daemon, "t", 2)["job"]
        daemon.kill()
    (work / "trash" / "some-job" / "objects").mkdir(parents=True)
    (work / "trash" / "some-job" / "objects" / "x.dcm").touch()
    (work / "active" / "main" / "20260101T000000Z-aaaaaa").mkdir()  # died before there was a job
    (work / "active" / "main" / job / "objects" / "9.part").touch()
    (work / "active" / "main" / job / ".job.json.new").write_text("{", encoding="ascii")
    (work / "active" / "main" / job / "result").mkdir()
    (work / "active" / "main" / job / "result" / "HALF.ISO").touch()
    with site.daemon() as daemon:
        check_disc_of(site, daemon.wait_status("t", "done"), archive, ["ACC1"])
        wait_for(lambda: not any(site.jobs(place) for place in ("trash", "active/main", "queued", "deferred", "held")), 30, "a clean spool")


def test_results_statuses_and_held_jobs_go_in_their_time(pacs: DemoPacs, port: int, tmp_path: Path) -> None:
    """Statuses know their seconds, and files have their times; both are set back."""
    site = make_site(
        tmp_path,
        {"ABPACS": pacs.address},
        port=port,
        spool={"retention_days": 7, "status_days": 30, "held_days": 20},
        jobs={"not_found_retry_s": []},
    )
    with site.daemon() as daemon:
        for ticket in ("new", "week-old", "month-old"):
            daemon.drop(ticket, lines("ACC1"))
            daemon.wait_status(ticket, "done")
        for ticket in ("held", "long-held"):
            daemon.drop(ticket, lines("NOWHERE"))
            daemon.wait_status(ticket, "failed")
        with told(pacs, Faults(stall_after=1)):
            daemon.drop("running", lines("ACC2"))
            wait_received(daemon, "running", 1)
            daemon.stop()
    age(site, daemon, "week-old", days=8)
    age(site, daemon, "month-old", days=31)
    age(site, daemon, "running", days=400)  # what is not finished has no age
    held = site.spool / "work" / "held" / read_job(site, "long-held")
    os.utime(held / "job.json", (held.stat().st_mtime - 21 * DAY_S,) * 2)
    with site.daemon() as daemon:
        daemon.wait_status("running", "done")
        wait_for(lambda: not (daemon.outbox / "month-old").exists(), 30, "the old status to go")
        results = {ticket: len(list((daemon.outbox / ticket).iterdir())) - 1 for ticket in ("new", "week-old", "running")}
        assert results == {"new": 1, "week-old": 0, "running": 1}
        status = daemon.status("week-old")
        assert status is not None
        assert (status["state"], status["result"]) == ("done", None)
        assert site.jobs("held") == [read_job(site, "held")]
        daemon.wait_status("long-held", "failed")  # the status stays


def age(site: Site, daemon: Daemon, ticket: str, days: float) -> None:
    path = site.spool / "outbox" / ticket / "status.json"
    then = datetime.now(UTC) - timedelta(days=days)
    status = daemon.status(ticket)
    assert status is not None
    path.write_text(json.dumps(status | {"updated": then.strftime("%Y-%m-%dT%H:%M:%SZ")}), encoding="utf-8")
    os.utime(path, (then.timestamp(),) * 2)


def test_a_poisonous_job_is_held_and_its_neighbour_is_not(archive: Path, port: int, tmp_path: Path) -> None:
    """Two jobs without progress at every death: after two each runs alone; after five alone the first is held. The other finishes."""
    destinations, stalled = {AE_TITLE: (HOST, port)}, Faults(stall_after=0)
    with (
        DemoPacs(archive, ae_title="ONE", destinations=destinations, faults=stalled) as one,
        DemoPacs(archive, ae_title="TWO", destinations=destinations, faults=stalled) as two,
    ):
        pacs, accessions = {"one": one, "two": two}, {"one": "ACC1", "two": "ACC2"}
        site = make_site(tmp_path, {"ONE": one.address, "TWO": two.address}, port=port)
        for death in range(DEATHS_IN_COMPANY):
            with site.started() as daemon:
                for ticket in pacs:
                    if not death:
                        daemon.drop(ticket, lines(f"@pacs {ticket.upper()}", accessions[ticket]))
                    daemon.wait_status(ticket, "retrieving")
                daemon.kill()
        jobs = {read_job(site, ticket): ticket for ticket in pacs}
        alone = list[str]()
        for _ in range(LONE_DEATHS):
            with site.started() as daemon:
                (job,) = wait_for(lambda: site.jobs("active/main"), 30, "a job in hand")
                alone.append(jobs[job])
                daemon.wait_status(alone[-1], "retrieving")
                daemon.wait_status("two" if alone[-1] == "one" else "one", "queued")
                daemon.kill()
        assert len(set(alone)) == 1, "the first in the queue stays the first"
        poison, neighbour = alone[0], "two" if alone[0] == "one" else "one"
        pacs[neighbour].faults = Faults()
        with site.daemon() as daemon:
            status = daemon.wait_status(poison, "failed")
            assert status["error"]["code"] == "internal"
            assert "5 times" in status["error"]["message"]
            assert "mkisod release" in status["error"]["advice"]
            assert site.jobs("held") == [status["job"]]
            check_disc_of(site, daemon.wait_status(neighbour, "done"), archive, [accessions[neighbour]])
            pacs[poison].faults = Faults()
            assert site.command("release", poison).exit_code == 0
            wait_for(lambda: (status := daemon.status(poison)) and status["state"] == "done", 60, "the released job")


def test_clean_stops_are_no_deaths(pacs: DemoPacs, archive: Path, port: int, tmp_path: Path) -> None:
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port)
    with told(pacs, Faults(stall_after=0)):
        for number in range(DEATHS_IN_COMPANY + LONE_DEATHS + 1):
            with site.daemon() as daemon:
                if not number:
                    daemon.drop("t", lines("ACC1"))
                daemon.wait_status("t", "retrieving")
    with site.daemon() as daemon:
        check_disc_of(site, daemon.wait_status("t", "done"), archive, ["ACC1"])


def test_two_signals_are_one_stop(pacs: DemoPacs, port: int, tmp_path: Path) -> None:
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port)
    with site.daemon() as daemon, told(pacs, Faults(stall_after=1)):
        daemon.drop("t", lines("ACC1"))
        wait_received(daemon, "t", 1)
        os.kill(daemon.process.popen.pid, signal.SIGINT)
        daemon.stop()
        assert site.jobs("active/main") == []
