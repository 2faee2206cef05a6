"""`mkisod verify` as its users call it: a folder, an image, an archive, a result, ours or anybody's; plain words, exit codes, JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.fileset import FileSet

from tests.integration.journey.site import run_command
from tests.media.directories import build_with_dcmmkdir
from tests.media.faults import FAULTS, IMAGE_FAULTS, NAME, flip_pixel, make_good_result
from tests.media.objects import make_object, write_object
from tests.peers import dicomdirtests, require


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_good_result(tmp_path_factory.mktemp("good"))


@pytest.fixture
def result(good: Path, tmp_path: Path) -> Path:
    """A copy to spoil; without the digests, so that each check has to see for itself."""
    copied = shutil.copytree(good, tmp_path / "result")
    (copied / "SHA256SUMS").unlink()
    return copied


@pytest.mark.parametrize("name", [NAME, f"{NAME}.ISO", f"{NAME}.ZIP", "."])
def test_a_good_disc(good: Path, name: str) -> None:
    said = run_command("verify", good / name)
    assert (said.exit_code, said.output, said.messages) == (0, f"{good / name} is good.\n", "")
    told = run_command("verify", "--json", good / name)
    assert (told.exit_code, json.loads(told.output)) == (0, {"path": str(good / name), "good": True, "faults": []})


def check_bad(path: Path, expected: str) -> None:
    said = run_command("verify", path)
    lines = said.output.splitlines()
    assert said.exit_code == 1
    assert any(expected in line for line in lines), lines
    assert f"{path} has {len(lines)} fault" in said.messages
    assert not any(secret in said.output + said.messages for secret in ("Müller", "Jürgen", "19600102"))


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_a_folder_has_exit_code_1_and_its_words(result: Path, name: str) -> None:
    spoil, expected = FAULTS[name]
    spoil(result / NAME)
    check_bad(result / NAME, expected)


@pytest.mark.parametrize("name", IMAGE_FAULTS)
def test_each_fault_of_an_image_has_exit_code_1_and_its_words(result: Path, name: str) -> None:
    spoil, expected = IMAGE_FAULTS[name]
    spoil(result / f"{NAME}.ISO")
    check_bad(result / f"{NAME}.ISO", expected)


@pytest.mark.parametrize("name", [f"{NAME}.ISO", f"{NAME}.ZIP"])
def test_a_flipped_byte_contradicts_the_digests_beside_it(good: Path, tmp_path: Path, name: str) -> None:
    copied = shutil.copytree(good, tmp_path / "result")
    flip_pixel(copied / name)
    check_bad(copied / name, "SHA256SUMS")
    check_bad(copied, f"{name}: its content is not")


def test_a_flipped_byte_in_an_archive_is_found_by_its_checksum(result: Path) -> None:
    flip_pixel(result / f"{NAME}.ZIP")
    check_bad(result / f"{NAME}.ZIP", "checksum")


def test_json_names_every_fault(result: Path) -> None:
    FAULTS["missing file"][0](result / NAME)
    FAULTS["extra file"][0](result / NAME)
    said = run_command("verify", "--json", result / NAME)
    told = json.loads(said.output)
    assert (said.exit_code, told["good"], len(told["faults"])) == (1, False, 2)


def test_what_is_no_disc_and_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"hello")
    (tmp_path / "empty").mkdir()
    check_bad(tmp_path / "text", "cannot be read")
    check_bad(tmp_path / "empty", "DICOMDIR: there is no file of this name in the root")
    said = run_command("verify", tmp_path / "nothing")
    assert (said.exit_code, said.output) == (2, "")
    assert "cannot be read" in said.messages


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    check_bad(tmp_path / "pipe", "neither a folder nor a file")


def test_a_disc_under_the_names_that_linux_gives_it_when_mounted(result: Path, tmp_path: Path) -> None:
    """Lower case (mount(8), iso9660, map=normal): what is bad about names in a folder is how a mounted disc looks."""
    for path in sorted((result / NAME).rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.lower()))
    mounted = (result / NAME).rename(tmp_path / "cdrom")
    assert run_command("verify", mounted).output == f"{mounted} is good.\n"
    (mounted / "dicom/extra").write_bytes(b"x")
    check_bad(mounted, "DICOM/EXTRA: no record references it")


def make_with_dcmmkdir(tree: Path) -> None:
    (tree / "DICOM").mkdir(parents=True)
    for number in (1, 2, 3):
        write_object(make_object(number=number), tree / "DICOM" / f"FILE{number}")
    build_with_dcmmkdir(tree, tree / "DICOMDIR", "-Pgp", "+F", tree.name)


def make_with_pydicom(tree: Path) -> None:
    made = FileSet()
    for path in dicomdirtests():
        if (ds := dcmread(path)).get("PatientID") == "77654033":
            made.add(ds)
    made.write(tree)
    made._stage["t"].cleanup()  # pydicom leaves its temporary folder to the garbage collector, which warns


@pytest.mark.parametrize("make", [make_with_dcmmkdir, make_with_pydicom])
def test_discs_of_others(tmp_path: Path, make: object) -> None:
    tree, image = tmp_path / "TREE", tmp_path / "TREE.ISO"
    assert callable(make)
    make(tree)
    if make is make_with_dcmmkdir:
        command: list[str | Path] = [require("xorriso"), "-as", "mkisofs", "--norock", "-iso-level", "1", "-V", "TREE", "-o", image, tree]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        assert run_command("verify", image).exit_code == 0
    archive = Path(shutil.make_archive(str(tree), "zip", tree))
    for path in (tree, archive):
        said = run_command("verify", path)
        assert (said.exit_code, said.output) == (0, f"{path} is good.\n")
    lost = next(path for path in sorted(tree.rglob("*")) if path.is_file() and path.name != "DICOMDIR")
    lost.unlink()
    check_bad(tree, "there is no such file")
