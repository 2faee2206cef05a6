"""What is read of an object as soon as it has come is what the disc would read of it later, and its digest belongs to its bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pydicom.data
import pytest
from pydicom import dcmread

from mkisod.errors import Permanent
from mkisod.media import sums
from mkisod.media.ahead import BLOCK_BYTES, ObjectReader
from mkisod.media.header import HeaderReader
from mkisod.media.index import ObjectIndex
from mkisod.media.sums import Digests
from tests.media.objects import make_object, write_object

FILES = Path(pydicom.data.__file__).parent / "test_files"


class Read:
    """Objects read ahead; from then on nothing may be read again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *paths: Path, is_over: bool = False) -> None:
        self.index, self.digests = ObjectIndex(), Digests()
        reader = ObjectReader(self.index, self.digests, lambda: is_over)
        for path in paths:
            reader.read(path)
        self.hashed: list[str] = []
        compute_digest = sums.compute_digest

        def compute_and_tell(path: str) -> bytes:
            self.hashed.append(path)
            return compute_digest(path)

        monkeypatch.setattr(sums, "compute_digest", compute_and_tell)


def digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "image_dfl.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm", "SC_rgb_rle_32bit_2frame.dcm"]
)
def test_an_object_is_read_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = FILES / name
    expected = ObjectIndex().describe(path)
    read = Read(monkeypatch, path)
    monkeypatch.setattr(HeaderReader, "read", lambda _, path: pytest.fail(f"{path} is read again"))
    assert read.index.describe(path) == expected
    assert (read.digests.find(path), read.hashed) == (digest(path), [])


def make_large(path: Path) -> None:
    """With an element behind the pixel data, out of the first block."""
    ds = make_object()
    ds.Rows = ds.Columns = 1000
    ds.PixelData = os.urandom(2 * 1000**2)
    ds.add_new(0xFFFCFFFC, "OB", bytes(20))
    write_object(ds, path)


def test_a_large_object_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large"
    make_large(path)
    assert path.stat().st_size > BLOCK_BYTES
    read = Read(monkeypatch, path)
    assert (read.digests.find(path), read.hashed) == (digest(path), [])
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(Permanent, match="ends 1 bytes before the end"):
        Read(monkeypatch, path)


def test_a_reader_that_is_to_end_leaves_the_digest_of_a_large_object_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large"
    make_large(path)
    read = Read(monkeypatch, path, is_over=True)
    assert (read.digests.find(path), read.hashed) == (digest(path), [str(path)])


def test_a_digest_is_that_of_the_bytes_whatever_they_are_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, link = tmp_path / "object", tmp_path / "link"
    write_object(make_object(), path)
    read = Read(monkeypatch, path)
    link.hardlink_to(path)
    assert (read.digests.find(link), read.hashed) == (digest(path), [])
    ds = dcmread(path)
    ds.PatientComments = "as it is now"
    path.unlink()
    ds.save_as(path)
    assert (read.digests.find(path), read.hashed) == (digest(path), [str(path)])


def test_what_cannot_be_read_is_told_to_who_wants_it(tmp_path: Path) -> None:
    with Digests() as digests:
        digests.add(tmp_path / "gone")
        (tmp_path / "there").write_bytes(b"bytes")
        digests.add(tmp_path / "there")
        assert digests.find(tmp_path / "there") == digest(tmp_path / "there")
        with pytest.raises(FileNotFoundError):
            digests.find(tmp_path / "gone")
