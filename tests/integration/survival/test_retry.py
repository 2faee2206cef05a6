"""What may pass by itself is tried again, asks only for what is missing, and is given up in the end, with the reason and what to do."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import WrittenSeries
from tests.daemon import Daemon, Status
from tests.integration.survival.site import AE_TITLE, SOON_H, Site, check_disc_of, lines, make_site, told, wait_until, write_archive
from tests.processes import HOST, free_port, wait_for

ACCESSION, OTHER = "ACC1", "ACC2"
INSTANCES = 6


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_archive(folder, ACCESSION, OTHER, count=INSTANCES)
    return folder


@pytest.fixture
def series(tmp_path: Path) -> WrittenSeries:
    return write_archive(tmp_path / "same", ACCESSION, count=INSTANCES)[ACCESSION]


def drop_and_wait(daemon: Daemon, ticket: str, state: str, *words: str) -> Status:
    daemon.drop(ticket, lines(*words))
    return daemon.wait_status(ticket, state)


def test_a_request_waits_for_an_archive_that_does_not_run(archive: Path, port: int, tmp_path: Path) -> None:
    pacs_port = free_port()
    site = make_site(tmp_path, {"ABPACS": (HOST, pacs_port)}, port=port)
    with site.daemon() as daemon:
        status = drop_and_wait(daemon, "early", "deferred", ACCESSION)
        assert (status["finished"], status["error"]["code"], status["error"]["transient"]) == (False, "pacs_unreachable", True)
        assert datetime.fromisoformat(status["retry_at"]) >= datetime.fromisoformat(status["updated"])
        wait_until(daemon, "early", lambda status: status["attempt"] >= 3, "a third attempt")
        with DemoPacs(archive, port=pacs_port, destinations={AE_TITLE: (HOST, port)}):
            status = daemon.wait_status("early", "done")
        assert (status["error"], status["retry_at"]) == (None, None)
        assert status["attempt"] >= 3
        check_disc_of(site, status, archive, [ACCESSION])
        assert site.jobs("deferred") == site.jobs("queued") == site.jobs("held") == []


def is_deferred(attempt: int, status: Status) -> bool:
    return (status["attempt"], status["state"]) == (attempt, "deferred")


def test_the_delays_grow_to_their_maximum(port: int, tmp_path: Path) -> None:
    """Doubled every time, a quarter up or down; the operator makes the time pass. A status knows its seconds only."""
    site = make_site(tmp_path, {"ABPACS": (HOST, free_port())}, port=port, jobs={"retry_first_s": 600, "retry_max_s": 2000})
    with site.daemon() as daemon:
        daemon.drop("growing", lines(ACCESSION))
        for number, delay_s in enumerate([600, 1200, 2000, 2000], 1):
            status = wait_until(daemon, "growing", partial(is_deferred, number), f"attempt {number}")
            waits_s = (datetime.fromisoformat(status["retry_at"]) - datetime.fromisoformat(status["updated"])).total_seconds()
            assert 0.75 * delay_s - 1 <= waits_s <= 1.25 * delay_s + 1
            assert site.command("retry", "growing").exit_code == 0


def test_what_is_not_found_is_looked_for_at_its_times_then_failed_and_held(pacs: DemoPacs, port: int, tmp_path: Path) -> None:
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port, jobs={"not_found_retry_s": [0.2, 0.4]})
    with site.daemon() as daemon:
        status = drop_and_wait(daemon, "ordered", "failed", ACCESSION, "NOT.YET")
        assert (status["error"]["code"], status["error"]["transient"], status["attempt"]) == ("accession_not_found", False, 3)
        assert status["error"]["advice"]
        errors = {accession["accession"]: accession["error"] and accession["error"]["code"] for accession in status["accessions"]}
        assert errors == {ACCESSION: None, "NOT.YET": "accession_not_found"}
        assert site.jobs("held") == [status["job"]]
    assert len([query for query in pacs.queries if query.keys.get("AccessionNumber") == "NOT.YET"]) == 3
    assert pacs.moves == []


def test_what_is_archived_after_it_was_ordered_comes(archive: Path, port: int, tmp_path: Path) -> None:
    folder = tmp_path / "late"
    write_archive(folder, OTHER, count=INSTANCES)
    with DemoPacs(folder, destinations={AE_TITLE: (HOST, port)}) as pacs:
        site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port, jobs={"not_found_retry_s": [0.3] * 100})
        with site.daemon() as daemon:
            assert drop_and_wait(daemon, "ordered", "deferred", ACCESSION)["error"]["code"] == "accession_not_found"
            write_archive(folder, ACCESSION, count=INSTANCES)
            pacs.refresh()
            check_disc_of(site, daemon.wait_status("ordered", "done"), archive, [ACCESSION])


@pytest.mark.parametrize(
    ("jobs", "fault", "code"),
    [
        ({"give_up_after_h": SOON_H}, Faults(find_status=0xC001), "query_failed"),
        ({"give_up_after_h": 24, "incomplete_give_up_h": SOON_H}, Faults(send_nothing=True), "incomplete"),
        ({"give_up_after_h": 24}, Faults(availability="OFFLINE"), "study_unavailable"),
    ],
    ids=["given_up", "incomplete_given_up_sooner", "permanent_at_once"],
)
def test_what_does_not_pass_is_failed_and_held(
    pacs: DemoPacs, port: int, tmp_path: Path, *, jobs: dict[str, object], fault: Faults, code: str
) -> None:
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port, jobs=jobs)
    with site.daemon() as daemon, told(pacs, fault):
        status = drop_and_wait(daemon, "given-up", "failed", ACCESSION)
        assert (status["error"]["code"], status["retry_at"], status["result"]) == (code, None, None)
        assert status["error"]["message"]
        assert status["error"]["advice"]
        assert status["attempt"] == 1 or code != "study_unavailable"
        assert status["attempt"] > 1 or code != "incomplete"
        assert site.jobs("held") == [status["job"]]
        assert (site.spool / "work" / "held" / status["job"] / "objects").exists() is (code == "incomplete")


def test_a_retry_asks_only_for_what_is_missing(archive: Path, pacs: DemoPacs, series: WrittenSeries, port: int, tmp_path: Path) -> None:
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port)
    lost = frozenset(series.sop_instance_uids[2:4])
    with site.daemon() as daemon:
        with told(pacs, Faults(never_sent_uids=lost)):
            status = drop_and_wait(daemon, "twice", "deferred", ACCESSION)
            ((study,),) = (accession["studies"] for accession in status["accessions"])
            assert (status["error"]["code"], sorted(study["missing"])) == ("incomplete", sorted(lost))
        status = daemon.wait_status("twice", "done")
        check_disc_of(site, status, archive, [ACCESSION])
    sent = [uid for move in pacs.moves for uid in move.sent_uids]
    assert sorted(sent) == sorted(series.sop_instance_uids), "nothing was sent twice"
    whole, *further = pacs.moves
    assert whole.level == "STUDY"
    assert all(set(move.keys["SOPInstanceUID"].split("\\")) == lost for move in further)


def test_what_is_held_for_want_of_instances_is_kept_and_may_be_published(
    pacs: DemoPacs, series: WrittenSeries, port: int, tmp_path: Path
) -> None:
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port, jobs={"incomplete_give_up_h": SOON_H})
    lost = series.sop_instance_uids[4]
    with site.daemon() as daemon, told(pacs, Faults(never_sent_uids=frozenset({lost}))):
        status = drop_and_wait(daemon, "short", "failed", ACCESSION)
        assert (status["error"]["code"], status["attempt"] > 1) == ("incomplete", True)
        objects = site.spool / "work" / "held" / status["job"] / "objects"
        assert len(list(objects.iterdir())) == INSTANCES - 1
        sent = sum(len(move.sent_uids) for move in pacs.moves)
        site.control("short.publish", status["job"])
        status = wait_until(daemon, "short", lambda status: status["state"] == "partial", "the partial disc")
        check_partial(site, status, lost)
        wait_for(lambda: not (site.inbox / "short.publish").exists(), 30, "the control file to go")
        assert sum(len(move.sent_uids) for move in pacs.moves) == sent, "what was there is not asked for again"
        assert site.jobs("held") == []


@pytest.mark.parametrize("asked", ["beforehand", "while_deferred"])
def test_a_partial_disc_is_made_where_the_client_allows_it(
    pacs: DemoPacs, series: WrittenSeries, port: int, tmp_path: Path, asked: str
) -> None:
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port, jobs={"retry_first_s": 600, "retry_max_s": 600})
    lost = series.sop_instance_uids[0]
    with site.daemon() as daemon, told(pacs, Faults(never_sent_uids=frozenset({lost}))):
        if asked == "beforehand":
            status = drop_and_wait(daemon, "allowed", "partial", ACCESSION, "@allow partial")
            assert status["attempt"] == 1
            assert [move.level for move in pacs.moves] == ["STUDY", "IMAGE"], "every further move was tried first"
        else:
            drop_and_wait(daemon, "allowed", "deferred", ACCESSION)
            site.control("allowed.publish")
            status = daemon.wait_status("allowed", "partial")
        check_partial(site, status, lost)


def check_partial(site: Site, status: Status, lost: str) -> None:
    assert (status["error"]["code"], status["finished"]) == ("incomplete", True)
    ((study,),) = (accession["studies"] for accession in status["accessions"])
    assert study["missing"] == [lost]
    (volume,) = status["result"]["volumes"]
    assert volume["instances"] == INSTANCES - 1
    tree = site.spool / "outbox" / status["ticket"] / status["result"]["path"] / volume["directory"]
    assert lost in (tree / "README.TXT").read_text(encoding="ascii"), "what is missing is named on the disc"


def test_an_archive_that_does_not_run_leaves_nothing_to_publish(port: int, tmp_path: Path) -> None:
    """`@allow partial` is about instances that do not come from an archive that answers."""
    site = make_site(tmp_path, {"ABPACS": (HOST, free_port())}, port=port)
    with site.daemon() as daemon:
        assert drop_and_wait(daemon, "nobody", "deferred", ACCESSION, "@allow partial")["error"]["code"] == "pacs_unreachable"
