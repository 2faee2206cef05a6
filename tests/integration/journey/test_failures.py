"""What may go wrong between the daemon and the archive: each has its code in the status, and the next request is served all the same."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mkisod.demo.faults import LEVELS, Faults
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import WrittenSeries, write_series
from tests.integration.journey.site import AE_TITLE, NOT_DONE, Site, running_site
from tests.oracles import read_objects
from tests.peers import dcmqrscp, orthanc
from tests.processes import HOST, free_port, wait_for

INSTANCES = 6
# What a fault makes the daemon wait for, in short.
SHORT = {"connect_timeout_s": 2, "response_timeout_s": 1, "idle_timeout_s": 1, "first_arrival_s": 0.5, "grace_s": 0.2, "further_moves": 1}


@dataclass(frozen=True)
class Faulty:
    site: Site
    pacs: DemoPacs
    series: WrittenSeries

    @contextmanager
    def told(self, faults: Faults) -> Iterator[None]:
        """The archive does this wrong for as long as the block lasts."""
        self.pacs.faults = faults
        try:
            yield
        finally:
            self.pacs.faults = Faults()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WrittenSeries]:
    folder = tmp_path_factory.mktemp("archive")
    return folder, write_series(folder / "1", accession="ACC1", count=INSTANCES, rows=16, columns=16)


@pytest.fixture(scope="module")
def faulty(archive: tuple[Path, WrittenSeries], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    folder, port, closed_port = tmp_path_factory.mktemp("faulty"), free_port(), free_port()
    with (
        socket.create_server((HOST, 0)) as silent,
        DemoPacs(archive[0], destinations={AE_TITLE: (HOST, port)}) as pacs,
        running_site(
            folder,
            {"ABPACS": pacs.address, "CLOSED": (HOST, closed_port), "SILENT": (HOST, silent.getsockname()[1])},
            port=port,
            pacs_keys=SHORT,
        ) as site,
    ):
        yield Faulty(site, pacs, archive[1])


FAULTS = {
    # name: the fault, the codes that say it rightly, whether it may go away by itself
    "refuses_queries": (Faults(find_status=0xC001), {"query_failed"}, True),
    "never_answers_queries": (Faults(silent_levels=LEVELS), {"timeout"}, True),
    "offline": (Faults(availability="OFFLINE"), {"study_unavailable"}, False),
    "answers_with_others": (Faults(other_accession="ACC2"), {"accession_mismatch"}, False),
    "refuses_moves": (Faults(move_status=0xC000), {"move_failed"}, True),
    "says_success_and_sends_nothing": (Faults(send_nothing=True), {"incomplete"}, True),
    "stops_in_the_middle": (Faults(stall_after=2), {"timeout", "incomplete"}, True),
    "aborts_the_move": (Faults(abort_after=0), {"pacs_unreachable"}, True),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_its_code_and_hurts_no_other_request(faulty: Faulty, name: str) -> None:
    fault, codes, transient = FAULTS[name]
    with faulty.told(fault):
        status = faulty.site.request(f"fault-{name}", "ACC1", states=NOT_DONE)
    error = status["error"]
    assert error["code"] in codes
    assert error["transient"] is transient
    assert error["message"]
    assert error["advice"]
    assert status["result"] is None
    assert faulty.site.request(f"after-{name}", "ACC1")["progress"]["instances_received"] == INSTANCES


def test_what_is_missing_is_named(faulty: Faulty) -> None:
    lost = faulty.series.sop_instance_uids[3]
    with faulty.told(Faults(never_sent_uids=frozenset({lost}))):
        status = faulty.site.request("names-missing", "ACC1", states=NOT_DONE)
    ((study,),) = (accession["studies"] for accession in status["accessions"])
    assert (study["missing"], study["instances_expected"], study["instances_received"]) == ([lost], INSTANCES, INSTANCES - 1)


def test_a_client_that_allows_it_gets_what_there_is(faulty: Faulty) -> None:
    lost = faulty.series.sop_instance_uids[3]
    with faulty.told(Faults(never_sent_uids=frozenset({lost}))):
        status = faulty.site.request("partial", "@allow partial", "ACC1", states="partial")
    (volume,) = status["result"]["volumes"]
    objects = read_objects(faulty.site.result(status) / volume["directory"])
    assert set(objects) == set(faulty.series.sop_instance_uids) - {lost}
    assert [study["missing"] for accession in status["accessions"] for study in accession["studies"]] == [[lost]]


def test_what_the_first_move_lost_is_moved_again_and_nothing_else(faulty: Faulty) -> None:
    before = len(faulty.pacs.moves)
    lost = faulty.series.sop_instance_uids[3]
    with faulty.told(Faults(drop_instance=4)):
        status = faulty.site.request("lost-once", "ACC1")
    assert status["progress"]["instances_received"] == INSTANCES
    first, *further = faulty.pacs.moves[before:]
    assert lost not in first.sent_uids
    assert [uid for move in further for uid in move.sent_uids] == [lost]
    unique_keys = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"}
    assert all(set(move.keys) <= {"QueryRetrieveLevel"} | unique_keys for move in [first, *further])


@pytest.mark.parametrize("pacs", ["CLOSED", "SILENT"])
def test_an_archive_that_does_not_run(faulty: Faulty, pacs: str) -> None:
    status = faulty.site.request(f"unreachable-{pacs}", f"@pacs {pacs}", "ACC1", states=NOT_DONE)
    assert (status["error"]["code"], status["error"]["transient"]) == ("pacs_unreachable", True)
    assert pacs in status["error"]["message"]
    faulty.site.request(f"after-{pacs}", "ACC1")


def test_an_archive_that_comes_back_is_asked_again(archive: tuple[Path, WrittenSeries], tmp_path: Path) -> None:
    port, pacs_port = free_port(), free_port()
    with running_site(tmp_path, {"ABPACS": (HOST, pacs_port)}, port=port) as site:
        assert site.request("too-early", "ACC1", states=NOT_DONE)["error"]["code"] == "pacs_unreachable"
        with DemoPacs(archive[0], port=pacs_port, destinations={AE_TITLE: (HOST, port)}):
            site.request("later", "ACC1")


def test_an_accession_that_is_not_there_is_named_and_nothing_is_moved(faulty: Faulty) -> None:
    before = len(faulty.pacs.moves)
    status = faulty.site.request("not-found", "ACC1", "NOWHERE", "ELSEWHERE", states=NOT_DONE)
    assert status["error"]["code"] == "accession_not_found"
    assert "NOWHERE" in status["error"]["message"]
    assert "ELSEWHERE" in status["error"]["message"]
    codes = {accession["accession"]: accession["error"] and accession["error"]["code"] for accession in status["accessions"]}
    assert codes == {"ACC1": None, "NOWHERE": "accession_not_found", "ELSEWHERE": "accession_not_found"}
    assert len(faulty.pacs.moves) == before


@pytest.mark.parametrize("kind", ["dcmqrscp", "orthanc", "demo"])
def test_an_archive_that_does_not_know_the_daemon(kind: str, archive: tuple[Path, WrittenSeries], tmp_path: Path) -> None:
    """Orthanc has no DIMSE status of its own for it and says C000H, as for anything else."""
    files = sorted((archive[0] / "1").iterdir())
    peer = dcmqrscp if kind == "dcmqrscp" else orthanc
    with (
        DemoPacs(archive[0]) if kind == "demo" else peer(tmp_path / "peer", files) as pacs,
        running_site(tmp_path, {"ABPACS": pacs.address if isinstance(pacs, DemoPacs) else (pacs.host, pacs.port)}, pacs_keys=SHORT) as site,
    ):
        status = site.request("unknown", "ACC1", states=NOT_DONE)
        assert status["error"]["code"] == ("move_failed" if kind == "orthanc" else "move_destination_unknown")
        if kind != "orthanc":
            assert AE_TITLE in status["error"]["message"]
        if isinstance(pacs, DemoPacs):
            pacs.add_destination(AE_TITLE, HOST, site.port)
            site.request("known", "ACC1")


def test_an_archive_that_is_called_by_another_name(archive: tuple[Path, WrittenSeries], tmp_path: Path) -> None:
    with (
        dcmqrscp(tmp_path / "peer", sorted((archive[0] / "1").iterdir())) as peer,
        running_site(tmp_path, {"WRONG": (peer.host, peer.port)}) as site,
    ):
        status = site.request("wrong-name", "ACC1", states=NOT_DONE)
        assert status["error"]["code"] == "association_rejected"
        assert "called AE title not recognized" in status["error"]["message"]


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_a_daemon_that_ends_in_mid_retrieval_goes_on_where_it_was(ending: str, archive: tuple[Path, WrittenSeries], tmp_path: Path) -> None:
    """SIGTERM: exit status 0 (`Daemon.stop`), and the job waits in the queue. SIGKILL: the start-up scan puts it there."""
    port = free_port()
    with DemoPacs(archive[0], destinations={AE_TITLE: (HOST, port)}, faults=Faults(stall_after=2)) as pacs:
        with running_site(tmp_path, {"ABPACS": pacs.address}, port=port) as site:
            site.daemon.drop("interrupted", "ACC1\n@end\n")
            job = site.daemon.wait_status("interrupted", "retrieving")["job"]

            def in_the_middle() -> bool:
                status = site.daemon.status("interrupted")
                return status is not None and status["progress"]["instances_received"] == 2

            wait_for(in_the_middle, 30, "the second instance")
            if ending == "stop":
                site.daemon.stop()
                status = site.daemon.status("interrupted")
                assert status is not None
                assert (status["state"], status["finished"], status["error"]) == ("queued", False, None)
                assert [path.name for path in (site.spool / "work" / "queued").iterdir()] == [job]
                assert list((site.spool / "work" / "active" / "main").iterdir()) == []
            else:
                site.daemon.kill()
                assert [path.name for path in (site.spool / "work" / "active" / "main").iterdir()] == [job]
        pacs.faults = Faults()
        before = len(pacs.moves)
        with running_site(tmp_path, {"ABPACS": pacs.address}, port=port) as site:
            status = site.daemon.wait_status("interrupted", "done")
            assert status["job"] == job
            (volume,) = status["result"]["volumes"]
            assert set(read_objects(site.result(status) / volume["directory"])) == set(archive[1].sop_instance_uids)
            assert list((site.spool / "work" / "queued").iterdir()) == []
        sent = [uid for move in pacs.moves[before:] if move.dimse_status == 0 for uid in move.sent_uids]
        assert sorted(sent) == sorted(archive[1].sop_instance_uids[2:]), "only what was missing is moved"


def test_what_waits_while_a_daemon_stops_is_served_after_the_next_start(archive: tuple[Path, WrittenSeries], tmp_path: Path) -> None:
    port = free_port()
    tickets = [f"waiting-{number}" for number in range(4)]
    with DemoPacs(archive[0], destinations={AE_TITLE: (HOST, port)}, faults=Faults(stall_after=1)) as pacs:
        with running_site(tmp_path, {"ABPACS": pacs.address}, port=port, workers=1) as site:
            for ticket in tickets:
                site.daemon.drop(ticket, "ACC1\n@end\n")
            site.daemon.wait_status(tickets[0], "retrieving")
            for ticket in tickets[1:]:
                site.daemon.wait_status(ticket, "queued")
        # Dropped while nobody is there.
        site.daemon.drop("dropped-meanwhile", "ACC1\n@end\n")
        pacs.faults = Faults()
        with running_site(tmp_path, {"ABPACS": pacs.address}, port=port, workers=1) as site:
            for ticket in [*tickets, "dropped-meanwhile"]:
                site.daemon.wait_status(ticket, "done")


def test_a_daemon_stops_at_once_although_an_archive_does_not_answer(archive: tuple[Path, WrittenSeries], tmp_path: Path) -> None:
    """The time-out for the answer is longer than `Daemon.stop` waits."""
    port = free_port()
    with (
        DemoPacs(archive[0], destinations={AE_TITLE: (HOST, port)}, faults=Faults(silent_levels=LEVELS)) as pacs,
        running_site(tmp_path, {"ABPACS": pacs.address}, port=port, pacs_keys={"response_timeout_s": 600}) as site,
    ):
        site.daemon.drop("unanswered", "ACC1\n@end\n")
        site.daemon.wait_status("unanswered", "retrieving")
        wait_for(lambda: pacs._state._connections, 30, "the archive to be asked")
        site.daemon.stop()
        status = site.daemon.status("unanswered")
        assert status is not None
        assert (status["state"], status["error"]) == ("queued", None)
