"""Discs that others made: verify reads them too, and has nothing to say against a good one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread, uid
from pydicom.fileset import FileSet

from mkisod.media.verify import verify_path
from tests.media.directories import build_with_dcmmkdir
from tests.media.objects import make_object, make_object_with_all_keys, write_object
from tests.peers import dicomdirtests, require


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files under plain names, as dcmmkdir wants them, and its DICOMDIR."""
    tree = tmp_path / "TREE"
    (tree / "DICOM").mkdir(parents=True)
    objects = [make_object(number=n, series=s) for s in (1, 2) for n in (1, 2)]
    objects += [make_object_with_all_keys(uid.ComprehensiveSRStorage, 3), make_object_with_all_keys(uid.EncapsulatedPDFStorage, 4)]
    for number, ds in enumerate(objects):
        write_object(ds, tree / "DICOM" / f"FILE{number}")
    build_with_dcmmkdir(tree, tree / "DICOMDIR", "-Pgp", "+F", "TREE")
    return tree


def test_a_disc_of_dcmmkdir_is_good(tree: Path) -> None:
    assert verify_path(tree) == ()


def test_an_image_of_xorriso_is_good(tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "x.iso"
    command: list[str | Path] = [require("xorriso"), "-as", "mkisofs", "--norock", "-iso-level", "1", "-V", "TREE", "-o", image, tree]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert verify_path(image) == ()


def test_an_image_of_genisoimage_has_a_system_identifier(tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "x.iso"
    command: list[str | Path] = [shutil.which("genisoimage") or require("isoinfo"), "-iso-level", "1", "-V", "TREE", "-o", image, tree]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert [str(fault) for fault in verify_path(image)] == ["x.iso: the system identifier is not blank (PS3.12 F.2.2.1)"]


def test_a_disc_of_pydicom_is_good(tmp_path: Path) -> None:
    made = FileSet()
    for path in dicomdirtests():
        ds = dcmread(path)
        if ds.get("PatientID") == "77654033":
            made.add(ds)
    made.write(tmp_path / "SET")
    assert len(made) > 0
    made._stage["t"].cleanup()  # pydicom leaves its temporary folder to the garbage collector, which warns
    faults = verify_path(tmp_path / "SET")
    assert faults == ()
