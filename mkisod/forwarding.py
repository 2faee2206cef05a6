"""The last thing done for a job: its instances are sent to the destinations that the request names, after the disc is published.

Owns the record of a job while it forwards. Nothing here takes the disc back: whatever goes wrong, the result stands, and the job ends as
`done` or `partial`, or waits for another attempt. What a destination has answered is written down about once a second; a death loses at
most that, and an instance sent twice does no harm.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import evolve

from mkisod.attempt import STATUS_INTERVAL_S, Services
from mkisod.errors import ADVICE, Code, MkisodError, Permanent, Problem
from mkisod.job.crashes import begin_attempt, end_attempt
from mkisod.job.forwarding import Entry, Outcome, describe_forwarding, plan_sending
from mkisod.job.lifecycle import Event
from mkisod.job.record import JobRecord, make_status
from mkisod.job.retry import RetryRules, note_failure, plan_retry
from mkisod.job.status import Status
from mkisod.job.withdrawal import FORWARDING_CANCELLED
from mkisod.media.convert import ConversionFailed, convert_object
from mkisod.pacs.forward import Convert, Sender, Sent
from mkisod.pacs.peer import make_peer
from mkisod.pacs.stored import StoredInstance, read_stored
from mkisod.spool.jobs import Job


class ForwardingAttempt:
    """One attempt at forwarding a published job. `cancelled` and `interrupt` are for other threads."""

    def __init__(self, services: Services, job: Job) -> None:
        self._services = services
        self._host = services.host
        self._request = services.spool.jobs.read_request(job)
        self.job = job
        self.log = services.host.log.bind(ticket=job.ticket, job=job.id)
        self.cancelled = threading.Event()
        self._sender: Sender | None = None
        self._interrupted = False
        self._instances: dict[str, StoredInstance] = {}
        self._entries: list[Entry] = []
        self._unwritten: list[Entry] = []
        self._written_s = self._host.clock_s()
        self._is_over = False  # what is not sent now is not sent any more
        self._is_ending = False
        self._shortage, self._previous = self._read_published()

    def _read_published(self) -> tuple[Problem | None, Status | None]:
        """Why the disc is partial, if it is; and the status as it stands."""
        outbox, job = self._services.spool.outbox, self.job
        try:
            published = outbox.read_result(job.ticket, job.id)
            return published.error, outbox.read_status(job.ticket) or published
        except (ValueError, FileNotFoundError):  # somebody has removed it: to be forwarded it is not needed
            self.log.warning("result_missing")
            return None, None

    def take(self) -> None:
        """The first step. What the daemon might die of is counted before the work begins."""
        record = self.job.record
        crashes = begin_attempt(record.crashes, self._services.spool.jobs.count_progress(self.job))
        self.job = evolve(self.job, record=evolve(record, crashes=crashes, problem=self._shortage))
        self._entries = self._services.spool.jobs.open_forwarded(self.job).read()
        self._advance(Event.TAKEN_TO_FORWARD)
        self._services.spool.jobs.open_forwarded(self.job).repair()

    def interrupt(self) -> None:
        """End the wait for a destination. `carry` then raises `Interrupted` of pacs.wire."""
        self._interrupted = True
        if (sender := self._sender) is not None:
            sender.interrupt()

    def carry(self, check_interrupted: Callable[[], None]) -> None:
        """Send what is not settled yet, destination by destination, and record what comes of it."""
        paths = self._services.spool.jobs.open_objects(self.job).list_paths()
        self._instances = {stored.sop_instance_uid: stored for stored in map(read_stored, sorted(paths))}
        received = self._previous.progress.instances_received if self._previous else 0
        if len(self._instances) < received:
            raise Permanent(Code.INTERNAL, f"Only {len(self._instances)} of {received} instances are still there to be forwarded.")
        errors: dict[str, MkisodError] = {}
        began = len(self._entries)
        try:
            for destination in self._request.forward:
                check_interrupted()
                try:
                    self._send(destination, check_interrupted)
                except MkisodError as error:
                    errors[destination] = error
                self._log_destination(destination, errors.get(destination), self._entries[began:])
        finally:
            self._write_down()
        self._conclude(errors, has_progress=any(entry.outcome is Outcome.SENT for entry in self._entries[began:]))

    def _send(self, destination: str, check_interrupted: Callable[[], None]) -> None:
        todo = plan_sending(self._instances, destination, self._entries)
        if not todo:
            return
        config = self._services.config
        if destination not in config.forward:
            raise Permanent(Code.DESTINATION_UNKNOWN, f"There is no destination {destination} in the configuration any more.")
        convert = make_convert(self.job.directory.result)  # where a start removes what a death left
        self._sender = Sender(make_peer(destination, config.forward[destination]), config.receiver.ae_title, convert)
        if self._interrupted:
            self._sender.interrupt()
        for sent in self._sender.send(self._instances[uid] for uid in todo):
            self._note(destination, sent)
            check_interrupted()

    def _note(self, destination: str, sent: Sent) -> None:
        self._unwritten.append(make_entry(destination, sent))
        self._entries.append(self._unwritten[-1])
        if self._host.clock_s() - self._written_s >= STATUS_INTERVAL_S:
            self._write_down()
            self._services.spool.outbox.write_status(self._describe(self.job.record))
            self._written_s = self._host.clock_s()

    def _write_down(self) -> None:
        entries, self._unwritten = self._unwritten, []
        self._services.spool.jobs.open_forwarded(self.job).append(entries)

    def _conclude(self, errors: dict[str, MkisodError], *, has_progress: bool) -> None:
        """Done, to be tried again, or given up."""
        left = {name: plan_sending(self._instances, name, self._entries) for name in self._request.forward}
        may_pass = any(left[name] and (name not in errors or errors[name].transient) for name in left)
        if may_pass and self._defer(self._explain(errors, transient=True), has_progress=has_progress):
            return
        self._is_over = True
        has_failed = any(forwarding.failed for forwarding in self._describe(self.job.record).forward)
        problem = self._explain(errors, transient=False) if has_failed else self._shortage
        self._end(Event.FORWARDED_PARTIAL if problem else Event.FORWARDED, problem=problem)

    def _defer(self, problem: Problem, *, has_progress: bool) -> bool:
        """Whether there is to be another attempt."""
        jobs, now, history = self._services.config.jobs, self._host.now(), self.job.record.history
        history = note_failure(evolve(history, failures=0) if has_progress else history, problem, now)
        chance = int.from_bytes(self._host.random_bytes(4)) / 2**32
        rules = RetryRules(jobs.retry_first_s, jobs.retry_max_s, give_up_after_h=jobs.give_up_after_h)
        retry_at = plan_retry(history, problem, rules, now, chance)
        if retry_at is not None:
            self._end(Event.DEFERRED, problem=problem, history=history, retry_at=retry_at)
        return retry_at is not None

    def _explain(self, errors: dict[str, MkisodError], *, transient: bool) -> Problem:
        """What each destination lacks, and why."""
        total, sentences, advice = len(self._instances), [], ADVICE[Code.FORWARD_FAILED]
        for forwarding in describe_forwarding(self._instances, self._request.forward, self._entries, is_over=True):
            if forwarding.failed:
                error = errors.get(forwarding.destination)
                why = error.message if error else f"{(forwarding.failed[0].reason or 'it did not say why')}."
                sentences.append(f"{len(forwarding.failed)} of {total} instances did not go to {forwarding.destination}: {why}")
                advice = error.advice if error and error.code is Code.TLS_FAILED else advice
        return Problem(Code.FORWARD_FAILED, " ".join(sentences), advice, transient)

    def end_interrupted(self) -> None:
        if self.cancelled.is_set():
            self._end(Event.FORWARDED_PARTIAL, problem=FORWARDING_CANCELLED)
        else:
            self._end(Event.STOPPED)

    def fail(self, error: MkisodError) -> None:
        """Something here went wrong, not at a destination."""
        if self._is_ending:
            raise error  # the start-up scan says what is left to say
        if not (error.transient and self._defer(error.problem, has_progress=False)):
            self.give_up(error.problem)

    def give_up(self, problem: Problem) -> None:
        """What is not sent is not sent any more. The disc stands."""
        self._is_over = True
        self._end(Event.FORWARDED_PARTIAL, problem=problem)

    def _end(self, event: Event, **changes: Any) -> None:
        self._is_ending = True
        self._services.spool.jobs.discard_result(self.job)  # what was converted
        self.job = evolve(self.job, record=evolve(self.job.record, crashes=end_attempt(self.job.record.crashes), **changes))
        self._advance(event)

    def _advance(self, event: Event) -> None:
        self.job = self._services.spool.jobs.advance(self.job, event, self._describe)
        record = self.job.record
        facts = {"error": record.problem.code, "message": record.problem.message} if record.problem else {}
        log = self.log.warning if record.problem else self.log.info
        log(f"job_{event}", state=record.state, attempt=record.attempt, retry_at=record.retry_at, **facts)

    def _log_destination(self, destination: str, error: MkisodError | None, entries: list[Entry]) -> None:
        outcomes = [entry.outcome for entry in entries if entry.destination == destination]
        self.log.info(
            "instances_forwarded",
            audit=True,
            owner_uid=self.job.record.owner_uid,
            accessions=self._request.accessions,
            destination=destination,
            sent=outcomes.count(Outcome.SENT),
            failed=outcomes.count(Outcome.FAILED),
            setbacks=outcomes.count(Outcome.SETBACK),
            message=error.message if error else None,
        )

    def _describe(self, record: JobRecord) -> Status:
        status = make_status(record, self._host.now(), self._request.accessions, self._previous)
        reason = record.problem.message if record.problem else ""
        destinations = self._request.forward
        return evolve(
            status, forward=describe_forwarding(self._instances, destinations, self._entries, is_over=self._is_over, reason=reason)
        )


def make_entry(destination: str, sent: Sent) -> Entry:
    return Entry(
        destination,
        sent.instance.sop_instance_uid,
        sent.outcome,
        None if sent.dimse_status is None else f"{sent.dimse_status:04X}",
        sent.reason,
        sent.instance.transfer_syntax_uid if sent.converted_to else "",
        sent.converted_to,
    )


def make_convert(folder: Path) -> Convert:
    """Conversion without loss by the media room, into a folder that is made where something has to be converted."""

    @contextmanager
    def convert(instance: StoredInstance, to_transfer_syntax_uid: str) -> Iterator[Path]:
        folder.mkdir(exist_ok=True)
        target = folder / "converted"
        try:
            convert_object(instance.path, instance.transfer_syntax_uid, to_transfer_syntax_uid, target)
        except ConversionFailed as failure:
            raise Permanent(Code.NONCONFORMANT, str(failure)) from failure
        try:
            yield target
        finally:
            target.unlink(missing_ok=True)

    return convert
