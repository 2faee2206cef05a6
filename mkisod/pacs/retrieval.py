"""Bringing the studies of a request into the job's directory: find, expect, move, list, compare, move again, ask once more.

Promises that it returns only when everything the archive announced stands there, or raises what is the matter. Success of a C-MOVE is
never taken for arrival. What is in the studies is asked while the first C-MOVE is under way, where that move is the same whatever the
archive lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from structlog.typing import FilteringBoundLogger

from mkisod.config.settings import PacsSettings
from mkisod.errors import Code, MkisodError, Permanent, Transient
from mkisod.job.evidence import has_changed
from mkisod.job.manifest import Manifest, ReceivedInstance, StudyListing, check_patients, check_received, count_expected
from mkisod.job.moves import Move, learn_from_move, must_list_first, plan_moves, recall_counted
from mkisod.job.request import Request
from mkisod.job.rest import Rest
from mkisod.job.status import Evidence
from mkisod.pacs.asking import Asking, refuse_empty
from mkisod.pacs.expectation import Expectation
from mkisod.pacs.expectations import Expectations, ExpectedMove
from mkisod.pacs.move import MoveOutcome, RunningMove, explain_outcome
from mkisod.pacs.peer import Peer
from mkisod.pacs.waiting import Interrupted, Waiting

_MOST_LATE_LOOKS = 2  # at what may have come late, after everything that was announced is there

_MEASURES = {Evidence.COUNTS: "the numbers of the PACS", Evidence.RESPONSES: "the counters of its C-MOVE responses"}


class Retrieval:
    """One attempt of one job. `report` is called in the job's own thread when something may have changed, and at least once a second.

    `counted`: how many instances C-MOVEs of earlier attempts have counted, by study. `patience_s`: for so long yet a study that is near
    line is waited for, by coming back later.
    """

    def __init__(
        self,
        request: Request,
        peer: Peer,
        settings: PacsSettings,
        ae_title: str,
        expectations: Expectations,
        *,
        counted: Mapping[str, int],
        patience_s: float,
        clock_s: Callable[[], float],
        is_interrupted: Callable[[], bool],
        report: Callable[[Expectation], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._request = request
        self._peer = peer
        self._settings = settings
        self._ae_title = ae_title
        self._expectations = expectations
        self._patience_s = patience_s
        self._clock_s = clock_s
        self._is_interrupted = is_interrupted
        self._report = report
        self._log = log
        self._asking = Asking(peer, ae_title)
        self._counted = counted
        self._listed: Manifest | None = None  # as the archive listed it last
        self._learned: list[tuple[Move, int | None, tuple[str, ...]]] = []  # what the C-MOVEs of this attempt have said

    def interrupt(self) -> None:
        """End the wait for an answer to a query. Called from another thread, once `is_interrupted` says so."""
        self._asking.interrupt()

    def find(self) -> Manifest:
        """The studies of a request, not listed yet. Raises `MkisodError` where an accession is not found, or the patients are not one.

        An archive that answers no C-FIND is not asked: then only its C-MOVE tells.
        """
        if self._settings.query == "none":
            return Manifest(by_accession=dict.fromkeys(self._request.accessions))
        found = self._asking.find(self._request, self._check_interrupted)
        near_line = dict.fromkeys(study.accession for study in found if study.is_near_line)
        if near_line and self._patience_s > 0:
            raise Transient(
                Code.STUDY_UNAVAILABLE,
                f"{self._peer.name} holds the study of {', '.join(near_line)} near line.",
                "Nothing has to be done. It is looked at again, and moved at the latest when nearline_timeout_s is over.",
            )
        return Manifest(tuple(found), modalities=self._request.modalities)

    def fetch(self, expectation: Expectation) -> None:
        """Move until nothing is missing. Raises `Transient` (`incomplete`, `timeout` ...), `Permanent`, `StudiesInUse` or `Interrupted`.

        However it ends, the expectation is closed: what it has received is what there is.
        """
        try:
            with self._expectations.expect(expectation):
                if must_list_first(expectation.manifest, expectation.received):
                    self._list(expectation)
                error = self._move_all(expectation)
                for _ in range(_MOST_LATE_LOOKS):
                    if expectation.find_shortage() or not self._look_again(expectation):
                        break
                    error = self._move_all(expectation)
        finally:
            received = expectation.close()
        self._report(expectation)
        if expectation.fault is not None:  # of what came when nobody waited for it any more
            raise expectation.fault
        manifest = expectation.manifest
        for study in manifest.studies:
            if study.doubt:
                measure = _MEASURES[study.evidence]
                expectation.warn(f"Whether study {study.study_instance_uid} is whole is known by {measure}: {study.doubt}")
        request = self._request
        check_received(manifest, received.values(), patient_id=request.patient_id, birth_date=request.birth_date)
        if manifest.by_accession:  # nobody could say before whose studies these are
            patients = [study.patient for study in manifest.studies]
            several_allowed = "several-patients" in request.allow
            check_patients(patients, patient_id=request.patient_id, birth_date=request.birth_date, several_allowed=several_allowed)
        self._refuse_shortage(manifest, received, error)

    def _refuse_shortage(
        self, manifest: Manifest, received: dict[str, ReceivedInstance], error: MkisodError | None
    ) -> None:
        refuse_empty(self._peer.name, self._request, manifest, received)
        shortage = manifest.find_shortage(received)
        if not shortage:
            return
        if error is not None and not received:
            if any(study.is_near_line for study in manifest.studies):
                raise Permanent(Code.STUDY_UNAVAILABLE, f"A study is near line, and nearline_timeout_s is over. {error.message}")
            raise error
        if not shortage.is_known:
            why = f": {error.message}" if error else "."
            raise Transient(Code.INCOMPLETE, f"Nobody knows whether all instances came from {self._peer.name}{why}")
        total = len(received) + shortage.count
        raise Transient(Code.INCOMPLETE, f"{shortage.count} of {total} instances did not come from {self._peer.name}.")

    def _is_unlisted(self, expectation: Expectation) -> bool:
        return self._listed is None and not expectation.manifest.by_accession

    def _list(self, expectation: Expectation) -> None:
        """Expect what the archive lists, with what its C-MOVEs have said already."""
        self._adopt(expectation.manifest.studies, expectation)
        manifest = expectation.manifest
        self._log.info(
            "studies_found",
            accessions=self._request.accessions,
            studies=len(manifest.study_instance_uids),
            instances=count_expected(manifest, expectation.copy_received()),
        )

    def _adopt(self, found: Iterable[StudyListing], expectation: Expectation) -> None:
        def look_up() -> None:
            self._check_interrupted()
            self._report(expectation)

        listed = self._asking.list(self._request, found, Evidence(self._settings.query), look_up)
        manifest = recall_counted(listed, self._counted)
        for move, number, failed_uids in self._learned:
            manifest = learn_from_move(manifest, move, number, failed_uids)
        self._expectations.change(expectation, manifest)
        self._listed = listed

    def _list_meanwhile(self, expectation: Expectation) -> None:
        """List while a C-MOVE is under way. Whatever is wrong with that, the archive is asked again when the move is over: it may not be
        able to do both at once.
        """
        try:
            self._list(expectation)
        except MkisodError as error:
            self._check_interrupted()
            self._log.info("listing_put_off", error=error.code, message=error.message, advice=error.advice)

    def _look_again(self, expectation: Expectation) -> bool:
        """Whether something has come late to the archive since it was asked, and is to be moved."""
        if (asked := self._listed) is None:  # it answers no C-FIND
            return False
        found = self._asking.find(self._request, self._check_interrupted)
        if not has_changed(asked, expectation.manifest, found):
            return False
        self._adopt(found, expectation)
        shortage = expectation.find_shortage()
        self._log.info("studies_changed", studies=len(expectation.manifest.study_instance_uids), missing=shortage.count)
        return bool(shortage)

    def _move_all(self, expectation: Expectation) -> MkisodError | None:
        """The first move and the further ones. Returns the last failure."""
        error: MkisodError | None = None
        for round_number in range(1 + self._settings.further_moves):
            moves = plan_moves(expectation.manifest, expectation.copy_received(), round_number)
            is_last = round_number == self._settings.further_moves
            error = self._move_each(moves, expectation, in_parts=is_last) or error
            if not expectation.find_shortage():
                break
        return error

    def _move_each(self, moves: list[Move], expectation: Expectation, *, in_parts: bool) -> MkisodError | None:
        """One C-MOVE after the other. Returns the last failure. `in_parts`: what fails is tried in smaller parts."""
        last: MkisodError | None = None
        rest = Rest(moves, in_parts=in_parts)
        while (move := rest.take()) is not None:
            arrivals = expectation.arrivals
            error = self._move(move, expectation)
            last = error or last
            rest.note(move, failed=error is not None, has_sent=expectation.arrivals > arrivals, missing=expectation.missing)
        return last

    def _move(self, move: Move, expectation: Expectation) -> MkisodError | None:
        """One C-MOVE and the wait for what it brings. Returns what it failed of, where a further move may still help."""
        self._check_interrupted()
        arrivals, unwanted, began_s = expectation.arrivals, expectation.unwanted, self._clock_s()
        waiting = Waiting(expectation, self._settings, self._clock_s, self._is_interrupted, self._report)
        with self._expectations.move(ExpectedMove(expectation, self._ae_title, self._settings.ae_title)) as message_id:
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
                if self._is_unlisted(expectation):
                    waiting.wait_for_begin(running)
                    if running.error is None:
                        self._list_meanwhile(expectation)
                waiting.wait_for_end(running, self._peer)
            finally:
                running.end()
                error, outcome = running.error, running.outcome
                # By accession number alone, an archive that sends what was not asked for counts that, too.
                is_sound = not (move.accession and expectation.fault)
                if outcome is not None and is_sound and not expectation.manifest.modalities:
                    self._learn(move, outcome.number_of_instances, outcome.failed_sop_instance_uids, expectation)
            if outcome is not None:
                error = explain_outcome(self._peer, self._ae_title, outcome, has_sent=bool(expectation.arrivals or expectation.received))
            if error is not None and not (error.transient and running.begun):
                raise error
            if self._is_unlisted(expectation):
                self._list(expectation)
            waiting.wait_for_stragglers(move, outcome, arrivals)
            if outcome is not None:
                self._learn_late(move, outcome, expectation, expectation.unwanted - unwanted)
            self._log_move(move, outcome, expectation.arrivals - arrivals, self._clock_s() - began_s)
            return error

    def _learn(self, move: Move, number: int | None, failed_uids: tuple[str, ...], expectation: Expectation) -> None:
        self._learned.append((move, number, failed_uids))
        learned = learn_from_move(expectation.manifest, move, number, failed_uids)
        if learned != expectation.manifest:
            expectation.set_manifest(learned)

    def _learn_late(self, move: Move, outcome: MoveOutcome, expectation: Expectation, unwanted: int) -> None:
        """What could not be learned before it was known what comes.

        Under a filter an archive may send more than was asked for, and counts and names that, too. And where a C-MOVE succeeds and counts
        nothing, and nothing else says how many instances there are, it is those that came.
        """
        number = outcome.number_of_instances
        if expectation.manifest.modalities:
            self._learn(move, None if number is None else number - unwanted, (), expectation)
        if not outcome.succeeded or number is not None or expectation.find_shortage().is_known:
            return
        if number := expectation.count_received(move):
            expectation.warn(f"{self._peer.name} counts nothing in its C-MOVE responses, so nobody knows how many instances there are.")
            self._learn(move, number, (), expectation)

    def _check_interrupted(self) -> None:
        if self._is_interrupted():
            raise Interrupted

    def _log_move(self, move: Move, outcome: MoveOutcome | None, arrived: int, duration_s: float) -> None:
        self._log.info(
            "move_finished",
            study_instance_uid=move.study_instance_uid,
            series_instance_uid=move.series_instance_uid,
            dimse_status=f"{outcome.dimse_status:04X}" if outcome else None,
            completed=outcome.completed if outcome else None,
            failed=outcome.failed if outcome else None,
            arrived=arrived,
            duration_s=round(duration_s, 3),
        )
