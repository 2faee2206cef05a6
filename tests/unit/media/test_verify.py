"""The last check: no fault on a good disc, and each injected fault found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mkisod.media.verify import compare_trees, verify_path
from tests.media.faults import FAULTS, FIRST, IMAGE_FAULTS, NAME, flip_pixel, make_good_result


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
def test_a_good_disc_has_no_fault(good: Path, name: str) -> None:
    assert verify_path(good / name) == ()


@pytest.mark.parametrize("name", FAULTS)
def test_each_injected_fault_is_found(result: Path, name: str) -> None:
    spoil, expected = FAULTS[name]
    spoil(result / NAME)
    found = [str(fault) for fault in verify_path(result / NAME)]
    assert any(expected in fault for fault in found), found
    assert not any("Müller" in fault or "19600102" in fault for fault in found)


@pytest.mark.parametrize("name", IMAGE_FAULTS)
def test_each_fault_of_an_image_is_found(result: Path, name: str) -> None:
    spoil, expected = IMAGE_FAULTS[name]
    spoil(result / f"{NAME}.ISO")
    found = [str(fault) for fault in verify_path(result / f"{NAME}.ISO")]
    assert any(expected in fault for fault in found), found


@pytest.mark.parametrize("name", [f"{NAME}.ISO", f"{NAME}.ZIP", f"{NAME}/{FIRST}"])
def test_a_flipped_byte_is_found_by_its_digest(result: Path, good: Path, name: str) -> None:
    shutil.copy(good / "SHA256SUMS", result)
    flip_pixel(result / name)
    assert any("SHA256SUMS" in str(fault) for fault in verify_path(result / name.partition("/")[0]))


def test_a_flipped_byte_is_found_by_comparison(result: Path) -> None:
    flip_pixel(result / f"{NAME}.ISO")
    assert verify_path(result / f"{NAME}.ISO") == ()  # nothing in an image tells
    assert any("is not that of the tree" in str(fault) for fault in compare_trees(result / f"{NAME}.ISO", result / NAME))


def test_a_flipped_byte_in_an_archive_is_found_by_its_checksum(result: Path) -> None:
    flip_pixel(result / f"{NAME}.ZIP")
    assert any("checksum" in str(fault) for fault in verify_path(result / f"{NAME}.ZIP"))


def test_a_whole_result_is_verified_with_all_that_is_in_it(good: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(good, tmp_path / "result")
    flip_pixel(copied / f"{NAME}.ZIP")
    (copied / NAME / FIRST).unlink()
    found = " ".join(map(str, verify_path(copied)))
    assert "there is no such file" in found
    assert f"{NAME}.ZIP: its content is not" in found


def test_a_file_that_is_no_disc_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hello")
    assert [fault.where for fault in verify_path(tmp_path / "x")] == ["x"]
