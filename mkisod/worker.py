"""Carries one job through its phases: retrieve, assemble, publish. Asks, does, records.

Owns a job from the moment it is taken to the moment it is done, held, or given back. Each phase ends in one event of the lifecycle, and
whatever goes wrong in one ends in one too: a named failure, a full disk, or a defect, which fails this job and no other.
"""

from __future__ import annotations

import errno
import threading
from functools import partial
from pathlib import Path
from uuid import UUID

from attrs import evolve, frozen

from mkisod import __version__
from mkisod.attempt import Attempt, Services
from mkisod.errors import Code, MkisodError, Permanent, Problem, Transient
from mkisod.job.crashes import MOST_LONE_CRASHES
from mkisod.job.lifecycle import Event
from mkisod.job.record import make_status
from mkisod.job.request import RequestRefused, choose_output
from mkisod.job.status import Result
from mkisod.media.disc import Disc, DiscOrder, build_disc
from mkisod.pacs.associate import make_peer
from mkisod.pacs.expectations import Expectation
from mkisod.pacs.received import read_received
from mkisod.pacs.retrieval import Interrupted, Retrieval
from mkisod.spool.controls import CANCELLED
from mkisod.spool.jobs import Job, JobGone

_POISONOUS = Problem(
    Code.INTERNAL,
    f"The daemon died {MOST_LONE_CRASHES} times while it worked on this job alone.",
    "Look into the journal for the cause. mkisod release lets the job go on, mkisod drop removes it.",
    transient=False,
)


@frozen
class Retrieved:
    """What a retrieval brought: the files of the instances, and what is to be said of them. `shortage`: why it is not all."""

    paths: list[Path]
    missing: tuple[str, ...]
    shortage: MkisodError | None
    warnings: tuple[str, ...]


class Worker:
    """One thread's worth of work. `stop` and `cancel` are called from other threads."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stopping = threading.Event()
        self._attempt: Attempt | None = None
        self._retrieval: Retrieval | None = None

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
        self._services.expectations.wake()

    def take(self, job: Job) -> bool:
        """Take a queued job in hand; False where it cannot be had, since somebody was first or it is held now."""
        jobs = self._services.spool.jobs
        try:
            attempt = Attempt(self._services, job)
            if job.record.crashes.is_poisonous:
                attempt.end(Event.FAILED, problem=_POISONOUS)
                return False
            self._attempt = attempt  # from now on it can be cancelled: it is not queued any more
            attempt.take()
        except RequestRefused as error:  # valid once, by the rules of another version
            job = evolve(job, record=evolve(job.record, problem=error.problem))
            jobs.advance(job, Event.FAILED, lambda record: make_status(record, self._services.host.now()))
            return False
        except JobGone:
            self._attempt = None
            return False
        return True

    def carry(self) -> None:
        """Carry the job in hand to its end, or give it back. Raises OSError where not even that can be recorded."""
        if (attempt := self._attempt) is None:
            raise RuntimeError("no job is in hand")
        try:
            self._carry(attempt)
        except Interrupted:
            self._end_interrupted(attempt)
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
            self._attempt = self._retrieval = None

    def _carry(self, attempt: Attempt) -> None:
        retrieved = self._retrieve(attempt)
        attempt.advance(Event.RETRIEVED)
        result = self._assemble(attempt, retrieved)
        attempt.advance(Event.ASSEMBLED)
        self._check_interrupted()  # the last moment at which a request can be withdrawn
        attempt.publish(result, retrieved.shortage)

    def _end_interrupted(self, attempt: Attempt) -> None:
        if attempt.cancelled.is_set():
            attempt.end(Event.CANCELLED, problem=CANCELLED)
        else:
            attempt.end(Event.STOPPED)

    def _is_interrupted(self) -> bool:
        return self._stopping.is_set() or (self._attempt is not None and self._attempt.cancelled.is_set())

    def _check_interrupted(self) -> None:
        if self._is_interrupted():
            raise Interrupted

    def _report_assembly(self, attempt: Attempt, done: int, total: int) -> None:
        self._check_interrupted()
        attempt.report_assembly(done, total)

    def _retrieve(self, attempt: Attempt) -> Retrieved:
        services, job, request = self._services, attempt.job, attempt.account.request
        name = request.pacs or services.config.default_pacs
        if name not in services.config.pacs:
            raise Permanent(Code.PACS_UNKNOWN, f"There is no PACS called {name} in the configuration any more.")
        settings = services.config.pacs[name]
        self._retrieval = Retrieval(
            make_peer(name, settings),
            settings,
            services.config.receiver.ae_title,
            services.expectations,
            clock_s=services.host.clock_s,
            is_interrupted=self._is_interrupted,
            report=attempt.report,
            log=attempt.log,
        )
        manifest = self._retrieval.ask(request)
        objects = services.spool.jobs.open_objects(job)
        already = [read_received(path) for path in objects.list_paths()]
        attempt.account = evolve(attempt.account, manifest=manifest, received_before=len(already))
        expectation = Expectation(job.id, job.ticket, manifest, objects, already)
        shortage = None
        try:
            self._retrieval.fetch(request, expectation)
        except Transient as error:
            if error.code is not Code.INCOMPLETE or not ("partial" in request.allow or job.record.allow_partial):
                raise
            shortage = error
        finally:
            attempt.take_stock(expectation)
        missing = manifest.missing(attempt.account.received)
        return Retrieved([objects.path(uid) for uid in attempt.account.received], missing, shortage, tuple(expectation.warnings))

    def _assemble(self, attempt: Attempt, retrieved: Retrieved) -> Result:
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
            missing=retrieved.missing,
            allow_several_patients="several-patients" in request.allow,
            profile=request.profile or media.profile,
            extras=Path(media.extras) if media.extras else None,
            creator=f"mkisod {__version__}",
        )
        self._services.spool.jobs.make_result_directory(job)
        disc = build_disc(
            order, retrieved.paths, job.directory.result, report_progress=partial(self._report_assembly, attempt), index=attempt.index
        )
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
