"""When the metrics are written, and what a place that cannot be written to means."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from mkisod.spool.layout import Layout, make_directories
from mkisod.system.metrics import Metrics
from mkisod.textfile import Textfile
from tests.receiver.journal import Journal

NOW = datetime(2026, 11, 22, 8, 15, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make(tmp_path: Path, path: str, clock: Clock, journal: Journal) -> Textfile:
    layout = Layout(tmp_path / "spool", "main")
    make_directories(layout)
    metrics = Metrics("main", "0", ["ABPACS"], now_s=lambda: 0.0)
    return Textfile(
        path, metrics, layout, journal.log, min_free_mib=1, count_associations=lambda: 3, clock_s=clock, now=lambda: NOW
    )


def test_without_a_path_nothing_is_done(tmp_path: Path) -> None:
    journal = Journal()
    assert make(tmp_path, "", Clock(), journal).write() is None
    assert journal.events == []


def test_what_is_read_stands_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    assert make(tmp_path, str(path), Clock(), Journal()).write() is None
    text = path.read_text(encoding="ascii")
    assert 'mkisod_associations{daemon="main"} 3.0' in text
    assert 'mkisod_spool_min_free_bytes{daemon="main"} 1.048576e+06' in text


def test_a_failure_is_warned_about_once_until_it_is_over(tmp_path: Path) -> None:
    clock, journal, path = Clock(), Journal(), tmp_path / "later" / "x.prom"
    textfile = make(tmp_path, str(path), clock, journal)
    for clock.now_s in (0.0, 0.5, 2.0, 2.5, 4.0):  # some of them too early after the one before
        textfile.write()
    assert [event["reason"] for event in journal.named("metrics_not_written")] == ["No such file or directory"]
    path.parent.mkdir()
    clock.now_s = 6.0
    textfile.write()
    assert path.exists()
    path.unlink()
    path.parent.rmdir()
    for clock.now_s in (8.0, 10.0):
        textfile.write()
    assert len(journal.named("metrics_not_written")) == 2, "it is another failure"
