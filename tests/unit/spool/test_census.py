"""How the spool stands, as the metrics have it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mkisod.job.record import make_job_id, read_job_time
from mkisod.spool.census import take_census
from mkisod.spool.layout import Layout, make_directories

CLAIMED = datetime(2026, 11, 22, 8, 15, tzinfo=UTC)
NOW = datetime(2026, 11, 22, 8, 17, 30, tzinfo=UTC)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "spool", "main")
    make_directories(layout)
    return layout


def test_an_empty_spool(layout: Layout) -> None:
    census = take_census(layout, NOW)
    assert census.waiting == {"queued": 0, "deferred": 0, "failed": 0}
    assert census.oldest_queued_s == 0
    assert census.free_bytes > 0


def test_jobs_are_counted_where_they_stand_and_the_oldest_queued_one_has_an_age(layout: Layout) -> None:
    older, newer = make_job_id(CLAIMED, b"\1" * 6), make_job_id(NOW, b"\0" * 6)
    for place, names in ((layout.queued, (newer, older, "strange")), (layout.deferred, ("20250101T000000Z-aaaaaa",)), (layout.held, ())):
        for name in names:
            (place / name).mkdir()
    census = take_census(layout, NOW)
    assert census.waiting == {"queued": 2, "deferred": 1, "failed": 0}
    assert census.oldest_queued_s == 150


def test_a_clock_that_was_set_back_makes_no_negative_age(layout: Layout) -> None:
    (layout.queued / make_job_id(NOW, b"\0" * 6)).mkdir()
    assert take_census(layout, CLAIMED).oldest_queued_s == 0


def test_the_name_of_a_job_says_when_it_was_claimed() -> None:
    assert read_job_time(make_job_id(CLAIMED, b"\0" * 6)) == CLAIMED
