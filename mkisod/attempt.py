"""One attempt at one job: its record, what is known of it, and the word about it in status and journal.

Owns the record of a job while it is in hand. Each step is one event of the lifecycle, carried out by the spool and logged once. On failure
(OSError) the step is not done, and the start-up scan goes on from there.
"""

from __future__ import annotations

import threading
from typing import Any

from attrs import evolve, frozen

from mkisod.config.settings import Config
from mkisod.errors import Code, MkisodError, Problem
from mkisod.job.crashes import begin_attempt, end_attempt
from mkisod.job.lifecycle import Event, find_transition
from mkisod.job.moves import list_counted
from mkisod.job.progress import Account, describe_job
from mkisod.job.record import JobRecord
from mkisod.job.retry import History, RetryRules, note_failure, plan_retry
from mkisod.job.status import Result, Status
from mkisod.pacs.expectation import Expectation
from mkisod.pacs.expectations import Expectations
from mkisod.spool.jobs import Job
from mkisod.spool.spool import Host, Spool

STATUS_INTERVAL_S = 1.0  # the contract: at most once a second while it moves


@frozen
class Services:
    """What every worker works with."""

    config: Config
    spool: Spool
    expectations: Expectations
    host: Host


class Attempt:
    """One attempt at one job: its record, what is known of it, and when its status was last written."""

    def __init__(self, services: Services, job: Job) -> None:
        self._services = services
        self._host = services.host
        self.job = job
        self.log = services.host.log.bind(ticket=job.ticket, job=job.id)
        self.account = Account(services.spool.jobs.read_request(job))
        self.cancelled = threading.Event()
        self._began_s = self._written_s = self._phase_began_s = self._host.clock_s()

    def take(self) -> None:
        """The first step. What the daemon might die of is counted before the work begins."""
        record = self.job.record
        crashes = begin_attempt(record.crashes, self._services.spool.jobs.count_progress(self.job))
        self.job = evolve(self.job, record=evolve(record, crashes=crashes, problem=None))
        self.advance(Event.TAKEN)

    def advance(self, event: Event, **facts: Any) -> None:
        """One step of the job. `facts` are what the journal is to tell of it beside the state."""
        self.job = self._services.spool.jobs.advance(self.job, event, self.describe)
        now_s, record = self._host.clock_s(), self.job.record
        self._written_s, duration_s, self._phase_began_s = now_s, now_s - self._phase_began_s, now_s
        log = self.log.info
        if (problem := record.problem) and event is not Event.CANCELLED:
            log = self.log.error if problem.code is Code.INTERNAL else self.log.warning
            facts |= {"error": problem.code, "message": problem.message, "advice": problem.advice, "retry_at": record.retry_at}
        log(f"job_{event}", state=record.state, attempt=record.attempt, duration_s=round(duration_s, 3), **facts)

    def describe_instances(self) -> dict[str, Any]:
        """For the journal: what was taken out of the PACS, and for whom. Nothing where nothing was."""
        account = self.account
        if not account.received:
            return {}
        return {
            "audit": True,
            "owner_uid": self.job.record.owner_uid,
            "accessions": account.request.accessions,
            "study_instance_uids": account.manifest.study_instance_uids,
            "instances": len(account.received),
            "instances_arrived": len(account.received) - account.received_before,
            "size_bytes": account.bytes_received,
        }

    def end(self, event: Event, **changes: Any) -> None:
        """The last step of an attempt that did not publish: the daemon did not die of it."""
        # First what is half built: it may be what fills the disk, and to record the end takes room.
        self._services.spool.jobs.discard_result(self.job)
        record = self.job.record
        counted = {**record.counted, **list_counted(self.account.manifest)}
        self.job = evolve(self.job, record=evolve(record, crashes=end_attempt(record.crashes), counted=counted, **changes))
        self.advance(event, **self.describe_instances())

    def fail(self, error: MkisodError) -> None:
        """Defer the job, or give it up: what was received stays for another attempt, or for a partial disc."""
        if self._services.spool.outbox.has_result(self.job.ticket, self.job.id):
            raise error  # what is published can fail no more: the start-up scan says what is left to say
        jobs, now = self._services.config.jobs, self._host.now()
        config, pacs = self._services.config, self.account.request.pacs or self._services.config.default_pacs
        nearline_timeout_s = config.pacs[pacs].nearline_timeout_s if pacs in config.pacs else 0.0
        rules = RetryRules(
            jobs.retry_first_s,
            jobs.retry_max_s,
            jobs.not_found_retry_s,
            jobs.give_up_after_h,
            jobs.incomplete_give_up_h,
            nearline_timeout_s,
        )
        history = note_failure(self.job.record.history, error.problem, now)
        chance = int.from_bytes(self._host.random_bytes(4)) / 2**32
        retry_at = plan_retry(history, error.problem, rules, now, chance)
        self.account = evolve(self.account, accession_problems=error.accessions, moves_over=True)
        event = Event.DEFERRED if retry_at else Event.LEFT_INCOMPLETE if error.code is Code.INCOMPLETE else Event.FAILED
        self.end(event, problem=error.problem, history=history, retry_at=retry_at)

    def give_up(self, problem: Problem) -> None:
        """Hold the job: nothing of what it has received is worth keeping."""
        self.end(Event.FAILED, problem=problem)

    def publish(self, result: Result, shortage: MkisodError | None) -> None:
        """Put the result into the outbox. `shortage` says what is missing of a partial one."""
        self.account = evolve(self.account, result=result, percent_assembled=100)
        event = Event.PUBLISHED_PARTIAL if shortage else Event.PUBLISHED
        record = evolve(self.job.record, problem=shortage.problem if shortage else None)
        if self.account.request.forward:
            self.advance(Event.KEPT)
            event, history = Event.PUBLISHED_TO_FORWARD, History(begun=self._host.now())  # retries are counted anew
            crashes = end_attempt(self.job.record.crashes)
            record = evolve(self.job.record, problem=record.problem, published=True, history=history, crashes=crashes)
        self.job = evolve(self.job, record=record)
        status = self.describe(evolve(record, state=find_transition(record.state, event).next_state))
        outbox, directory = self._services.spool.outbox, self._services.spool.layout.result(self.job.ticket, self.job.id)
        outbox.publish(self.job.directory, status)
        superseded = [job for job in outbox.list_results(self.job.ticket) if job != self.job.id]
        self.advance(
            event,
            age_s=(self._host.now() - record.created).total_seconds(),
            directory=str(directory),
            volumes=len(result.volumes),
            missing=shortage and status.progress.instances_expected - status.progress.instances_received,
            **self.describe_instances(),
        )
        if superseded:
            reason = "a newer one has taken its place"
            self.log.info("result_deleted", audit=True, owner_uid=record.owner_uid, results=len(superseded), reason=reason)

    def count_near_line_s(self) -> float:
        """For how long this job has been waiting for a study that is near line."""
        since = self.job.record.history.near_line_since
        return 0.0 if since is None else (self._host.now() - since).total_seconds()

    def take_stock(self, expectation: Expectation) -> None:
        received, manifest = expectation.copy_received(), expectation.manifest
        self.account = evolve(self.account, manifest=manifest, received=received, bytes_received=expectation.bytes_received)

    def report(self, expectation: Expectation) -> None:
        """Write the progress, at most once a second."""
        if self._is_due():
            self.take_stock(expectation)
            self._write_progress()

    def report_assembly(self, done: int, total: int) -> None:
        """Write how much of the disc is done, at most once a second."""
        if self._is_due():
            self.account = evolve(self.account, percent_assembled=100 * done // total if total else 100)
            self._write_progress()

    def _is_due(self) -> bool:
        return self._host.clock_s() - self._written_s >= STATUS_INTERVAL_S

    def _write_progress(self) -> None:
        self._services.spool.outbox.write_status(self.describe(self.job.record))
        self._written_s = self._host.clock_s()

    def describe(self, record: JobRecord) -> Status:
        return describe_job(record, self.account, self._host.now(), self._host.clock_s() - self._began_s)
