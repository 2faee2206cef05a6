"""A disk that fills: nothing is lost, nothing short is called whole, and all goes on by itself once there is room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from tests.daemon import Status
from tests.integration.survival.conftest import MakeDisk
from tests.integration.survival.site import (
    Site,
    check_disc_of,
    lines,
    make_site,
    read_job,
    told,
    wait_logged,
    wait_received,
    wait_until,
    write_archive,
)

MIB = 1 << 20
INSTANCES = 16
RETRY = {"retry_first_s": 2, "retry_max_s": 2}  # long enough to be seen
ROWS = 256  # 128 KiB each: 2 MiB a study


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_archive(folder, "ACC1", "ACC2", count=INSTANCES, rows=ROWS, columns=ROWS)
    return folder


@contextmanager
def filled(disk: Path, left_bytes: int = 0) -> Iterator[None]:
    """Somebody else fills the disk but for so many bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - left_bytes) > 0:
            try:
                file.write(bytes(min(free, MIB)))
            except OSError:
                break
    try:
        yield
    finally:
        ballast.unlink()


def is_deferred_for_room(status: Status) -> bool:
    return bool(status["state"] == "deferred" and status["error"]["code"] == "disk_full")


@pytest.mark.parametrize("allow", ["", "@allow partial"], ids=["whole", "partial_allowed"])
def test_full_while_receiving(small_disk: MakeDisk, archive: Path, pacs: DemoPacs, port: int, allow: str) -> None:
    """The archive is told A700H. Room that we lack is never a reason for a partial disc."""
    disk = small_disk(16)
    site = make_site(disk, {"ABPACS": pacs.address}, port=port, jobs=RETRY)
    with site.daemon() as daemon:
        with told(pacs, Faults(stall_after=4)):
            daemon.drop("t", lines("ACC1", *filter(None, [allow])))
            wait_received(daemon, "t", 4)
            with filled(disk, left_bytes=300_000):
                pacs.faults = Faults()
                assert daemon.wait_status("t", "deferred")["error"]["code"] == "disk_full"
                assert not site.events("job_retrieved")
                assert any(move.dimse_status != 0 for move in pacs.moves), "the archive was told"
        check_disc_of(site, daemon.wait_status("t", "done"), archive, ["ACC1"])
        assert "A700" in site.journal()


@pytest.mark.parametrize("stage", ["dir", "dir iso"])
def test_full_while_the_disc_is_made(small_disk: MakeDisk, archive: Path, pacs: DemoPacs, port: int, stage: str) -> None:
    """What is half made goes at once: it would keep the disk full for the rest."""
    disk = small_disk(16)
    site = make_site(disk, {"ABPACS": pacs.address}, port=port, jobs=RETRY)
    with site.daemon() as daemon:
        with told(pacs, Faults(stall_after=INSTANCES - 1)):
            daemon.drop("t", lines("ACC1", f"@output {stage}"))
            wait_received(daemon, "t", INSTANCES - 1)
            # The last instance finds room, the DICOMDIR or the image does not.
            with filled(disk, left_bytes=160_000 if stage == "dir" else MIB):
                pacs.faults = Faults()
                if stage == "dir iso":
                    status = wait_until(daemon, "t", is_deferred_for_room, "the job to be deferred")
                    assert not list((site.spool / "work").glob(f"*/{status['job']}/result/*.ISO")), "half an image fills the disk"
                else:
                    wait_until(daemon, "t", lambda status: status["state"] != "retrieving", "all to have come")
        check_disc_of(site, daemon.wait_status("t", "done"), archive, ["ACC1"])


def test_full_while_a_status_is_written(small_disk: MakeDisk, archive: Path, pacs: DemoPacs, port: int) -> None:
    """The daemon waits with the step in hand, and says so once; what is read meanwhile is the old status, whole."""
    disk = small_disk(16)
    site = make_site(disk, {"ABPACS": pacs.address}, port=port, jobs=RETRY)
    with site.daemon() as daemon:
        with told(pacs, Faults(stall_after=3)):
            daemon.drop("t", lines("ACC1"))
            wait_received(daemon, "t", 3)
            with filled(disk):
                wait_logged(daemon.process, "disk_full")
                status = daemon.status("t")
                assert status is not None
                assert (status["state"], status["progress"]["instances_received"]) == ("retrieving", 3)
        check_disc_of(site, daemon.wait_status("t", "done"), archive, ["ACC1"])
        assert len(site.events("disk_full")) == 1


def test_stopped_while_the_disk_is_full(small_disk: MakeDisk, archive: Path, pacs: DemoPacs, port: int) -> None:
    """A stop is a stop, although not even that can be written down; the next start goes on."""
    disk = small_disk(16)
    site = make_site(disk, {"ABPACS": pacs.address}, port=port, jobs=RETRY)
    with told(pacs, Faults(stall_after=3)):
        with site.daemon() as daemon:
            daemon.drop("t", lines("ACC1"))
            wait_received(daemon, "t", 3)
            with filled(disk):
                daemon.stop()
        assert site.jobs("active/main") == [read_job(site, "t")]
    with site.daemon() as daemon:
        check_disc_of(site, daemon.wait_status("t", "done"), archive, ["ACC1"])


def test_nothing_is_claimed_below_min_free_mib(small_disk: MakeDisk, archive: Path, pacs: DemoPacs, port: int) -> None:
    disk = small_disk(24)
    site = make_site(disk, {"ABPACS": pacs.address}, port=port, jobs=RETRY, spool={"min_free_mib": 8})
    with site.daemon() as daemon:
        with filled(disk, left_bytes=8 * MIB - 4096):
            daemon.drop("waits", lines("ACC1"))
            wait_logged(daemon.process, "spool_full")
            assert daemon.status("waits") is None
            assert (site.inbox / "waits.req").exists()
        check_disc_of(site, daemon.wait_status("waits", "done"), archive, ["ACC1"])
        assert len(site.events("spool_full")) == len(site.events("spool_has_room")) == 1, "said once"


def test_below_min_free_mib_nothing_is_received(small_disk: MakeDisk, archive: Path, pacs: DemoPacs, port: int) -> None:
    disk = small_disk(24)
    site = make_site(disk, {"ABPACS": pacs.address}, port=port, jobs=RETRY, spool={"min_free_mib": 8})
    with site.daemon() as daemon:
        with told(pacs, Faults(stall_after=2)):
            daemon.drop("t", lines("ACC1"))
            wait_received(daemon, "t", 2)
            with filled(disk, left_bytes=8 * MIB - 4096):
                pacs.faults = Faults()
                wait_until(daemon, "t", is_deferred_for_room, "the job to be deferred")
        check_disc_of(site, daemon.wait_status("t", "done"), archive, ["ACC1"])


@pytest.mark.parametrize("free_finished", [True, False])
def test_the_oldest_finished_results_make_room_before_claiming_stops(
    small_disk: MakeDisk, pacs: DemoPacs, port: int, free_finished: bool
) -> None:
    disk = small_disk(32)
    site = make_site(disk, {"ABPACS": pacs.address}, port=port, jobs=RETRY, spool={"min_free_mib": 8, "free_finished": free_finished})
    with site.daemon() as daemon:
        for number in range(3):
            daemon.drop(f"old-{number}", lines("ACC1"))
            make_older(site, daemon.wait_status(f"old-{number}", "done"), days=3 - number)
        with filled(disk, left_bytes=8 * MIB - 4096):
            daemon.drop("new", lines("ACC2"))
            if free_finished:
                daemon.wait_status("new", ["queued", "retrieving", "assembling", "publishing", "deferred", "done"])
                results = [status["result"] is not None for number in range(3) if (status := daemon.status(f"old-{number}"))]
                assert results == [False, True, True], "the oldest goes, and no more than is needed"
                assert len(list((daemon.outbox / "old-0").iterdir())) == 1
            else:
                wait_logged(daemon.process, "spool_full")
                assert daemon.status("new") is None
                assert all(len(list((daemon.outbox / f"old-{number}").iterdir())) == 2 for number in range(3))
        daemon.wait_status("new", "done")


def make_older(site: Site, status: Status, days: int) -> None:
    """As if it had been finished so many days ago."""
    path = site.spool / "outbox" / status["ticket"] / "status.json"
    text = path.read_text(encoding="utf-8")
    older = f"2026-01-{20 - days:02}T00:00:00Z"
    path.write_text(text.replace(status["updated"], older), encoding="utf-8")
