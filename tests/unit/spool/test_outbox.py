"""What the client reads, and what stands for progress: results, statuses, objects; and the seam through which the disk is changed."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkisod.job.status import State, Status, encode_status
from mkisod.spool.durable import Disk
from mkisod.spool.layout import JobDirectory, Layout, make_directories
from mkisod.spool.objects import Objects, object_name
from mkisod.spool.outbox import Outbox
from tests.unit.spool.conftest import names

NOW = datetime(2026, 11, 22, 8, 15, tzinfo=UTC)
JOB = "20261122T081500Z-k3f9ab"


class NotingDisk(Disk):
    """Notes what was done to what, by its name."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []

    def write(self, path: Path, data: bytes) -> None:
        super().write(path, data)
        self.done.append(("write", path.name))

    def sync(self, path: Path) -> None:
        super().sync(path)
        self.done.append(("sync", path.name))

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.done.append(("rename", target.name))


@pytest.fixture
def disk() -> NotingDisk:
    return NotingDisk()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "spool", "main")
    make_directories(layout)
    return layout


def make(state: State, job: str = JOB) -> Status:
    return Status("t", job, state, NOW, NOW)


def test_a_status_is_replaced_whole_and_is_on_the_disk_before_it_is_said(layout: Layout, disk: NotingDisk) -> None:
    outbox = Outbox(layout, disk)
    assert outbox.read_status("t") is None
    for state in (State.QUEUED, State.RETRIEVING):
        disk.done.clear()
        outbox.write_status(make(state))
        assert outbox.read_status("t") == make(state)
        changes = [change for change in disk.done if change[1] != "outbox"]
        assert changes == [("write", ".status.json.new"), ("sync", ".status.json.new"), ("rename", "status.json"), ("sync", "t")]
    assert names(layout.ticket("t")) == ["status.json"]


def test_a_result_is_on_the_disk_whole_before_it_has_its_name(layout: Layout, disk: NotingDisk) -> None:
    directory = JobDirectory(layout.active / JOB)
    (directory.result / "DICOM" / "A").mkdir(parents=True)
    names = {"README.TXT", "IMG1", "IMG2"}
    for path in (directory.result / "README.TXT", directory.result / "DICOM" / "A" / "IMG1", directory.result / "DICOM" / "IMG2"):
        path.write_text("x")
    Outbox(layout, disk).publish(directory, make(State.DONE))
    at = disk.done.index(("rename", JOB))
    assert {name for what, name in disk.done[:at] if what == "sync"} >= {*names, "A", "DICOM", "result", "result.json"}
    assert [change for change in disk.done[at + 1 :] if change[0] == "sync"] == [("sync", "t"), ("sync", JOB)]
    assert Outbox(layout, disk).read_status("t") is None, "the status is the last word"
    assert Outbox(layout, disk).read_result("t", JOB) == make(State.DONE)


def test_older_results_of_the_ticket_go_and_nothing_else(layout: Layout) -> None:
    outbox = Outbox(layout, Disk())
    outbox.write_status(make(State.DONE))
    for name in (JOB, "20261121T081500Z-k3f9ab", "20261120T081500Z-k3f9ab", "notes"):
        (layout.ticket("t") / name / "x").mkdir(parents=True)
    assert outbox.remove_results("t", keep=JOB) == 2
    assert sorted(names(layout.ticket("t"))) == sorted([JOB, "notes", "status.json"])
    assert names(layout.trash) == []


def test_a_status_of_another_version_is_a_value_error(layout: Layout) -> None:
    layout.ticket("t").mkdir()
    layout.status("t").write_bytes(encode_status(make(State.QUEUED)).replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(ValueError, match="version 1"):
        Outbox(layout, Disk()).read_status("t")


def write_object(objects: Objects, uid: str, data: bytes) -> None:
    file = objects.create()
    os.write(file.fd, data)
    file.keep(uid)


def test_an_instance_is_visible_only_when_it_is_whole(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "objects", Disk())
    file = objects.create()
    os.write(file.fd, b"half")
    assert list(objects.list_paths()) == []
    file.keep("1.2")
    assert list(objects.list_paths()) == [objects.path("1.2")]
    assert objects.path("1.2").read_bytes() == b"half"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file.fd)


def test_what_is_discarded_or_left_by_a_death_leaves_nothing(tmp_path: Path) -> None:
    objects = Objects(tmp_path, Disk())
    objects.create().discard()
    assert names(tmp_path) == []
    left = objects.create()
    write_object(objects, "1.2", b"whole")
    os.close(left.fd)
    assert [path.name for path in Objects(tmp_path, Disk()).list_paths()] == [object_name("1.2")]
    assert names(tmp_path) == [object_name("1.2")]


def test_a_name_that_cannot_be_had_leaves_nothing(tmp_path: Path) -> None:
    objects = Objects(tmp_path, Disk())
    objects.path("1.2").mkdir()
    with pytest.raises(IsADirectoryError):
        write_object(objects, "1.2", b"x")
    assert names(tmp_path) == [object_name("1.2")]


def test_a_resend_is_compared_byte_by_byte(tmp_path: Path) -> None:
    objects = Objects(tmp_path, Disk())
    write_object(objects, "1.2", b"the first")
    for data, same in ((b"the first", True), (b"the second", False)):
        file = objects.create()
        os.write(file.fd, data)
        assert file.equals("1.2") is same
        file.discard()
    assert objects.path("1.2").read_bytes() == b"the first"


@given(st.text())
def test_a_uid_off_the_network_makes_no_path(uid: str) -> None:
    name = object_name(uid)
    assert len(name) == 44
    assert name.removesuffix(".dcm").isalnum()


def test_nothing_is_written_or_removed_through_a_link(tmp_path: Path) -> None:
    disk, precious = Disk(), tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    link = tmp_path / "link"
    link.symlink_to(precious / "file")
    with pytest.raises(OSError, match="symbolic links"):
        disk.write(link, b"y")
    disk.remove_tree(link)
    link.symlink_to(precious)
    disk.remove_tree(link)
    disk.remove_tree(tmp_path / "nothing")
    assert (precious / "file").read_text() == "x"
    assert not link.is_symlink()
    disk.remove_tree(precious)
    assert not precious.exists()
