"""The waits of a job while an archive sends: for the end of a C-MOVE, and for what comes after it.

Nothing polls: the wait is on the expectation's condition, which faults, responses and interruptions notify; it ends at least once a second,
to report how far things are. All time-outs are measured on a monotonic clock that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from mkisod.config.settings import PacsSettings
from mkisod.errors import Code, Transient
from mkisod.job.manifest import Manifest
from mkisod.job.moves import Move
from mkisod.job.status import Evidence
from mkisod.pacs.expectation import Expectation
from mkisod.pacs.move import MoveOutcome, RunningMove
from mkisod.pacs.peer import Peer


class Interrupted(BaseException):
    """The daemon stops. No failure, so nothing that catches failures may catch it."""


@frozen
class Waiting:
    """`report` is called in the job's own thread when something may have changed, and at least once a second."""

    expectation: Expectation
    settings: PacsSettings
    clock_s: Callable[[], float]
    is_interrupted: Callable[[], bool]
    report: Callable[[Expectation], None]

    def wait_for_begin(self, running: RunningMove) -> None:
        """Until its association stands: where an archive takes one at a time, nothing else may be first."""
        self._wait(self.settings.idle_timeout_s, lambda: running.begun or running.finished, lambda: 0)

    def wait_for_end(self, running: RunningMove, peer: Peer) -> None:
        """Until the final response. The time-out begins anew with every response and every instance."""
        idle_timeout_s = self.settings.idle_timeout_s
        if not self._wait(idle_timeout_s, lambda: running.finished, lambda: (running.responses, self.expectation.arrivals)):
            raise Transient(Code.TIMEOUT, f"{peer} sent neither a response nor an instance for {idle_timeout_s:g} s.")

    def wait_for_stragglers(self, move: Move, outcome: MoveOutcome | None, arrivals: int) -> None:
        """Some archives answer before they send: wait for what is missing, anew with every arrival. `arrivals`: before the move."""
        expectation = self.expectation
        wanted = list_wanted(move, expectation.manifest)
        named = wanted.difference(outcome.failed_sop_instance_uids if outcome else ())
        sent = outcome.sent if outcome else None

        def is_over() -> bool:
            if expectation.arriving or not named.isdisjoint(expectation.missing):
                return False
            if sent is not None and expectation.arrivals - arrivals >= sent:
                return True
            if has_names(move, expectation.manifest):
                return sent is None or sent <= len(wanted)
            return not expectation.find_shortage()

        def nothing_came() -> bool:
            return expectation.arrivals == arrivals

        if outcome is not None and outcome.succeeded and nothing_came():
            self._wait(self.settings.first_arrival_s, lambda: is_over() or not nothing_came(), nothing_came)
            if nothing_came():
                return
        self._wait(self.settings.grace_s, is_over, lambda: expectation.arrivals)

    def _wait(self, timeout_s: float, is_over: Callable[[], bool], measure: Callable[[], object]) -> bool:
        """Until `is_over`: True. False where `measure` stood still for the time-out and nothing is just arriving.

        Raises the expectation's fault, or `Interrupted`.
        """
        expectation = self.expectation
        seen, deadline_s = measure(), self.clock_s() + timeout_s
        while True:
            with expectation.changed:
                if not is_over() and expectation.fault is None and not self.is_interrupted():
                    expectation.changed.wait(min(1.0, max(0.0, deadline_s - self.clock_s())))
            self.report(expectation)
            if self.is_interrupted():
                raise Interrupted
            if expectation.fault is not None:
                raise expectation.fault
            if is_over():
                return True
            now_s = self.clock_s()
            if expectation.arriving or measure() != seen:
                seen, deadline_s = measure(), now_s + timeout_s
            elif now_s >= deadline_s:
                return False


def list_wanted(move: Move, manifest: Manifest) -> set[str]:
    """The SOP Instance UIDs that a move asks for, as far as they are known."""
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


def has_names(move: Move, manifest: Manifest) -> bool:
    """Whether every instance that a move asks for is known by its SOP Instance UID."""
    if move.sop_instance_uids:
        return True
    studies = (study for study in manifest.studies if study.study_instance_uid == move.study_instance_uid)
    return not move.accession and all(study.evidence is Evidence.INSTANCES for study in studies)
