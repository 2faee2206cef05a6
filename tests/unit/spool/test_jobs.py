"""Jobs in their places: which one is next, who holds an instance, and what several daemons on one spool do to each other."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from mkisod.errors import Code, Permanent, Problem
from mkisod.job.lifecycle import Event
from mkisod.job.record import make_status
from mkisod.job.status import State
from mkisod.spool.claim import Claims
from mkisod.spool.durable import WaitingDisk
from mkisod.spool.jobs import Job, JobGone, Jobs
from mkisod.spool.layout import Layout, make_directories
from tests.unit.spool.conftest import MakeSite, Site, names

PROBLEM = Problem(Code.PACS_UNREACHABLE, "It is not there.", "Look.", transient=True)


def take_all(site: Site) -> list[str]:
    taken = []
    while (job := site.spool.queue.choose()) is not None:
        site.spool.jobs.advance(job, Event.TAKEN, lambda record: make_status(record, site.now))
        taken.append(job.ticket)
    return taken


def defer(site: Site, ticket: str, after_s: float) -> Job:
    site.drop(ticket)
    job = site.spool.jobs.advance(site.claim(ticket).job, Event.TAKEN, lambda record: make_status(record, site.now))
    record = evolve(job.record, problem=PROBLEM, retry_at=site.now + timedelta(seconds=after_s))
    return site.spool.jobs.advance(evolve(job, record=record), Event.DEFERRED, lambda record: make_status(record, site.now))


def test_priority_goes_before_age(site: Site) -> None:
    for ticket, priority in (("a", "low"), ("b", "normal"), ("c", "high"), ("d", "normal"), ("e", "high")):
        site.drop(ticket, f"@priority {priority}\nA1\n@end\n")
        site.claim(ticket)
        site.pass_time(1)
    assert take_all(site) == ["c", "e", "b", "d", "a"]


def test_a_job_that_nobody_can_read_is_put_aside_and_stops_nobody(site: Site) -> None:
    for ticket in ("a", "b"):
        site.drop(ticket)
    broken = site.claim("a").job
    site.claim("b")
    broken.directory.record.write_text("{")
    assert take_all(site) == ["b"]
    assert names(site.layout.held) == [broken.id]


def test_a_deferred_job_is_due_at_its_time(site: Site) -> None:
    defer(site, "a", 60)
    defer(site, "b", 30)
    site.spool.queue.look(site.clock_s)
    due, next_at = site.spool.queue.list_due(site.now)
    assert (due, next_at) == ([], site.now + timedelta(seconds=30))
    site.pass_time(30)
    due, next_at = site.spool.queue.list_due(site.now)
    assert [job.ticket for job in due] == ["b"]
    assert next_at == site.now + timedelta(seconds=30)


def test_a_round_claims_what_is_there_and_wakes_what_is_due(site: Site) -> None:
    defer(site, "a", 30)
    site.drop("b", "*\n@end\n")
    site.drop("c")
    assert site.spool.rounds.go(set()) == 30
    assert (site.status("b").state, site.status("c").state) == (State.FAILED, State.QUEUED)
    site.pass_time(30)
    site.spool.rounds.go(set())
    assert (site.status("a").state, site.status("a").attempt) == (State.QUEUED, 2)


def test_a_ticket_that_is_not_finished_is_waited_for(site: Site) -> None:
    site.drop("t", "A1\n@end\n")
    site.spool.rounds.go(set())
    first = site.status("t").job
    site.drop("t", "A2\n@end\n")
    site.spool.rounds.go(set())
    assert site.status("t").job == first
    job = site.spool.queue.choose()
    assert job is not None
    job = site.spool.jobs.advance(job, Event.TAKEN, lambda record: make_status(record, site.now))
    job = evolve(job, record=evolve(job.record, problem=PROBLEM))
    site.spool.jobs.advance(job, Event.FAILED, lambda record: make_status(record, site.now))
    site.spool.rounds.go(set())
    assert (site.status("t").job != first, site.status("t").state) == (True, State.QUEUED)


def test_of_two_daemons_one_takes_a_job(make_site: MakeSite) -> None:
    here, there = make_site(), make_site(instance="other")
    here.drop("t")
    here.claim("t")
    here.spool.queue.look(here.clock_s)
    there.spool.queue.look(there.clock_s)
    mine, theirs = here.spool.queue.choose(), there.spool.queue.choose()
    assert mine is not None
    assert theirs is not None
    here.spool.jobs.advance(mine, Event.TAKEN, lambda record: make_status(record, here.now))
    with pytest.raises(JobGone):
        there.spool.jobs.advance(theirs, Event.TAKEN, lambda record: make_status(record, there.now))
    assert (here.layout.active / mine.id).exists()
    assert not (there.layout.active / mine.id).exists()
    assert here.status("t").state is State.RETRIEVING


def test_a_cancel_that_comes_too_late_changes_nothing(make_site: MakeSite) -> None:
    """The job was found in the queue, but a worker has it now."""
    site, worker = make_site(), make_site()
    site.drop("t")
    job = site.claim("t").job
    taken = worker.spool.jobs.advance(job, Event.TAKEN, lambda record: make_status(record, worker.now))
    with pytest.raises(FileNotFoundError):
        make_site(instance="other").spool.jobs.advance(job, Event.CANCELLED, lambda record: make_status(record, site.now))
    assert site.status("t").state is State.RETRIEVING
    assert worker.spool.jobs.load(taken.directory).record.state is State.RETRIEVING


def test_an_instance_is_served_by_one_daemon(make_site: MakeSite) -> None:
    here = make_site()
    here.spool.jobs.lock()
    with pytest.raises(Permanent) as refused:
        make_site().spool.jobs.lock()
    assert refused.value.code is Code.INSTANCE_IN_USE
    make_site(instance="other").spool.jobs.lock()
    here.spool.jobs.unlock()
    make_site().spool.jobs.lock()


def test_the_lock_ends_with_its_process(make_site: MakeSite) -> None:
    site = make_site()
    program = (
        "import sys, os; from pathlib import Path; from mkisod.spool.jobs import Jobs; from mkisod.spool.layout import Layout\n"
        f"Jobs(Layout(Path({str(site.root)!r}), 'main'), None, None, boot_id='').lock(); print('locked', flush=True); sys.stdin.read()"
    )
    command, root = [sys.executable, "-c", program], Path(__file__).parents[3]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(root)}) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(Permanent):
            site.spool.jobs.lock()
        other.kill()
    site.spool.jobs.lock()


def test_objects_are_not_trusted_over_a_reboot_unless_they_were_synced(make_site: MakeSite) -> None:
    site = make_site()
    job = defer(site, "t", 0)
    for boot_id, left in (("boot-1", True), ("boot-2", False)):
        (job.directory.objects).mkdir(exist_ok=True)
        (job.directory.objects / "x.dcm").touch()
        jobs = Jobs(site.layout, site.disk, site.spool.outbox, boot_id=boot_id)
        job = jobs.advance(jobs.load(job.directory), Event.DUE, lambda record: make_status(record, site.now))
        job = jobs.advance(job, Event.TAKEN, lambda record: make_status(record, site.now))
        assert (job.directory.objects / "x.dcm").exists() is left
        job = jobs.advance(job, Event.DEFERRED, lambda record: make_status(record, site.now))


def test_a_spool_is_made_with_its_modes_and_on_one_file_system(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "new" / "spool", "main")
    make_directories(layout)
    make_directories(layout)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (layout.inbox, layout.work, layout.outbox)}
    assert modes == {"inbox": 0o3730, "work": 0o2700, "outbox": 0o2710}
    layout.held.rmdir()
    layout.held.symlink_to("/dev/shm")
    with pytest.raises(Permanent, match="another file system") as refused:
        make_directories(layout)
    assert refused.value.code is Code.SPOOL_UNUSABLE


def test_of_many_drops_a_round_claims_a_part_and_the_next_follows_at_once(site: Site) -> None:
    for number in range(150):
        site.drop(f"t{number:03}")
    assert site.spool.rounds.go(set()) == 0
    assert len(names(site.layout.queued)) == 100
    site.pass_time(1)
    assert (site.spool.rounds.go(set()) or 0) > 1
    assert len(names(site.layout.queued)) == 150


@pytest.mark.parametrize("why", ["full", "unclaimable"])
def test_where_none_of_many_drops_can_be_claimed_the_next_round_waits(why: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(150):
        site.drop(f"t{number:03}")
    if why == "full":
        monkeypatch.setattr(type(site.spool.retention), "has_room", lambda _: False)
    else:
        monkeypatch.setattr(Claims, "claim", lambda *_: None)
    wait_s = site.spool.rounds.go(set())
    assert wait_s is not None
    assert wait_s > 1


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_an_instance_that_may_not_be_on_the_disk_is_fetched_again(site: Site, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The next fsync of it would say that all is well."""
    folder = site.root / "objects"
    folder.mkdir()
    paths = [folder / str(count) for count in range(40)]
    for path in paths:
        path.touch()
    fsync, told = os.fsync, list[Path]()

    def fail_once(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path == paths[3] and not told:
            told.append(path)
            raise OSError(number, os.strerror(number))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail_once)
    jobs = Jobs(site.layout, WaitingDisk(lambda _: True), site.spool.outbox, boot_id="boot-1")
    with pytest.raises(OSError, match=os.strerror(number)), jobs.sync_meanwhile(paths):
        pass
    assert [path for path in paths if not path.exists()] == [paths[3]]
