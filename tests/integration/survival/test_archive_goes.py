"""An archive that dies in mid-move and returns, that hangs, that aborts; and a daemon that is stopped in each of its phases."""

from __future__ import annotations

import glob
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from mkisod.demo.faults import LEVELS, Faults
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import WrittenSeries
from tests.daemon import Daemon
from tests.integration.survival.site import (
    AE_TITLE,
    Site,
    check_disc_of,
    is_empty,
    lines,
    make_site,
    pacs_process,
    pause,
    wait_received,
    wait_until,
    write_archive,
)
from tests.processes import HOST, free_port, wait_for

INSTANCES = 8
SHORT = {"idle_timeout_s": 1, "response_timeout_s": 1}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_archive(folder, "ACC1", "ACC2", count=INSTANCES)
    write_archive(folder, "LARGE", count=150, rows=8, columns=8)
    return folder


@pytest.fixture
def series(tmp_path: Path) -> WrittenSeries:
    return write_archive(tmp_path / "same", "ACC1", count=INSTANCES)["ACC1"]


@pytest.mark.parametrize("end", ["kill", "hang"])
def test_an_archive_that_goes_away_in_mid_move_and_returns(archive: Path, port: int, tmp_path: Path, end: str) -> None:
    """Killed, or stopped in its tracks with every connection open: what has come is not asked for again."""
    pacs_port = free_port()
    site = make_site(tmp_path, {"ABPACS": (HOST, pacs_port)}, port=port, pacs_keys=SHORT)
    with ExitStack() as stack:
        process = stack.enter_context(
            pacs_process(archive, tmp_path, port=pacs_port, destinations={AE_TITLE: port}, faults='{"stall_after": 3}')
        )
        daemon = stack.enter_context(site.daemon())
        daemon.drop("t", lines("ACC1"))
        wait_received(daemon, "t", 3)
        if end == "kill":
            process.end()
        else:
            pause(process)
            stack.callback(process.end, signal.SIGKILL)
        status = wait_until(daemon, "t", lambda status: status["error"] is not None, "the failure")
        assert status["error"]["code"] in {"pacs_unreachable", "timeout", "incomplete"}, status
        process.end(signal.SIGKILL)
        with pacs_process(archive, tmp_path, port=pacs_port, destinations={AE_TITLE: port}):
            status = daemon.wait_status("t", "done")
            check_disc_of(site, status, archive, ["ACC1"])


@pytest.mark.parametrize(
    "fault",
    [
        Faults(silent_levels=LEVELS),
        Faults(stall_after=0),
        Faults(stall_after=3),
        Faults(abort_after=3),
        Faults(abort_store_after=3),
        Faults(find_status=0xC001),
        Faults(send_nothing=True),
    ],
    ids=["silent_to_queries", "hangs_at_once", "hangs_in_the_middle", "aborts", "aborts_the_store", "refuses_queries", "sends_nothing"],
)
def test_an_archive_that_fails_for_a_while(
    archive: Path, pacs: DemoPacs, series: WrittenSeries, port: int, tmp_path: Path, *, fault: Faults
) -> None:
    jobs = {"retry_first_s": 2, "retry_max_s": 2}  # long enough to be seen
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port, pacs_keys=SHORT | {"further_moves": 0}, jobs=jobs)
    pacs.faults = fault
    with site.daemon() as daemon:
        daemon.drop("t", lines("ACC1"))
        status = wait_until(daemon, "t", lambda status: status["error"] is not None, "the failure")
        assert status["error"]["transient"]
        assert not status["finished"]
        pacs.faults = Faults()
        check_disc_of(site, daemon.wait_status("t", "done"), archive, ["ACC1"])
    sent = [uid for move in pacs.moves for uid in move.sent_uids]
    twice = {uid for uid in sent if sent.count(uid) > 1}
    # The one on its way when the connection went is sent again; what has arrived is not.
    assert len(twice) <= 1, twice
    assert set(sent) == set(series.sop_instance_uids)


# --- Stopped in each phase --------------------------------------------------------------------------------------------------------


def is_in(state: str) -> Callable[[Daemon, Site], bool]:
    return lambda daemon, _: (daemon.status("t") or {}).get("state") == state


def has_logged(event: str) -> Callable[[Daemon, Site], bool]:
    """For a phase of a few milliseconds, which its state may be over before anybody looks: what ended the one before it stays."""
    return lambda daemon, _: f'"event": "{event}"' in daemon.process.output


def has_made_image(daemon: Daemon, site: Site) -> bool:
    images = glob.glob(str(site.spool / "work" / "active" / "main" / "*" / "result" / "*.ISO"))  # noqa: PTH207 - a folder may go meanwhile
    return bool(images) or has_logged("job_assembled")(daemon, site)


PHASES: dict[str, tuple[Faults, Callable[[Daemon, Site], bool]]] = {
    "asking": (Faults(silent_levels=LEVELS), is_in("retrieving")),
    "retrieving": (Faults(pause_s=0.01), is_in("retrieving")),
    "assembling": (Faults(), has_logged("job_retrieved")),
    "imaging": (Faults(), has_made_image),
    "publishing": (Faults(), has_logged("job_assembled")),
    "deferred": (Faults(find_status=0xC001), is_in("deferred")),
}


@pytest.mark.parametrize(
    ("phase", "end"), [*((phase, "stop") for phase in PHASES), *((phase, "kill") for phase in ("retrieving", "imaging", "publishing"))]
)
def test_ended_in_each_phase(archive: Path, pacs: DemoPacs, port: int, tmp_path: Path, *, phase: str, end: str) -> None:
    """`stop` holds the daemon to exit status 0. The next one finishes the job: the same job, one disc."""
    fault, reached = PHASES[phase]
    pacs.faults = fault
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port, jobs={"retry_first_s": 2, "retry_max_s": 2})
    with site.daemon() as daemon:
        daemon.drop("t", lines("LARGE"))
        wait_for(lambda: reached(daemon, site), 60, phase)
        getattr(daemon, end)()
        status = daemon.status("t")
        assert status is not None
    assert site.jobs("active/main") == ([] if end == "stop" or phase == "deferred" else [status["job"]]) or status["state"] == "done"
    if end == "stop":
        assert status["state"] in {"queued", "deferred", "done"}
    pacs.faults = Faults()
    with site.daemon() as daemon:
        after = daemon.wait_status("t", "done")
        assert after["job"] == status["job"]
        check_disc_of(site, after, archive, ["LARGE"])
        wait_for(lambda: is_empty(site), 30, "the spool to be empty")


def test_stopped_with_a_queue_and_with_what_nobody_has_looked_at(archive: Path, pacs: DemoPacs, port: int, tmp_path: Path) -> None:
    pacs.faults = Faults(stall_after=1)
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port, jobs={"workers": 1})
    tickets = [f"q{number}" for number in range(4)]
    with site.daemon() as daemon:
        for ticket in tickets:
            daemon.drop(ticket, lines("ACC1"))
        for ticket in tickets:
            daemon.wait_status(ticket, ["queued", "retrieving"])
    assert len(site.jobs("queued")) == len(tickets)
    daemon.drop("meanwhile", lines("ACC2"))
    pacs.faults = Faults()
    with site.daemon() as daemon:
        for ticket in [*tickets, "meanwhile"]:
            check_disc_of(site, daemon.wait_status(ticket, "done"), archive, ["ACC2" if ticket == "meanwhile" else "ACC1"])
    assert not list(site.inbox.iterdir())
