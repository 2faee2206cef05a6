"""Whole discs as a job orders them, judged by tools that are not ours."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest
from pydicom import dcmread, uid

from mkisod.errors import Code, Permanent
from mkisod.media.disc import ObjectIndex, build_disc
from mkisod.media.verify import verify_path
from mkisod.media.volumes import find_capacity
from tests.media.discs import ORDER, make_disc
from tests.media.objects import ROOT, make_object, make_object_with_all_keys, write_object
from tests.oracles import check_disc, check_sums
from tests.peers import require


@pytest.fixture
def objects(tmp_path: Path) -> list[Path]:
    made = [make_object(number=n, series=s, study_uid=f"{ROOT}.{u}") for u in (1, 2) for s in (1, 2) for n in (2, 1)]
    made.append(make_object_with_all_keys(uid.ComprehensiveSRStorage, 7))
    made.append(make_object_with_all_keys(uid.EncapsulatedPDFStorage, 8))
    folder = tmp_path / "objects"
    folder.mkdir()
    return [write_object(ds, folder / ds.SOPInstanceUID) for ds in made]


def test_every_tool_finds_a_disc_good(objects: list[Path], tmp_path: Path) -> None:
    result = tmp_path / "result"
    disc = make_disc(objects, result, output=frozenset({"dir", "iso", "zip"}))
    (volume,) = disc.volumes
    assert (volume.directory, volume.image, volume.archive) == ("TEST_1", "TEST_1.ISO", "TEST_1.ZIP")
    assert (volume.instances, volume.size_bytes) == (len(objects), (result / "TEST_1.ISO").stat().st_size)
    check_disc(result / "TEST_1", tmp_path / "scratch", image=result / "TEST_1.ISO")
    check_sums(result)
    assert f"{volume.sha256}  TEST_1.ISO\n" in (result / "SHA256SUMS").read_text()
    for name in ("TEST_1", "TEST_1.ISO", "TEST_1.ZIP"):
        assert verify_path(result / name) == ()


def test_objects_are_linked_and_never_altered(objects: list[Path], tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in objects}
    make_disc(objects, tmp_path / "result")
    placed = {path.stat().st_ino for path in (tmp_path / "result/TEST_1/DICOM").rglob("IN*")}
    assert placed == {path.stat().st_ino for path in objects}
    assert {path: path.read_bytes() for path in objects} == before


def test_what_was_not_asked_for_is_not_there(objects: list[Path], tmp_path: Path) -> None:
    disc = make_disc(objects, tmp_path / "result", output=frozenset({"zip"}))
    assert sorted(path.name for path in (tmp_path / "result").iterdir()) == ["SHA256SUMS", "TEST_1.ZIP"]
    assert disc.volumes[0].directory is None
    assert disc.volumes[0].size_bytes == (tmp_path / "result/TEST_1.ZIP").stat().st_size
    check_sums(tmp_path / "result")


def test_the_archive_is_stored_and_holds_the_tree(objects: list[Path], tmp_path: Path) -> None:
    make_disc(objects, tmp_path / "result", output=frozenset({"dir", "zip"}))
    tree = tmp_path / "result/TEST_1"
    with zipfile.ZipFile(tmp_path / "result/TEST_1.ZIP") as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {name: archive.read(name) for name in archive.namelist()} == {
            path.relative_to(tree).as_posix(): path.read_bytes() for path in tree.rglob("*") if path.is_file()
        }


def test_two_discs_of_the_same_objects_are_the_same_bytes(objects: list[Path], tmp_path: Path) -> None:
    for name, order in (("a", objects), ("b", objects[::-1])):
        make_disc(order, tmp_path / name, output=frozenset({"dir", "iso", "zip"}))
    assert (tmp_path / "a/SHA256SUMS").read_text() == (tmp_path / "b/SHA256SUMS").read_text()


def test_the_pages_are_valid_html_and_ascii(objects: list[Path], tmp_path: Path) -> None:
    make_disc(objects, tmp_path / "result", missing=("1.2.3",), disclaimer="Für Ärzte <&>")
    tree = tmp_path / "result/TEST_1"
    tidy = subprocess.run([require("tidy"), "-q", "-e", tree / "INDEX.HTM"], check=False, capture_output=True, timeout=30)
    assert (tidy.returncode, tidy.stderr.decode()) == (0, "")
    assert (tree / "README.TXT").read_bytes().isascii()


def make_large(folder: Path, count: int, size_bytes: int) -> list[Path]:
    folder.mkdir()
    paths = []
    for number in range(1, count + 1):
        ds = make_object(number=number, series=number % 3 + 1)
        ds.Rows, ds.Columns = size_bytes // 100 + 1, 100
        ds.PixelData = bytes(size_bytes)
        paths.append(write_object(ds, folder / str(number)))
    return paths


@pytest.mark.parametrize(("count", "size_bytes", "medium"), [(24, 300_000, "2"), (1500, 16, "2"), (700, 1700, "1")])
def test_volumes_fit_their_medium_and_each_is_a_disc(tmp_path: Path, count: int, size_bytes: int, medium: str) -> None:
    result = tmp_path / "result"
    disc = make_disc(make_large(tmp_path / "objects", count, size_bytes), result, medium=medium, file_set_id="LABEL")
    volumes = len(disc.volumes)
    assert volumes > 1
    assert sum(volume.instances for volume in disc.volumes) == count
    assert [volume.file_set_id for volume in disc.volumes] == [f"LABEL_{n}OF{volumes}" for n in range(1, volumes + 1)]
    uids = set()
    for number, volume in enumerate(disc.volumes, 1):
        tree, image = result / volume.file_set_id, result / f"{volume.file_set_id}.ISO"
        assert image.stat().st_size <= (find_capacity(medium) or 0)
        check_disc(tree, tmp_path / f"scratch-{number}", image=image)
        assert f"{number} of {volumes}" in (tree / "README.TXT").read_text()
        uids.add(dcmread(tree / "DICOMDIR").file_meta.MediaStorageSOPInstanceUID)
    assert len(uids) == volumes
    check_sums(result)


def test_extras_are_copied_to_each_volume_and_counted(tmp_path: Path) -> None:
    extras = tmp_path / "extras"
    (extras / "VIEWER").mkdir(parents=True)
    (extras / "VIEWER/VIEW.EXE").write_bytes(bytes(900_000))
    disc = make_disc(make_large(tmp_path / "objects", 6, 300_000), tmp_path / "result", medium="2", extras=extras)
    assert len(disc.volumes) == 3
    for volume in disc.volumes:
        tree = tmp_path / "result" / volume.file_set_id
        assert (tree / "VIEWER/VIEW.EXE").stat().st_size == 900_000
        assert 'href="VIEWER"' in (tree / "INDEX.HTM").read_text()
        assert verify_path(tree) == ()


@pytest.mark.parametrize("name", ["AUTORUN.INF", "DICOM", "readme.txt", "a long name.html"])
def test_extras_that_a_disc_cannot_have_are_refused(objects: list[Path], tmp_path: Path, name: str) -> None:
    extras = tmp_path / "extras"
    extras.mkdir()
    (extras / name).write_bytes(b"x")
    with pytest.raises(Permanent) as raised:
        make_disc(objects, tmp_path / "result", extras=extras)
    assert raised.value.code == Code.CONFIGURATION_INVALID
    assert name in raised.value.message


def test_an_object_larger_than_the_medium_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(Permanent) as raised:
        make_disc(make_large(tmp_path / "objects", 1, 2_000_000), tmp_path / "result", medium="1")
    assert raised.value.code == Code.OBJECT_TOO_LARGE
    assert list((tmp_path / "result").iterdir()) == []


def test_an_index_knows_objects_from_before_and_notices_a_change(objects: list[Path], tmp_path: Path) -> None:
    index = ObjectIndex()
    first = [index.describe(path) for path in objects]
    assert [index.describe(path) for path in objects] == first
    assert index.describe(objects[0]) is first[0]
    assert index.describe(objects[1]).patient is first[0].patient
    ds = dcmread(objects[0])
    ds.InstanceNumber = "77"
    ds.save_as(objects[0])
    (tmp_path / "result").mkdir()
    build_disc(ORDER, objects, tmp_path / "result", report_progress=lambda _done, _total: None, index=index)
    assert verify_path(tmp_path / "result/TEST_1") == ()
    assert b"77" in index.describe(objects[0]).leaf.values()


def test_progress_goes_up_to_the_whole(objects: list[Path], tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    (tmp_path / "result").mkdir()
    build_disc(ORDER, objects, tmp_path / "result", report_progress=lambda done, total: reported.append((done, total)))
    assert reported[-1][0] == reported[-1][1] > 0
    assert reported == sorted(reported)


def test_what_progress_raises_ends_the_work(objects: list[Path], tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(_done: int, _total: int) -> None:
        raise Interrupted

    (tmp_path / "result").mkdir()
    with pytest.raises(Interrupted):
        build_disc(ORDER, objects, tmp_path / "result", report_progress=interrupt)


@pytest.mark.parametrize("keyword", ["StudyID", "SeriesNumber", "Modality"])
def test_what_one_instance_lacks_another_one_has(tmp_path: Path, keyword: str) -> None:
    """The record follows the instance that says most. What that one lacks and the record needs, it takes from another."""
    first, second = make_object(number=1), make_object(number=2)
    delattr(second, keyword)
    del first.StudyDescription, first.AccessionNumber
    second.InstitutionName, second.SeriesDescription = "Clinic", "Axial"
    objects = [write_object(ds, tmp_path / ds.SOPInstanceUID) for ds in (first, second)]
    disc = make_disc(objects, tmp_path / "result", output=frozenset({"dir", "iso"}))
    (substitution,) = disc.substitutions
    assert (substitution.keyword, substitution.value) == (keyword, str(first[keyword].value))
    for name in ("TEST_1", "TEST_1.ISO"):
        assert verify_path(tmp_path / "result" / name) == ()


def test_an_archive_at_the_end_of_an_image_is_a_file_on_it(objects: list[Path], tmp_path: Path) -> None:
    """A ZIP archive is told by its last bytes, and those of an image are those of its last file."""
    extras = tmp_path / "extras"
    extras.mkdir()
    with zipfile.ZipFile(extras / "Z.ZIP", "w") as archive:
        archive.writestr("a", b"b")
    disc = make_disc(objects, tmp_path / "result", output=frozenset({"iso", "zip"}), extras=extras)
    assert disc.volumes[0].image is not None
    assert verify_path(tmp_path / "result/TEST_1.ISO") == ()
