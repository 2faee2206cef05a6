"""What is missing is moved again, in smaller and smaller parts; what is there is not. And how long a move is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import WrittenSeries, write_series
from tests.integration.journey.site import AE_TITLE, NOT_DONE, Site, running_site
from tests.oracles import read_objects
from tests.peers import orthanc
from tests.processes import HOST, free_port, wait_for

INSTANCES = 20
SHORT = {"connect_timeout_s": 2, "response_timeout_s": 5, "idle_timeout_s": 1, "first_arrival_s": 0.3, "grace_s": 0.2, "further_moves": 3}


@dataclass(frozen=True)
class Moved:
    site: Site
    pacs: DemoPacs
    series: tuple[WrittenSeries, WrittenSeries]

    @contextmanager
    def told(self, faults: Faults) -> Iterator[None]:
        self.pacs.faults = faults
        try:
            yield
        finally:
            self.pacs.faults = Faults()

    @property
    def uids(self) -> list[str]:
        return [uid for series in self.series for uid in series.sop_instance_uids]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[WrittenSeries, WrittenSeries]]:
    folder = tmp_path_factory.mktemp("archive")
    first = write_series(folder / "1", accession="ACC1", count=INSTANCES, rows=8, columns=8)
    return folder, (first, write_series(folder / "2", accession="ACC1", count=4, rows=8, columns=8, series="T", series_number=2))


@pytest.fixture(scope="module")
def moved(folder: tuple[Path, tuple[WrittenSeries, WrittenSeries]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    port = free_port()
    with (
        DemoPacs(folder[0], destinations={AE_TITLE: (HOST, port)}) as pacs,
        running_site(tmp_path_factory.mktemp("site"), {"ABPACS": pacs.address}, port=port, pacs_keys=SHORT) as site,
    ):
        yield Moved(site, pacs, folder[1])


def test_first_the_study_then_series_then_lists_of_instances(moved: Moved) -> None:
    """The whole second series never comes, and one instance of the first."""
    before = len(moved.pacs.moves)
    lost = {*moved.series[1].sop_instance_uids, moved.series[0].sop_instance_uids[2]}
    with moved.told(Faults(never_sent_uids=frozenset(lost))):
        status = moved.site.request("smaller", "ACC1", states=NOT_DONE)
    moves = moved.pacs.moves[before:]
    assert [move.level for move in moves] == ["STUDY", "IMAGE", "SERIES", "IMAGE", "IMAGE", "IMAGE", "IMAGE"]
    assert [uid for move in moves[1:] for uid in move.sent_uids] == [], "nothing is moved again that is there"
    ((study,),) = (accession["studies"] for accession in status["accessions"])
    assert (status["error"]["code"], set(study["missing"])) == ("incomplete", lost)
    assert f"{len(lost)} of {INSTANCES + 4}" in status["error"]["message"]


def test_what_the_archive_names_as_failed_is_asked_for_by_name_at_once(moved: Moved) -> None:
    """B000H and a list of UIDs: nothing is waited for that will not come."""
    before = len(moved.pacs.moves)
    with moved.told(Faults(fail_instance=2, moves=1 + moved.pacs._state.tally._all_moves)):
        moved.site.request("failed-list", "ACC1")
    first, again = moved.pacs.moves[before:]
    assert (first.dimse_status, again.level) == (0xB000, "IMAGE")
    assert again.sent_uids == (moved.series[0].sop_instance_uids[1],)


def test_one_instance_that_ends_every_move_costs_itself_alone(moved: Moved) -> None:
    """As Orthanc does: the first sub-operation that fails ends the move. So the list is halved until the instance stands alone."""
    bad = {moved.series[0].sop_instance_uids[7], moved.series[0].sop_instance_uids[8]}
    with moved.told(Faults(ends_at_uids=frozenset(bad))):
        status = moved.site.request("bad-ones", "@allow partial", "ACC1", states="partial")
    ((study,),) = (accession["studies"] for accession in status["accessions"])
    assert set(study["missing"]) == bad
    (volume,) = status["result"]["volumes"]
    assert set(read_objects(moved.site.result(status) / volume["directory"])) == set(moved.uids) - bad


def test_an_archive_that_takes_no_lists_is_asked_one_by_one(moved: Moved) -> None:
    """Half of the first series comes at first. Where two that were refused together come alone, no further list is tried."""
    before = len(moved.pacs.moves)
    first = Faults(move_status=0xC000, move_status_after=INSTANCES - 12, moves=moved.pacs._state.tally.all_moves + 1, refuse_lists=True)
    with moved.told(first):
        status = moved.site.request("no-lists", "ACC1")
    assert status["progress"]["instances_received"] == len(moved.uids)
    lists = (move.keys.get("SOPInstanceUID") for move in moved.pacs.moves[before:])
    asked = [uids.count("\\") + 1 for uids in lists if uids]
    assert [count for count in asked if count > 1] == [12, 12, 12, 6, 3, 2]
    assert asked.count(1) == 12


def test_what_is_sent_again_and_again_is_no_progress(moved: Moved) -> None:
    """Whatever is asked for, the archive moves the whole study, and ends at the first of those that it cannot send."""
    before = len(moved.pacs.moves)
    with moved.told(Faults(whole_study=True, ends_at_uids=frozenset(moved.uids[-3:]))):
        status = moved.site.request("again", "ACC1", states=NOT_DONE)
    assert status["error"]["code"] == "incomplete"
    assert len(moved.pacs.moves) - before < 20


def test_an_archive_where_nothing_can_be_moved_is_not_asked_for_ever(moved: Moved) -> None:
    before = len(moved.pacs.moves)
    with moved.told(Faults(ends_at_uids=frozenset(moved.uids))):
        status = moved.site.request("all-bad", "ACC1", states=NOT_DONE)
    assert status["error"]["code"] == "move_failed"
    assert len(moved.pacs.moves) - before < 40


def test_an_archive_that_sends_no_responses_but_instances_is_no_time_out(moved: Moved) -> None:
    """All in all it takes several times as long as the idle time-out."""
    with moved.told(Faults(no_pending=True, pause_s=0.25)):
        status = moved.site.request("silent-but-busy", "ACC1")
    assert status["attempt"] == 1
    assert status["progress"]["instances_received"] == INSTANCES + 4


def test_an_archive_that_sends_neither_is_one(moved: Moved) -> None:
    before = len(moved.pacs.moves)
    with moved.told(Faults(stall_after=0)):
        status = moved.site.request("silent", "ACC1", states=NOT_DONE)
    assert (status["error"]["code"], status["error"]["transient"]) == ("timeout", True)
    assert len(moved.pacs.moves) - before == 1, "what is stuck is not asked for again at once"


@pytest.mark.parametrize("pause_s", [0.0, 0.1])
def test_an_archive_that_answers_before_it_sends_is_waited_for(moved: Moved, pause_s: float) -> None:
    before = len(moved.pacs.moves)
    with moved.told(Faults(after_final=True, pause_s=pause_s)):
        moved.site.request(f"early-answer-{pause_s}", "ACC1")
        wait_for(lambda: len(moved.pacs.moves) > before, 20, "the archive's own end of the move")
    assert len(moved.pacs.moves) - before == 1, "all of it came by the first move"


def test_by_orthanc_which_answers_before_it_sends(folder: tuple[Path, tuple[WrittenSeries, WrittenSeries]], tmp_path: Path) -> None:
    """With the evidence of counts, and of instances: neither believes the answer."""
    port = free_port()
    files = sorted(folder[0].rglob("*.dcm"))
    for query in ("instances", "counts"):
        (tmp_path / f"site-{query}").mkdir()
        with (
            orthanc(tmp_path / query, files, destinations={AE_TITLE: (HOST, port)}, synchronous_move=False) as peer,
            running_site(
                tmp_path / f"site-{query}", {"ABPACS": (peer.host, peer.port)}, port=port, pacs_keys={"grace_s": 5, "query": f'"{query}"'}
            ) as site,
        ):
            status = site.request("early", "ACC1")
            ((study,),) = (accession["studies"] for accession in status["accessions"])
            assert (study["evidence"], study["instances_received"]) == (query, INSTANCES + 4)


def test_what_is_sent_twice_counts_once(moved: Moved) -> None:
    with moved.told(Faults(send_twice=True)):
        status = moved.site.request("twice", "ACC1")
    assert status["progress"]["instances_received"] == INSTANCES + 4
    assert status["accessions"][0]["studies"][0]["evidence"] == "instances"


MOVE_STATUSES = dict.fromkeys((0xA701, 0xA702, 0xA900, 0xC000), "move_failed") | {0xA801: "move_destination_unknown"}


@pytest.mark.parametrize("dimse_status", MOVE_STATUSES)
def test_each_failure_of_a_move_has_its_code(moved: Moved, dimse_status: int) -> None:
    """PS3.4 Table C.4-2. Whatever came before it is kept, and what lacks is asked for again."""
    with moved.told(Faults(move_status=dimse_status)):
        status = moved.site.request(f"status-{dimse_status:04x}", "ACC1", states=NOT_DONE)
    assert status["error"]["code"] == MOVE_STATUSES[dimse_status]
    assert status["error"]["transient"] is (dimse_status != 0xA801)
    with moved.told(Faults(move_status=dimse_status, move_status_after=3)):
        status = moved.site.request(f"status-after-{dimse_status:04x}", "ACC1", states=["failed", "deferred", "done"])
    assert status["progress"]["instances_received"] >= 3
    assert status["state"] != "failed", "who has sent before knows us, whatever it says"


@pytest.mark.parametrize("after", [0, 5])
def test_a_store_that_is_aborted_is_repeated(moved: Moved, after: int) -> None:
    with moved.told(Faults(abort_store_after=after, moves=1 + moved.pacs._state.tally._all_moves)):
        status = moved.site.request(f"abort-store-{after}", "ACC1")
    assert status["progress"]["instances_received"] == INSTANCES + 4


def test_a_move_that_is_aborted_again_and_again_brings_a_little_each_time(moved: Moved) -> None:
    with moved.told(Faults(abort_after=3)):
        status = moved.site.request("abort-move", "ACC1")
    assert (status["attempt"], status["progress"]["instances_received"]) == (1, INSTANCES + 4)


def test_what_a_stranger_sends_for_a_move_is_on_no_disc_without_a_move_originator_either(moved: Moved) -> None:
    with moved.told(Faults(omit_move_originator=True)):
        status = moved.site.request("no-originator", "ACC1")
    assert status["progress"]["instances_received"] == INSTANCES + 4
