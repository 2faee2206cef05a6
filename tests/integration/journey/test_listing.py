"""What is in a study is asked while it is moved, and an archive that cannot do both at once is asked again when the move is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import WrittenSeries, write_series
from tests.daemon import Status
from tests.integration.journey.site import AE_TITLE, Site, run_command, running_site
from tests.oracles import read_objects
from tests.processes import HOST, free_port, wait_for

INSTANCES = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WrittenSeries]:
    folder = tmp_path_factory.mktemp("archive")
    return folder, write_series(folder, accession="ACC1", count=INSTANCES, rows=8, columns=8)


@pytest.fixture
def pacs(folder: tuple[Path, WrittenSeries], port: int) -> Iterator[DemoPacs]:
    with DemoPacs(folder[0], destinations={AE_TITLE: (HOST, port)}) as pacs:
        yield pacs


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def site(pacs: DemoPacs, port: int, tmp_path: Path) -> Iterator[Site]:
    with running_site(tmp_path, {"ABPACS": pacs.address}, port=port, pacs_keys={"response_timeout_s": 2, "idle_timeout_s": 60}) as site:
        yield site


def wait_received(site: Site, count: int) -> Status:
    def has_received() -> Status | None:
        status = site.daemon.status("t")
        return status if status is not None and status["progress"]["instances_received"] == count else None

    return wait_for(has_received, 60, f"{count} instances")


@pytest.mark.parametrize("level", ["SERIES", "IMAGE"])
def test_instances_come_while_the_listing_is_not_answered(
    site: Site, pacs: DemoPacs, folder: tuple[Path, WrittenSeries], level: str
) -> None:
    """Nothing would come before the listing has, if the one waited for the other. What the archive counts is expected meanwhile."""
    pacs.faults = Faults(silent_levels=frozenset({level}), stall_after=2)  # type: ignore[arg-type]
    site.daemon.drop("t", "ACC1\n@end\n")
    status = wait_received(site, 2)
    assert status["progress"]["instances_expected"] == INSTANCES
    pacs.faults = Faults()
    status = site.daemon.wait_status("t", "done")
    ((study,),) = (accession["studies"] for accession in status["accessions"])
    assert (study["evidence"], study["instances_expected"], study["instances_received"]) == ("instances", INSTANCES, INSTANCES)
    assert [move.level for move in pacs.moves] == ["STUDY"]
    (volume,) = status["result"]["volumes"]
    assert set(read_objects(site.result(status) / volume["directory"])) == set(folder[1].sop_instance_uids)
    assert '"event": "listing_put_off"' in site.daemon.process.output
    assert site.daemon.process.output.index("listing_put_off") < site.daemon.process.output.index("studies_found")


def test_of_what_is_there_already_only_the_rest_is_moved(site: Site, pacs: DemoPacs, folder: tuple[Path, WrittenSeries]) -> None:
    """The moves of a second attempt depend on the listing, so it comes first."""
    lost = folder[1].sop_instance_uids[2]
    pacs.faults = Faults(never_sent_uids=frozenset({lost}))
    site.request("t", "ACC1", states="deferred")
    moves = len(pacs.moves)
    pacs.faults = Faults()
    assert run_command("retry", "t", "--config", site.config_path).exit_code == 0
    site.daemon.wait_status("t", "done")
    assert [(move.level, move.sent_uids) for move in pacs.moves[moves:]] == [("IMAGE", (lost,))]


def test_a_study_that_is_counted_as_empty_is_listed_first(site: Site, pacs: DemoPacs) -> None:
    pacs.faults = Faults(empty_study=True)
    status = site.request("t", "ACC1", states=("failed", "deferred"))
    assert status["error"]["code"] == "accession_not_found"
    assert pacs.moves == []
