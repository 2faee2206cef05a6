"""The text file for Prometheus: judged by prometheus-client's own parser, and by promtool where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mkisod.errors import Code
from mkisod.system.events import EVENTS
from mkisod.system.metrics import Metrics, Readings
from tests.daemon import ROOT

NOW_S = 1_800_000_000.0
READINGS = Readings(
    waiting={"queued": 2, "deferred": 1, "failed": 3}, oldest_queued_s=42.5, associations=4, free_bytes=10**10, min_free_bytes=1 << 31
)
RULES = ROOT / "packaging" / "prometheus" / "mkisod.rules.yml"


def make(instance: str = "main") -> Metrics:
    return Metrics(instance, "0.1.0", ["ABPACS", "OTHER"], now_s=lambda: NOW_S)


@pytest.fixture
def metrics() -> Metrics:
    return make()


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample, by its name and its labels; the daemon's is left out."""
    found = {}
    for family in text_string_to_metric_families(metrics.render(READINGS).decode()):
        for sample in family.samples:
            labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "daemon"))
            assert sample.labels["daemon"] == "main"
            assert (sample.name, labels) not in found, "twice"
            found[sample.name, labels] = sample.value
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[f"mkisod_{name}", tuple(sorted(labels.items()))]


LIFE: list[tuple[str, dict[str, Any]]] = [
    ("job_claimed", {"job": "j", "state": "queued"}),
    ("job_taken", {"job": "j", "state": "retrieving"}),
    ("move_finished", {"job": "j", "pacs": "ABPACS", "dimse_status": "B000"}),
    ("job_retrieved", {"job": "j", "state": "assembling", "pacs": "ABPACS", "duration_s": 7.5}),
    ("job_assembled", {"job": "j", "state": "publishing", "duration_s": 1.5}),
    ("job_published", {"job": "j", "state": "done", "age_s": 40.0}),
]


def test_one_request_is_counted_step_by_step(metrics: Metrics) -> None:
    for event, fields in LIFE[:4]:
        metrics.observe(event, fields)
    assert value(metrics, "jobs", state="assembling") == 1
    assert value(metrics, "jobs", state="retrieving") == 0
    for event, fields in LIFE[4:]:
        metrics.observe(event, fields)
    assert value(metrics, "jobs", state="assembling") == 0
    assert value(metrics, "jobs_claimed_total") == 1
    assert value(metrics, "jobs_finished_total", outcome="done") == 1
    assert value(metrics, "moves_total", pacs="ABPACS", dimse_status="B000") == 1
    assert value(metrics, "last_retrieval_timestamp_seconds", pacs="ABPACS") == NOW_S
    for name, within, below, total_s in (("retrieval", "10.0", "5.0", 7.5), ("assembly", "2.0", "1.0", 1.5), ("job", "60.0", "30.0", 40.0)):
        labels = {"pacs": "ABPACS"} if name == "retrieval" else {}
        assert value(metrics, f"{name}_duration_seconds_bucket", le=within, **labels) == 1
        assert value(metrics, f"{name}_duration_seconds_bucket", le=below, **labels) == 0
        assert value(metrics, f"{name}_duration_seconds_sum", **labels) == total_s


def test_failures_are_counted_by_their_code_and_ends_by_their_outcome(metrics: Metrics) -> None:
    for event in ("job_deferred", "job_failed", "job_refused", "job_left_incomplete"):
        metrics.observe(event, {"job": "j", "state": "deferred" if event == "job_deferred" else "failed", "error": Code.TIMEOUT})
    metrics.observe("job_cancelled", {"job": "j", "state": "cancelled", "error": Code.CANCELLED})
    metrics.observe("job_published_partial", {"job": "j", "state": "partial", "error": Code.INCOMPLETE, "age_s": 1.0})
    metrics.observe("job_due", {"job": "j", "state": "queued"})
    assert value(metrics, "failures_total", code="timeout") == 4
    outcomes = {labels[0][1]: number for (name, labels), number in samples(metrics).items() if name == "mkisod_jobs_finished_total"}
    assert outcomes == {"done": 0, "partial": 1, "failed": 2, "refused": 1, "cancelled": 1}
    assert value(metrics, "retries_total") == 1


def test_a_disc_that_is_sent_on_is_done_when_that_is(metrics: Metrics) -> None:
    metrics.observe("job_published_to_forward", {"job": "j", "state": "forwarding", "age_s": 40.0})
    assert (value(metrics, "jobs", state="forwarding"), value(metrics, "jobs_finished_total", outcome="done")) == (1, 0)
    metrics.observe("instances_forwarded", {"job": "j", "destination": "STATION", "sent": 7, "failed": 1})
    metrics.observe("job_forwarded", {"job": "j", "state": "done"})
    assert (value(metrics, "jobs", state="forwarding"), value(metrics, "jobs_finished_total", outcome="done")) == (0, 1)
    assert value(metrics, "instances_forwarded_total", destination="STATION") == 7
    assert value(metrics, "job_duration_seconds_count") == 1


def test_what_is_refused_is_counted_once(metrics: Metrics) -> None:
    """The first of each kind is an event of its own, the rest of an association are one."""
    for _ in range(2):
        metrics.observe("instance_refused", {})
    metrics.observe("instances_refused", {"count": 50, "further": 48})
    assert value(metrics, "instances_refused_total") == 50


def test_how_things_stand(metrics: Metrics) -> None:
    metrics.count_arrival(1000)
    metrics.count_arrival(24)
    assert value(metrics, "instances_received_total") == 2
    assert value(metrics, "received_bytes_total") == 1024
    assert [value(metrics, "jobs", state=state) for state in ("queued", "deferred", "failed")] == [2, 1, 3]
    assert value(metrics, "queue_oldest_age_seconds") == 42.5
    assert value(metrics, "associations") == 4
    assert value(metrics, "spool_free_bytes") == 10**10
    assert value(metrics, "build_info", version="0.1.0") == 1


def test_every_event_that_is_counted_is_one_that_is_told() -> None:
    """Metrics know events by their names: one that is renamed must not go uncounted."""
    source = (ROOT / "mkisod" / "system" / "metrics.py").read_text(encoding="utf-8")
    named = set(re.findall(r'"((?:job|move|instances?|association)_[a-z_]+)"', source)) - {"job_", "association_"}
    named -= set(re.findall(r'_(?:counter|histogram)\("([a-z_]+)"', source))
    named = {name for name in named if not name.startswith(("job_duration", "association_events"))}
    assert len(named) > 8
    assert named <= set(EVENTS)


def test_events_that_nobody_counts_do_no_harm(metrics: Metrics) -> None:
    before = samples(metrics)
    for event in set(EVENTS) - {event for event, _ in LIFE} - {"instances_refused", "instances_forwarded"}:
        if event not in {"instance_refused", "job_due", "job_published_partial"} and not event.startswith(("association_", "job_")):
            metrics.observe(event, {"ticket": "t"})
    assert samples(metrics) == before


# --- The file ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def closed_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("closed_umask")
def test_the_file_is_replaced_and_can_be_read_by_the_collector(metrics: Metrics, tmp_path: Path) -> None:
    path = tmp_path / "mkisod.prom"
    path.write_text("old", encoding="ascii")
    with path.open(encoding="ascii") as old:
        assert metrics.update(path, 0.0, lambda: READINGS) is None
        assert old.read() == "old", "it is another file, not the same one written over"
    assert path.read_bytes() == metrics.render(READINGS)
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_it_is_written_at_most_once_a_second(metrics: Metrics, tmp_path: Path) -> None:
    path, read = tmp_path / "mkisod.prom", list[Readings]()

    def take() -> Readings:
        read.append(READINGS)
        return READINGS

    assert metrics.update(path, 100.0, take) is None
    assert metrics.update(path, 100.25, take) == 0.75
    assert metrics.update(path, 101.0, take) is None
    assert len(read) == 2, "nothing is read for nothing"


def test_a_failure_is_the_callers(metrics: Metrics, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        metrics.update(tmp_path / "nowhere" / "mkisod.prom", 0.0, lambda: READINGS)


def test_the_files_of_two_daemons_can_be_read_together() -> None:
    """node_exporter reads every file of its directory: no sample may come twice, and no help text may differ."""
    families: dict[str, str] = {}
    seen = set()
    for instance in ("main", "second"):
        for family in text_string_to_metric_families(make(instance).render(READINGS).decode()):
            assert families.setdefault(family.name, family.documentation) == family.documentation
            for sample in family.samples:
                key = sample.name, tuple(sorted(sample.labels.items()))
                assert key not in seen
                seen.add(key)


def test_names_and_units_are_prometheus_own(metrics: Metrics) -> None:
    for event, fields in LIFE:
        metrics.observe(event, fields)
    text = metrics.render(READINGS).decode()
    for family in text_string_to_metric_families(text):
        assert re.fullmatch(r"mkisod_[a-z]+(_[a-z]+)*", family.name)
        assert family.documentation.endswith(".")
        assert not re.search(r"_(ms|minutes|mib|kb|percent)\b", family.name), "seconds and bytes"
        assert (family.type == "counter") == all(sample.name.endswith("_total") for sample in family.samples)
    assert "_created" not in text
    if promtool := shutil.which("promtool"):
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_example_alerts_ask_for_what_there_is(metrics: Metrics) -> None:
    for event, fields in LIFE:
        metrics.observe(event, fields)
    rules = RULES.read_text(encoding="utf-8")
    asked = set(re.findall(r"mkisod_[a-z_]+", "\n".join(re.findall(r"expr: (.*(?:\n {10}.*)*)", rules))))
    names = {family.name for family in text_string_to_metric_families(metrics.render(READINGS).decode())}
    known = names | {f"{name}_total" for name in names}
    assert len(asked) > 5
    assert asked <= known
    codes = {word for text in re.findall(r'code=~?"([^"]*)"', rules) for word in text.split("|")}
    assert codes <= set(Code)
    if promtool := shutil.which("promtool"):
        done = subprocess.run([promtool, "check", "rules", RULES], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
