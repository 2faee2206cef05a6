"""Taking over a drop: whatever stands in the inbox under the name of a request becomes one job, queued or held, and never hurts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import evolve

from mkisod.errors import Code
from mkisod.job.lifecycle import Event
from mkisod.job.record import make_status
from mkisod.job.request import MAX_REQUEST_BYTES
from mkisod.job.status import State
from mkisod.spool.durable import Disk
from mkisod.spool.inbox import Inbox, Leave
from tests.unit.spool.conftest import MakeSite, Site, names

NOBODY_UID = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take on another user's identity")


@contextmanager
def as_nobody() -> Iterator[None]:
    """The daemon does not run as root."""
    os.seteuid(NOBODY_UID)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_good_drop_becomes_a_queued_job(site: Site) -> None:
    site.drop("t", "@priority high\nA1\nA2\n")
    claimed = site.claim("t")
    assert claimed.refused is None
    assert claimed.job.record.priority == "high"
    assert claimed.job.record.owner_uid == os.geteuid()
    assert site.list_files() == [f"work/queued/{claimed.job.id}/job.json", f"work/queued/{claimed.job.id}/request"]
    assert site.spool.jobs.read_request(claimed.job).accessions == ("A1", "A2")
    status = site.status("t")
    assert (status.state, status.job) == (State.QUEUED, claimed.job.id)
    assert [accession.accession for accession in status.accessions] == ["A1", "A2"]


def put_link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def put_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def put_fifo(path: Path) -> None:
    os.mkfifo(path)


def put_directory(path: Path) -> None:
    path.mkdir()
    (path / "x").write_text("A1\n")


def put_hard_link(path: Path) -> None:
    other = path.parent.parent / "elsewhere"
    other.write_text("A1\n@end\n")
    path.hardlink_to(other)


def put_socket(path: Path) -> None:
    os.mknod(path, 0o140640)


def put_large(path: Path) -> None:
    path.write_bytes(b"A1\n" + b"#" * (2 << 20))


def put_endless(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)  # sparse: it takes no room, but reading it would take for ever


def put_binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 10)


def put_empty(path: Path) -> None:
    path.touch()


HOSTILE = [put_link, put_dangling_link, put_fifo, put_directory, put_hard_link, put_socket, put_large, put_endless, put_binary, put_empty]


@pytest.mark.parametrize("put", HOSTILE)
def test_a_hostile_drop_is_refused_and_kept(site: Site, put: Callable[[Path], None]) -> None:
    put(site.layout.drop("t"))
    claimed = site.claim("t")
    assert claimed.refused is not None
    status = site.status("t")
    assert (status.state, status.error and status.error.code) == (State.FAILED, Code.REQUEST_MALFORMED)
    assert names(site.layout.inbox) == []
    held = site.layout.held / claimed.job.id
    assert os.path.lexists(held / "drop")
    copy = held / "request"
    assert not copy.exists() or copy.stat().st_size <= MAX_REQUEST_BYTES + 1
    site.spool.queue.look(site.clock_s)
    assert site.spool.queue.choose() is None


@needs_root
def test_a_drop_that_the_daemon_may_not_read_is_refused(make_site: MakeSite, tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY_UID, -1)
    for folder in [tmp_path, *tmp_path.parents][:4]:
        folder.chmod(folder.stat().st_mode | 0o011)
    with as_nobody():
        site = make_site()
    drop = site.drop("t")
    drop.chmod(0o600)
    with as_nobody():
        claimed = site.claim("t")
    assert claimed.refused is not None
    assert claimed.refused.code is Code.REQUEST_MALFORMED
    assert "0640" in claimed.refused.advice
    assert claimed.job.record.owner_uid == 0


@needs_root
def test_a_directory_that_the_daemon_may_not_move_is_left_alone_and_named(make_site: MakeSite, tmp_path: Path) -> None:
    """To rename a directory into another one its own permission is needed: no client may stop the daemon with that."""
    os.chown(tmp_path, NOBODY_UID, -1)
    for folder in [tmp_path, *tmp_path.parents][:4]:
        folder.chmod(folder.stat().st_mode | 0o011)
    with as_nobody():
        site = make_site()
    put_directory(site.layout.drop("t"))
    with as_nobody():
        assert site.claims.claim("t", site.make_bytes(6)) is None
        found = Inbox(site.layout, settle_s=0).scan(0.0, set(), lambda *_: Leave.CLAIM)
    assert found.ready == ()
    assert found.strange == ("t.req",)
    assert names(site.layout.active) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", Code.REQUEST_MALFORMED),
        ("*\n", Code.ACCESSION_INVALID),
        ("MR*\n@end\n", Code.ACCESSION_INVALID),
        ("12345678901234567\n", Code.ACCESSION_INVALID),
        ("a\\b\n", Code.ACCESSION_INVALID),
        ("a\x07\n", Code.ACCESSION_INVALID),
        ("@nothing\nA1\n", Code.REQUEST_MALFORMED),
        ("@pacs NOBODY\nA1\n", Code.PACS_UNKNOWN),
    ],
)
def test_a_bad_request_is_refused_and_kept(site: Site, text: str, code: Code) -> None:
    site.drop("t", text)
    claimed = site.claim("t")
    assert site.status("t").error == (claimed.refused and claimed.refused.problem)
    assert site.status("t").error is not None
    assert claimed.job.record.problem is not None
    assert claimed.job.record.problem.code is code
    assert (site.layout.held / claimed.job.id / "request").read_text() == text


def test_of_two_daemons_one_has_the_drop(make_site: MakeSite) -> None:
    here, there = make_site(), make_site(instance="other")
    here.drop("t")
    assert here.claims.claim("t", b"here..") is not None
    assert there.claims.claim("t", b"there.") is None
    assert names(there.layout.active) == []
    assert len(names(here.layout.queued)) == 1


@pytest.mark.parametrize("random_bytes", [b"drawn.", b"\xff" * 6])
@pytest.mark.parametrize("event", [None, Event.TAKEN, Event.FAILED, Event.DEFERRED])
def test_no_job_gets_the_id_of_another_one(event: Event | None, random_bytes: bytes, site: Site) -> None:
    """The same letters were drawn twice within a second, and the other job is queued, in hand, held or deferred."""
    for ticket in ("a", "b"):
        site.drop(ticket)
    claimed = site.claims.claim("a", random_bytes)
    assert claimed is not None
    job = claimed.job
    for step in dict.fromkeys((Event.TAKEN, event)) if event else ():
        assert step is not None
        job = site.spool.jobs.advance(job, step, lambda record: make_status(record, site.now))
    claimed = site.claims.claim("b", random_bytes)
    assert claimed is not None
    assert claimed.job.id != job.id
    assert (site.status("a").job, site.status("b").job) == (job.id, claimed.job.id)


def test_what_the_client_writes_afterwards_does_not_count(site: Site) -> None:
    with site.drop("t").open("a", encoding="ascii") as still_open:
        claimed = site.claim("t")
        still_open.write("B2\n")
    assert site.spool.jobs.read_request(claimed.job).accessions == ("A1",)


class SharedDisk(Disk):
    """After each change of the disk something else gets its turn."""

    def __init__(self) -> None:
        self.after: Callable[[], None] = lambda: None

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.after()

    def remove(self, path: Path) -> None:
        super().remove(path)
        self.after()

    def remove_tree(self, path: Path) -> None:
        super().remove_tree(path)
        self.after()


def test_nobody_writes_the_status_of_a_job_that_a_worker_can_have(make_site: MakeSite) -> None:
    """As soon as the job can be found a worker finds it and ends it. What it says stands."""
    disk = SharedDisk()
    site, worker = make_site(disk), make_site()

    def take_and_end() -> None:
        worker.spool.queue.look(worker.clock_s)
        if (job := worker.spool.queue.choose()) is not None:
            disk.after = lambda: None
            worker.spool.outbox.write_status(evolve(make_status(job.record, worker.now), state=State.DONE))

    disk.after = take_and_end
    site.drop("t")
    site.claim("t")
    assert site.status("t").state is State.DONE
