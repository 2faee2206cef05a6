"""What is in a study is asked while it is moved, and an archive that cannot do both at once is asked again when the move is over."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import WrittenSeries, write_series
from mkisod.pacs.pdu import A_RELEASE_RP
from tests.daemon import Status
from tests.integration.journey.site import AE_TITLE, Site, run_command, running_site
from tests.oracles import read_objects
from tests.processes import HOST, free_port, wait_for

INSTANCES = 6
KEYS = {"response_timeout_s": 2, "idle_timeout_s": 60, "first_arrival_s": 0.5, "grace_s": 0.2}


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
    with running_site(tmp_path, {"ABPACS": pacs.address}, port=port, pacs_keys=KEYS) as site:
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


# --- What a C-MOVE has counted -----------------------------------------------------------------------------------------------------

# Two instances are in no answer and in no number; the C-MOVE counts them, and does not send them.
HIDDEN = 2
COUNTED = INSTANCES


def hide(folder: tuple[Path, WrittenSeries], *silent: str) -> Faults:
    lost = frozenset(folder[1].sop_instance_uids[-HIDDEN:])
    return Faults(hidden_instances=HIDDEN, never_sent_uids=lost, silent_levels=frozenset(silent))  # type: ignore[arg-type]


def attempt(site: Site, pacs: DemoPacs, number: int, faults: Faults) -> Status:
    """One attempt at the request "t", to its end."""
    pacs.faults = faults
    if number == 1:
        site.daemon.drop("t", "ACC1\n@end\n")
    else:
        assert run_command("retry", "t", "--config", site.config_path).exit_code == 0

    def is_over() -> Status | None:
        status = site.daemon.status("t")
        return status if status and status["attempt"] >= number and status["state"] in {"done", "deferred", "failed"} else None

    return wait_for(is_over, 60, f"attempt {number}")


def check_incomplete(status: Status) -> None:
    assert (status["state"], status["error"]["code"]) == ("deferred", "incomplete"), status["error"]
    assert (status["progress"]["instances_received"], status["progress"]["instances_expected"]) == (COUNTED - HIDDEN, COUNTED)


@pytest.mark.parametrize("silent", [(), ("SERIES",)], ids=["listed", "not_listed"])
def test_what_a_move_has_counted_is_not_forgotten(
    site: Site, pacs: DemoPacs, folder: tuple[Path, WrittenSeries], silent: tuple[str, ...]
) -> None:
    """Also where the listing fails when the move is over: the next attempt lists fewer, has all of those, and moves nothing."""
    first = attempt(site, pacs, 1, hide(folder, *silent))
    assert first["error"]["code"] == ("timeout" if silent else "incomplete")
    check_incomplete(attempt(site, pacs, 2, hide(folder)))


def test_what_a_move_has_counted_outlives_an_attempt_that_does_not_get_to_list(
    site: Site, pacs: DemoPacs, folder: tuple[Path, WrittenSeries]
) -> None:
    check_incomplete(attempt(site, pacs, 1, hide(folder)))
    assert attempt(site, pacs, 2, hide(folder, "SERIES"))["error"]["code"] == "timeout"
    check_incomplete(attempt(site, pacs, 3, hide(folder)))


def test_what_a_move_has_counted_outlives_a_stop_while_it_is_listed(
    pacs: DemoPacs, folder: tuple[Path, WrittenSeries], port: int, tmp_path: Path
) -> None:
    keys = {"response_timeout_s": 600, "first_arrival_s": 0.5, "grace_s": 0.2}
    with running_site(tmp_path, {"ABPACS": pacs.address}, port=port, pacs_keys=keys) as site:
        pacs.faults = hide(folder, "SERIES")
        site.daemon.drop("t", "ACC1\n@end\n")
        wait_for(lambda: pacs.moves and pacs.moves[0].dimse_status is not None, 60, "the end of the move")
        wait_for(lambda: len(list((tmp_path / "spool" / "work").rglob("*.dcm"))) == COUNTED - HIDDEN, 60, "all that comes")
    pacs.faults = hide(folder)
    with running_site(tmp_path, {"ABPACS": pacs.address}, port=port, pacs_keys=keys) as site:
        check_incomplete(site.daemon.wait_status("t", ["deferred", "done"]))


def test_what_the_archive_counted_itself_is_not_what_a_move_counted(site: Site, pacs: DemoPacs) -> None:
    """An archive that has fewer later on is believed."""
    pacs.faults = Faults(silent_levels=frozenset({"SERIES"}), send_nothing=True)
    site.request("t", "ACC1", states="deferred")
    status = attempt(site, pacs, 2, Faults(late_instances=HIDDEN, late_until_moves=99))
    assert (status["state"], status["progress"]["instances_received"]) == ("done", INSTANCES - HIDDEN)
    assert status["result"]["warnings"] == []


# --- One association at a time -----------------------------------------------------------------------------------------------------


def test_an_archive_that_takes_one_association_at_a_time(pacs: DemoPacs, port: int, tmp_path: Path) -> None:
    """The C-MOVE has it; the listing is rejected, and asked for again when the move is over."""
    with narrow_door(pacs.address) as (address, seen), running_site(tmp_path, {"ABPACS": address}, port=port) as site:
        assert site.request("t", "ACC1", states=("done", "deferred"))["state"] == "done"
    assert seen[:3] == ["C-FIND", "C-MOVE", "rejected"]
    assert seen.count("C-MOVE") == 1


@contextmanager
def narrow_door(target: tuple[str, int]) -> Iterator[tuple[tuple[str, int], list[str]]]:
    """Passes one association on at a time. Another one is rejected: transient, local limit exceeded (PS3.8 9.3.4)."""
    seen: list[str] = []
    threads: list[threading.Thread] = []
    released = threading.Event()
    with socket.create_server((HOST, 0)) as door:

        def serve() -> None:
            current: threading.Thread | None = None
            while True:
                try:
                    connection, _ = door.accept()
                except OSError:
                    return
                request = connection.recv(65536)
                is_move = b"1.2.840.10008.5.1.4.1.2.2.2" in request
                if current is not None and (is_move or released.is_set()):  # behind one that has been released: that one is on its way out
                    current.join(10)
                if current is not None and current.is_alive():
                    seen.append("rejected")
                    connection.sendall(bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 2)))
                    connection.recv(1)
                    connection.close()
                    continue
                seen.append("C-MOVE" if is_move else "C-FIND")
                released.clear()
                current = threading.Thread(target=pass_on, args=(connection, request))
                threads.append(current)
                current.start()

        def pass_on(connection: socket.socket, request: bytes) -> None:
            with connection, socket.create_connection(target) as archive:
                archive.sendall(request)
                back = threading.Thread(target=pump, args=(archive, connection))
                back.start()
                pump(connection, archive)
                back.join()

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with suppress(OSError):
                while data := source.recv(65536):
                    if data[0] == A_RELEASE_RP:
                        released.set()
                    sink.sendall(data)
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        server = threading.Thread(target=serve)
        server.start()
        try:
            yield door.getsockname(), seen
        finally:
            door.shutdown(socket.SHUT_RDWR)
            server.join()
            for thread in threads:
                thread.join()


def test_a_study_that_is_counted_as_empty_is_listed_first(site: Site, pacs: DemoPacs) -> None:
    pacs.faults = Faults(empty_study=True)
    status = site.request("t", "ACC1", states=("failed", "deferred"))
    assert status["error"]["code"] == "accession_not_found"
    assert pacs.moves == []
