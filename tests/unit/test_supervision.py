"""Threads that are watched: alive, silent, dead."""

from __future__ import annotations

import threading

import pytest
from structlog import get_logger
from structlog.testing import capture_logs

from mkisod.supervision import Supervision


class Stage:
    """A supervision whose time the test turns."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.deaths: list[str] = []
        self.supervision = Supervision(
            lambda: self.now_s, get_logger(), report_death=self.deaths.append, is_forgiven=lambda error: isinstance(error, MemoryError)
        )


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_thread_that_hangs_is_found_and_told_once_with_where_it_hangs(stage: Stage) -> None:
    begun, go_on, beaten, end = (threading.Event() for _ in range(4))

    def serve() -> None:
        begun.set()
        go_on.wait()
        stage.supervision.beat()
        beaten.set()
        end.wait()

    stage.supervision.start("busy", serve, patience_s=10)
    assert begun.wait(10)
    with capture_logs() as said:
        stage.now_s = 10
        assert stage.supervision.find_silent() == []
        stage.now_s = 11
        assert stage.supervision.find_silent() == ["busy"]
        assert stage.supervision.find_silent() == ["busy"]
    assert [(event["event"], event["thread"], event["seconds"]) for event in said] == [("thread_silent", "busy", 11)]
    assert "go_on.wait()" in said[0]["stack"]
    go_on.set()
    assert beaten.wait(10)
    assert stage.supervision.find_silent() == [], "it lives again"
    end.set()
    stage.supervision.join(lambda: None)


def test_a_thread_that_others_start_is_known_by_its_name(stage: Stage) -> None:
    stage.supervision.expect("theirs", patience_s=1)
    stage.now_s = 5
    threads = [threading.Thread(target=stage.supervision.beat, name=name) for name in ("stranger", "theirs")]
    for thread, silent in zip(threads, (["theirs"], []), strict=True):
        thread.start()
        thread.join()
        assert stage.supervision.find_silent() == silent


@pytest.mark.parametrize(("error", "deaths"), [(ZeroDivisionError(), ["t"]), (SystemExit(), ["t"]), (MemoryError(), [])])
def test_a_death_is_reported_unless_it_is_forgiven(stage: Stage, error: BaseException, deaths: list[str]) -> None:
    def serve() -> None:
        raise error

    stage.supervision.start("t", serve, patience_s=1)
    stage.supervision.join(lambda: None)
    assert stage.deaths == deaths
    assert stage.supervision.died is bool(deaths)


def test_a_stop_asks_for_time_as_long_as_the_thread_it_waits_for_lives(stage: Stage) -> None:
    end, asked = threading.Event(), list[float]()

    def serve() -> None:
        end.wait()

    stage.supervision.start("t", serve, patience_s=2)

    def ask() -> None:
        asked.append(stage.now_s)
        stage.now_s += 1.5

    def stop_asking() -> None:
        """Let go once nobody asks any more: it has been silent for too long."""
        while len(asked) < 2 or not stage.supervision.find_silent():
            pass
        end.set()

    other = threading.Thread(target=stop_asking)
    other.start()
    stage.supervision.join(ask)
    other.join()
    assert asked == [0.0, 1.5]
