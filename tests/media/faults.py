"""Faults of discs: each spoils a good one in one way, and says which words of a complaint name it."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from pydicom import dcmread, uid
from pydicom.dataset import Dataset

from tests.media.discs import make_disc
from tests.media.objects import ROOT, make_object, make_object_with_all_keys, write_object

NAME = "TEST_1"
FIRST = "DICOM/PT000001/ST000001/SE000001/IN000001"
SECOND = "DICOM/PT000001/ST000001/SE000001/IN000002"
NEXT_AT, LOWER_AT, IN_USE_AT = 16, 38, 28


def make_good_result(folder: Path) -> Path:
    """The result of a job, in `folder`: one file-set as a directory, an image and an archive."""
    objects = [make_object(number=n, series=s) for s in (1, 2) for n in (1, 2)]
    objects.append(make_object(study_uid=f"{ROOT}.2"))
    objects.append(make_object_with_all_keys(uid.ComprehensiveSRStorage, 7))
    paths = [write_object(ds, folder / str(number)) for number, ds in enumerate(objects)]
    make_disc(paths, folder / "result", output=frozenset({"dir", "iso", "zip"}))
    return folder / "result"


def replace(path: Path, old: bytes, new: bytes, *, count: int = 1) -> None:
    data = path.read_bytes()
    assert old in data
    assert len(old) == len(new)
    path.write_bytes(data.replace(old, new, count))


def patch_record(tree: Path, number: int, at: int, value: int, form: str = "<I") -> None:
    dicomdir = tree / "DICOMDIR"
    offset = dcmread(dicomdir).DirectoryRecordSequence[number].seq_item_tell
    data = bytearray(dicomdir.read_bytes())
    struct.pack_into(form, data, offset + at, value)
    dicomdir.write_bytes(data)


def find_offset(tree: Path, number: int) -> int:
    return int(dcmread(tree / "DICOMDIR").DirectoryRecordSequence[number].seq_item_tell)


def in_dicomdir(old: bytes, new: bytes) -> Callable[[Path], None]:
    return lambda tree: replace(tree / "DICOMDIR", old, new)


def truncate(path: Path, by: int = 1) -> None:
    os.truncate(path, path.stat().st_size - by)


def change_object(tree: Path, name: str, **values: str) -> None:
    ds: Dataset = dcmread(tree / name)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    (tree / name).unlink()  # a hard link: the object itself stays as it is
    ds.save_as(tree / name)


def swap(path: Path, content: bytes) -> None:
    """Another content under the name; the object itself, of which the file is a hard link, stays as it is."""
    path.unlink()
    path.write_bytes(content)


def write_lower_case_name(tree: Path) -> None:
    replace(tree / "DICOMDIR", rb"SE000001\IN000001", rb"SE000001\in000001")
    (tree / FIRST).rename((tree / FIRST).with_name("in000001"))


def turn_last_offset(tree: Path) -> None:
    head = b"\x04\0\x02\x12UL\x04\0"
    replace(tree / "DICOMDIR", head + struct.pack("<I", find_offset(tree, 0)), head + struct.pack("<I", find_offset(tree, 1)))


def add_object(tree: Path) -> None:
    shutil.copy(tree / FIRST, tree / "OTHER")


def name_other_syntax(tree: Path) -> None:
    replace(tree / "DICOMDIR", b"\x12\x15UI\x14\x001.2.840.10008.1.2.1\0", b"\x12\x15UI\x14\x001.2.840.10008.1.2.2\0")


def name_other_class(tree: Path) -> None:
    ct, mr = b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.4\0"
    replace(tree / "DICOMDIR", b"\x10\x15UI\x1a\0" + ct, b"\x10\x15UI\x1a\0" + mr)


# Each spoils the tree; records 0 to 3 are PATIENT, STUDY, SERIES, IMAGE.
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "next offset beside a record": (lambda t: patch_record(t, 3, NEXT_AT, find_offset(t, 4) + 2), "where no record is"),
    "lower offset beside a record": (lambda t: patch_record(t, 2, LOWER_AT, 12), "where no record is"),
    "loop": (lambda t: patch_record(t, 3, NEXT_AT, find_offset(t, 3)), "reached before"),
    "record out of reach": (lambda t: patch_record(t, 3, NEXT_AT, 0), "cannot be reached"),
    "series without lower records": (lambda t: patch_record(t, 2, LOWER_AT, 0), "there is nothing below it"),
    "inactive record of a file": (lambda t: patch_record(t, 3, IN_USE_AT, 0, "<H"), "no record references it"),
    "last offset": (turn_last_offset, "last record"),
    "missing file": (lambda t: (t / FIRST).unlink(), "there is no such file"),
    "extra file": (lambda t: (t / "DICOM/EXTRA").write_bytes(b"x"), "no record references it"),
    "extra DICOM file": (add_object, "a DICOM file that no record references"),
    "no DICOMDIR": (lambda t: (t / "DICOMDIR").unlink(), "there is no file of this name"),
    "lower-case name": (write_lower_case_name, "File ID"),
    "name too long": (in_dicomdir(rb"SE000001\IN000001", b"SE000001IN0000001"), "File ID"),
    "wrong transfer syntax": (name_other_syntax, "another Transfer Syntax UID"),
    "wrong SOP class": (name_other_class, "another SOP Class UID"),
    "wrong SOP instance": (in_dicomdir(f"{ROOT}.1.1.1\0".encode(), f"{ROOT}.1.1.9\0".encode()), "another SOP Instance UID"),
    "wrong Patient ID": (in_dicomdir(b"LO\x02\0P1", b"LO\x02\0P2"), "another PatientID"),
    "wrong name": (in_dicomdir("Müller".encode("latin-1"), "Möller".encode("latin-1")), "PatientName has a value"),
    "wrong study": (lambda t: change_object(t, FIRST, StudyInstanceUID=f"{ROOT}.77"), "another StudyInstanceUID"),
    "wrong series": (lambda t: change_object(t, FIRST, SeriesInstanceUID=f"{ROOT}.77"), "another SeriesInstanceUID"),
    "wrong instance number": (lambda t: change_object(t, FIRST, InstanceNumber="77"), "InstanceNumber has a value"),
    "wrong study date": (in_dicomdir(b"DA\x08\x0020200101", b"DA\x08\x0020200109"), "StudyDate has a value"),
    "wrong record type": (in_dicomdir(b"CS\x0c\0SR DOCUMENT ", b"CS\x0c\0PRESENTATION"), "belongs to a SR DOCUMENT record"),
    "unknown record type": (in_dicomdir(b"CS\x06\0SERIES", b"CS\x06\0SERIOS"), "is not a type of directory record"),
    "empty Type 1 key": (in_dicomdir(b"SH\x02\0S1", b"SH\x02\0  "), "StudyID is empty"),
    "missing Type 1 key": (in_dicomdir(b"\x20\0\x11\0IS", b"\x20\0\x12\0IS"), "SeriesNumber is missing"),
    "two records of one file": (in_dicomdir(b"IN000002", b"IN000001"), "records reference it"),
    "two records of one SOP instance": (lambda t: swap(t / SECOND, (t / FIRST).read_bytes()), "records have SOPInstanceUID"),
    "two series of one UID": (in_dicomdir(f"{ROOT}.1.2".encode(), f"{ROOT}.1.1".encode()), "records have SeriesInstanceUID"),
    "illegal File-set ID": (in_dicomdir(b"CS\x06\0TEST_1", b"CS\x06\0test-1"), "File-set ID"),
    "consistency flag": (in_dicomdir(b"\x04\0\x12\x12US\x02\0\0\0", b"\x04\0\x12\x12US\x02\0\xff\xff"), "Consistency Flag"),
    "truncated object": (lambda t: swap(t / FIRST, (t / FIRST).read_bytes()[:-1]), "is damaged"),
    "object that is no DICOM file": (lambda t: swap(t / FIRST, b"x" * 999), "not a DICOM file"),
    "truncated DICOMDIR": (lambda t: truncate(t / "DICOMDIR"), "it is damaged"),
    "DICOMDIR in Implicit VR": (in_dicomdir(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0"), "Explicit VR"),
}


IMAGE_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (lambda p: truncate(p, 2048), "the image has"),
    "volume identifier": (lambda p: replace(p, b"TEST_1 ", b"TEST_2 "), "volume identifier"),
    "system identifier": (lambda p: replace(p, b"\x01CD001\x01\0     ", b"\x01CD001\x01\0LINUX"), "system identifier"),
    "lower-case name": (lambda p: replace(p, b"README.TXT;1", b"readme.txt;1"), "level 1"),
    "no volume descriptor": (lambda p: replace(p, b"\x01CD001", b"\x01CD002"), "cannot be read"),
}


def flip_pixel(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data.replace(bytes(range(16)), bytes([*range(15), 99]), 1))
