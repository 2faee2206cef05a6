"""Carries one job through its phases: retrieve, assemble, publish. Asks, does, records.

Owns a job from the moment it is taken to the moment it is done, held, or given back. Each phase ends in one event of the lifecycle, and
whatever goes wrong in one ends in one too: a named failure, a full disk, or a defect, which fails this job and no other.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from uuid import UUID

from attrs import evolve, frozen
from structlog.typing import FilteringBoundLogger

from mkisod.config.settings import Config
from mkisod.errors import Code, MkisodError, Permanent, Transient
from mkisod.job.lifecycle import Event, find_transition
from mkisod.job.progress import Account, describe_job
from mkisod.job.record import JobRecord
from mkisod.job.status import Result, Status
from mkisod.media.disc import Disc, DiscOrder, build_disc
from mkisod.pacs.associate import make_peer
from mkisod.pacs.expectations import Expectation, Expectations
from mkisod.pacs.received import read_received
from mkisod.pacs.retrieval import Interrupted, Retrieval
from mkisod.spool.jobs import Job, Jobs
from mkisod.spool.outbox import Outbox

STATUS_INTERVAL_S = 1.0  # the contract: at most once a second while it moves


@frozen
class Services:
    """What every worker works with. `now` is UTC, `clock_s` monotonic, `random_bytes` as os.urandom."""

    config: Config
    jobs: Jobs
    outbox: Outbox
    expectations: Expectations
    now: Callable[[], datetime]
    clock_s: Callable[[], float]
    random_bytes: Callable[[int], bytes]
    log: FilteringBoundLogger


class Attempt:
    """One attempt at one job: its record, what is known of it, and when its status was last written."""

    def __init__(self, services: Services, job: Job) -> None:
        self._services = services
        self.job = job
        self.log = services.log.bind(ticket=job.ticket, job=job.id)
        self.account = Account(services.jobs.read_request(job))
        self._began_s = services.clock_s()
        self._written_s = self._began_s

    def advance(self, event: Event) -> None:
        self.job = self._services.jobs.advance(self.job, event, self.describe)
        self._written_s = self._services.clock_s()
        log = self.log.warning if event is Event.FAILED else self.log.info
        problem = self.job.record.problem
        trouble = {"error": problem.code, "message": problem.message} if problem else {}
        log(f"job_{event}", state=self.job.record.state, **trouble)

    def fail(self, error: MkisodError) -> None:
        self.job = evolve(self.job, record=evolve(self.job.record, problem=error.problem))
        self.account = evolve(self.account, accession_problems=error.accessions, moves_over=True)
        self.advance(Event.FAILED)

    def publish(self, result: Result) -> None:
        self.account = evolve(self.account, result=result)
        transition = find_transition(self.job.record.state, Event.PUBLISHED)
        status = self.describe(evolve(self.job.record, state=transition.next_state))
        self._services.outbox.publish(self.job.directory, status)
        self.advance(Event.PUBLISHED)

    def take_stock(self, expectation: Expectation) -> None:
        self.account = evolve(self.account, received=expectation.copy_received(), bytes_received=expectation.bytes_received)

    def report(self, expectation: Expectation) -> None:
        """Write the progress into the status, at most once a second."""
        if self._services.clock_s() - self._written_s >= STATUS_INTERVAL_S:
            self.take_stock(expectation)
            self._services.outbox.write_status(self.describe(self.job.record))
            self._written_s = self._services.clock_s()

    def describe(self, record: JobRecord) -> Status:
        return describe_job(record, self.account, self._services.now(), self._services.clock_s() - self._began_s)


class Worker:
    """One thread's worth of work. `interrupt` is called from another one."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._interrupted = threading.Event()
        self._retrieval: Retrieval | None = None

    def interrupt(self) -> None:
        """Give the job in hand back to the queue, soon."""
        self._interrupted.set()
        if (retrieval := self._retrieval) is not None:
            retrieval.interrupt()
        self._services.expectations.wake()

    def take(self) -> Attempt | None:
        """The next job of the queue, taken; None where there is none. Called by one worker at a time."""
        while (job := self._services.jobs.choose()) is not None:
            attempt = Attempt(self._services, job)
            try:
                attempt.advance(Event.TAKEN)
            except FileNotFoundError:  # another daemon was first
                continue
            return attempt
        return None

    def carry(self, attempt: Attempt) -> None:
        """Take a job to its end, or give it back. Raises OSError where not even that can be recorded."""
        try:
            paths, warnings = self._retrieve(attempt)
            attempt.advance(Event.RETRIEVED)
            result = self._assemble(attempt, paths, warnings)
            attempt.advance(Event.ASSEMBLED)
            attempt.publish(result)
        except Interrupted:
            attempt.advance(Event.STOPPED)
        except MkisodError as error:
            if self._interrupted.is_set():  # a consequence of the interruption
                attempt.advance(Event.STOPPED)
            else:
                attempt.fail(error)
        except OSError as error:
            attempt.fail(explain_os_error(error))
        except Exception as error:
            attempt.log.exception("job_hit_defect")
            attempt.fail(Permanent(Code.INTERNAL, f"An unexpected {type(error).__name__} ended the job."))

    def _retrieve(self, attempt: Attempt) -> tuple[list[Path], tuple[str, ...]]:
        """The files of all instances, and what is to be said about them."""
        services, job, request = self._services, attempt.job, attempt.account.request
        name = request.pacs or services.config.default_pacs
        settings = services.config.pacs[name]
        self._retrieval = Retrieval(
            make_peer(name, settings),
            settings,
            services.config.receiver.ae_title,
            services.expectations,
            clock_s=services.clock_s,
            is_interrupted=self._interrupted.is_set,
            report=attempt.report,
            log=attempt.log,
        )
        manifest = self._retrieval.ask(request)
        objects = services.jobs.open_objects(job)
        already = [read_received(path) for path in objects.list_paths()]
        attempt.account = evolve(attempt.account, manifest=manifest, received_before=len(already))
        expectation = Expectation(job.id, job.ticket, manifest, objects, already)
        try:
            self._retrieval.fetch(request, expectation)
        finally:
            attempt.take_stock(expectation)
        return [objects.path(uid) for uid in attempt.account.received], tuple(expectation.warnings)

    def _assemble(self, attempt: Attempt, paths: list[Path], warnings: tuple[str, ...]) -> Result:
        job, request, media = attempt.job, attempt.account.request, self._services.config.media
        now = self._services.now()
        order = DiscOrder(
            file_set_id=request.label or f"D{now:%Y%m%d}{job.id[-6:-2].upper()}",
            # A UID made of a random UUID: PS3.5 B.2.
            file_set_uid=f"2.25.{UUID(bytes=self._services.random_bytes(16), version=4).int}",
            created=now,
            output=frozenset(request.output or media.output),
            medium=request.medium or media.medium,
            institution=media.institution,
            contact=media.contact,
            disclaimer=media.disclaimer,
            allow_several_patients="several-patients" in request.allow,
        )
        self._services.jobs.make_result_directory(job)
        disc = build_disc(order, paths, job.directory.result, report_progress=self._check_interrupted)
        return describe_disc(job.id, disc, warnings)

    def _check_interrupted(self, *_: int) -> None:
        if self._interrupted.is_set():
            raise Interrupted


def describe_disc(job: str, disc: Disc, warnings: tuple[str, ...]) -> Result:
    """The `result` part of the status."""
    return Result(
        path=job,
        volumes=disc.volumes,
        substitutions=tuple(
            f"{s.record_type} record of {s.sop_instance_uid or s.series_instance_uid or s.study_instance_uid}: "
            f"{s.keyword} = {s.value} ({s.reason})"
            for s in disc.substitutions
        ),
        warnings=(*warnings, *disc.warnings),
    )


def explain_os_error(error: OSError) -> MkisodError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Transient(Code.DISK_FULL, "The file system of the spool is full.")
    return Permanent(Code.INTERNAL, f"The spool could not be written: {error.strerror}.", "Look at the file system of the spool.")
