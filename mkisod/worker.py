"""Carries one job through its phases: retrieve, assemble, publish; and, where it is published, forward. Asks, does, records.

Owns a job from the moment it is taken to the moment it is done, held, or given back. Each phase ends in one event of the lifecycle, and
whatever goes wrong in one ends in one too: a named failure, a full disk, or a defect, which fails this job and no other.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from uuid import UUID

from attrs import evolve, frozen

from mkisod import __version__
from mkisod.attempt import Attempt, Services
from mkisod.errors import Code, MkisodError, Permanent, Problem, Transient
from mkisod.forwarding import ForwardingAttempt
from mkisod.job.crashes import MOST_LONE_CRASHES
from mkisod.job.lifecycle import Event
from mkisod.job.manifest import Shortage
from mkisod.job.record import make_status
from mkisod.job.request import RequestRefused, choose_output
from mkisod.job.status import Result
from mkisod.job.withdrawal import CANCELLED
from mkisod.media.disc import Disc, DiscOrder, build_disc
from mkisod.pacs.expectation import Expectation
from mkisod.pacs.expectations import StudiesInUse
from mkisod.pacs.peer import make_peer
from mkisod.pacs.received import read_received
from mkisod.pacs.retrieval import Retrieval
from mkisod.pacs.waiting import Interrupted
from mkisod.pacs.wire import Interrupted as ConnectionInterrupted
from mkisod.reading import Reading
from mkisod.spool.jobs import Job, JobGone
from mkisod.spool.objects import Objects

_POISONOUS = Problem(
    Code.INTERNAL,
    f"The daemon died {MOST_LONE_CRASHES} times while it worked on this job alone.",
    "Look into the journal for the cause. mkisod release lets the job go on, mkisod drop removes it.",
    transient=False,
)


@frozen
class Retrieved:
    """What a retrieval brought: where the instances are, and what is to be said of them. `shortage`: why it is not all."""

    objects: Objects
    missing: Shortage
    shortage: MkisodError | None
    warnings: tuple[str, ...]


class Worker:
    """One thread's worth of work. `stop` and `cancel` are called from other threads.

    `report_alive`: it looks up from its work. `end_turn`: a job retrieves no more, or only once these studies are free.
    """

    def __init__(
        self,
        services: Services,
        report_alive: Callable[[], None] = lambda: None,
        end_turn: Callable[[str, Collection[str]], None] = lambda _job, _awaited: None,
    ) -> None:
        self._services = services
        self._report_alive = report_alive
        self._end_turn = end_turn
        self._stopping = threading.Event()
        self._attempt: Attempt | ForwardingAttempt | None = None
        self._retrieval: Retrieval | None = None

    def renew(self, services: Services) -> None:
        """What it works with from the next job on."""
        self._services = services

    def stop(self) -> None:
        """Give the job in hand back to the queue, soon."""
        self._stopping.set()
        self._interrupt()

    def cancel(self, job_id: str) -> bool:
        """Withdraw a job; False if it is not the one in hand."""
        attempt = self._attempt
        if attempt is None or attempt.job.id != job_id:
            return False
        attempt.cancelled.set()
        self._interrupt()
        return True

    def _interrupt(self) -> None:
        if (retrieval := self._retrieval) is not None:
            retrieval.interrupt()
        if isinstance(attempt := self._attempt, ForwardingAttempt):
            attempt.interrupt()
        self._services.expectations.wake()

    def take(self, job: Job) -> bool:
        """Take a queued job in hand; False where it cannot be had, since somebody was first or it is held now."""
        jobs = self._services.spool.jobs
        try:
            attempt = ForwardingAttempt(self._services, job) if job.record.published else Attempt(self._services, job)
            if job.record.crashes.is_poisonous:
                attempt.give_up(_POISONOUS)
                return False
            self._attempt = attempt  # from now on it can be cancelled: it is not queued any more
            attempt.take()
        except RequestRefused as error:  # valid once, by the rules of another version
            job = evolve(job, record=evolve(job.record, problem=error.problem))
            event = Event.FORWARDED_PARTIAL if job.record.published else Event.FAILED
            previous = self._services.spool.outbox.read_status(job.ticket)
            jobs.advance(job, event, lambda record: make_status(record, self._services.host.now(), previous=previous))
            return False
        except JobGone:
            self._attempt = None
            return False
        return True

    def carry(self) -> None:
        """Carry the job in hand to its end, or give it back. Raises OSError where not even that can be recorded."""
        if (attempt := self._attempt) is None:
            raise RuntimeError("no job is in hand")
        if isinstance(attempt, ForwardingAttempt):
            self._forward(attempt)
            return
        try:
            self._carry(attempt)
        except Interrupted:
            self._end_interrupted(attempt)
        except StudiesInUse as use:
            self._end_turn(attempt.job.id, use.study_instance_uids)
            attempt.end(Event.POSTPONED)
        except MkisodError as error:
            if self._is_interrupted():  # a consequence of the interruption
                self._end_interrupted(attempt)
            else:
                attempt.fail(error)
        except OSError as error:
            attempt.fail(explain_os_error(error))
        except Exception as error:
            attempt.log.exception("job_hit_defect")
            if self._is_interrupted():  # an association that is aborted from another thread raises whatever it likes
                self._end_interrupted(attempt)
            else:
                attempt.fail(Permanent(Code.INTERNAL, f"An unexpected {type(error).__name__} ended the job."))
        finally:
            self._end_turn(attempt.job.id, ())
            self._attempt = self._retrieval = None

    def _forward(self, attempt: ForwardingAttempt) -> None:
        try:
            attempt.carry(self._check_interrupted)
        except (Interrupted, ConnectionInterrupted):
            attempt.end_interrupted()
        except MkisodError as error:
            attempt.fail(error)
        except OSError as error:
            attempt.fail(explain_os_error(error))
        except Exception as error:
            attempt.log.exception("job_hit_defect")
            attempt.fail(Permanent(Code.INTERNAL, f"An unexpected {type(error).__name__} ended the forwarding."))
        finally:
            self._attempt = None

    def _carry(self, attempt: Attempt) -> None:
        with Reading(attempt.log) as reading:
            retrieved = self._retrieve(attempt, reading)
            self._end_turn(attempt.job.id, ())
            attempt.advance(Event.RETRIEVED, **attempt.describe_instances())
            result = self._assemble(attempt, retrieved, reading)
        attempt.advance(Event.ASSEMBLED, volumes=len(result.volumes))
        self._check_interrupted()  # the last moment at which a request can be withdrawn
        attempt.publish(result, retrieved.shortage)

    def _end_interrupted(self, attempt: Attempt) -> None:
        if attempt.cancelled.is_set():
            attempt.end(Event.CANCELLED, problem=CANCELLED)
        else:
            attempt.end(Event.STOPPED)

    def _is_interrupted(self) -> bool:
        self._report_alive()
        return self._stopping.is_set() or (self._attempt is not None and self._attempt.cancelled.is_set())

    def _check_interrupted(self) -> None:
        if self._is_interrupted():
            raise Interrupted

    def _report_assembly(self, attempt: Attempt, done: int, total: int) -> None:
        self._check_interrupted()
        attempt.report_assembly(done, total)

    def _retrieve(self, attempt: Attempt, reading: Reading) -> Retrieved:
        services, job, request = self._services, attempt.job, attempt.account.request
        name = request.pacs or services.config.default_pacs
        if name not in services.config.pacs:
            raise Permanent(Code.PACS_UNKNOWN, f"There is no PACS called {name} in the configuration any more.")
        settings = services.config.pacs[name]
        attempt.log = attempt.log.bind(pacs=name, peer=f"{settings.ae_title}@{settings.host}:{settings.port}")
        self._retrieval = Retrieval(
            request,
            make_peer(name, settings),
            settings,
            services.config.receiver.ae_title,
            services.expectations,
            counted=job.record.counted,
            patience_s=settings.nearline_timeout_s - attempt.count_near_line_s(),
            clock_s=services.host.clock_s,
            is_interrupted=self._is_interrupted,
            report=attempt.report,
            log=attempt.log,
        )
        manifest = self._retrieval.find()
        objects = services.spool.jobs.open_objects(job)
        expectation = Expectation(job.id, job.ticket, manifest, objects, map(read_received, objects.list_paths()))
        attempt.account = evolve(attempt.account, manifest=manifest, received_before=len(expectation.received))
        shortage = None
        try:
            with reading.follow(expectation):
                self._retrieval.fetch(expectation)
        except Transient as error:
            if error.code is not Code.INCOMPLETE or not ("partial" in request.allow or job.record.allow_partial):
                raise
            shortage = error
        finally:
            attempt.take_stock(expectation)
        missing = expectation.find_shortage()
        return Retrieved(objects, missing, shortage, tuple(expectation.warnings))

    def _assemble(self, attempt: Attempt, retrieved: Retrieved, reading: Reading) -> Result:
        job, request, media, host = attempt.job, attempt.account.request, self._services.config.media, self._services.host
        now, medium = host.now(), request.medium or media.medium
        order = DiscOrder(
            file_set_id=request.label or f"D{now:%Y%m%d}{job.id[-6:-2].upper()}",
            # A UID made of a random UUID: PS3.5 B.2.
            file_set_uid=f"2.25.{UUID(bytes=host.random_bytes(16), version=4).int}",
            created=now,
            output=choose_output(request, medium, media.output),
            medium=medium,
            institution=media.institution,
            contact=media.contact,
            disclaimer=media.disclaimer,
            missing=retrieved.missing.named,
            missing_unnamed=None if not retrieved.missing.is_known else retrieved.missing.count - len(retrieved.missing.named),
            allow_several_patients="several-patients" in request.allow,
            profile=request.profile or media.profile,
            extras=Path(media.extras) if media.extras else None,
            creator=f"mkisod {__version__}",
        )
        self._services.spool.jobs.make_result_directory(job)
        report = partial(self._report_assembly, attempt)
        uids, path, result = attempt.account.received, retrieved.objects.path, job.directory.result
        with self._services.spool.jobs.sync_meanwhile(map(path, uids)):
            disc = build_disc(order, map(path, uids), result, report_progress=report, index=reading.index, digests=reading.digests)
        return describe_disc(job.id, disc, retrieved.warnings)


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
        conversions=tuple(
            f"{c.sop_instance_uid}: from {c.from_transfer_syntax_uid} to {c.to_transfer_syntax_uid}"
            f"{' (had been compressed with loss)' if c.was_lossy else ''}"
            for c in disc.conversions
        ),
        warnings=(*warnings, *disc.warnings),
    )


def explain_os_error(error: OSError) -> MkisodError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Transient(Code.DISK_FULL, "The file system of the spool is full.")
    return Permanent(Code.INTERNAL, f"The spool could not be written: {error.strerror}.", "Look at the file system of the spool.")
