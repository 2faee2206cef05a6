"""What holds for every test: nothing is left running behind it, and when it fails, what its programs wrote is shown with it.

Peers: tests/peers.py, which also has the policy on missing programs. The daemon as a process: tests/daemon.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator

import pytest

from tests import processes

_SHOWN_CHARACTERS = 20_000
_LEFTOVER_DEADLINE_S = 5.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the output of every program that ran during a failed test."""
    report = yield
    if report.failed:
        report.sections.extend((f"output of {name}", text[-_SHOWN_CHARACTERS:]) for name, text in processes.outputs())
    return report


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Fail the test that leaves a thread or a child process behind. What fixtures of a wider scope run is not counted."""
    processes.forget_ended()
    threads, children = set(threading.enumerate()), processes.children()
    yield
    end = time.monotonic() + _LEFTOVER_DEADLINE_S
    while (left := [*(set(threading.enumerate()) - threads), *(processes.children() - children)]) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left, f"left running: {left}"
