"""What is known of objects beforehand: read once, shared, and read again where it has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mkisod.media.header import Header, HeaderReader
from mkisod.media.index import ObjectIndex
from tests.media.objects import make_object, write_object


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that have been read."""
    names: list[str] = []

    read = HeaderReader.read

    def count(reader: HeaderReader, path: Path) -> Header:
        names.append(path.name)
        return read(reader, path)

    monkeypatch.setattr(HeaderReader, "read", count)
    return names


def test_an_object_is_read_once_and_again_where_it_has_changed(tmp_path: Path, read: list[str]) -> None:
    known = ObjectIndex()
    path = write_object(make_object(number=1), tmp_path / "a")
    assert known.describe(path) is known.describe(path)
    assert read == ["a"]
    write_object(make_object(number=2), tmp_path / "b").rename(path)
    assert known.describe(path).sop_instance_uid == make_object(number=2).SOPInstanceUID
    assert read == ["a", "a"]


def test_what_siblings_say_alike_is_held_once(tmp_path: Path) -> None:
    known = ObjectIndex()
    one, other = (known.describe(write_object(make_object(number=n), tmp_path / f"{n}")) for n in (1, 2))
    assert one.patient is other.patient
    assert one.study is other.study
    assert one.series is other.series
    assert one.identity is other.identity
    assert one.study_instance_uid is other.study_instance_uid
    assert one.sop_class_uid is other.sop_class_uid
    assert one.sop_instance_uid is known.describe(tmp_path / "1").sop_instance_uid
