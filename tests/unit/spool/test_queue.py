"""Which job is next, from a memory: it lists nothing, follows what others do, and is not believed where it is out of date."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mkisod.job.lifecycle import Event
from mkisod.job.record import encode_record, make_status
from mkisod.spool.glance import Glance
from mkisod.spool.jobs import Job, Jobs
from mkisod.spool.lines import Line, Lines
from mkisod.spool.operator import Operator
from tests.unit.spool.conftest import MakeSite, Site, names

LINES = [Line(rank, retrieves=retrieves, pacs=pacs) for rank in range(3) for retrieves in (False, True) for pacs in (None, "A")]
Steps = list[tuple[str, Line | None]]


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.none() | st.sampled_from(LINES))), st.sets(st.sampled_from(LINES)))
def test_lines_are_walked_by_rank_and_then_by_name(steps: Steps, open_lines: set[Line]) -> None:
    lines, expected = Lines(), dict[str, Line]()
    for name, line in steps:
        if line is None:
            lines.remove(name)
            expected.pop(name, None)
        else:
            lines.add(name, line)
            expected[name] = line
    assert lines.names == expected.keys()
    order = sorted(((line.rank, name) for name, line in expected.items() if line in open_lines))
    assert list(lines.walk(open_lines.__contains__)) == [(name, expected[name]) for _, name in order]


# --- Looking ----------------------------------------------------------------------------------------------------------------------


def age(path: Path, seconds: float) -> None:
    """Make the last change of a directory that old."""
    os.utime(path, ns=(0, time.time_ns() - int(seconds * 1e9)))


def test_a_directory_that_has_not_changed_for_a_while_is_not_listed_again(tmp_path: Path) -> None:
    seen = Glance(tmp_path, 0.005)
    assert seen.list_names(0) == []
    age(tmp_path, 60)
    assert (seen.list_names(0), seen.list_names(0), seen.due_s) == ([], None, None)
    (tmp_path / "a").touch()
    assert seen.list_names(0) == ["a"]


def test_a_change_that_leaves_no_trace_in_the_time_of_change_is_seen(tmp_path: Path) -> None:
    """Two changes within a tick of the file system's clock, and a look between them."""
    seen = Glance(tmp_path, 0.005)
    seen.list_names(0)
    changed = tmp_path.stat().st_mtime_ns
    (tmp_path / "a").touch()
    os.utime(tmp_path, ns=(changed, changed))
    assert seen.list_names(0) == ["a"]


def test_listings_of_much_keep_a_distance(tmp_path: Path) -> None:
    for number in range(250):
        (tmp_path / f"{number}").touch()
    seen = Glance(tmp_path, 0.005)
    assert len(seen.list_names(100.0) or ()) == 250
    assert seen.due_s is None, "nothing was put off"
    assert seen.list_names(100.005) is None
    assert seen.due_s == pytest.approx(100.010)
    assert len(seen.list_names(100.011) or ()) == 250
    assert seen.due_s is None


# --- Choosing ---------------------------------------------------------------------------------------------------------------------


def claim(site: Site, ticket: str, text: str = "A1\n@end\n") -> Job:
    site.drop(ticket, text)
    site.pass_time(1)
    return site.claim(ticket).job


def advance(site: Site, job: Job, *events: Event) -> Job:
    for event in events:
        job = site.spool.jobs.advance(job, event, lambda record: make_status(record, site.now))
    return job


def defer(site: Site, job: Job, after_s: float) -> Job:
    record = evolve(job.record, retry_at=site.now + timedelta(seconds=after_s))
    return advance(site, evolve(job, record=record), Event.DEFERRED)


def take_next(site: Site) -> Job:
    job = site.spool.queue.choose()
    assert job is not None
    job = advance(site, job, Event.TAKEN)
    site.spool.queue.forget(job.id)
    return job


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is listed from now on."""
    found: list[str] = []
    listdir = os.listdir

    def note(path: Any) -> list[Any]:
        found.append(Path(os.fsdecode(path)).name)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", note)
    return found


@pytest.mark.parametrize("waiting", [2, 40])
def test_a_choice_lists_nothing_and_reads_one_record_however_many_wait(
    waiting: int, site: Site, listed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(waiting):
        claim(site, f"t{number:02}")
    load, read = Jobs.load, list[str]()

    def note(directory: object) -> Job:
        read.append(str(directory))
        return load(directory)  # type: ignore[arg-type]

    monkeypatch.setattr(Jobs, "load", staticmethod(note))
    listed.clear()
    assert take_next(site).ticket == "t00"
    assert take_next(site).ticket == "t01"
    assert (listed, len(read)) == ([], 2)


def test_a_quiet_round_lists_no_jobs(site: Site, listed: list[str]) -> None:
    claim(site, "a")
    defer(site, advance(site, claim(site, "b"), Event.TAKEN), 60)
    for place in (site.layout.queued, site.layout.deferred):
        age(place, 60)
    site.spool.rounds.go(set())
    listed.clear()
    site.pass_time(30)
    assert site.spool.rounds.go(set()) == 30
    assert listed == ["inbox"]


def test_what_is_given_back_is_in_its_place_at_once(site: Site) -> None:
    """The oldest goes on first, also when it only has to be forwarded; nobody has to look for it."""
    first = claim(site, "a")
    claim(site, "b")
    taken = take_next(site)
    assert taken.id == first.id
    advance(site, evolve(taken, record=evolve(taken.record, published=True)), Event.STOPPED)
    job = site.spool.queue.choose(has_slot=lambda _: False)
    assert job is not None
    assert (job.ticket, job.record.published) == ("a", True)


def test_it_is_chosen_again_until_it_is_taken(site: Site) -> None:
    """One that has to run alone waits for the others to end, and nobody overtakes it."""
    claim(site, "a")
    claim(site, "b")
    chosen = [site.spool.queue.choose() for _ in range(3)]
    assert [job.ticket for job in chosen if job is not None] == ["a", "a", "a"]


def test_what_others_have_done_is_found_by_the_next_round(make_site: MakeSite) -> None:
    here, there = make_site(), make_site(instance="other")
    claim(there, "a")
    claim(there, "b")
    here.spool.rounds.go(set())
    take_next(there)
    assert take_next(here).ticket == "b", "what has gone meanwhile is found out"
    assert here.spool.queue.choose() is None


def test_what_has_gone_is_not_remembered_for_ever(make_site: MakeSite) -> None:
    """Also where nothing is chosen, since no PACS has a slot."""
    here, there = make_site(), make_site(instance="other")
    claim(there, "a")
    here.spool.rounds.go(set())
    assert len(here.spool.queue._lines.names) == 1
    take_next(there)
    here.spool.rounds.go(set())
    assert len(here.spool.queue._lines.names) == 0


def test_a_released_job_is_found_by_the_next_round(site: Site) -> None:
    job = advance(site, claim(site, "a"), Event.TAKEN)
    site.spool.queue.forget(job.id)
    advance(site, job, Event.FAILED)
    site.spool.rounds.go(set())
    assert site.spool.queue.choose() is None
    Operator(site.layout, now=lambda: site.now).release("a")
    site.spool.rounds.go(set())
    assert take_next(site).ticket == "a"


def test_what_came_behind_the_listing_is_not_forgotten(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker gives a job back while another thread looks."""
    job = claim(site, "a")
    taken = take_next(site)
    listdir = os.listdir

    def list_and_give_back(path: Path) -> list[str]:
        found = listdir(path)
        if path == site.layout.queued:
            advance(site, taken, Event.STOPPED)
        return found

    monkeypatch.setattr(os, "listdir", list_and_give_back)
    site.spool.queue.look(site.clock_s)
    assert take_next(site).id == job.id


# --- Waiting for a time -----------------------------------------------------------------------------------------------------------


def due(site: Site) -> list[str]:
    site.spool.queue.look(site.clock_s)
    return [job.ticket for job in site.spool.queue.list_due(site.now)[0]]


def test_the_time_of_a_deferred_job_follows_its_record(make_site: MakeSite) -> None:
    """Another daemon has tried it again meanwhile, and deferred it to an earlier time, then to a later one."""
    here, there = make_site(), make_site(instance="other")
    job = defer(there, advance(there, claim(there, "a"), Event.TAKEN), 600)
    assert due(here) == []
    job = defer(there, advance(there, job, Event.DUE, Event.TAKEN), 10)
    here.pass_time(20)
    there.pass_time(20)
    assert due(here) == ["a"]
    job = defer(there, advance(there, job, Event.DUE, Event.TAKEN), 600)
    assert due(here) == []


def test_a_memory_of_a_time_is_not_believed(make_site: MakeSite) -> None:
    """The record says another time since the last look, or is gone."""
    here, there = make_site(), make_site(instance="other")
    jobs = [defer(there, advance(there, claim(there, ticket), Event.TAKEN), 10) for ticket in ("a", "b", "c")]
    assert due(here) == []
    defer(there, advance(there, jobs[0], Event.DUE, Event.TAKEN), 600)
    advance(there, jobs[1], Event.DUE)
    here.pass_time(20)
    found, _ = here.spool.queue.list_due(here.now)
    assert [job.ticket for job in found] == ["c"]
    assert len(names(here.layout.deferred)) == 2


def test_a_job_that_was_deferred_anew_has_its_turn_all_the_same(site: Site) -> None:
    """Where the file system's clock is coarse, its directory looks as it did."""
    job = advance(site, claim(site, "a"), Event.TAKEN)
    site.spool.queue.forget(job.id)
    job = defer(site, job, 10)
    assert due(site) == []
    later = evolve(job.record, retry_at=site.now + timedelta(seconds=120))
    job.directory.record.write_bytes(encode_record(later))
    site.pass_time(60)
    assert site.spool.queue.list_due(site.now)[0] == []
    site.pass_time(61)
    assert [job.ticket for job in site.spool.queue.list_due(site.now)[0]] == ["a"]


def test_what_was_there_before_the_start_comes_before_what_is_claimed_now(make_site: MakeSite) -> None:
    """The claim wakes the workers: by then the queue is known."""
    claim(make_site(instance="other"), "old", "@priority high\nA1\n@end\n")
    here = make_site()
    here.drop("fresh")
    chosen: list[str] = []

    def choose() -> None:
        job = here.spool.queue.choose()
        assert job is not None
        chosen.append(job.ticket)

    here.spool.rounds._report_queued = choose
    here.pass_time(1)
    here.spool.rounds.go({"fresh.req"})
    assert chosen == ["old"]


def test_what_is_no_job_is_put_aside(site: Site) -> None:
    name = claim(site, "a").id
    take_next(site)
    (site.layout.queued / name).touch()
    (site.layout.deferred / f"{name[:-1]}a").touch()
    site.spool.rounds.go(set())
    assert sorted(names(site.layout.held)) == sorted([name, f"{name[:-1]}a"])
    assert site.spool.queue.choose() is None


def test_a_clock_that_hides_a_change_hides_it_for_a_while(tmp_path: Path) -> None:
    seen = Glance(tmp_path, 0.005)
    age(tmp_path, 60)
    changed = tmp_path.stat().st_mtime_ns
    assert seen.list_names(0) == []
    (tmp_path / "a").touch()
    os.utime(tmp_path, ns=(changed, changed))
    assert seen.list_names(599) is None
    assert seen.list_names(600) == ["a"]
