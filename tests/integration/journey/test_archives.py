"""Real instances out of real archives: what is on the disc is what the archive holds, and programs that are not ours find no fault with it.

The instances are pydicom's `dicomdirtests` and the phantom. An archive alters what it stores a little, so the measure is what DCMTK's
`storescp` gets of the same archive by `movescu`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread

from mkisod.demo.pacs import DemoPacs
from mkisod.demo.phantom import write_phantom
from tests.daemon import Status
from tests.integration.journey.site import AE_TITLE, Address, Site, running_site
from tests.oracles import check_disc, check_sums, find_differences, read_objects
from tests.peers import dcmqrscp, dicomdirtests, orthanc, require, storescp
from tests.processes import HOST, free_port

CITIZEN, DOE, PHANTOM = "12345678", "98890234", "PHANTOM1"


@dataclass(frozen=True)
class Held:
    """What an archive holds for one accession number, as `storescp` got it."""

    patient_ids: set[str]
    files: dict[str, Path]  # by SOP Instance UID


@dataclass(frozen=True)
class Archive:
    site: Site
    held: dict[str, Held]  # by accession number

    def files(self, *accessions: str) -> dict[str, Path]:
        return {uid: path for accession in accessions for uid, path in self.held[accession].files.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, seed=1, ct_slices=6, mr_slices=4, rows=32, columns=32)
    return [*dicomdirtests(), *sorted(folder.rglob("*.dcm"))]


@pytest.fixture(scope="module", params=["dcmqrscp", "orthanc", "orthanc_asynchronous", "demo"])
def archive(request: pytest.FixtureRequest, files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp(request.param)
    port = free_port()
    with ExitStack() as stack:
        reference = stack.enter_context(storescp(folder / "reference"))
        destinations = {AE_TITLE: (HOST, port), reference.ae_title: (HOST, reference.port)}
        if request.param == "dcmqrscp":
            peer = stack.enter_context(dcmqrscp(folder / "peer", files, destinations=destinations))
            address = (peer.host, peer.port)
        elif request.param == "demo":
            address = stack.enter_context(DemoPacs(_copy(files, folder / "peer"), destinations=destinations)).address
        else:
            synchronous = request.param == "orthanc"
            peer = stack.enter_context(orthanc(folder / "peer", files, destinations=destinations, synchronous_move=synchronous))
            address = (peer.host, peer.port)
        for uid in {str(dcmread(path, specific_tags=["StudyInstanceUID"]).StudyInstanceUID) for path in files}:
            _move_study(address, uid, reference.ae_title)
        reference.process.wait_ready(lambda: len(reference.files()) == len(files))
        site = stack.enter_context(running_site(folder, {"ABPACS": address}, port=port))
        yield Archive(site, _sort_by_accession(reference.files()))


def _copy(files: list[Path], folder: Path) -> Path:
    folder.mkdir()
    for number, path in enumerate(files):
        (folder / f"{number:04}.dcm").write_bytes(path.read_bytes())
    return folder


def _move_study(address: Address, study_instance_uid: str, destination: str) -> None:
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study_instance_uid}"]
    command = [require("movescu"), "-q", "-S", "-aec", "ABPACS", "-aem", destination, *keys, address[0], str(address[1])]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def _sort_by_accession(files: list[Path]) -> dict[str, Held]:
    held: dict[str, Held] = {}
    for path in files:
        instance = dcmread(path, stop_before_pixels=True)
        of = held.setdefault(str(instance.AccessionNumber), Held(set(), {}))
        of.patient_ids.add(str(instance.PatientID))
        of.files[str(instance.SOPInstanceUID)] = path
    return held


@pytest.mark.parametrize(
    ("accessions", "believed"),
    [
        (["1"], [f"@patient {CITIZEN}"]),
        (["134"], [f"@patient {DOE}"]),
        (["428"], []),
        (["134", "428"], [f"@patient {DOE}"]),  # two studies of one patient: one file-set
        (["PHANTOM.CT.1"], [f"@patient {PHANTOM}", "@birthdate 19700401"]),  # with a structured report
        (["PHANTOM.MR.1"], []),  # with an encapsulated PDF
    ],
    ids=["ct", "mr", "small_mr", "two_studies", "report", "document"],
)
def test_the_disc_holds_what_the_archive_holds(archive: Archive, accessions: list[str], believed: list[str], tmp_path: Path) -> None:
    status = archive.site.request("-".join(["disc", *accessions]), *believed, *accessions)
    held = archive.files(*accessions)

    assert status["progress"]["instances_expected"] == status["progress"]["instances_received"] == len(held)
    assert [accession["accession"] for accession in status["accessions"]] == accessions
    assert {study["evidence"] for accession in status["accessions"] for study in accession["studies"]} == {"instances"}
    (volume,) = status["result"]["volumes"]
    assert volume["instances"] == len(held)
    result = archive.site.result(status)
    tree, image = result / volume["directory"], result / volume["image"]
    assert {path.name for path in result.iterdir()} == {tree.name, image.name, "SHA256SUMS", "result.json"}
    assert {path.name for path in tree.iterdir()} == {"DICOMDIR", "README.TXT", "INDEX.HTM", "DICOM"}
    check_sums(result)
    check_disc(tree, tmp_path / "scratch", image=image, substituted=bool(status["result"]["substitutions"]))

    objects = read_objects(tree)
    assert objects.keys() == held.keys()
    differences = {uid: found for uid, path in objects.items() if (found := find_differences(path, held[uid]))}
    assert not differences


def test_both_phantom_studies_make_one_file_set_although_the_name_is_spelled_in_two_character_sets(archive: Archive) -> None:
    status = archive.site.request("phantom-whole", "PHANTOM.CT.1", "PHANTOM.MR.1", "@output dir")
    (volume,) = status["result"]["volumes"]
    assert (volume["image"], volume["sha256"], volume["size_bytes"]) == (None, None, None)
    objects = read_objects(archive.site.result(status) / volume["directory"])
    assert objects.keys() == archive.files("PHANTOM.CT.1", "PHANTOM.MR.1").keys()


def test_an_accession_of_two_patients_is_refused(archive: Archive) -> None:
    assert len(archive.held["2"].patient_ids) == 2, "the test files have changed"
    status = archive.site.request("two-patients", "2", states="failed")
    _check_mismatch(archive.site, status, instances=0)


@pytest.mark.parametrize(
    ("lines", "instances"),
    [
        (["@patient 12345678", "134"], 0),
        # The archive holds no birth date. Perhaps the instances do; then not even they say that this one is right.
        (["@birthdate 19700101", "134"], 4),
        (["@birthdate 19700402", "PHANTOM.CT.1"], 0),
        (["134", "1"], 0),
    ],
    ids=["patient", "unconfirmed_birth_date", "birth_date", "accessions_of_two_patients"],
)
def test_another_patient_than_the_client_believes_is_refused(
    archive: Archive, lines: list[str], instances: int, request: pytest.FixtureRequest
) -> None:
    ticket = "mismatch-" + request.node.callspec.id.split("-")[-1]
    _check_mismatch(archive.site, archive.site.request(ticket, *lines, states="failed"), instances)


def _check_mismatch(site: Site, status: Status, instances: int) -> None:
    """`instances`: how many are retrieved before it is known. Where the answers of the archive tell it, nothing is moved."""
    assert status["error"]["code"] == "patient_mismatch"
    assert status["progress"]["instances_received"] == instances
    assert not status["error"]["transient"]
    assert status["result"] is None
    assert [path.name for path in (site.daemon.outbox / status["ticket"]).iterdir()] == ["status.json"]
    assert not (site.held(status) / "objects").exists(), "what was received of the wrong patient is kept"


def test_several_patients_are_allowed_where_the_client_says_so(archive: Archive, tmp_path: Path) -> None:
    status = archive.site.request("several-patients", "@allow several-patients", "134", "1")
    held = archive.files("134", "1")
    trees = [archive.site.result(status) / volume["directory"] for volume in status["result"]["volumes"]]
    objects = {uid: path for tree in trees for uid, path in read_objects(tree).items()}
    assert objects.keys() == held.keys()
    for number, tree in enumerate(trees):
        check_disc(tree, tmp_path / str(number), substituted=bool(status["result"]["substitutions"]))
