"""Requests at the same time, through one receiver: each disc has its own instances, all of them, and nothing of another's.

That they really run at once is not left to chance: the archive stalls every move in the middle until all of them stand there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.objects import Patient
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import WrittenSeries, write_series
from tests.daemon import Daemon, Status
from tests.integration.journey.site import AE_TITLE, Site, running_site
from tests.oracles import check_disc, find_differences, read_objects
from tests.peers import dcmqrscp
from tests.processes import HOST, free_port, wait_for

WORKERS = 4
INSTANCES = 25


@dataclass(frozen=True)
class Hospital:
    site: Site
    pacs: DemoPacs
    archive: Path
    series: dict[str, WrittenSeries]  # by accession number


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """Six accessions of four patients, all of one size, so that counting alone would not tell them apart."""
    folder = tmp_path_factory.mktemp("hospital")
    series = {}
    for number, letter in enumerate("AABCDD"):
        patient = Patient(name=f"Family{letter}^Given", patient_id=f"ID{letter}", issuer="", birth_date=f"19{ord(letter)}0101", sex="O")
        series[f"ACC{number}"] = write_series(
            folder / "archive" / str(number), accession=f"ACC{number}", count=INSTANCES, rows=64, columns=64, seed=number, patient=patient
        )
    port = free_port()
    with (
        DemoPacs(folder / "archive", destinations={AE_TITLE: (HOST, port)}) as pacs,
        running_site(folder, {"ABPACS": pacs.address}, port=port, workers=WORKERS, pacs_keys={"max_moves": WORKERS}) as site,
    ):
        yield Hospital(site, pacs, folder / "archive", series)


def stand_in_the_middle(daemon: Daemon, tickets: list[str]) -> list[Status]:
    """Wait until each of these is retrieving and has received something, but not all."""

    def in_the_middle() -> list[Status] | None:
        statuses = [status for ticket in tickets if (status := daemon.status(ticket)) and status["state"] == "retrieving"]
        received = [status["progress"]["instances_received"] for status in statuses]
        return statuses if len(received) == len(tickets) and all(0 < number < INSTANCES for number in received) else None

    return wait_for(in_the_middle, 30, f"{tickets} to be in the middle")


def check_own(hospital: Hospital, status: Status, accession: str, scratch: Path) -> None:
    """The disc of a status has the instances of one accession, as the archive holds them."""
    written = hospital.series[accession]
    (volume,) = status["result"]["volumes"]
    result = hospital.site.result(status)
    tree = result / volume["directory"]
    objects = read_objects(tree)
    assert set(objects) == set(written.sop_instance_uids)
    files = sorted((hospital.archive / accession.removeprefix("ACC")).iterdir())
    own = dict(zip(written.sop_instance_uids, files, strict=True))
    assert {uid: found for uid, path in objects.items() if (found := find_differences(path, own[uid]))} == {}
    check_disc(tree, scratch, image=result / volume["image"])


def test_four_patients_at_once(hospital: Hospital, tmp_path: Path) -> None:
    accessions = ["ACC0", "ACC2", "ACC3", "ACC4"]
    daemon = hospital.site.daemon
    hospital.pacs.faults = Faults(stall_after=10)
    for accession in accessions:
        daemon.drop(f"at-once-{accession}", f"{accession}\n@end\n")
    tickets = [f"at-once-{accession}" for accession in accessions]
    for status in stand_in_the_middle(daemon, tickets):
        assert status["progress"]["instances_expected"] == INSTANCES
    hospital.pacs.faults = Faults()
    for accession, ticket in zip(accessions, tickets, strict=True):
        check_own(hospital, daemon.wait_status(ticket, "done"), accession, tmp_path / accession)


def test_the_same_study_twice_at_once_is_retrieved_one_after_the_other(hospital: Hospital, tmp_path: Path) -> None:
    daemon = hospital.site.daemon
    before = len(hospital.pacs.moves)
    hospital.pacs.faults = Faults(stall_after=10)
    daemon.drop("twice-first", "ACC1\n@end\n")
    stand_in_the_middle(daemon, ["twice-first"])
    daemon.drop("twice-second", "ACC1\n@end\n")
    wait_for(lambda: '"job_postponed"' in daemon.process.output, 30, "the second one to be postponed")
    # Another patient's request passes both.
    daemon.drop("twice-other", "ACC5\n@end\n")
    stand_in_the_middle(daemon, ["twice-first", "twice-other"])
    waiting = daemon.status("twice-second")
    assert waiting is not None
    assert (waiting["state"], waiting["progress"]["instances_received"]) == ("queued", 0)
    hospital.pacs.faults = Faults()
    for ticket, accession in (("twice-first", "ACC1"), ("twice-second", "ACC1"), ("twice-other", "ACC5")):
        check_own(hospital, daemon.wait_status(ticket, "done"), accession, tmp_path / ticket)
    moves = hospital.pacs.moves[before:]
    assert len(moves) == 3
    assert all(len(move.sent_uids) == INSTANCES and move.dimse_status == 0 for move in moves), "none had to be moved again"


def test_more_requests_than_workers_are_all_served(hospital: Hospital, tmp_path: Path) -> None:
    daemon = hospital.site.daemon
    accessions = [f"ACC{number % 6}" for number in range(2 * WORKERS)]
    for number, accession in enumerate(accessions):
        daemon.drop(f"many-{number}", f"{accession}\n@end\n")
    statuses = [daemon.wait_status(f"many-{number}", "done") for number in range(len(accessions))]
    assert len({status["job"] for status in statuses}) == len(accessions)
    for number, (status, accession) in enumerate(zip(statuses, accessions, strict=True)):
        check_own(hospital, status, accession, tmp_path / str(number))


def test_what_comes_of_a_study_nobody_asked_for_is_refused_and_on_no_disc(hospital: Hospital, tmp_path: Path) -> None:
    """The archive sends another patient's study in between. It is refused, said, and the disc is whole."""
    foreign = hospital.series["ACC3"]
    hospital.pacs.faults = Faults(foreign_study_uid=foreign.study_instance_uid)
    status = hospital.site.request("foreign", "ACC0")
    hospital.pacs.faults = Faults()
    check_own(hospital, status, "ACC0", tmp_path / "disc")
    assert any(foreign.sop_instance_uids[0] in warning for warning in status["result"]["warnings"])


def test_a_used_ticket_gets_the_new_disc_and_loses_the_old_one(hospital: Hospital, tmp_path: Path) -> None:
    first = hospital.site.request("used", "ACC0")
    hospital.site.daemon.drop("used", "ACC4\n@end\n")

    def replaced() -> Status | None:
        status = hospital.site.daemon.status("used")
        return status if status and status["job"] != first["job"] and status["finished"] else None

    second = wait_for(replaced, 60, "the second job of the ticket")
    check_own(hospital, second, "ACC4", tmp_path / "disc")
    outbox = hospital.site.daemon.outbox / "used"
    wait_for(lambda: {path.name for path in outbox.iterdir()} == {"status.json", second["job"]}, 30, "the older result to go")


def test_two_hundred_instances(tmp_path: Path) -> None:
    """100 MB out of dcmqrscp. The time is printed, not judged."""
    count = 200
    write_series(tmp_path / "files", accession="LARGE", count=count, rows=512, columns=512)
    port = free_port()
    with (
        dcmqrscp(tmp_path / "peer", sorted((tmp_path / "files").iterdir()), destinations={AE_TITLE: (HOST, port)}) as peer,
        running_site(tmp_path, {"ABPACS": (peer.host, peer.port)}, port=port) as site,
    ):
        began = time.monotonic()
        status = site.request("large", "LARGE")
        took_s = time.monotonic() - began
        print(f"{count} instances of 512x512x16 from dcmqrscp to a checked directory and image: {took_s:.2f} s")  # noqa: T201 - a figure
        (volume,) = status["result"]["volumes"]
        assert volume["instances"] == count
        check_disc(site.result(status) / volume["directory"], tmp_path / "scratch", image=site.result(status) / volume["image"])
