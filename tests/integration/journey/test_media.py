"""What a client may choose of the disc: medium, kinds of output, profile; and what the configuration adds. Judged by tools not ours."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom.data
import pytest
from pydicom import Dataset, dcmread, uid

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from tests.daemon import Status, running_daemon
from tests.integration.journey.site import AE_TITLE, Said, Site, make_config, run_command
from tests.media.objects import make_object, make_object_with_all_keys, receive_file, write_object
from tests.oracles import check_disc, check_sums, find_differences, read_objects
from tests.peers import require
from tests.processes import HOST, free_port

FILES = Path(pydicom.data.__file__).parent / "test_files"
MIB = 1 << 20
VIEWER = bytes(300_000)

# Accession number to the objects of one study; of a file of pydicom's the name.
STUDIES: dict[str, Callable[[], Sequence[Dataset | str]]] = {
    "LARGE": lambda: [make_large("LARGE", number, 500) for number in range(1, 16)],
    "TOO_LARGE": lambda: [make_large("TOO_LARGE", 1, 1200)],
    "IMPLICIT": lambda: [make_implicit(number) for number in (1, 2)] + [make_in_study("IMPLICIT", 3)],
    "JPEG": lambda: ["SC_rgb_jpeg_dcmtk.dcm"],
    "STUCK": lambda: ["693_J2KI.dcm"],
    "BAD": lambda: [make_unverified("BAD"), *(make_in_study("BAD", number) for number in range(1, 4))],
    "BAD_OF_MANY": lambda: [make_unverified("BAD_OF_MANY"), *(make_in_study("BAD_OF_MANY", n, series=n) for n in range(1, 201))],
}


def make_in_study(accession: str, number: int, *, series: int | None = None) -> Dataset:
    study_uid = f"1.2.826.0.1.3680043.8.498.2.{list(STUDIES).index(accession)}"
    ds = make_object(number=number, series=series or number % 3 + 1, study_uid=study_uid)
    ds.AccessionNumber = accession
    return ds


def make_large(accession: str, number: int, side: int) -> Dataset:
    ds = make_in_study(accession, number)
    ds.Rows, ds.Columns, ds.PixelData = side, side, bytes([number]) * side**2
    return ds


def make_implicit(number: int) -> Dataset:
    ds = make_in_study("IMPLICIT", number)
    ds.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
    return ds


def make_unverified(accession: str) -> Dataset:
    """A report that is verified, but nothing says when: no record can be made of it (PS3.3 F.5.22)."""
    ds = make_object_with_all_keys(uid.ComprehensiveSRStorage, 0)  # of the first series that is sent
    other = make_in_study(accession, 1)
    for keyword in ("AccessionNumber", "StudyInstanceUID"):
        setattr(ds, keyword, other.get(keyword))
    del ds.VerifyingObserverSequence
    return ds


def write_archive(folder: Path) -> None:
    folder.mkdir()
    for accession, make_objects in STUDIES.items():
        for number, made in enumerate(make_objects()):
            path = folder / f"{accession}-{number}.dcm"
            if isinstance(made, Dataset):
                write_object(made, path)
            else:
                receive_file(FILES / made, path)
                ds = dcmread(path)
                ds.AccessionNumber, ds.PatientName, ds.Modality = accession, "Doe^Jane", "OT"
                ds.save_as(path)


@dataclass(frozen=True)
class Ward:
    site: Site
    pacs: DemoPacs

    @contextmanager
    def told(self, faults: Faults) -> Iterator[None]:
        """The archive does this wrong for as long as the block lasts."""
        self.pacs.faults = faults
        try:
            yield
        finally:
            self.pacs.faults = Faults()


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    for tool in ("dcmdump", "gdcmconv"):  # the converters; DCMTK's come in one package with dcmdump
        require(tool)
    folder, port = tmp_path_factory.mktemp("media"), free_port()
    write_archive(folder / "archive")
    extras = folder / "extras"
    (extras / "VIEWER").mkdir(parents=True)
    (extras / "VIEWER/VIEW.EXE").write_bytes(VIEWER)
    with DemoPacs(folder / "archive", destinations={AE_TITLE: (HOST, port)}) as pacs:
        config = make_config(folder / "spool", port, {"ABPACS": pacs.address})
        media = f'[media]\ninstitution = "Klinik für Radiologie"\ncontact = "+49 30 1"\nextras = "{extras}"\n'
        with running_daemon(folder, config + media) as daemon:
            yield Ward(Site(daemon, folder / "spool", folder / "mkisod.toml", port), pacs)


def list_converted(status: Status) -> dict[str, tuple[str, str]]:
    """SOP Instance UID to transfer syntax before and after, as the status tells it."""
    lines = [line.partition(": from ") for line in status["result"]["conversions"]]
    return {sop_instance_uid: tuple(rest.split(" (")[0].split(" to ")) for sop_instance_uid, _, rest in lines}


def test_a_small_medium_makes_volumes_that_are_each_a_disc(ward: Ward, tmp_path: Path) -> None:
    status = ward.site.request("volumes", "@media 2", "@label WARD_7", "LARGE")
    volumes, result = status["result"]["volumes"], ward.site.result(status)
    assert len(volumes) > 2
    assert [volume["file_set_id"] for volume in volumes] == [f"WARD_7_{n}OF{len(volumes)}" for n in range(1, len(volumes) + 1)]
    found: list[str] = []
    for number, volume in enumerate(volumes, 1):
        tree, image = result / volume["directory"], result / volume["image"]
        check_disc(tree, tmp_path / str(number), image=image)
        assert image.stat().st_size == volume["size_bytes"] <= 2 * MIB
        assert f"{number} of {len(volumes)}" in (tree / "README.TXT").read_text(encoding="ascii")
        assert "Klinik für Radiologie" in (tree / "INDEX.HTM").read_text(encoding="utf-8")
        assert (tree / "VIEWER/VIEW.EXE").read_bytes() == VIEWER
        assert volume["profile"] == "STD-GEN-CD"
        objects = read_objects(tree)
        assert len(objects) == volume["instances"]
        found += objects
    assert sorted(found) == sorted(make_in_study("LARGE", number).SOPInstanceUID for number in range(1, 16))
    check_sums(result)


def test_an_archive_alone(ward: Ward, tmp_path: Path) -> None:
    status = ward.site.request("zip", "@output zip", "IMPLICIT")
    (volume,), result = status["result"]["volumes"], ward.site.result(status)
    assert (volume["directory"], volume["image"]) == (None, None)
    assert volume["size_bytes"] == (result / volume["archive"]).stat().st_size
    assert {path.name for path in result.iterdir()} == {volume["archive"], "SHA256SUMS", "result.json"}
    check_sums(result)
    with zipfile.ZipFile(result / volume["archive"]) as archive:
        archive.extractall(tmp_path / "tree")
    check_disc(tmp_path / "tree", tmp_path / "scratch")


def test_usb_has_a_directory_and_no_image(ward: Ward, tmp_path: Path) -> None:
    status = ward.site.request("usb", "@media usb", "JPEG")
    (volume,), result = status["result"]["volumes"], ward.site.result(status)
    assert (volume["image"], volume["archive"], volume["size_bytes"]) == (None, None, None)
    assert volume["profile"] == "STD-GEN-USB-JPEG"
    assert status["result"]["conversions"] == []
    tree = result / volume["directory"]
    check_disc(tree, tmp_path / "scratch", profile="STD-GEN-USB-JPEG", substituted=True)


@pytest.mark.parametrize(("accession", "converted"), [("IMPLICIT", 2), ("JPEG", 1)])
def test_a_profile_asked_for_by_name_is_met_by_conversion(ward: Ward, accession: str, converted: int, tmp_path: Path) -> None:
    status = ward.site.request(f"by-name-{accession}", "@profile STD-GEN-CD", accession)
    (volume,) = status["result"]["volumes"]
    tree = ward.site.result(status) / volume["directory"]
    assert volume["profile"] == "STD-GEN-CD"
    check_disc(tree, tmp_path / "scratch", image=tree.with_suffix(".ISO"), substituted=accession == "JPEG")
    sources = {path: dcmread(path) for path in ward.pacs.folder.glob(f"{accession}-*")}
    foreign = {path: ds for path, ds in sources.items() if ds.file_meta.TransferSyntaxUID != uid.ExplicitVRLittleEndian}
    assert len(foreign) == converted
    assert list_converted(status) == {
        ds.SOPInstanceUID: (ds.file_meta.TransferSyntaxUID, uid.ExplicitVRLittleEndian) for ds in foreign.values()
    }
    objects = read_objects(tree)
    if accession == "IMPLICIT":
        for path, ds in sources.items():
            differences = find_differences(path, objects[ds.SOPInstanceUID])
            assert [d for d in differences if not d.startswith(("transfer syntax", "(7FE0,0010) has VR"))] == []
            assert dcmread(objects[ds.SOPInstanceUID]).PixelData == ds.PixelData
    else:
        (line,) = status["result"]["conversions"]
        assert "compressed with loss" in line
        assert [dcmread(path).LossyImageCompression for path in objects.values()] == ["01"]
    assert "converted" in (tree / "README.TXT").read_text(encoding="ascii")


def test_as_received_converts_nothing_and_claims_no_profile(ward: Ward) -> None:
    status = ward.site.request("as-received", "@profile as-received", "IMPLICIT")
    (volume,) = status["result"]["volumes"]
    assert (volume["profile"], status["result"]["conversions"]) == (None, [])
    syntaxes = {
        str(dcmread(path).file_meta.TransferSyntaxUID) for path in read_objects(ward.site.result(status) / volume["directory"]).values()
    }
    assert syntaxes == {uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian}


def test_what_cannot_be_converted_is_published_as_received_under_auto(ward: Ward, tmp_path: Path) -> None:
    status = ward.site.request("stuck", "STUCK")
    (volume,) = status["result"]["volumes"]
    assert (volume["profile"], status["result"]["conversions"]) == (None, [])
    assert any("meets no media storage application profile" in warning for warning in status["result"]["warnings"])
    tree = ward.site.result(status) / volume["directory"]
    check_disc(tree, tmp_path / "scratch", image=tree.with_suffix(".ISO"), profile=None, substituted=True)
    ((placed,), (source,)) = read_objects(tree).values(), ward.pacs.folder.glob("STUCK-*")
    assert find_differences(source, placed) == []


def test_what_cannot_be_converted_is_nonconformant_under_a_profile_asked_for(ward: Ward) -> None:
    status = ward.site.request("stuck-by-name", "@profile STD-GEN-CD", "STUCK", states="failed")
    error = status["error"]
    assert (error["code"], error["transient"], status["result"]) == ("nonconformant", False, None)
    assert "STD-GEN-CD" in error["message"]
    assert "auto" in error["advice"]


@pytest.mark.parametrize("accession", ["BAD", "BAD_OF_MANY"])
def test_an_object_that_no_disc_can_hold_ends_the_request_while_others_still_come(ward: Ward, accession: str) -> None:
    """The archive stops after the first instances: only who reads what has come learns that the rest is not worth waiting for.

    Where there are many series it comes while they are still being listed.
    """
    with ward.told(Faults(stall_after=2)):
        status = ward.site.request(f"early-{accession}", accession, states="failed", deadline_s=30)
    assert status["error"]["code"] == "nonconformant"
    assert "Verification DateTime" in status["error"]["message"]
    assert 0 < status["progress"]["instances_received"] < status["progress"]["instances_expected"]


def test_one_object_larger_than_the_medium_is_refused(ward: Ward) -> None:
    status = ward.site.request("too-large", "@media 1", "TOO_LARGE", states="failed")
    assert status["error"]["code"] == "object_too_large"


def test_a_finished_result_is_verified_from_the_command_line(ward: Ward) -> None:
    status = ward.site.request("verified", "@output dir iso zip", "IMPLICIT")
    result = ward.site.result(status)
    (volume,) = status["result"]["volumes"]
    for path in (result, *(result / volume[kind] for kind in ("directory", "image", "archive"))):
        assert run_command("verify", path) == Said(0, f"{path} is good.\n", "")


def test_a_published_disc_is_wholly_assembled_and_a_refused_one_is_not(ward: Ward) -> None:
    assert ward.site.request("progress", "IMPLICIT")["progress"]["percent_assembled"] == 100
    refused = ward.site.request("no-progress", "@profile STD-GEN-CD", "STUCK", states="failed")
    assert refused["progress"]["percent_assembled"] != 100
