"""Metrics for Prometheus, as a text file for node_exporter's textfile collector. Counted from the events that the journal tells.

One source for both: what is counted has been told, and nothing else has to know of metrics. What is no event, but how things stand, is read
when the file is written (`Readings`). The file is replaced atomically, at most once a second, and carries no name of anybody. On failure
(OSError) the old file stays, and the caller says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

MIN_INTERVAL_S: Final = 1.0
_MODE: Final = 0o644  # read by another user's program; the unit's umask would keep it from that
_SECONDS: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_JOB_SECONDS: Final = (10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 43200, 86400)
_IN_HAND: Final = ("retrieving", "assembling", "publishing", "forwarding")
# Event -> the outcome of a job that it stands for.
_OUTCOMES: Final = {
    "job_published": "done",
    "job_published_partial": "partial",
    "job_forwarded": "done",
    "job_forwarded_partial": "partial",
    "job_failed": "failed",
    "job_left_incomplete": "failed",
    "job_refused": "refused",
    "job_cancelled": "cancelled",
}
_FAILURES: Final = ("job_deferred", "job_failed", "job_left_incomplete", "job_refused")
_ASSOCIATION_EVENTS: Final = ("accepted", "rejected", "aborted", "aborted_by_peer", "lost", "failed")


@frozen
class Readings:
    """How things stand. `waiting`: jobs that nobody has in hand, by state; `oldest_queued_s`: for how long the oldest queued job waits."""

    waiting: Mapping[str, int]
    oldest_queued_s: float
    associations: int
    free_bytes: int
    min_free_bytes: int


class Metrics:
    """`update` is called by one thread, the rest by many. `instance` is [spool] instance: several daemons have a file each."""

    def __init__(self, instance: str, version: str, pacs: Iterable[str], *, now_s: Callable[[], float]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # series that say when a counter began: nobody asks for them
        self._instance = instance
        self._now_s = now_s  # seconds since 1970
        self._registry = CollectorRegistry()
        self._states: dict[str, str] = {}  # of jobs in hand
        self._written_s: float | None = None
        self._count_claimed = self._counter("jobs_claimed", "Requests taken over.")
        self._count_finished = self._counter("jobs_finished", "Jobs that came to an end, by outcome.", "outcome")
        self._count_failures = self._counter("failures", "Attempts that failed and requests that were refused, by error code.", "code")
        self._count_retries = self._counter("retries", "Deferred jobs that were queued again.")
        self._count_moves = self._counter("moves", "C-MOVE operations that ended, by PACS and final DIMSE status.", "pacs", "dimse_status")
        self._instances = self._counter("instances_received", "SOP instances received and kept.").labels(instance)
        self._bytes = self._counter("received_bytes", "Size of the SOP instances received and kept.").labels(instance)
        self._count_refused = self._counter("instances_refused", "SOP instances that the receiver refused.")
        self._count_forwarded = self._counter("instances_forwarded", "SOP instances sent to a destination.", "destination")
        self._count_associations = self._counter("association_events", "What became of associations with the receiver.", "event")
        self._time_retrieval = self._histogram("retrieval_duration_seconds", "From the query to the last instance.", _SECONDS, "pacs")
        self._time_assembly = self._histogram("assembly_duration_seconds", "From the last instance to the checked disc.", _SECONDS)
        self._time_job = self._histogram("job_duration_seconds", "From the claim of a request to its publication.", _JOB_SECONDS)
        name = "mkisod_last_retrieval_timestamp_seconds"
        self._last = Gauge(name, "When a retrieval was last complete.", ("daemon", "pacs"), registry=self._registry)
        info = Gauge("mkisod_build_info", "The version that runs.", ("daemon", "version"), registry=self._registry)
        info.labels(instance, version).set(1)
        began = Gauge("mkisod_start_time_seconds", "When the daemon was started.", ("daemon",), registry=self._registry)
        began.labels(instance).set(now_s())
        # Series that exist from the start: a rate needs a zero to begin from.
        for outcome in sorted(set(_OUTCOMES.values())):
            self._count_finished.labels(instance, outcome)
        for event in _ASSOCIATION_EVENTS:
            self._count_associations.labels(instance, event)
        for metric in (self._count_claimed, self._count_retries, self._count_refused, self._time_assembly, self._time_job):
            metric.labels(instance)
        for name in pacs:
            self._time_retrieval.labels(instance, name)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"mkisod_{name}", text, ("daemon", *labels), registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"mkisod_{name}", text, ("daemon", *labels), registry=self._registry, buckets=buckets)

    def count_arrival(self, size_bytes: int) -> None:
        """An instance was received and kept. It is no event: there are too many."""
        self._instances.inc()
        self._bytes.inc(size_bytes)

    def observe(self, event: str, fields: Mapping[str, Any]) -> None:
        """Count an event by its name and its fields. Knows nothing of most of them."""
        instance, pacs = self._instance, str(fields.get("pacs", ""))
        if event.startswith("job_") and "state" in fields:
            self._note_state(str(fields.get("job")), str(fields["state"]))
        if (outcome := _OUTCOMES.get(event)) is not None:
            self._count_finished.labels(instance, outcome).inc()
        if event in _FAILURES and "error" in fields:
            self._count_failures.labels(instance, str(fields["error"])).inc()
        match event:
            case "job_claimed":
                self._count_claimed.labels(instance).inc()
            case "job_due":
                self._count_retries.labels(instance).inc()
            case "job_retrieved":
                self._time_retrieval.labels(instance, pacs).observe(fields["duration_s"])
                self._last.labels(instance, pacs).set(self._now_s())
            case "job_assembled":
                self._time_assembly.labels(instance).observe(fields["duration_s"])
            case "job_published" | "job_published_partial" | "job_published_to_forward":
                self._time_job.labels(instance).observe(fields["age_s"])
            case "move_finished":
                self._count_moves.labels(instance, pacs, str(fields.get("dimse_status") or "none")).inc()
            case "instance_refused":
                self._count_refused.labels(instance).inc()
            case "instances_refused":
                self._count_refused.labels(instance).inc(fields["further"])
            case "instances_forwarded":
                self._count_forwarded.labels(instance, str(fields["destination"])).inc(fields["sent"])
            case _ if event.startswith("association_") and event.removeprefix("association_") in _ASSOCIATION_EVENTS:
                self._count_associations.labels(instance, event.removeprefix("association_")).inc()

    def _note_state(self, job: str, state: str) -> None:
        if state in _IN_HAND:
            self._states[job] = state
        else:
            self._states.pop(job, None)

    def update(self, path: Path, clock_s: float, read: Callable[[], Readings]) -> float | None:
        """Write the file, unless that was done just now; in how many seconds to call again then. `clock_s` is monotonic. Raises OSError."""
        if self._written_s is not None and clock_s - self._written_s < MIN_INTERVAL_S:
            return MIN_INTERVAL_S - (clock_s - self._written_s)
        self._written_s = clock_s
        _replace(path, self.render(read()))
        return None

    def render(self, readings: Readings) -> bytes:
        """The text of the file."""
        standing = _Standing(self._instance, readings, list(self._states.values()))
        return generate_latest(self._registry) + generate_latest(standing)


@frozen
class _Standing(Collector):
    """Readings as Prometheus knows them."""

    instance: str
    readings: Readings
    in_hand: list[str]

    def collect(self) -> Iterable[Metric]:
        read = self.readings
        jobs = GaugeMetricFamily("mkisod_jobs", "Jobs by state; those that wait are the whole spool's.", labels=("daemon", "state"))
        for state, number in read.waiting.items():
            jobs.add_metric((self.instance, state), number)
        for state in _IN_HAND:
            jobs.add_metric((self.instance, state), self.in_hand.count(state))
        yield jobs
        for name, text, value in (
            ("queue_oldest_age_seconds", "For how long the oldest queued job has been waiting; 0 where none is.", read.oldest_queued_s),
            ("associations", "Associations that are open with the receiver.", read.associations),
            ("spool_free_bytes", "What is free on the file system of the spool.", read.free_bytes),
            ("spool_min_free_bytes", "Below this nothing is claimed any more (min_free_mib).", read.min_free_bytes),
        ):
            gauge = GaugeMetricFamily(f"mkisod_{name}", text, labels=("daemon",))
            gauge.add_metric((self.instance,), value)
            yield gauge


def _replace(path: Path, data: bytes) -> None:
    """The new file stands beside its target first, under a name that the collector does not read. It need not outlive a power cut."""
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        os.fchmod(file.fileno(), _MODE)
        file.write(data)
    new.replace(path)
