"""Bringing the studies of a request into the job's directory: ask, expect, move, compare, move again.

Promises that it returns only when every instance of the manifest stands there, or raises what is the matter. Success of a C-MOVE is
never taken for arrival. All time-outs are measured on a monotonic clock that is handed in; nothing polls: the wait is on the
expectation's condition, which every instance, every response and every interruption notifies.
"""

from __future__ import annotations

from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from mkisod.config.settings import PacsSettings
from mkisod.errors import Code, MkisodError, Permanent, Transient
from mkisod.job.manifest import Manifest, Move, StudyListing, check_patients, check_received, count_expected, plan_moves
from mkisod.job.request import Request
from mkisod.pacs.associate import FIND, Association, Peer
from mkisod.pacs.expectations import Expectation, Expectations
from mkisod.pacs.find import FoundStudy, find_studies, list_study
from mkisod.pacs.move import MoveOutcome, RunningMove, explain_outcome


class Interrupted(BaseException):
    """The daemon stops. No failure, so nothing that catches failures may catch it."""


class Retrieval:
    """One attempt of one job. `report` is called in the job's own thread when something may have changed, and at least once a second."""

    def __init__(
        self,
        peer: Peer,
        settings: PacsSettings,
        ae_title: str,
        expectations: Expectations,
        *,
        clock_s: Callable[[], float],
        is_interrupted: Callable[[], bool],
        report: Callable[[Expectation], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._peer = peer
        self._settings = settings
        self._ae_title = ae_title
        self._expectations = expectations
        self._clock_s = clock_s
        self._is_interrupted = is_interrupted
        self._report = report
        self._log = log
        self._asking: Association | None = None

    def interrupt(self) -> None:
        """End the wait for an answer to a query. Called from another thread, once `is_interrupted` says so."""
        if (association := self._asking) is not None:
            association.abort()

    def ask(self, request: Request) -> Manifest:
        """The manifest of a request. Raises `MkisodError` where an accession is not found or the patients are not one."""
        studies: list[StudyListing] = []
        with Association(self._peer, self._ae_title, [FIND], response_timeout_s=self._settings.response_timeout_s) as association:
            self._asking = association
            # All of STUDY level first: whether these are one patient's studies is known before anything is listed.
            found = self._find_all(association, request)
            check_patients(
                # One study may come under two accession numbers.
                [patient for _, patient in dict.fromkeys((study.listing.study_instance_uid, study.listing.patient) for study in found)],
                patient_id=request.patient_id,
                birth_date=request.birth_date,
                several_allowed="several-patients" in request.allow,
            )
            for study in found:
                self._check_interrupted()
                studies.append(list_study(association, study, self._clock_s))
        return Manifest(tuple(studies))

    def _find_all(self, association: Association, request: Request) -> list[FoundStudy]:
        """The studies of every accession. What is permanently wrong with several of them is said of all at once."""
        found: list[FoundStudy] = []
        errors: dict[str, Permanent] = {}
        for accession in request.accessions:
            self._check_interrupted()
            try:
                found += find_studies(association, accession, self._clock_s)
            except Permanent as error:
                errors[accession] = error
        if errors:
            first = next(iter(errors.values()))
            whole = Permanent(first.code, " ".join(e.message for e in errors.values()), first.advice)
            whole.accessions = {accession: e.problem for accession, e in errors.items()}
            raise whole
        return found

    def fetch(self, request: Request, expectation: Expectation) -> None:
        """Move until nothing of the manifest is missing. Raises `Transient` (`incomplete`, `timeout` ...), `Permanent` or `Interrupted`.

        However it ends, the expectation is closed: what it has received is what there is.
        """
        try:
            with self._expectations.expect(expectation, self._is_interrupted):
                error = self._move_all(expectation)
        finally:
            received = expectation.close()
        self._report(expectation)
        manifest = expectation.manifest
        check_received(manifest, received.values(), patient_id=request.patient_id, birth_date=request.birth_date)
        missing = len(manifest.missing(received))
        if not missing:
            return
        if error is not None and not received:
            raise error
        total = count_expected(manifest, received)
        raise Transient(Code.INCOMPLETE, f"{missing} of {total} instances did not come from {self._peer.name}.")

    def _move_all(self, expectation: Expectation) -> MkisodError | None:
        """The first move and the further ones. Returns the last failure."""
        error: MkisodError | None = None
        for round_number in range(1 + self._settings.further_moves):
            for move in plan_moves(expectation.manifest, expectation.received, round_number):
                self._check_interrupted()
                error = self._move(move, expectation) or error
            if not expectation.manifest.missing(expectation.received):
                break
        return error

    def _move(self, move: Move, expectation: Expectation) -> MkisodError | None:
        """One C-MOVE and the wait for what it brings. Returns what it failed of, where a further move may still help."""
        arrivals = expectation.arrivals
        slot = self._expectations.move(expectation, self._peer.name, self._settings.max_moves, self._is_interrupted)
        with slot as message_id:
            self._check_interrupted()
            running = RunningMove(
                self._peer,
                self._ae_title,
                move,
                destination=self._ae_title,
                message_id=message_id,
                report_change=expectation.notify,
            )
            running.start()
            try:
                self._wait_for_end(running, expectation)
            finally:
                running.end()
            error = running.error
            if running.outcome is not None:
                error = explain_outcome(self._peer, self._ae_title, running.outcome)
            if error is not None and not (error.transient and running.begun):
                raise error
            self._wait_for_stragglers(move, running.outcome, expectation, arrivals)
            self._log_move(move, running.outcome, expectation.arrivals - arrivals)
            return error

    def _wait_for_end(self, running: RunningMove, expectation: Expectation) -> None:
        """Until the final response. The time-out begins anew with every response and every instance."""
        idle_timeout_s = self._settings.idle_timeout_s
        if not self._wait(expectation, idle_timeout_s, lambda: running.finished, lambda: (running.responses, expectation.arrivals)):
            raise Transient(Code.TIMEOUT, f"{self._peer} sent neither a response nor an instance for {idle_timeout_s:g} s.")

    def _wait_for_stragglers(self, move: Move, outcome: MoveOutcome | None, expectation: Expectation, arrivals: int) -> None:
        """Some archives answer before they send: wait for what is missing, anew with every arrival."""
        wanted = _uids_of(move, expectation.manifest).difference(outcome.failed_sop_instance_uids if outcome else ())

        def is_over() -> bool:
            return not expectation.arriving and wanted.isdisjoint(expectation.missing)

        def nothing_came() -> bool:
            return expectation.arrivals == arrivals

        if outcome is not None and outcome.succeeded and nothing_came():
            self._wait(expectation, self._settings.first_arrival_s, lambda: is_over() or not nothing_came(), nothing_came)
            if nothing_came():
                return
        self._wait(expectation, self._settings.grace_s, is_over, lambda: expectation.arrivals)

    def _wait(self, expectation: Expectation, timeout_s: float, is_over: Callable[[], bool], measure: Callable[[], object]) -> bool:
        """Until `is_over`: True. False where `measure` stood still for the time-out and nothing is just arriving.

        Reports progress about once a second. Raises the expectation's fault, or `Interrupted`.
        """
        seen, deadline_s = measure(), self._clock_s() + timeout_s
        while True:
            with expectation.changed:
                if not is_over() and expectation.fault is None and not self._is_interrupted():
                    expectation.changed.wait(min(1.0, max(0.0, deadline_s - self._clock_s())))
            self._report(expectation)
            self._check_interrupted()
            if expectation.fault is not None:
                raise expectation.fault
            if is_over():
                return True
            now_s = self._clock_s()
            if expectation.arriving or measure() != seen:
                seen, deadline_s = measure(), now_s + timeout_s
            elif now_s >= deadline_s:
                return False

    def _check_interrupted(self) -> None:
        if self._is_interrupted():
            raise Interrupted

    def _log_move(self, move: Move, outcome: MoveOutcome | None, arrived: int) -> None:
        self._log.info(
            "move_finished",
            study_instance_uid=move.study_instance_uid,
            series_instance_uid=move.series_instance_uid,
            dimse_status=f"{outcome.dimse_status:04X}" if outcome else None,
            completed=outcome.completed if outcome else None,
            failed=outcome.failed if outcome else None,
            arrived=arrived,
        )


def _uids_of(move: Move, manifest: Manifest) -> set[str]:
    """The SOP Instance UIDs that a move asks for."""
    if move.sop_instance_uids:
        return set(move.sop_instance_uids)
    return {
        uid
        for study in manifest.studies
        if study.study_instance_uid == move.study_instance_uid
        for series in study.series
        if move.series_instance_uid in (None, series.series_instance_uid)
        for uid in series.sop_instance_uids
    }
