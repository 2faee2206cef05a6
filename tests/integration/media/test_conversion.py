"""Conversions for a profile: of every file that pydicom ships, judged by a second decoder and by dcmmkdir; and converters that lie."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pydicom.data
import pytest
from pydicom import dcmread, uid
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder

from mkisod.errors import Code, Permanent
from mkisod.media.comparison import compare_conversion
from mkisod.media.elements import StructureDefect
from mkisod.media.header import read_header
from mkisod.media.records import describe_instance
from mkisod.media.verify import verify_path
from tests.media.directories import build_with_dcmmkdir
from tests.media.discs import make_disc
from tests.media.objects import make_object, receive_file, write_object
from tests.oracles import find_differences
from tests.peers import require

FILES = Path(pydicom.data.__file__).parent / "test_files"
PLACED = "result/TEST_1/DICOM/PT000001/ST000001/SE000001/IN000001"


def list_convertible() -> Iterator[Path]:
    """Those that a disc can take, and that are not in Explicit VR Little Endian."""
    for path in sorted(FILES.glob("*.dcm")):
        try:
            meta = dcmread(path, stop_before_pixels=True).file_meta
            describe_instance(read_header(path))
        except (pydicom.errors.InvalidDicomError, Permanent):
            continue
        if meta.TransferSyntaxUID != uid.ExplicitVRLittleEndian:
            yield path


# What the converters do to these is not what a converter may do.
FAILING = {
    "693_J2KI.dcm": r"\(0028,0101\) has another value",  # gdcmconv makes 16 of 14 bits stored
    "JPEG2000-embedded-sequence-delimiter.dcm": "gdcmconv ended with",
}


@pytest.fixture(autouse=True)
def converters() -> None:
    """Skips where they are not installed; DCMTK's come in one package with dcmdump."""
    for tool in ("dcmdump", "gdcmconv"):
        require(tool)


@pytest.mark.parametrize("source", list(list_convertible()), ids=lambda path: path.name)
def test_each_file_meets_the_profile_or_is_as_received(source: Path, tmp_path: Path) -> None:
    path = receive_file(source, tmp_path / "object")
    disc = make_disc([path], tmp_path / "result", profile="auto")
    placed = tmp_path / PLACED
    tree = tmp_path / "result/TEST_1"
    assert verify_path(tree) == ()
    assert not (tmp_path / "result/.converted").exists()
    if source.name in FAILING:
        assert (disc.volumes[0].profile, disc.conversions) == (None, ())
        assert placed.read_bytes() == path.read_bytes()
        assert any(re.search(FAILING[source.name], warning) for warning in disc.warnings)
        with pytest.raises(Permanent, match=FAILING[source.name]) as raised:
            make_disc([path], tmp_path / "again", profile="STD-GEN-CD")
        assert raised.value.code == Code.NONCONFORMANT
        return
    assert disc.volumes[0].profile == "STD-GEN-CD"
    (conversion,) = disc.conversions
    before, after = dcmread(path, stop_before_pixels=True), dcmread(placed)
    assert conversion.from_transfer_syntax_uid == before.file_meta.TransferSyntaxUID
    assert after.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    if conversion.was_lossy:
        assert after.LossyImageCompression == "01"
    # dcmmkdir invents neither a name nor a modality, and does not read rtdose_rle, whose known attributes have VR UN.
    if "PatientName" in before and "Modality" in before and not source.name.startswith("rtdose_rle"):
        build_with_dcmmkdir(tree, tmp_path / "DICOMDIR", "-Pgp", "+I")
    assert b"converted without loss" in (tree / "README.TXT").read_bytes()
    compare_with_second_decoder(path, after, tmp_path)


def decode_rle(path: Path, after: pydicom.Dataset, _folder: Path) -> bytes:
    """By pydicom's own decoder, which needs no other library. It gives planes."""
    frames = get_decoder(uid.RLELossless).iter_buffer(dcmread(path), raw=True)
    return _interleave(b"".join(bytes(frame) for frame, _ in frames), after)


def decode_with_gdcm(path: Path, _after: pydicom.Dataset, folder: Path) -> bytes:
    subprocess.run([require("gdcmconv"), "--raw", path, folder / "second"], check=True, timeout=60)
    return bytes(dcmread(folder / "second").PixelData)


def decode_with_openjpeg(path: Path, after: pydicom.Dataset, folder: Path) -> bytes:
    """By the program of OpenJPEG, without anything of GDCM around it. It gives planes."""
    ds, frames = dcmread(path), b""
    for number, frame in enumerate(generate_frames(ds.PixelData, number_of_frames=int(ds.get("NumberOfFrames") or 1))):
        source = folder / f"{number}.{'jp2' if frame[4:8] == b'jP  ' else 'j2k'}"
        source.write_bytes(frame)
        target = folder / f"{number}.rawl"
        subprocess.run([require("opj_decompress"), "-i", source, "-o", target], check=True, capture_output=True, timeout=60)
        frames += _interleave(target.read_bytes(), after)
    return frames


def _interleave(planes: bytes, after: pydicom.Dataset) -> bytes:
    """Planes, frame after frame, as the samples of one pixel after the other, where the object has them so."""
    samples, width = after.SamplesPerPixel, after.BitsAllocated // 8
    if samples == 1 or after.PlanarConfiguration == 1:
        return planes
    size = after.Rows * after.Columns * width  # of a plane
    frames = b""
    for start in range(0, len(planes), samples * size):
        frame = bytearray(samples * size)
        for sample in range(samples):
            plane = planes[start + sample * size : start + (sample + 1) * size]
            for place in range(width):
                frame[sample * width + place :: samples * width] = plane[place::width]
        frames += frame
    return frames


# A second opinion on pixels: who else decodes what.
_SECOND_DECODERS: Mapping[str, Callable[[Path, pydicom.Dataset, Path], bytes]] = {
    uid.RLELossless: decode_rle,
    **dict.fromkeys((uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless), decode_with_gdcm),
    **dict.fromkeys((uid.JPEG2000Lossless, uid.JPEG2000), decode_with_openjpeg),
}


def compare_with_second_decoder(path: Path, after: pydicom.Dataset, folder: Path) -> None:
    syntax = dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
    if (decode := _SECOND_DECODERS.get(syntax)) is not None:
        assert decode(path, after, folder).rstrip(b"\0") == after.PixelData.rstrip(b"\0")


@pytest.mark.parametrize("name", ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless"])
def test_one_object_in_six_encodings_comes_out_the_same(name: str, tmp_path: Path) -> None:
    path = receive_file(FILES / f"MR_small_{name}.dcm", tmp_path / "object")
    make_disc([path], tmp_path / "result", profile="auto")
    assert dcmread(tmp_path / PLACED).PixelData == dcmread(FILES / "MR_small.dcm").PixelData
    differences = find_differences(FILES / "MR_small.dcm", tmp_path / PLACED)
    allowed = ("(0008,0018)", "(0028,0004)", "(0028,2110)", "(0028,2112)", "(0028,2114)")
    # pydicom's files were made by several programs, which left their own marks; what matters is that conversion adds none.
    marks = find_differences_of_source(FILES / f"MR_small_{name}.dcm")
    assert [d for d in differences if not d.startswith(allowed) and d not in marks] == []


def find_differences_of_source(path: Path) -> list[str]:
    return [difference for difference in find_differences(FILES / "MR_small.dcm", path) if not difference.startswith("(7FE0")]


@pytest.mark.parametrize(
    ("medium", "name", "profile", "option"),
    [
        ("dvd", "SC_rgb_jpeg_dcmtk.dcm", "STD-GEN-DVD-JPEG", "-Pdv"),
        ("dvd", "MR_small_jp2klossless.dcm", "STD-GEN-DVD-J2K", "-Pd2"),
        ("usb", "SC_rgb_jpeg_dcmtk.dcm", "STD-GEN-USB-JPEG", "-Pfl"),
        ("usb", "MR_small_jp2klossless.dcm", "STD-GEN-USB-J2K", "-Pf2"),
    ],
)
def test_what_a_profile_allows_is_left_as_it_is(medium: str, name: str, profile: str, option: str, tmp_path: Path) -> None:
    path = receive_file(FILES / name, tmp_path / "object")
    disc = make_disc([path], tmp_path / "result", profile="auto", medium=medium)
    assert (disc.volumes[0].profile, disc.conversions) == (profile, ())
    assert (tmp_path / PLACED).samefile(path)
    build_with_dcmmkdir(tmp_path / "result/TEST_1", tmp_path / "DICOMDIR", option, "+I")


def test_as_received_converts_nothing(tmp_path: Path) -> None:
    path = receive_file(FILES / "MR_small_RLE.dcm", tmp_path / "object")
    disc = make_disc([path], tmp_path / "result", profile="as-received")
    assert (disc.volumes[0].profile, disc.conversions, disc.warnings) == (None, (), ())
    assert (tmp_path / PLACED).samefile(path)


def test_without_converters_the_objects_stay_as_received(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = receive_file(FILES / "MR_small_RLE.dcm", tmp_path / "object")
    monkeypatch.setenv("PATH", str(tmp_path))
    disc = make_disc([path], tmp_path / "result", profile="auto")
    assert disc.volumes[0].profile is None
    assert any("cannot be converted from RLE Lossless" in warning for warning in disc.warnings)
    with pytest.raises(Permanent, match="STD-GEN-CD cannot be met"):
        make_disc([path], tmp_path / "again", profile="STD-GEN-CD")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 0", "wrote nothing"),
        ('echo nonsense > "$3"', "cannot be read"),
        ("exit 3", "ended with 3"),
        ('cp "$2" "$3"', "another transfer syntax"),
        ('cp "$OTHER" "$3"', "changed the SOP Instance UID"),
    ],
)
def test_a_converter_that_lies_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str) -> None:
    path = receive_file(FILES / "MR_small_RLE.dcm", tmp_path / "object")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "dcmdrle").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "dcmdrle").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    monkeypatch.setenv("OTHER", str(write_object(make_object(), tmp_path / "other")))
    disc = make_disc([path], tmp_path / "result", profile="auto")
    assert disc.volumes[0].profile is None
    assert any(reason in warning for warning in disc.warnings), disc.warnings
    assert (tmp_path / PLACED).samefile(path)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """An object in Implicit VR and its true conversion."""
    ds = make_object()
    source = tmp_path / "source"
    ds.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
    write_object(ds, source)
    target = tmp_path / "target"
    subprocess.run([shutil.which("dcmconv") or "", "+te", source, target], check=True, timeout=60)
    return source, target


def test_a_true_conversion_passes(pair: tuple[Path, Path]) -> None:
    assert compare_conversion(*pair) is False


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"M\xfcller", b"M\xfcLler", "has another value"),
        (bytes(range(16)), bytes(16), "pixel data changed"),
        (b"\x28\0\x10\0US\x02\0\x04\0", b"\x28\0\x10\0US\x02\0\x05\0", "has another value"),
        (b"\x08\0\x50\0SH", b"\x08\0\x51\0SH", "was dropped"),
    ],
)
def test_every_difference_is_found(pair: tuple[Path, Path], old: bytes, new: bytes, reason: str) -> None:
    source, target = pair
    data = target.read_bytes()
    assert data.count(old) == 1
    target.write_bytes(data.replace(old, new))
    with pytest.raises(StructureDefect, match=reason):
        compare_conversion(source, target)


def test_several_are_converted_and_the_rest_is_linked(tmp_path: Path) -> None:
    paths = []
    for number in range(1, 9):
        ds = make_object(number=number)
        if number % 2:
            ds.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
        paths.append(write_object(ds, tmp_path / str(number)))
    disc = make_disc(paths, tmp_path / "result", profile="STD-GEN-CD")
    assert sorted(c.sop_instance_uid for c in disc.conversions) == sorted(make_object(number=n).SOPInstanceUID for n in (1, 3, 5, 7))
    folder = (tmp_path / PLACED).parent
    assert [(folder / f"IN{n:06d}").samefile(paths[n - 1]) for n in range(1, 9)] == [False, True] * 4
