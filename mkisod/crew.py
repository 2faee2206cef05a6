"""The workers, and who of them takes which job.

Owns the choice of the next job and the rule that a job which the daemon died of before runs alone. A worker's failure is its thread's
death; what a job fails of is the worker's own matter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from mkisod.attempt import Services
from mkisod.pacs.turns import Turns
from mkisod.worker import Worker


class Crew:
    """`report_taken` and `report_ended` are called when a job was, `report_alive` when a worker looks up from its work."""

    def __init__(
        self,
        services: Services,
        count: int,
        *,
        is_stopping: Callable[[], bool],
        report_taken: Callable[[], None],
        report_ended: Callable[[], None],
        report_alive: Callable[[], None],
    ) -> None:
        self._services = services
        self._is_stopping = is_stopping
        self._report_taken = report_taken
        self._report_ended = report_ended
        self._report_alive = report_alive
        self._changed = threading.Condition()  # guards the two below
        self._running = 0
        self._runs_alone = False
        self._turns = Turns(services.config, services.expectations)
        self.workers = [Worker(services, report_alive, self._end_turn) for _ in range(count)]

    @property
    def running(self) -> int:
        """How many jobs are in hand."""
        return self._running

    def renew(self, services: Services) -> None:
        """For jobs that begin from now on."""
        self._services = services
        self._turns.renew(services.config)

    def wake(self) -> None:
        """Let everybody who waits for a job, or for an instance, look again."""
        with self._changed:
            self._changed.notify_all()
        self._services.expectations.wake()

    def cancel(self, job_id: str) -> bool:
        """Withdraw a job; False if nobody has it in hand."""
        return any(worker.cancel(job_id) for worker in self.workers)

    def stop(self) -> None:
        """Give back every job in hand, soon. Call it once `is_stopping` says so."""
        for worker in self.workers:
            worker.stop()
        self.wake()

    def work(self, worker: Worker) -> None:
        """The life of a worker's thread."""
        while self._take(worker):
            self._report_taken()
            try:
                worker.carry()
            finally:
                with self._changed:
                    self._running -= 1
                    self._runs_alone = False
                    self._changed.notify_all()
            self._report_ended()

    def _end_turn(self, job_id: str, awaited: Collection[str]) -> None:
        """A job retrieves no more, or only once the studies that it awaits are free. Others may begin."""
        self._turns.end(job_id, awaited)
        with self._changed:
            self._changed.notify_all()

    def _take(self, worker: Worker) -> bool:
        """Wait for a job and take it in hand; False when the daemon stops."""
        with self._changed:
            while not self._is_stopping():
                self._report_alive()
                job = None if self._runs_alone else self._services.spool.queue.choose(self._turns.has_slot, self._turns.may_begin)
                if job is not None and not (job.record.crashes.must_run_alone and self._running):
                    worker.renew(self._services)
                    is_taken = worker.take(job)
                    self._services.spool.queue.forget(job.id)  # not earlier: until then a look would find it again
                    if is_taken:
                        if not job.record.published:
                            self._turns.begin(job.id, job.record.pacs)
                        self._running += 1
                        self._runs_alone = job.record.crashes.must_run_alone
                        return True
                    continue
                self._changed.wait()
        return False
