"""The image: its names, its dates, its order, and the walk that reads it."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkisod.media.archive import write_archive
from mkisod.media.iso import SECTOR_BYTES, ImageDefect, is_iso_name, list_files, read_volume
from mkisod.media.iso_writer import write_image
from mkisod.media.source import open_source

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_files(tree: Path, count: int) -> list[str]:
    files = []
    for number in range(count):
        name = f"DICOM/ST{number // 50:06d}/IN{number:06d}" if number else "INDEX.HTM"
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(bytes([number % 256]) * (number * 100))
        files.append(name)
    return files


def ignore_progress(_done: int, _total: int) -> None:
    pass


def test_the_image_holds_the_files_in_order_and_is_the_same_each_time(tmp_path: Path) -> None:
    files = make_files(tmp_path / "tree", 120)
    reported: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        reported.append((done, total))

    write_image(tmp_path / "a", "LABEL_1", tmp_path / "tree", files, MOMENT, report_progress=progress)
    write_image(tmp_path / "b", "LABEL_1", tmp_path / "tree", files, MOMENT)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert reported[-1][0] == reported[-1][1]
    with (tmp_path / "a").open("rb") as image:
        volume, found = read_volume(image), list_files(image)
    assert (volume.volume_identifier, volume.system_identifier) == ("LABEL_1", "")
    assert volume.size_bytes == (tmp_path / "a").stat().st_size
    assert [(file.path, file.size_bytes) for file in found] == [(name, (tmp_path / "tree" / name).stat().st_size) for name in files]
    starts = [file.extents[0][0] for file in found if file.size_bytes]
    assert starts == sorted(starts)
    with open_source(tmp_path / "a") as source:
        for name in files:
            with source.open(name) as file:
                assert file.read() == (tmp_path / "tree" / name).read_bytes()


def test_images_differ_in_nothing_but_dates(tmp_path: Path) -> None:
    files = make_files(tmp_path / "tree", 20)
    later = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    write_image(tmp_path / "a", "LABEL_1", tmp_path / "tree", files, MOMENT)
    write_image(tmp_path / "b", "LABEL_1", tmp_path / "tree", files, later)
    one, other = (tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()
    assert len(one) == len(other)
    assert bytes((126, 1, 2, 3, 4, 5, 0)) in one
    masked = other.replace(bytes((126, 12, 31, 23, 59, 59, 0)), bytes((126, 1, 2, 3, 4, 5, 0)))
    assert masked.replace(b"2026123123595900", b"2026010203040500") == one


def test_archives_are_the_same_each_time(tmp_path: Path) -> None:
    files = make_files(tmp_path / "tree", 20)
    for name in ("a", "b"):
        write_archive(tmp_path / name, tmp_path / "tree", files, MOMENT, ignore_progress)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with open_source(tmp_path / "a") as source:
        assert dict(source.sizes) == {name: (tmp_path / "tree" / name).stat().st_size for name in files}


@pytest.mark.parametrize(
    ("name", "is_legal"),
    [
        ("DICOMDIR", True),
        ("IHE_PDI/INDEX.HTM", True),
        ("A/B/C/D/E/F/G/H", True),
        ("A/B/C/D/E/F/G/H/I", False),
        ("readme.txt", False),
        ("LONGNAME1", False),
        ("A.HTML", False),
        ("DIR.EXT/A", False),
        ("A-B", False),
        ("A.", False),
        ("", False),
    ],
)
def test_names_of_level_1(name: str, is_legal: bool) -> None:
    assert is_iso_name(name) is is_legal


@given(st.integers(16 * SECTOR_BYTES, 24 * SECTOR_BYTES - 1), st.binary(min_size=1, max_size=16))
def test_a_damaged_image_is_read_or_refused(small_image: bytes, at: int, damage: bytes) -> None:
    image = io.BytesIO(small_image[:at] + damage + small_image[at + len(damage) :])
    try:
        list_files(image)
    except ImageDefect:
        return


@pytest.fixture(scope="module")
def small_image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("image")
    write_image(folder / "image", "SMALL", folder / "tree", make_files(folder / "tree", 5), MOMENT)
    return (folder / "image").read_bytes()


def test_a_file_that_is_no_image_is_refused() -> None:
    with pytest.raises(ImageDefect):
        list_files(io.BytesIO(bytes(40 * SECTOR_BYTES)))
