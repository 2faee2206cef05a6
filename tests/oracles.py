"""Judges that are not ours: programs that check a disc, and pydicom comparing objects element by element.

Every check fails the test with what the program said. None of them writes into what it is given.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet

from tests.peers import require

# What STD-GEN-CD asks beyond the Basic Directory IOD (PS3.11 D.3.3.1), and keys of later profiles, make it a Standard Extended SOP Class.
_EXPECTED_OF_DIRECTORY = re.compile(
    r"BasicDirectory|Warning - (Attribute is not present in standard DICOM IOD - .*|Dicom dataset contains attributes not present in"
    r" standard DICOM IOD - this is a Standard Extended SOP Class)"
)

# Profiles of PS3.11 as dcmmkdir names them. None: objects of any transfer syntax, which is no profile.
_PROFILE_OPTIONS: Mapping[str | None, tuple[str, ...]] = {
    "STD-GEN-CD": ("-Pgp",),
    "STD-GEN-DVD-JPEG": ("-Pdv",),
    "STD-GEN-DVD-J2K": ("-Pd2",),
    "STD-GEN-USB-JPEG": ("-Pfl",),
    "STD-GEN-USB-J2K": ("-Pf2",),
    None: ("-Pgp", "-Nxc", "-Nec", "-Nrc"),
}

_LEVEL_1_NAME = re.compile(r"[A-Z0-9_]{1,8}(\.[A-Z0-9_]{0,3})?(;1)?")


def check_disc(
    tree: Path, scratch: Path, *, image: Path | None = None, substituted: bool = False, profile: str | None = "STD-GEN-CD"
) -> None:
    """Every check of this module on one file-set; `scratch` is a folder that is not there yet.

    `substituted`: values that the objects lack were made up for the DICOMDIR, so other programs have to be allowed the same. `profile` is
    the one it meets, None where it meets none.
    """
    scratch.mkdir()
    check_directory(tree)
    objects = read_objects(tree)
    check_readers(tree, objects)
    check_entities(objects.values(), scratch)
    check_profile(tree, scratch, profile, substituted=substituted)
    check_pages(tree)
    if image is not None:
        check_image(image, tree, scratch)


def check_directory(tree: Path) -> None:
    """`dciodvfy` on keys and value representations, `dcdirdmp` on the links of the records."""
    path = tree / "DICOMDIR"
    said = _run([require("dciodvfy"), path])
    strange = [line for line in said.splitlines() if not _EXPECTED_OF_DIRECTORY.fullmatch(line.strip())]
    assert not strange, f"dciodvfy on {path}: {strange}"
    _run([require("dcdirdmp"), path])


def check_entities(files: Iterable[Path], scratch: Path) -> None:
    """`dcentvfy`: one patient, study and series is described alike by all files, and no UID has two owners."""
    listing = scratch / "files.txt"
    listing.write_text("".join(f"{path}\n" for path in files), encoding="utf-8")
    said = _run([require("dcentvfy"), "-f", listing])
    assert "Error" not in said, said


def check_readers(tree: Path, objects: Mapping[str, Path]) -> None:
    """Two readers find the same: pydicom's `FileSet` every instance by its UID, and GDCM every record."""
    path = tree / "DICOMDIR"
    file_set = FileSet(path)
    try:
        assert {str(instance.SOPInstanceUID): Path(instance.path) for instance in file_set} == objects
    finally:
        file_set._stage["t"].cleanup()  # pydicom leaves its temporary folder to the garbage collector, which warns
    _run([require("gdcminfo"), path])
    types = re.findall(r"\(0004,1430\) CS \[([A-Z ]+?) *\]", _run([require("gdcmdump"), path]))
    assert types == [record.DirectoryRecordType for record in dcmread(path).DirectoryRecordSequence]


def check_profile(tree: Path, scratch: Path, profile: str | None, *, substituted: bool) -> None:
    """`dcmmkdir` would make a DICOMDIR of the same files under `profile`, refusing none: names, transfer syntaxes, Type 1 attributes."""
    # Without +D it takes the DICOMDIR of the tree for its own: renames it, and -w leaves none behind.
    target = scratch / "DICOMDIR"
    invent = ["+I"] if substituted else ["-I"]
    _run([require("dcmmkdir"), "-w", "-a", *_PROFILE_OPTIONS[profile], *invent, "+r", "+id", tree, "+D", target, "DICOM"], cwd=scratch)


def check_pages(tree: Path) -> None:
    """`tidy` has nothing to say against INDEX.HTM, and README.TXT is ASCII."""
    assert _run([require("tidy"), "-q", "-e", tree / "INDEX.HTM"]) == ""
    assert (tree / "README.TXT").read_bytes().isascii()


def check_image(image: Path, tree: Path, scratch: Path) -> None:
    """ISO 9660 level 1 as PS3.12 F wants it by `isoinfo`, and by `xorriso` the same files as the tree, byte for byte."""
    assert describe_image(image) == {
        "System id": "",
        "Volume id": tree.name,
        "Logical block size is": "2048",
        "Volume size is": str(image.stat().st_size // 2048),
        "extensions": "NO Joliet present, NO Rock Ridge present",
    }
    names = _run([require("isoinfo"), "-f", "-i", image]).splitlines()
    illegal = [name for name in names if not all(_LEVEL_1_NAME.fullmatch(part) for part in name.split("/")[1:])]
    assert not illegal, f"no names of ISO 9660 level 1: {illegal}"
    extracted = scratch / "extracted"
    _run([require("xorriso"), "-osirrox", "on", "-indev", image, "-extract", "/", extracted])
    _run(["chmod", "-R", "u+w", extracted])
    assert _contents(extracted) == _contents(tree)


def describe_image(image: Path) -> dict[str, str]:
    """What `isoinfo` reads in the Primary Volume Descriptor, where PS3.12 has a word to say."""
    said = _run([require("isoinfo"), "-d", "-i", image])
    wanted = ("System id", "Volume id", "Logical block size is", "Volume size is")
    fields = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    described = {name: fields[name].strip() for name in wanted}
    return described | {"extensions": ", ".join(line for line in said.splitlines() if line.endswith(" present"))}


def check_sums(result: Path) -> None:
    """`sha256sum` on SHA256SUMS, and nothing in the result that it does not name."""
    _run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=result)
    named = {line.split("  ", 1)[1] for line in (result / "SHA256SUMS").read_text(encoding="ascii").splitlines()}
    assert named == set(_contents(result)) - {"SHA256SUMS", "result.json"}


def read_objects(tree: Path) -> dict[str, Path]:
    """The objects of a file-set by SOP Instance UID, as pydicom reads them off its DICOMDIR.

    Each record has to say of its file what the file says of itself, and no file may be there that no record names.
    """
    objects: dict[str, Path] = {}
    for record in dcmread(tree / "DICOMDIR").DirectoryRecordSequence:
        if "ReferencedFileID" not in record:
            continue
        path = tree.joinpath(*record.ReferencedFileID)
        meta = dcmread(path, stop_before_pixels=True).file_meta
        said = (record.ReferencedSOPInstanceUIDInFile, record.ReferencedSOPClassUIDInFile, record.ReferencedTransferSyntaxUIDInFile)
        assert said == (meta.MediaStorageSOPInstanceUID, meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID), path
        objects[str(record.ReferencedSOPInstanceUIDInFile)] = path
    stray = {path for path in (tree / "DICOM").rglob("*") if path.is_file()} - set(objects.values())
    assert not stray, f"no record names {stray}"
    return objects


def find_differences(first: Path, second: Path) -> list[str]:
    """Where two objects differ: transfer syntax, and every element with its VR and its value, pixel data and sequences too."""
    one, other = dcmread(first), dcmread(second)
    syntaxes = (one.file_meta.TransferSyntaxUID, other.file_meta.TransferSyntaxUID)
    return [*([] if syntaxes[0] == syntaxes[1] else [f"transfer syntax: {syntaxes}"]), *_compare(one, other, "")]


def _compare(one: Dataset, other: Dataset, at: str) -> Iterator[str]:
    for tag in sorted(one.keys() | other.keys()):
        place = f"{at}{tag}"
        if tag not in one or tag not in other:
            yield f"{place} is only in the {'first' if tag in one else 'second'}"
        elif one[tag].VR != other[tag].VR:
            yield f"{place} has VR {one[tag].VR} and {other[tag].VR}"
        elif one[tag].VR == "SQ":
            if len(one[tag].value) != len(other[tag].value):
                yield f"{place} has {len(one[tag].value)} and {len(other[tag].value)} items"
                continue
            for number, items in enumerate(zip(one[tag].value, other[tag].value, strict=True)):
                yield from _compare(*items, f"{place}[{number}] ")
        elif one[tag].value != other[tag].value:
            yield f"{place} has other values"


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _run(command: Sequence[object], cwd: Path | None = None) -> str:
    done = subprocess.run([str(word) for word in command], check=False, capture_output=True, timeout=120, cwd=cwd)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    if done.returncode:
        pytest.fail(f"{Path(str(command[0])).name} ended with {done.returncode}: {said}")
    return said
