"""A worker and the spool, before any archive is asked: what it takes in hand, what it leaves to others, and what can fail no more."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import evolve

from mkisod.attempt import Attempt, Services
from mkisod.config.settings import Config, SpoolSettings
from mkisod.errors import Code, Permanent
from mkisod.job.lifecycle import Event
from mkisod.job.record import make_status
from mkisod.job.status import State
from mkisod.pacs.expectations import Expectations
from mkisod.spool.durable import Disk
from mkisod.spool.jobs import Job
from mkisod.spool.layout import Layout, make_directories
from mkisod.spool.spool import Host, Spool, open_spool
from mkisod.worker import Worker
from tests.unit.spool.conftest import make_log

NOW = datetime(2026, 11, 22, 8, 15, tzinfo=UTC)


def make_services(root: Path, instance: str = "main") -> Services:
    layout = Layout(root, instance)
    make_directories(layout)
    numbers = iter(range(1, 1000))
    log = make_log()
    host = Host(lambda: NOW, time.monotonic, lambda count: next(numbers).to_bytes(count), "boot-1", log)
    spool = open_spool(
        layout,
        Disk(),
        SpoolSettings(min_free_mib=0),
        host,
        check_request=lambda _: None,
        cancel_active=lambda _: False,
        report_queued=lambda: None,
        is_stopping=lambda: False,
    )
    return Services(Config(), spool, Expectations(has_room=lambda: True), host)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return make_services(tmp_path / "spool")


def queue(spool: Spool) -> Job:
    spool.layout.drop("t").write_text("A1\n@end\n")
    spool.rounds.go(set())
    job = spool.queue.choose()
    assert job is not None
    return job


def read_state(services: Services) -> State:
    status = services.spool.outbox.read_status("t")
    assert status is not None
    return status.state


def test_a_job_is_taken_in_hand(services: Services) -> None:
    job = queue(services.spool)
    assert Worker(services).take(job)
    assert read_state(services) is State.RETRIEVING
    assert (services.spool.layout.active / job.id).exists()


def test_a_job_that_another_daemon_took_is_left_to_it(services: Services, tmp_path: Path) -> None:
    """Before the request is read, or after."""
    job = queue(services.spool)
    assert Worker(make_services(tmp_path / "spool", "other")).take(job)
    assert not Worker(services).take(job)
    assert read_state(services) is State.RETRIEVING


def test_a_job_that_is_just_being_cancelled_is_left_to_its_end(services: Services) -> None:
    """What waits is taken in hand to be cancelled, so it stands where a worker's jobs do."""
    job = queue(services.spool)
    job.directory.path.rename(services.spool.layout.active / job.id)
    worker = Worker(services)
    assert not worker.take(job)
    assert not worker.cancel(job.id)


def test_a_request_that_is_no_longer_valid_is_held(services: Services) -> None:
    job = queue(services.spool)
    job.directory.request.write_text("*\n")
    assert not Worker(services).take(job)
    status = services.spool.outbox.read_status("t")
    assert status is not None
    assert (status.state, status.error and status.error.code) == (State.FAILED, Code.ACCESSION_INVALID)
    assert [path.name for path in services.spool.layout.held.iterdir()] == [job.id]


def test_a_missing_file_of_a_job_in_hand_is_not_taken_for_another_daemon(services: Services) -> None:
    job = queue(services.spool)
    shutil.rmtree(services.spool.layout.outbox)
    with pytest.raises(FileNotFoundError):
        Worker(services).take(job)


def test_what_is_published_can_fail_no_more(services: Services) -> None:
    """The status could not be written, say: then the next start writes it. Nobody may say `failed` of a disc that stands there."""
    jobs, outbox = services.spool.jobs, services.spool.outbox
    job = jobs.advance(queue(services.spool), Event.TAKEN, lambda record: make_status(record, NOW))
    for event in (Event.RETRIEVED, Event.ASSEMBLED):
        job = jobs.advance(job, event, lambda record: make_status(record, NOW))
    jobs.make_result_directory(job)
    outbox.publish(job.directory, make_status(evolve(job.record, state=State.DONE), NOW))
    error = Permanent(Code.INTERNAL, "The spool could not be written.")
    with pytest.raises(Permanent) as raised:
        Attempt(services, job).fail(error)
    assert raised.value is error
    assert read_state(services) is State.PUBLISHING
    make_services(services.spool.layout.root).spool.recover()
    assert read_state(services) is State.DONE


def test_the_status_says_how_much_of_the_disc_is_written_once_a_second(services: Services) -> None:
    now_s = [0.0]
    services = evolve(services, host=evolve(services.host, clock_s=lambda: now_s[0]))
    attempt = Attempt(services, queue(services.spool))
    attempt.take()
    seen = []
    for now_s[0], done in ((0.5, 10), (1.0, 20), (1.9, 30), (2.0, 40)):
        attempt.report_assembly(done, 50)
        status = services.spool.outbox.read_status("t")
        assert status is not None
        seen.append(status.progress.percent_assembled)
    assert seen == [None, 40, 40, 80]
