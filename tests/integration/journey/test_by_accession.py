"""`query = "none"`: an archive that answers no C-FIND, and takes a C-MOVE by accession number. What it sends has to prove itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.objects import Patient
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import WrittenSeries, write_series
from tests.daemon import Status
from tests.integration.journey.site import AE_TITLE, NOT_DONE, Site, run_command, running_site
from tests.oracles import read_objects
from tests.peers import dcmqrscp, orthanc
from tests.processes import HOST, free_port, wait_for

JOHN = Patient(name="Doe^John", patient_id="ID1", issuer="", birth_date="19700101", sex="M")
ANNA = Patient(name="Smith^Anna", patient_id="ID2", issuer="", birth_date="19800202", sex="F")
SHORT = {"query": '"none"', "idle_timeout_s": 2, "first_arrival_s": 1, "grace_s": 0.3, "further_moves": 1, "max_moves": 4}
ANSWERS_NOTHING = Faults(find_status=0xC001)


@dataclass(frozen=True)
class Blind:
    site: Site
    pacs: DemoPacs | None
    series: dict[str, WrittenSeries]

    def on_disc(self, status: Status) -> set[str]:
        (volume,) = status["result"]["volumes"]
        return set(read_objects(self.site.result(status) / volume["directory"]))


def write_archive(folder: Path) -> dict[str, WrittenSeries]:
    """ACC1 and ACC2 are John's, ACC3 is Anna's; ACC4 is one number of two studies."""
    series = {
        accession: write_series(folder / accession, accession=accession, count=4, rows=8, columns=8, seed=seed, patient=patient)
        for accession, seed, patient in (("ACC1", 1, JOHN), ("ACC2", 2, JOHN), ("ACC3", 3, ANNA), ("ACC4", 4, JOHN))
    }
    series["ACC4b"] = write_series(folder / "4b", accession="ACC4", count=2, rows=8, columns=8, seed=5, study="another", patient=JOHN)
    return series


@pytest.fixture(scope="module", params=["demo", "dcmqrscp", "orthanc", "orthanc_asynchronous"])
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Blind]:
    """Those that take it: dcmqrscp unless it is told to check identifiers (-XM), and Orthanc."""
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    series = write_archive(folder / "archive")
    files, destinations = sorted((folder / "archive").rglob("*.dcm")), {AE_TITLE: (HOST, port)}
    with ExitStack() as stack:
        pacs = None
        if request.param == "demo":
            pacs = stack.enter_context(
                DemoPacs(folder / "archive", destinations=destinations, accession_moves=True, faults=ANSWERS_NOTHING)
            )
            address = pacs.address
        elif request.param == "dcmqrscp":
            peer = stack.enter_context(dcmqrscp(folder / "peer", files, destinations=destinations))
            address = (peer.host, peer.port)
        else:
            synchronous = request.param == "orthanc"
            peer = stack.enter_context(orthanc(folder / "peer", files, destinations=destinations, synchronous_move=synchronous))
            address = (peer.host, peer.port)
        keys = SHORT | ({} if pacs else {"first_arrival_s": 5, "grace_s": 10})
        yield Blind(stack.enter_context(running_site(folder, {"ABPACS": address}, port=port, pacs_keys=keys)), pacs, series)


@pytest.fixture
def blind(tmp_path: Path) -> Iterator[Blind]:
    port = free_port()
    series = write_archive(tmp_path / "archive")
    with (
        DemoPacs(tmp_path / "archive", destinations={AE_TITLE: (HOST, port)}, accession_moves=True, faults=ANSWERS_NOTHING) as pacs,
        running_site(tmp_path, {"ABPACS": pacs.address}, port=port, pacs_keys=SHORT) as site,
    ):
        yield Blind(site, pacs, series)


@pytest.mark.parametrize(
    ("accessions", "names"), [(["ACC1"], ["ACC1"]), (["ACC1", "ACC2"], ["ACC1", "ACC2"]), (["ACC4"], ["ACC4", "ACC4b"])]
)
def test_all_that_the_archive_has_of_an_accession_number(archive: Blind, accessions: list[str], names: list[str]) -> None:
    status = archive.site.request("-".join(accessions), "@patient ID1", *accessions)
    expected = {uid for name in names for uid in archive.series[name].sop_instance_uids}
    assert archive.on_disc(status) == expected
    studies = [study for accession in status["accessions"] for study in accession["studies"]]
    assert {study["study_instance_uid"] for study in studies} == {archive.series[name].study_instance_uid for name in names}
    assert {study["evidence"] for study in studies} == {"responses"}
    assert status["progress"]["instances_expected"] == len(expected)
    if archive.pacs is not None:
        assert archive.pacs.queries == [], "it was not asked"


def test_an_accession_number_that_is_not_there(archive: Blind) -> None:
    """Orthanc says C000H, as for anything else."""
    status = archive.site.request("nowhere", "NOWHERE", states=NOT_DONE)
    assert status["error"]["code"] in ({"accession_not_found"} if archive.pacs else {"accession_not_found", "move_failed"})


def test_two_patients_are_refused_although_nobody_could_be_asked_before(archive: Blind) -> None:
    status = archive.site.request("two-patients", "ACC1", "ACC3", states="failed")
    assert status["error"]["code"] == "patient_mismatch"
    assert not (archive.site.held(status) / "objects").exists()
    assert archive.site.request("stranger", "@patient ID1", "ACC3", states="failed")["error"]["code"] == "patient_mismatch"


def test_a_modality_cannot_be_chosen(archive: Blind) -> None:
    status = archive.site.request("modality", "@modality CT", "ACC1", states="failed")
    assert status["error"]["code"] == "not_supported"


@pytest.mark.parametrize("omit", [False, True])
def test_the_first_instance_of_another_accession_number_ends_it(blind: Blind, omit: bool) -> None:
    """An archive that ignores the key sends all that it has: it is cancelled, and nothing of the others is written."""
    assert blind.pacs is not None
    blind.pacs.faults = Faults(find_status=0xC001, ignore_accession=True, omit_move_originator=omit, pause_s=0.05)
    status = blind.site.request("foreign", "ACC1", states="failed")
    assert (status["error"]["code"], status["error"]["transient"]) == ("accession_mismatch", False)
    wait_for(lambda: blind.pacs and blind.pacs.moves, 10, "the end of the move")
    (move,) = blind.pacs.moves
    assert move.dimse_status == 0xFE00, "C-CANCEL"
    assert len(move.sent_uids) < 18
    assert not (blind.site.held(status) / "objects").exists()


def test_somebody_elses_study_in_between_ends_it(blind: Blind) -> None:
    assert blind.pacs is not None
    blind.pacs.faults = Faults(find_status=0xC001, foreign_study_uid=blind.series["ACC3"].study_instance_uid)
    assert blind.site.request("in-between", "ACC1", states="failed")["error"]["code"] == "accession_mismatch"


def test_without_a_move_originator_the_accession_number_tells(blind: Blind) -> None:
    assert blind.pacs is not None
    blind.pacs.faults = Faults(find_status=0xC001, omit_move_originator=True)
    assert blind.on_disc(blind.site.request("no-originator", "ACC1")) == set(blind.series["ACC1"].sop_instance_uids)


def test_what_its_counters_say_and_did_not_come_is_missing(blind: Blind) -> None:
    assert blind.pacs is not None
    lost = blind.series["ACC1"].sop_instance_uids[1]
    blind.pacs.faults = Faults(find_status=0xC001, never_sent_uids=frozenset({lost}))
    status = blind.site.request("lost", "ACC1", states=NOT_DONE)
    assert status["error"]["code"] == "incomplete"
    assert (status["progress"]["instances_expected"], status["progress"]["instances_received"]) == (4, 3)
    blind.pacs.faults = ANSWERS_NOTHING
    assert run_retry(blind.site, "lost")["progress"]["instances_received"] == 4


def run_retry(site: Site, ticket: str) -> Status:
    assert run_command("retry", "--config", site.config_path, ticket).exit_code == 0
    return site.daemon.wait_status(ticket, "done")


def test_one_job_at_a_time_and_none_waits_in_the_hands_of_a_worker(blind: Blind) -> None:
    """Whatever max_moves says: otherwise nothing but the Move Originator would tell whose an instance is."""
    assert blind.pacs is not None
    blind.pacs.faults = Faults(find_status=0xC001, stall_after=1)
    blind.site.daemon.drop("first", "ACC1\n@end\n")
    wait_for(lambda: (s := blind.site.daemon.status("first")) and s["progress"]["instances_received"], 30, "the first instance")
    blind.site.daemon.drop("second", "ACC3\n@end\n")
    blind.site.daemon.wait_status("second", "queued")
    blind.pacs.faults = ANSWERS_NOTHING
    for ticket, accession in (("first", "ACC1"), ("second", "ACC3")):
        assert blind.on_disc(blind.site.daemon.wait_status(ticket, "done")) == set(blind.series[accession].sop_instance_uids)
