"""Where something runs out: the disk, the medium, the patience with a converter; and files of more than 4 GiB."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pydicom.data
import pytest
from attrs import evolve
from pydicom import uid

from mkisod.errors import Code, Permanent, Transient
from mkisod.media import convert
from mkisod.media.disc import build_disc
from mkisod.media.iso import list_files
from mkisod.media.iso_writer import write_image
from mkisod.media.source import open_source
from mkisod.media.verify import verify_path
from tests.integration.survival.conftest import MakeDisk, small_disk
from tests.media.discs import ORDER, make_disc
from tests.media.objects import make_object, receive_file, write_object
from tests.oracles import check_disc
from tests.peers import require

FILES = Path(pydicom.data.__file__).parent / "test_files"
MIB, GIB = 1 << 20, 1 << 30
OVER_4_GIB = 4 * GIB + 3 * MIB

__all__ = ["small_disk"]  # the fixture


def make_objects(folder: Path, count: int, size_bytes: int) -> list[Path]:
    folder.mkdir()
    paths = []
    for number in range(1, count + 1):
        ds = make_object(number=number)
        ds.Rows, ds.Columns, ds.PixelData = size_bytes // 1000, 1000, bytes([number]) * (size_bytes // 1000 * 1000)
        paths.append(write_object(ds, folder / str(number)))
    return paths


@pytest.mark.parametrize("left_kib", [0, 8, 1024, 4096])
@pytest.mark.parametrize("output", ["iso", "zip"])
def test_a_full_disk_is_said_to_be_full_and_hurts_no_object(small_disk: MakeDisk, left_kib: int, output: str) -> None:
    """At each step: the tree, the pages, the image; with room again the same order is carried out."""
    disk = small_disk(24)
    objects = make_objects(disk / "objects", 8, MIB)
    before = [path.read_bytes() for path in objects]
    order = evolve(ORDER, output=frozenset({output}))
    for name in ("result", "again"):
        (disk / name).mkdir()
    status = os.statvfs(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - left_kib * 1024)))
    with pytest.raises(Transient) as raised:
        build_disc(order, objects, disk / "result", report_progress=lambda _done, _total: None)
    assert raised.value.code == Code.DISK_FULL
    assert [path.read_bytes() for path in objects] == before
    ballast.unlink()
    shutil.rmtree(disk / "result")
    build_disc(order, objects, disk / "again", report_progress=lambda _done, _total: None)
    assert verify_path(disk / "again" / f"{ORDER.file_set_id}.{output.upper()}") == ()


def write_converter(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    folder.mkdir()
    (folder / "dcmdrle").write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    (folder / "dcmdrle").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


def test_a_converter_without_room_is_not_blamed_on_the_object(
    small_disk: MakeDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cleans up behind itself, so there is room for a disc as received, which `auto` would publish else."""
    write_converter(tmp_path / "bin", monkeypatch, 'echo "cannot write" >&2; exit 1')
    disk = small_disk(4)
    path = receive_file(FILES / "SC_rgb_rle.dcm", disk / "object")
    status = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(status.f_bavail * status.f_frsize - MIB // 2))
    with pytest.raises(Transient) as raised:
        make_disc([path], disk / "result", profile="auto")
    assert raised.value.code == Code.DISK_FULL


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exec sleep 600", "took longer than 1 s"),
        # Asks for more than it may have, once the limit holds.
        ("sleep 0.5; exec dd if=/dev/zero of=/dev/null bs=5G count=1", "memory exhausted"),
    ],
)
def test_a_converter_has_limits_of_time_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str) -> None:
    path = receive_file(FILES / "MR_small_RLE.dcm", tmp_path / "object")
    write_converter(tmp_path / "bin", monkeypatch, script)
    if "longer" in reason:
        monkeypatch.setattr(convert, "_TIME_LIMIT_S", 1)
    disc = make_disc([path], tmp_path / "result", profile="auto")
    assert disc.volumes[0].profile is None
    assert any(reason in warning for warning in disc.warnings), disc.warnings


def test_a_converter_that_gives_up_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = receive_file(FILES / "MR_small_RLE.dcm", tmp_path / "object")
    write_converter(tmp_path / "bin", monkeypatch, 'echo "no room" >&2; exit 1')
    disc = make_disc([path], tmp_path / "result", profile="auto")
    assert any("no room" in warning for warning in disc.warnings)
    assert verify_path(tmp_path / "result/TEST_1") == ()


def write_huge_object(path: Path) -> Path:
    """An object of more than 4 GiB, nearly all of it a hole: two fragments of encapsulated pixel data."""
    ds = make_object()
    ds.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    del ds.PixelData
    write_object(ds, path)
    fragment = OVER_4_GIB // 2
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(struct.pack("<HH2sHI HHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0))
        for number in (1, 2):
            file.write(struct.pack("<HHI", 0xFFFE, 0xE000, fragment))
            file.seek(fragment - 4, os.SEEK_CUR)
            file.write(struct.pack("<I", number))
        file.write(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
    return path


@pytest.mark.parametrize("medium", ["cd", "usb", "5000"])
def test_a_file_over_4_gib_is_refused_before_anything_is_written(tmp_path: Path, medium: str) -> None:
    path = write_huge_object(tmp_path / "object")
    with pytest.raises(Permanent) as raised:
        make_disc([path], tmp_path / "result", medium=medium, output=frozenset({"dir"}))
    assert raised.value.code == Code.OBJECT_TOO_LARGE
    assert list((tmp_path / "result").iterdir()) == []


@pytest.mark.soak
def test_a_disc_with_a_file_over_4_gib(tmp_path: Path) -> None:
    """ISO 9660 level 3 for a DVD, judged like any other disc; and an archive of ZIP64."""
    path = write_huge_object(tmp_path / "object")
    result = tmp_path / "result"
    disc = make_disc([path], result, medium="dvd", profile="auto", output=frozenset({"dir", "iso", "zip"}))
    assert disc.volumes[0].profile == "STD-GEN-DVD-JPEG"
    for name in ("TEST_1", "TEST_1.ISO", "TEST_1.ZIP"):
        assert verify_path(result / name) == ()
    extracted = tmp_path / "extracted"
    command: list[str | Path] = [require("xorriso"), "-osirrox", "on", "-indev", result / "TEST_1.ISO", "-extract", "/", extracted]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    placed = "DICOM/PT000001/ST000001/SE000001/IN000001"
    subprocess.run(["/usr/bin/cmp", extracted / placed, path], check=True, timeout=600)
    check_disc(result / "TEST_1", tmp_path / "scratch", profile="STD-GEN-DVD-JPEG")
    listed = subprocess.run([require("isoinfo"), "-l", "-i", result / "TEST_1.ISO"], check=True, capture_output=True, timeout=600)
    assert b"IN000001.;1" in listed.stdout
    shutil.rmtree(result)  # pytest keeps what tests leave, and this is three times 4 GiB
    shutil.rmtree(extracted)


def test_an_image_of_a_file_over_4_gib_has_it_in_two_extents(tmp_path: Path) -> None:
    (tmp_path / "DICOM").mkdir()
    path = write_huge_object(tmp_path / "DICOM" / "A")
    write_image(tmp_path / "image", "LARGE", tmp_path, ["DICOM/A"], ORDER.created)
    with (tmp_path / "image").open("rb") as image:
        (file,) = list_files(image)
    assert (file.size_bytes, len(file.extents)) == (path.stat().st_size, 2)
    with open_source(tmp_path / "image") as source, source.open("DICOM/A") as copy:
        copy.seek(-12, os.SEEK_END)
        assert copy.read(4) == struct.pack("<I", 2)
    (tmp_path / "image").unlink()  # pytest keeps what tests leave
