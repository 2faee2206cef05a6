"""`@modality`: the series of these modalities, all of them, and nothing else, whatever the archive makes of what it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.phantom import write_phantom
from mkisod.demo.series import WrittenSeries, write_series
from tests.daemon import Status
from tests.integration.journey.site import AE_TITLE, NOT_DONE, Site, running_site
from tests.oracles import read_objects
from tests.peers import dcmqrscp, orthanc
from tests.processes import HOST, free_port

PACS_KEYS = {"first_arrival_s": 5, "grace_s": 0.5, "further_moves": 1}


@dataclass(frozen=True)
class Mixed:
    """Accession ACC1: 5 CT and 3 MR in one study; PHANTOM.CT.1: CT and a structured report; ACC2: MR alone."""

    site: Site
    pacs: DemoPacs | None  # where it is the demo PACS
    ct: WrittenSeries
    mr: WrittenSeries

    def on_disc(self, status: Status) -> set[str]:
        (volume,) = status["result"]["volumes"]
        return set(read_objects(self.site.result(status) / volume["directory"]))


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Mixed]:
    port = free_port()
    archive = folder / "archive"
    write_phantom(archive / "phantom", seed=1, ct_slices=3, mr_slices=2, rows=16, columns=16)
    ct = write_series(archive / "ct", accession="ACC1", count=5, rows=8, columns=8)
    mr = write_series(archive / "mr", accession="ACC1", count=3, rows=8, columns=8, modality="MR", series_number=2)
    write_series(archive / "other", accession="ACC2", count=2, rows=8, columns=8, modality="MR")
    files, destinations = sorted(archive.rglob("*.dcm")), {AE_TITLE: (HOST, port)}
    with ExitStack() as stack:
        pacs = None
        if kind == "demo":
            pacs = stack.enter_context(DemoPacs(archive, destinations=destinations))
            address = pacs.address
        else:
            start = dcmqrscp if kind == "dcmqrscp" else orthanc
            peer = stack.enter_context(start(folder / "peer", files, destinations=destinations))
            address = (peer.host, peer.port)
        site = stack.enter_context(running_site(folder, {"ABPACS": address}, port=port, pacs_keys=PACS_KEYS))
        yield Mixed(site, pacs, ct, mr)


@pytest.fixture(scope="module", params=["demo", "dcmqrscp", "orthanc"])
def mixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as archive:
        yield archive


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mixed, DemoPacs]]:
    """The one that can be told to do it wrong."""
    with running("demo", tmp_path_factory.mktemp("faulty")) as archive:
        assert archive.pacs is not None
        yield archive, archive.pacs


def test_series_of_one_modality(mixed: Mixed) -> None:
    status = mixed.site.request("ct", "@modality CT", "ACC1")
    assert mixed.on_disc(status) == set(mixed.ct.sop_instance_uids)
    ((study,),) = (accession["studies"] for accession in status["accessions"])
    assert (study["modalities"], study["instances_expected"], study["evidence"]) == (["CT"], 5, "instances")
    if mixed.pacs is not None:
        move = mixed.pacs.moves[-1]
        assert (move.level, set(move.keys)) == ("SERIES", {"QueryRetrieveLevel", "StudyInstanceUID", "SeriesInstanceUID"})


def test_series_of_several_modalities(mixed: Mixed) -> None:
    status = mixed.site.request("both", "@modality CT MR", "ACC1")
    assert mixed.on_disc(status) == {*mixed.ct.sop_instance_uids, *mixed.mr.sop_instance_uids}


def test_what_refers_to_the_images_is_asked_for_by_its_own_modality(mixed: Mixed) -> None:
    alone = mixed.site.request("alone", "@modality CT", "PHANTOM.CT.1")
    with_report = mixed.site.request("with-report", "@modality CT SR", "PHANTOM.CT.1")
    assert len(mixed.on_disc(with_report) - mixed.on_disc(alone)) == 1
    assert mixed.on_disc(alone) < mixed.on_disc(with_report)


def test_an_accession_number_without_such_a_series_selects_nothing(mixed: Mixed) -> None:
    status = mixed.site.request("nothing", "@modality CT", "@allow several-patients", "ACC1", "ACC2", states="failed")
    assert (status["error"]["code"], status["error"]["transient"]) == ("nothing_selected", False)
    assert [accession["error"] and accession["error"]["code"] for accession in status["accessions"]] == [None, "nothing_selected"]
    assert status["progress"]["instances_received"] == 0


def test_what_an_archive_sends_beside_the_series_is_dropped_and_hurts_nothing(demo: tuple[Mixed, DemoPacs]) -> None:
    mixed, pacs = demo
    before = len(pacs.moves)
    pacs.faults = Faults(whole_study=True)
    status = mixed.site.request("too-much", "@modality MR", "ACC1")
    early = Faults(whole_study=True, after_final=True, pause_s=0.02)
    pacs.faults = early
    answered_early = mixed.site.request("too-much-early", "@modality MR", "ACC1")
    pacs.faults = Faults()
    assert mixed.on_disc(answered_early) == set(mixed.mr.sop_instance_uids)
    assert (status["attempt"], answered_early["attempt"]) == (1, 1)
    assert mixed.on_disc(status) == set(mixed.mr.sop_instance_uids)
    ends = [(move.dimse_status, len(move.sent_uids)) for move in pacs.moves[before:]]
    assert ends == [(0, 8)] * 2, "it was answered with success, and so went on"


def test_by_counts_of_the_series_where_instances_are_not_listed(demo: tuple[Mixed, DemoPacs]) -> None:
    mixed, pacs = demo
    pacs.faults = Faults(refused_levels=frozenset({"IMAGE"}))
    status = mixed.site.request("counted", "@modality MR", "ACC1")
    assert mixed.on_disc(status) == set(mixed.mr.sop_instance_uids)
    pacs.faults = Faults(refused_levels=frozenset({"IMAGE"}), never_sent_uids=frozenset(mixed.mr.sop_instance_uids[:1]))
    lacking = mixed.site.request("counted-lacking", "@modality MR", "ACC1", states=NOT_DONE)
    pacs.faults = Faults()
    assert (lacking["error"]["code"], lacking["progress"]["instances_expected"]) == ("incomplete", 3)
    assert [study["evidence"] for status in (status, lacking) for study in status["accessions"][0]["studies"]] == ["counts"] * 2


def test_without_a_list_of_series_none_can_be_chosen(demo: tuple[Mixed, DemoPacs]) -> None:
    mixed, pacs = demo
    before = len(pacs.moves)
    pacs.faults = Faults(refused_levels=frozenset({"SERIES"}))
    status = mixed.site.request("no-series", "@modality MR", "ACC1", states=NOT_DONE)
    pacs.faults = Faults()
    assert (status["error"]["code"], len(pacs.moves)) == ("query_failed", before)
