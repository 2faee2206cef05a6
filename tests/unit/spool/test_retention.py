"""What goes, and when. Files get their age by os.utime, the spool by its clock."""

from __future__ import annotations

import os

import pytest
from attrs import evolve

from mkisod.job.lifecycle import Event
from mkisod.job.record import make_status
from mkisod.job.status import Result, State, Volume
from mkisod.spool.jobs import Job
from tests.unit.spool.conftest import Site

DAY_S = 86400
VOLUME = Volume("D1", "D1", None, None, None, None, 1, None)


def publish(site: Site, ticket: str) -> Job:
    site.drop(ticket)
    job = site.claim(ticket).job
    for event in (Event.TAKEN, Event.RETRIEVED, Event.ASSEMBLED):
        job = site.spool.jobs.advance(job, event, lambda record: make_status(record, site.now))
    site.spool.jobs.make_result_directory(job)
    (job.directory.result / "README.TXT").write_text("a disc")
    status = evolve(make_status(evolve(job.record, state=State.DONE), site.now), result=Result(job.id, (VOLUME,)))
    site.spool.outbox.publish(job.directory, status)
    site.spool.jobs.advance(job, Event.PUBLISHED, lambda _: status)
    return job


def pass_days(site: Site, days: float) -> None:
    """Everything that is there now grows older."""
    site.pass_time(days * DAY_S)
    for path in site.root.rglob("*"):
        os.utime(path, (site.now.timestamp() - days * DAY_S,) * 2)


@pytest.mark.parametrize(("days", "result", "status"), [(6.9, True, True), (7.1, False, True), (29.9, False, True), (30.1, False, False)])
def test_a_result_goes_first_and_its_status_later(site: Site, days: float, result: bool, status: bool) -> None:
    job = publish(site, "t")
    pass_days(site, days)
    site.spool.retention.remove_expired()
    assert site.layout.result("t", job.id).exists() is result
    assert site.layout.status("t").exists() is status
    if status:
        assert (site.status("t").result is not None) is result


def test_an_older_result_that_no_status_speaks_of_goes_too(site: Site) -> None:
    job = publish(site, "t")
    site.drop("t", "*\n")
    site.claim("t")
    assert (site.status("t").state, site.status("t").result) == (State.FAILED, None)
    pass_days(site, 7.1)
    site.spool.retention.remove_expired()
    assert not site.layout.result("t", job.id).exists()


def test_a_held_job_goes_in_its_time(site: Site) -> None:
    site.drop("t", "*\n")
    job = site.claim("t").job
    pass_days(site, 29.9)
    site.spool.retention.remove_expired()
    assert (site.layout.held / job.id).exists()
    pass_days(site, 30.1)
    site.spool.retention.remove_expired()
    assert not (site.layout.held / job.id).exists()


def test_what_is_being_forwarded_keeps_its_result_and_its_objects(site: Site) -> None:
    """However old it is, and however little room there is: it is not finished."""
    site.drop("t", "A1\n@forward X\n@end\n")
    job = site.claim("t").job
    for event in (Event.TAKEN, Event.RETRIEVED, Event.ASSEMBLED, Event.KEPT):
        job = site.spool.jobs.advance(job, event, lambda record: make_status(record, site.now))
    site.spool.jobs.open_objects(job)
    site.spool.jobs.make_result_directory(job)
    job = evolve(job, record=evolve(job.record, published=True))
    status = evolve(make_status(job.record, site.now), result=Result(job.id, (VOLUME,)))
    site.spool.outbox.publish(job.directory, status)
    job = site.spool.jobs.advance(job, Event.PUBLISHED_TO_FORWARD, lambda _: status)
    assert (site.status("t").state, site.status("t").finished) == (State.FORWARDING, False)
    pass_days(site, 40)
    site.spool.retention.remove_expired()
    site.spool.retention.make_room()
    assert site.layout.result("t", job.id).exists()
    assert site.status("t").result is not None
    assert job.directory.objects.exists()
