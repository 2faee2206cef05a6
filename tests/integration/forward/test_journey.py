"""`@forward` through the daemon: the disc first, then the destinations, whatever they do and whatever dies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread

from mkisod.demo.pacs import DemoPacs
from tests.daemon import Daemon, Status, running_daemon
from tests.forward import Connection, Stored, accepting, answer_with
from tests.integration.journey.site import make_config, run_command
from tests.oracles import check_sums, read_objects
from tests.peers import dicomdirtests, orthanc, storescp
from tests.processes import HOST, free_port, wait_for

ACCESSION, INSTANCES = "134", 4  # of pydicom's dicomdirtests


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoPacs]:
    folder = tmp_path_factory.mktemp("archive")
    for number, path in enumerate(dicomdirtests()):
        if dcmread(path, specific_tags=["AccessionNumber"]).AccessionNumber == ACCESSION:
            (folder / f"{number}.dcm").write_bytes(path.read_bytes())
    with DemoPacs(folder) as running:
        yield running


def configure(
    folder: Path, pacs: DemoPacs, destinations: dict[str, tuple[int, str]], *, retry_s: float = 0.2, give_up_h: float = 24
) -> str:
    port = free_port()
    pacs.add_destination("CDRECORD", HOST, port)
    tables = "".join(
        f'\n[forward.{name}]\nhost = "{HOST}"\nport = {number}\nae_title = "{title}"\nresponse_timeout_s = 20\n'
        for name, (number, title) in destinations.items()
    )
    config = make_config(folder / "spool", port, {"ABPACS": pacs.address})
    jobs = f"retry_first_s = {retry_s}\nretry_max_s = {retry_s}\ngive_up_after_h = {give_up_h}\n"
    return config.replace("[jobs]\n", f"[jobs]\n{jobs}") + tables


def request(daemon: Daemon, ticket: str, *lines: str) -> None:
    daemon.drop(ticket, "\n".join((ACCESSION, *lines, "@end")) + "\n")


def check_disc_stands(daemon: Daemon, status: Status) -> None:
    folder = daemon.outbox / status["ticket"] / status["result"]["path"]
    check_sums(folder)
    assert len(read_objects(folder / status["result"]["volumes"][0]["directory"])) == INSTANCES
    assert json.loads((folder / "result.json").read_bytes())["state"] == status["state"] or not status["finished"]


def list_jobs(spool: Path) -> list[Path]:
    """Every job that is not over."""
    return [path for place in ("active/main", "queued", "deferred", "held") for path in (spool / "work" / place).iterdir()]


@contextmanager
def site(folder: Path, pacs: DemoPacs, destinations: dict[str, tuple[int, str]], **rules: float) -> Iterator[Daemon]:
    with running_daemon(folder, configure(folder, pacs, destinations, **rules)) as daemon:
        yield daemon


def test_to_two_destinations(pacs: DemoPacs, tmp_path: Path) -> None:
    with ExitStack() as stack:
        one, other = stack.enter_context(storescp(tmp_path / "one")), stack.enter_context(orthanc(tmp_path / "other"))
        destinations = {"WORKSTATION": (one.port, one.ae_title), "ARCHIVE": (other.port, other.ae_title)}
        daemon = stack.enter_context(site(tmp_path, pacs, destinations))
        request(daemon, "t", "@forward WORKSTATION ARCHIVE")
        status = daemon.wait_status("t", "done")
        assert len(one.files()) == INSTANCES
        assert [(f["destination"], f["sent"], f["failed"]) for f in status["forward"]] == [
            ("WORKSTATION", INSTANCES, []),
            ("ARCHIVE", INSTANCES, []),
        ]
        check_disc_stands(daemon, status)
        wait_for(lambda: not list_jobs(tmp_path / "spool"), 10, "the job to be gone")


def test_the_disc_does_not_wait_for_a_destination_that_is_down(pacs: DemoPacs, tmp_path: Path) -> None:
    port = free_port()
    with site(tmp_path, pacs, {"WORKSTATION": (port, "STORESCP")}) as daemon:
        request(daemon, "t", "@forward WORKSTATION")

        def is_tried_again() -> Status | None:
            status = daemon.wait_status("t", "forwarding")
            return status if status["attempt"] > 1 and status["error"] else None

        status = wait_for(is_tried_again, 60, "another attempt")
        assert status["error"]["code"] == "forward_failed"
        assert "Connection refused" in status["error"]["message"]
        assert status["error"]["transient"]
        assert not status["finished"]
        check_disc_stands(daemon, status)
        request(daemon, "u")  # nobody else is held up
        daemon.wait_status("u", "done")
        with storescp(tmp_path / "peer", port=port) as peer:
            status = daemon.wait_status("t", "done")
            assert status["forward"][0]["sent"] == len(peer.files()) == INSTANCES
            assert status["error"] is None


def test_a_destination_that_stays_down_is_given_up(pacs: DemoPacs, tmp_path: Path) -> None:
    with site(tmp_path, pacs, {"WORKSTATION": (free_port(), "STORESCP")}, give_up_h=0.0003) as daemon:
        request(daemon, "t", "@forward WORKSTATION")
        status = daemon.wait_status("t", "partial")
        assert status["error"]["code"] == "forward_failed"
        assert not status["error"]["transient"]
        assert status["forward"][0]["sent"] == 0
        assert [failed["dimse_status"] for failed in status["forward"][0]["failed"]] == [None] * INSTANCES
        check_disc_stands(daemon, status)
        wait_for(lambda: not list_jobs(tmp_path / "spool"), 10, "the job to be gone")


def test_what_is_refused_for_good_is_not_tried_again(pacs: DemoPacs, tmp_path: Path) -> None:
    with accepting(answer_with(0, 0xC001, 0xB000, 0)) as acceptor, site(tmp_path, pacs, {"WORKSTATION": (acceptor.port, "X")}) as daemon:
        request(daemon, "t", "@forward WORKSTATION")
        status = daemon.wait_status("t", "partial")
        (forward,) = status["forward"]
        assert forward["sent"] == INSTANCES - 1
        assert forward["failed"] == [
            {"sop_instance_uid": acceptor.uids[1], "dimse_status": "C001", "reason": "the destination answered with DIMSE status C001H"}
        ]
        assert [(w["sop_instance_uid"], w["dimse_status"]) for w in forward["warnings"]] == [(acceptor.uids[2], "B000")]
        assert status["error"]["code"] == "forward_failed"
        assert f"1 of {INSTANCES} instances did not go to WORKSTATION" in status["error"]["message"]
        assert len(acceptor.stored) == INSTANCES
        check_disc_stands(daemon, status)


def test_only_what_failed_is_sent_again(pacs: DemoPacs, tmp_path: Path) -> None:
    with accepting(answer_with(0, 0xA700, 0)) as acceptor, site(tmp_path, pacs, {"WORKSTATION": (acceptor.port, "X")}) as daemon:
        request(daemon, "t", "@forward WORKSTATION")
        status = daemon.wait_status("t", "done")
    assert acceptor.uids == [*acceptor.uids[:INSTANCES], acceptor.uids[1]]
    assert len(set(acceptor.uids)) == INSTANCES
    assert status["attempt"] == 2


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_what_was_sent_before_the_daemon_died_is_not_sent_again(pacs: DemoPacs, tmp_path: Path, end: str) -> None:
    """The third instance is not answered; by then the first two are written down, since about a second has gone."""
    waits, goes = threading.Event(), threading.Event()
    answered: list[str] = []

    def answer(connection: Connection, stored: Stored) -> None:
        if len(answered) == 2 and not goes.is_set():
            waits.set()
            return
        if len(answered) == 1:
            slow.wait(1.2)
        answered.append(stored.sop_instance_uid)
        connection.respond(stored, 0)

    slow = threading.Event()
    with accepting(answer) as acceptor:
        destinations = {"WORKSTATION": (acceptor.port, "X")}
        with site(tmp_path, pacs, destinations) as daemon:
            request(daemon, "t", "@forward WORKSTATION")
            assert waits.wait(60)
            status = daemon.wait_status("t", "forwarding")
            assert status["forward"][0]["sent"] == 2
            daemon.kill() if end == "kill" else daemon.stop()
            goes.set()
        with site(tmp_path, pacs, destinations) as daemon:
            status = daemon.wait_status("t", "done")
            assert status["forward"][0]["sent"] == INSTANCES
            check_disc_stands(daemon, status)
    assert len(answered) == len(set(answered)) == INSTANCES


def test_cancelled_while_it_forwards(pacs: DemoPacs, tmp_path: Path) -> None:
    waits = threading.Event()

    def answer(connection: Connection, stored: Stored) -> None:
        if len(acceptor.stored) == 2:
            waits.set()
        else:
            connection.respond(stored, 0)

    with accepting(answer) as acceptor, site(tmp_path, pacs, {"WORKSTATION": (acceptor.port, "X")}) as daemon:
        request(daemon, "t", "@forward WORKSTATION")
        assert waits.wait(60)
        (daemon.inbox / "t.cancel").touch()
        status = daemon.wait_status("t", "partial")
        assert status["error"]["code"] == "cancelled"
        assert "disc is published" in status["error"]["message"]
        assert status["forward"][0]["sent"] == 1
        check_disc_stands(daemon, status)
        assert len(acceptor.aborts) == 1


def test_what_the_operator_sees_and_does_while_it_waits(pacs: DemoPacs, tmp_path: Path) -> None:
    with site(tmp_path, pacs, {"WORKSTATION": (free_port(), "X")}, retry_s=600) as daemon:
        request(daemon, "t", "@forward WORKSTATION")
        wait_for(lambda: daemon.wait_status("t", "forwarding")["retry_at"], 60, "a failed attempt")
        queue = json.loads(run_command("queue", "--json", "--config", tmp_path / "mkisod.toml").output)
        assert [(job["ticket"], job["state"], job["error"]) for job in queue["jobs"]] == [("t", "forwarding", "forward_failed")]
        said = run_command("retry", "t", "--config", tmp_path / "mkisod.toml")
        assert said.exit_code == 0, said
        wait_for(lambda: daemon.wait_status("t", "forwarding")["attempt"] == 2, 60, "another attempt")
        wait_for(lambda: daemon.wait_status("t", "forwarding")["retry_at"], 60, "a failed attempt")
        said = run_command("drop", "t", "--config", tmp_path / "mkisod.toml")
        assert "its disc stays" in said.output, said
        status = daemon.wait_status("t", "partial")
        check_disc_stands(daemon, status)


def test_a_discard_waits_until_it_is_over(pacs: DemoPacs, tmp_path: Path) -> None:
    port = free_port()
    with site(tmp_path, pacs, {"WORKSTATION": (port, "STORESCP")}) as daemon:
        request(daemon, "t", "@forward WORKSTATION")
        wait_for(lambda: daemon.wait_status("t", "forwarding")["error"], 60, "a failed attempt")
        (daemon.inbox / "t.discard").touch()
        with storescp(tmp_path / "peer", port=port) as peer:
            wait_for(lambda: daemon.wait_status("t", ("forwarding", "done"))["state"] == "done", 60, "the end")
            assert len(peer.files()) == INSTANCES
        wait_for(lambda: daemon.wait_status("t", "done")["result"] is None, 10, "the result to be discarded")


def test_a_conversion_is_reported(pacs: DemoPacs, tmp_path: Path) -> None:
    with storescp(tmp_path / "peer", options=["+xi"]) as peer, site(tmp_path, pacs, {"WORKSTATION": (peer.port, "STORESCP")}) as daemon:
        request(daemon, "t", "@forward WORKSTATION", "@output iso")
        status = daemon.wait_status("t", "done")
        (forward,) = status["forward"]
        assert forward["sent"] == len(forward["conversions"]) == len(peer.files()) == INSTANCES
        assert all(text.endswith(": from 1.2.840.10008.1.2.1 to 1.2.840.10008.1.2") for text in forward["conversions"])


def test_an_unknown_destination_is_refused_at_once(pacs: DemoPacs, tmp_path: Path) -> None:
    with site(tmp_path, pacs, {"WORKSTATION": (free_port(), "X")}) as daemon:
        request(daemon, "t", "@forward WORKSTATION ELSEWHERE")
        status = daemon.wait_status("t", "failed")
        assert status["error"]["code"] == "destination_unknown"
        assert "ELSEWHERE" in status["error"]["message"]
        assert "WORKSTATION" in status["error"]["message"]

