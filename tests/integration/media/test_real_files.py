"""Every file that pydicom ships and a peer could send: alone and together, in each transfer syntax, with names in many scripts."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pydicom.data
import pytest
from pydicom import dcmread, uid
from pydicom.dataset import Dataset

from mkisod.errors import Code, Permanent
from mkisod.media.consistency import sort_out
from mkisod.media.disc import Disc
from mkisod.media.header import read_header
from mkisod.media.records import describe_instance
from mkisod.media.verify import verify_path
from tests.media.directories import build_with_dcmmkdir, compare_records, list_records
from tests.media.discs import make_disc
from tests.media.objects import make_object, receive_file, write_object
from tests.oracles import check_entities, check_image, check_pages, check_readers, read_objects
from tests.peers import require

DATA = Path(pydicom.data.__file__).parent


def is_part_10(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


FILES = sorted(path for path in DATA.rglob("*") if path.is_file() and not path.name.startswith("DICOMDIR") and is_part_10(path))

# No peer could send these: they do not say what they are.
NOT_TO_BE_SENT = {
    "UN_sequence.dcm",
    "chrSQEncoding.dcm",
    "chrSQEncoding1.dcm",
    "empty_charset_LEI.dcm",
    "meta_missing_tsyntax.dcm",
    "nested_priv_SQ.dcm",
    "no_meta_group_length.dcm",
    "priv_SQ.dcm",
}

# What makes these no objects of a disc.
REFUSED = {
    "JPEGLSNearLossless_08.dcm": "no Study Instance UID",
    "JPEGLSNearLossless_16.dcm": "no Study Instance UID",
    "MR_truncated.dcm": "damaged",
    "SC_rgb_jls_lossy_line.dcm": "no Study Instance UID",
    "SC_rgb_jls_lossy_sample.dcm": "no Study Instance UID",
    "SC_rgb_jpeg.dcm": "damaged",
    "rtplan_truncated.dcm": "damaged",
}

# dciodvfy speaks of the values themselves, which pass through as they are in the object.
_ABOUT_VALUES = re.compile(
    r"BasicDirectory|Warning - (Attribute is not present in standard DICOM IOD - .*|Dicom dataset contains attributes not present .*"
    r"|Value dubious for this VR - .* Retired Person Name form|Unrecognized defined term <TEST> .*)"
)
# A date as ACR-NEMA wrote it; a title that a single group of a name has.
_ABOUT_OLD_DATES = re.compile(r"Error - (Value invalid for this VR - .*(Date|Time) .*|Dicom dataset contains invalid data values .*)")

DOCUMENTED = {
    "SERIES SeriesDescription: only in ours",
    "SERIES SpecificCharacterSet: only in ours",
    "IMAGE SpecificCharacterSet: only in ours",
}

# dcmmkdir cannot take these: it invents no Modality and no PatientName, wants pixel data in a form of its own, or wants Rows in images.
REFUSED_BY_DCMMKDIR = re.compile(r"GDCMJ2K_TextGBR|SC_jpeg_no_color_transform|SC_rgb_jpeg_app14|rtdose_rle|IM0000")

# dcentvfy cannot take these: it aborts on some VRs, does not inflate, and winter.dcm has one element twice.
REFUSED_BY_DCENTVFY = {
    *("badVR.dcm", "rtdose.dcm", "rtdose_1frame.dcm", "rtdose_expb.dcm", "rtdose_expb_1frame.dcm"),
    *("image_dfl.dcm", "winter.dcm"),
}


@pytest.fixture(params=FILES, ids=lambda path: str(path.relative_to(DATA)))
def source(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def check_records(tree: Path) -> None:
    """dciodvfy and dcdirdmp."""
    done = subprocess.run([require("dciodvfy"), tree / "DICOMDIR"], check=False, capture_output=True, timeout=60)
    said = [line.strip() for line in (done.stdout + done.stderr).decode("latin-1").splitlines()]
    strange = [line for line in said if line and not _ABOUT_VALUES.fullmatch(line)]
    assert all(_ABOUT_OLD_DATES.fullmatch(line) for line in strange), strange
    assert subprocess.run([require("dcdirdmp"), tree / "DICOMDIR"], check=False, capture_output=True, timeout=60).returncode == 0


def test_each_file_alone_makes_a_good_disc_or_is_refused_with_a_reason(source: Path, tmp_path: Path) -> None:
    if source.name in NOT_TO_BE_SENT:
        with pytest.raises(ValueError, match="cannot be sent"):
            receive_file(source, tmp_path / "object")
        return
    path = receive_file(source, tmp_path / "object")
    if source.name in REFUSED:
        with pytest.raises(Permanent, match=REFUSED[source.name]) as raised:
            make_disc([path], tmp_path / "result")
        assert raised.value.code == Code.NONCONFORMANT
        return
    disc = make_disc([path], tmp_path / "result")
    tree = tmp_path / "result" / "TEST_1"
    assert verify_path(tree) == ()
    check_records(tree)
    (placed,) = [file for file in (tree / "DICOM").rglob("*") if file.is_file()]
    assert placed.samefile(path)
    objects = read_objects(tree)
    check_readers(tree, objects)
    check_pages(tree)
    if source.name not in REFUSED_BY_DCENTVFY:
        check_entities(objects.values(), make_folder(tmp_path / "scratch"))
    if not REFUSED_BY_DCMMKDIR.search(source.name):
        compare_with_dcmmkdir(disc, tree, tmp_path / "DICOMDIR")


def compare_with_dcmmkdir(disc: Disc, tree: Path, dicomdir: Path) -> None:
    theirs = build_with_dcmmkdir(tree, dicomdir, "-Pdv", "+I", "-Nxc", "-Nec", "-Nrc")
    substituted = {f"{s.record_type} {s.keyword}" for s in disc.substitutions}
    differences = {d for d in compare_records(dcmread(tree / "DICOMDIR"), theirs) if d.split(":")[0] not in substituted}
    assert differences <= DOCUMENTED


def test_dcmmkdir_refuses_what_it_is_said_to_refuse(source: Path, tmp_path: Path) -> None:
    if not REFUSED_BY_DCMMKDIR.search(source.name):
        return
    make_disc([receive_file(source, tmp_path / "object")], tmp_path / "result")
    with pytest.raises(AssertionError, match="exit status 1"):
        build_with_dcmmkdir(tmp_path / "result" / "TEST_1", tmp_path / "DICOMDIR", "-Pdv", "+I", "-Nxc", "-Nec", "-Nrc")


def test_dcentvfy_refuses_what_it_is_said_to_refuse(source: Path, tmp_path: Path) -> None:
    if source.name in REFUSED_BY_DCENTVFY:
        with pytest.raises(pytest.fail.Exception, match="dcentvfy ended with"):
            check_entities([receive_file(source, tmp_path / "object")], make_folder(tmp_path / "scratch"))


def receive_all(folder: Path) -> list[Path]:
    """All of the files that make a disc together: of those that clash with one before, the first."""
    paths: list[Path] = []
    for number, source in enumerate(FILES):
        if source.name in NOT_TO_BE_SENT | set(REFUSED):
            continue
        path = receive_file(source, folder / f"{number:03d}")
        try:
            sort_out(
                [describe_instance(read_header(p)) for p in (*paths, path)],
                allow_several_patients=True,
                have_same_content=lambda _a, _b: False,
            )
        except Permanent:
            continue
        paths.append(path)
    return paths


def test_all_files_together_make_good_discs(tmp_path: Path) -> None:
    paths = receive_all(tmp_path)
    assert len(paths) > 120
    disc = make_disc(paths, tmp_path / "result", allow_several_patients=True, medium="usb")
    assert sum(volume.instances for volume in disc.volumes) == len(paths)
    for volume in disc.volumes:
        tree = tmp_path / "result" / volume.file_set_id
        assert verify_path(tree) == ()
        check_records(tree)
        check_image(tree.with_suffix(".ISO"), tree, make_folder(tmp_path / f"scratch-{volume.file_set_id}"))
        objects = read_objects(tree)
        assert len(objects) == volume.instances
        check_readers(tree, objects)
        check_pages(tree)


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


SYNTAXES = [*uid.AllTransferSyntaxes]


@pytest.mark.parametrize("transfer_syntax_uid", SYNTAXES, ids=str)
def test_each_transfer_syntax_is_named_by_its_record(transfer_syntax_uid: str, tmp_path: Path) -> None:
    ds = make_object()
    ds.file_meta.TransferSyntaxUID = uid.UID(transfer_syntax_uid)
    if ds.file_meta.TransferSyntaxUID.is_compressed and not ds.file_meta.TransferSyntaxUID.is_deflated:
        ds.PixelData = pydicom.encaps.encapsulate([bytes(16)])
    make_disc([write_object(ds, tmp_path / "object")], tmp_path / "result")
    (records,) = list_records(dcmread(tmp_path / "result" / "TEST_1" / "DICOMDIR")).values()
    assert records[-1].ReferencedTransferSyntaxUIDInFile == transfer_syntax_uid
    check_records(tmp_path / "result" / "TEST_1")


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 144", "Люксембург^Роза"),
        ("ISO_IR 192", "王^小东=王^小東"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("ISO_IR 126", "Διονυσιος"),
    ],
    ids=str,
)
def test_names_pass_through_in_their_character_set(character_set: str | list[str], name: str, tmp_path: Path) -> None:
    ds: Dataset = make_object()
    ds.SpecificCharacterSet, ds.PatientName, ds.StudyDescription = character_set, name, name.split("=", maxsplit=1)[0].replace("^", " ")
    make_disc([write_object(ds, tmp_path / "object")], tmp_path / "result")
    tree = tmp_path / "result" / "TEST_1"
    check_records(tree)
    (records,) = list_records(dcmread(tree / "DICOMDIR")).values()
    assert str(records[0].PatientName) == name
    assert records[1].StudyDescription == ds.StudyDescription
    assert name.split("=", maxsplit=1)[0].split("^", maxsplit=1)[0] in (tree / "INDEX.HTM").read_text(encoding="utf-8")
    theirs = build_with_dcmmkdir(tree, tmp_path / "DICOMDIR", "-Pdv")
    assert compare_records(dcmread(tree / "DICOMDIR"), theirs) == set()
