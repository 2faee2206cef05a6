"""Several PACSs, `max_moves`, and one study at a time: whoever has to wait waits in the queue, never in the hands of a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import WrittenSeries, write_series
from tests.daemon import Status
from tests.integration.journey.site import AE_TITLE, Site, running_site
from tests.oracles import read_objects
from tests.processes import HOST, free_port, wait_for

INSTANCES = 4


@dataclass(frozen=True)
class Two:
    """ACC1 to ACC3 are in the archive NORTH, ACC4 and ACC5 in SOUTH."""

    site: Site
    north: DemoPacs
    south: DemoPacs
    series: dict[str, WrittenSeries]

    def drop(self, ticket: str, *lines: str) -> None:
        self.site.daemon.drop(ticket, "".join(f"{line}\n" for line in (*lines, "@end")))

    def wait_in_the_middle(self, ticket: str) -> None:
        def has_something() -> bool:
            status = self.site.daemon.status(ticket)
            return status is not None and status["state"] == "retrieving" and status["progress"]["instances_received"] > 0

        wait_for(has_something, 30, f"{ticket} to be in the middle")

    def wait_events(self, event: str, count: int) -> None:
        wait_for(lambda: self.site.daemon.process.output.count(f'"{event}"') >= count, 30, f"{event} {count} times")

    def check(self, ticket: str, accessions: Sequence[str]) -> Status:
        status = self.site.daemon.wait_status(ticket, "done")
        (volume,) = status["result"]["volumes"]
        expected = {uid for accession in accessions for uid in self.series[accession].sop_instance_uids}
        assert set(read_objects(self.site.result(status) / volume["directory"])) == expected
        return status


@contextmanager
def two(folder: Path, *, workers: int, max_moves: int) -> Iterator[Two]:
    port, series = free_port(), {}
    for number in range(1, 6):
        place = folder / ("north" if number < 4 else "south") / str(number)
        series[f"ACC{number}"] = write_series(place, accession=f"ACC{number}", count=INSTANCES, rows=8, columns=8, seed=number)
    destinations = {AE_TITLE: (HOST, port)}
    with ExitStack() as stack:
        north, south = (
            stack.enter_context(DemoPacs(folder / name.lower(), ae_title=name, destinations=destinations)) for name in ("NORTH", "SOUTH")
        )
        pacs = {"NORTH": north.address, "SOUTH": south.address}
        site = stack.enter_context(running_site(folder, pacs, port=port, workers=workers, pacs_keys={"max_moves": max_moves}))
        yield Two(site, north, south, series)


def test_each_pacs_has_its_own_accessions(tmp_path: Path) -> None:
    with two(tmp_path, workers=2, max_moves=1) as site:
        site.drop("default", "ACC1")
        site.drop("named", "@pacs SOUTH", "ACC4")
        site.check("default", ["ACC1"])
        site.check("named", ["ACC4"])
        site.drop("wrong", "ACC4")
        assert site.site.daemon.wait_status("wrong", ["deferred", "failed"])["error"]["code"] == "accession_not_found"


def test_a_pacs_that_is_busy_keeps_nobody_from_another(tmp_path: Path) -> None:
    """Two workers: one is held up by NORTH. Of the other requests for it none takes the second worker."""
    with two(tmp_path, workers=2, max_moves=1) as site:
        site.north.faults = Faults(stall_after=1)
        site.drop("first", "ACC1")
        site.wait_in_the_middle("first")
        for ticket, accession in (("second", "ACC2"), ("third", "ACC3")):
            site.drop(ticket, accession)
            site.site.daemon.wait_status(ticket, "queued")
        site.drop("south", "@pacs SOUTH", "ACC4")
        site.check("south", ["ACC4"])
        assert {t: (s := site.site.daemon.status(t)) and s["state"] for t in ("second", "third")} == {"second": "queued", "third": "queued"}
        site.drop("urgent", "@priority high", "ACC1")
        site.site.daemon.wait_status("urgent", "queued")
        site.north.faults = Faults()
        for ticket, accessions in (("first", ["ACC1"]), ("second", ["ACC2"]), ("third", ["ACC3"])):
            site.check(ticket, accessions)
        site.check("urgent", ["ACC1"])
        order = [move.keys["StudyInstanceUID"] for move in site.north.moves]
        assert order[:2] == [site.series["ACC1"].study_instance_uid] * 2, "what is urgent is the first of those that wait"
        assert len(order) == 4


@pytest.mark.parametrize("max_moves", [1, 2])
def test_no_more_moves_at_once_than_the_pacs_allows(max_moves: int, tmp_path: Path) -> None:
    with two(tmp_path, workers=3, max_moves=max_moves) as site:
        site.north.faults = Faults(stall_after=1)
        tickets = ("one", "two", "three")
        for number, ticket in enumerate(tickets, 1):
            site.drop(ticket, f"ACC{number}")

        def list_states() -> list[str]:
            return sorted(status["state"] for ticket in tickets if (status := site.site.daemon.status(ticket)))

        expected = ["queued"] * (3 - max_moves) + ["retrieving"] * max_moves
        wait_for(lambda: list_states() == expected, 30, f"{max_moves} of 3 to be retrieved")
        # A request for the other archive, dropped after them, is done: they would have been taken before it.
        site.drop("south", "@pacs SOUTH", "ACC4")
        site.check("south", ["ACC4"])
        assert list_states() == expected
        site.north.faults = Faults()
        for number, ticket in enumerate(tickets, 1):
            site.check(ticket, [f"ACC{number}"])


def test_who_needs_a_study_of_another_job_waits_in_the_queue(tmp_path: Path) -> None:
    """Two workers: one retrieves ACC1. Two more want it, one of them with ACC2, and yet the second worker is free for ACC3."""
    with two(tmp_path, workers=2, max_moves=4) as site:
        site.north.faults = Faults(stall_after=1)
        site.drop("first", "ACC1")
        site.wait_in_the_middle("first")
        site.drop("same", "ACC1")
        site.drop("also", "@allow several-patients", "ACC1", "ACC2")
        site.wait_events("job_postponed", 2)
        site.drop("other", "ACC3")
        site.wait_in_the_middle("other")
        for ticket in ("same", "also"):
            status = site.site.daemon.status(ticket)
            assert status is not None
            assert (status["state"], status["attempt"], status["error"]) == ("queued", 1, None)
        site.north.faults = Faults()
        site.check("first", ["ACC1"])
        site.check("other", ["ACC3"])
        site.check("same", ["ACC1"])
        site.site.daemon.wait_status("also", "done")
        moves = [move.keys["StudyInstanceUID"] for move in site.north.moves]
        assert moves.count(site.series["ACC1"].study_instance_uid) == 3
        assert all(len(move.sent_uids) == INSTANCES and move.dimse_status == 0 for move in site.north.moves), "none was moved again"


def test_who_waits_for_a_study_can_be_cancelled_and_survives_a_stop(tmp_path: Path) -> None:
    with two(tmp_path, workers=2, max_moves=4) as site:
        site.north.faults = Faults(stall_after=1)
        site.drop("first", "ACC1")
        site.wait_in_the_middle("first")
        site.drop("withdrawn", "ACC1")
        site.drop("kept", "ACC1")
        site.wait_events("job_postponed", 2)
        (site.site.daemon.inbox / "withdrawn.cancel").touch()
        site.site.daemon.wait_status("withdrawn", "cancelled")
        site.site.daemon.stop()
        for ticket in ("first", "kept"):
            assert (status := site.site.daemon.status(ticket))
            assert status["state"] == "queued"
        site.north.faults = Faults()
        with running_site(tmp_path, {"NORTH": site.north.address}, port=site.site.port) as again:
            for ticket in ("first", "kept"):
                again.daemon.wait_status(ticket, "done")
