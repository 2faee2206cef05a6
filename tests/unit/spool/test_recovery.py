"""The start-up scan: after a death between any two changes of the disk, every request is where its status says, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from mkisod.errors import Code, Problem
from mkisod.job.lifecycle import Event
from mkisod.job.record import make_status
from mkisod.job.status import Result, State, Volume
from mkisod.spool.durable import Disk
from mkisod.spool.jobs import Job
from tests.unit.spool.conftest import MakeSite, Site, names

PROBLEM = Problem(Code.PACS_UNREACHABLE, "It is not there.", "Look.", transient=True)
VOLUME = Volume("D1", "D1", None, None, None, None, 1, None)


class Death(BaseException):
    """The process ends here."""


class QuickDisk(Disk):
    """Nobody pulls the plug in these tests, so a sync need only find what it is to sync."""

    def sync(self, path: Path) -> None:
        path.lstat()


class MortalDisk(QuickDisk):
    """Dies before the call whose number is `left`; what comes after never happens."""

    def __init__(self) -> None:
        self.left = 1 << 30

    def _live(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Death

    def write(self, path: Path, data: bytes) -> None:
        self._live()
        super().write(path, data)

    def sync(self, path: Path) -> None:
        self._live()
        super().sync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._live()
        super().rename(source, target)

    def make_directory(self, path: Path) -> None:
        self._live()
        super().make_directory(path)

    def remove(self, path: Path) -> None:
        self._live()
        super().remove(path)

    def remove_tree(self, path: Path) -> None:
        self._live()
        super().remove_tree(path)


def advance(site: Site, job: Job, event: Event, problem: Problem | None = None) -> Job:
    job = evolve(job, record=evolve(job.record, problem=problem))
    return site.spool.jobs.advance(job, event, lambda record: make_status(record, site.now, ("A1",)))


def queue(site: Site) -> Job:
    site.drop("t")
    return site.claim("t").job


def take(site: Site) -> Job:
    job = advance(site, queue(site), Event.TAKEN)
    objects = site.spool.jobs.open_objects(job)
    file = objects.create()
    os.write(file.fd, b"an instance")
    file.keep("1.2.3")
    return job


def assemble(site: Site) -> Job:
    job = advance(site, advance(site, take(site), Event.RETRIEVED), Event.ASSEMBLED)
    site.spool.jobs.make_result_directory(job)
    (job.directory.result / "README.TXT").write_text("a disc")
    return job


def publish(site: Site, job: Job) -> None:
    result = Result(job.id, (VOLUME,))
    status = evolve(make_status(evolve(job.record, state=State.DONE), site.now, ("A1",)), result=result)
    site.spool.outbox.publish(job.directory, status)
    site.spool.jobs.advance(job, Event.PUBLISHED, lambda _: status)


def publish_first(site: Site) -> Job:
    """Now the ticket has an older result."""
    publish(site, assemble(site))
    site.pass_time(60)
    return assemble(site)


def drop_good(site: Site) -> None:
    site.drop("t")


def drop_bad(site: Site) -> None:
    site.drop("t", "*\n")


# What is there before, and what the daemon is doing when it dies.
STEPS: dict[str, tuple[Callable[[Site], Any], Callable[[Site, Any], object]]] = {
    "claim": (drop_good, lambda site, _: site.claim("t")),
    "refuse": (drop_bad, lambda site, _: site.claim("t")),
    "take": (queue, lambda site, job: advance(site, job, Event.TAKEN)),
    "stop": (take, lambda site, job: advance(site, job, Event.STOPPED)),
    "fail": (take, lambda site, job: advance(site, job, Event.FAILED, PROBLEM)),
    "defer": (take, lambda site, job: advance(site, job, Event.DEFERRED, PROBLEM)),
    "leave incomplete": (take, lambda site, job: advance(site, job, Event.LEFT_INCOMPLETE, PROBLEM)),
    "go on": (take, lambda site, job: advance(site, job, Event.RETRIEVED)),
    "publish": (assemble, publish),
    "publish anew": (publish_first, publish),
    "cancel queued": (queue, lambda site, job: advance(site, job, Event.CANCELLED)),
    "cancel in hand": (take, lambda site, job: advance(site, job, Event.CANCELLED)),
    "queue again": (lambda site: advance(site, take(site), Event.DEFERRED, PROBLEM), lambda site, job: advance(site, job, Event.DUE)),
    "release": (lambda site: advance(site, take(site), Event.FAILED, PROBLEM), lambda site, job: advance(site, job, Event.RELEASED)),
}


def find_jobs(site: Site) -> list[Path]:
    return [path.parent for path in site.layout.work.rglob("job.json")]


def check_consistent(site: Site) -> State | None:
    """Everything that a client and an operator may rely on once the daemon is up. The state of the request; None: still in the inbox."""
    assert names(site.layout.active) == []
    assert names(site.layout.trash) == []
    jobs = find_jobs(site)
    if site.layout.drop("t").exists():
        assert jobs == []
        return None
    status = site.status("t")
    assert len(jobs) == (status.state in (State.QUEUED, State.DEFERRED, State.FAILED))
    for directory in jobs:
        places = {State.QUEUED: site.layout.queued, State.DEFERRED: site.layout.deferred, State.FAILED: site.layout.held}
        assert directory == places[status.state] / status.job
        assert (directory / "request").exists()
        assert status.error is not None or status.state is State.QUEUED
    results = [name for name in names(site.layout.ticket("t")) if name != "status.json" and not name.startswith(".")]
    if status.state is State.DONE:
        assert results == [status.job]
        assert (site.layout.result("t", status.job) / "README.TXT").read_text() == "a disc"
        assert status.result is not None
    else:
        assert status.job not in results, "what is published is done"
    return status.state


def die_everywhere(tmp_path: Path, step: str) -> list[State | None]:
    """The state of the request after a death before the first change, the second ... and after all of them."""
    before, do = STEPS[step]
    states: list[State | None] = []
    while True:
        disk = MortalDisk()
        site = Site(tmp_path / f"{len(states)}", disk)
        job = before(site)
        disk.left = len(states)
        try:
            do(site, job)
            died = False
        except Death:
            died = True
        reborn = Site(site.root, QuickDisk(), now=site.now)
        reborn.numbers = 100
        reborn.spool.recover()
        states.append(check_consistent(reborn))
        files = reborn.list_files()
        reborn.spool.recover()
        assert reborn.list_files() == files, "a second start finds nothing to do"
        if not died:
            return states


@pytest.mark.parametrize(
    ("step", "may_be"),
    [
        ("claim", [None, State.QUEUED]),
        ("refuse", [None, State.FAILED]),
        ("take", [State.QUEUED]),
        ("stop", [State.QUEUED]),
        ("fail", [State.QUEUED, State.FAILED]),
        ("defer", [State.QUEUED, State.DEFERRED]),
        ("leave incomplete", [State.QUEUED, State.FAILED]),
        ("go on", [State.QUEUED]),
        ("publish", [State.QUEUED, State.DONE]),
        ("publish anew", [State.QUEUED, State.DONE]),
        ("cancel queued", [State.QUEUED, State.CANCELLED]),
        ("cancel in hand", [State.QUEUED, State.CANCELLED]),
        ("queue again", [State.DEFERRED, State.QUEUED]),
        ("release", [State.FAILED, State.QUEUED]),
    ],
)
def test_a_death_anywhere_leaves_the_request_before_or_after(tmp_path: Path, step: str, may_be: list[State | None]) -> None:
    states = die_everywhere(tmp_path, step)
    assert len(states) > 3
    assert set(states) == set(may_be)
    assert states == sorted(states, key=may_be.index), "once it is done it stays done"


def test_what_was_received_is_still_there(site: Site, make_site: MakeSite) -> None:
    job = take(site)
    make_site().spool.recover()
    assert [path.read_bytes() for path in (site.layout.queued / job.id / "objects").iterdir()] == [b"an instance"]


def test_what_nobody_can_read_is_put_aside_and_stops_nothing(site: Site, make_site: MakeSite) -> None:
    first, second = queue(site), take_another(site)
    first.directory.record.write_text("{")
    second.directory.record.write_text("{}")
    reborn = make_site()
    reborn.spool.recover()
    assert sorted(names(reborn.layout.held)) == sorted([first.id, second.id])


def take_another(site: Site) -> Job:
    site.drop("u")
    return advance(site, site.claim("u").job, Event.TAKEN)


def test_a_status_that_nobody_can_read_is_written_anew(site: Site, make_site: MakeSite) -> None:
    job = queue(site)
    site.layout.status("t").write_text("{")
    make_site().spool.recover()
    assert site.status("t").job == job.id


def test_a_status_that_is_gone_is_written_anew(site: Site, make_site: MakeSite) -> None:
    job = queue(site)
    site.layout.status("t").unlink()
    make_site().spool.recover()
    assert (site.status("t").job, site.status("t").state) == (job.id, State.QUEUED)


@pytest.mark.parametrize("seconds", [0, 1, 3600])
def test_a_held_job_does_not_speak_for_a_ticket_that_was_used_again(site: Site, make_site: MakeSite, seconds: int) -> None:
    site.drop("t", "*\n")
    refused = site.claim("t").job
    site.pass_time(seconds)
    publish(site, assemble(site))
    assert site.status("t").job != refused.id
    make_site().spool.recover()
    assert site.status("t").state is State.DONE


def test_a_request_that_is_no_longer_valid_stops_nothing(site: Site, make_site: MakeSite) -> None:
    """After an update with a stricter grammar, or on a failing disk. The worker that takes it says what is wrong with it."""
    job, other = take(site), take_another(site)
    job.directory.request.write_text("*\n")
    make_site().spool.recover()
    assert sorted(names(site.layout.queued)) == sorted([job.id, other.id])


def test_a_file_of_a_check_that_died_stops_nothing(site: Site, make_site: MakeSite) -> None:
    for place in (site.layout.active, site.layout.queued, site.layout.held, site.layout.outbox):
        (place / ".probe-1").touch()
    make_site().spool.recover()


def test_a_result_that_tells_nothing_is_made_once_more(site: Site, make_site: MakeSite) -> None:
    job = assemble(site)
    site.spool.outbox.publish(job.directory, make_status(job.record, site.now))
    (site.layout.result("t", job.id) / "result.json").write_text("")
    make_site().spool.recover()
    assert not site.layout.result("t", job.id).exists()
    assert (names(site.layout.queued), site.status("t").state) == ([job.id], State.QUEUED)
