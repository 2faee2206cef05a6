"""Programs that tests start: where they listen, how to wait for them, how they end, and what they said.

Every program gets a session of its own, writes to a log file, and is ended by its own id, with whatever it forked. What it wrote is shown
with a test that fails (tests/conftest.py). Nothing here sleeps for luck: every wait is for a condition, with a deadline.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

# A test harness for a whole process is the one place where state of the module is meant: ports kept for this process, and the programs
# whose output belongs to the test that runs now.
_reservations: list[socket.socket] = []
_processes: list[Process] = []

HOST = "127.0.0.1"
_POLL_S = 0.02
_END_DEADLINE_S = 30.0


def free_port() -> int:
    """A TCP port that is kept for the caller until this process ends.

    Asking the kernel for a port and closing the socket leaves a race: until the program under test binds it, anybody else may get it,
    another test or any outgoing connection. So the socket stays bound, but never listens. Linux lets a second socket bind and listen there
    when both say SO_REUSEADDR, as servers do (DCMTK, Orthanc, pynetdicom); a connection to it is refused until then. A program that binds
    without SO_REUSEADDR cannot use such a port.
    """
    try:
        reservation = _reserve(socket.AF_INET6, "::")
    except OSError:  # a machine without IPv6
        reservation = _reserve(socket.AF_INET, "")
    _reservations.append(reservation)
    port: int = reservation.getsockname()[1]
    return port


def _reserve(family: socket.AddressFamily, address: str) -> socket.socket:
    """Of every address: some programs listen on all of them, and an outgoing connection from any would be in their way."""
    reservation = socket.socket(family)
    if family == socket.AF_INET6:
        reservation.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind((address, 0))
    return reservation


@atexit.register
def _give_up_ports() -> None:
    for reservation in _reservations:
        reservation.close()


def wait_for(condition: Callable[[], T | None], deadline_s: float, what: str) -> T:
    """Ask `condition` until its answer is true, and return that answer; the test fails when that takes longer than `deadline_s`."""
    end = time.monotonic() + deadline_s
    while not (answer := condition()):
        if time.monotonic() > end:
            pytest.fail(f"after {deadline_s:g} s still waiting for {what}")
        time.sleep(_POLL_S)
    return answer


class Process:
    """A program started by a test. `pidfd` becomes readable when it ends."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log_path: Path, end_signal: signal.Signals) -> None:
        self.name = name
        self.log_path = log_path
        self.end_signal = end_signal
        self.popen = popen
        self.pidfd = os.pidfd_open(popen.pid)
        self.ended = False

    @property
    def output(self) -> str:
        """What it has written so far to standard output and standard error."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def check_alive(self) -> None:
        """Fail the test if the program has ended by itself."""
        if self._has_ended(within_s=0):
            self.end()
            pytest.fail(f"{self.name} ended by itself with exit status {self.popen.returncode}; it said:\n{self.output}")

    def wait_ready(self, is_ready: Callable[[], bool], deadline_s: float = 20) -> None:
        """Wait until `is_ready`; fail at once if the program ends before."""

        def ready_or_dead() -> bool:
            self.check_alive()
            return is_ready()

        wait_for(ready_or_dead, deadline_s, f"{self.name} to be ready")

    def _has_ended(self, within_s: float) -> bool:
        return bool(select.select([self.pidfd], [], [], within_s)[0])

    def end(self, end_signal: signal.Signals | None = None) -> list[int]:
        """Send `end_signal`, wait, and end for good what is left. Returns the ids of what it had forked and left running."""
        if self.ended:
            return []
        self.ended = True
        end_signal = end_signal or self.end_signal
        signal.pidfd_send_signal(self.pidfd, end_signal)
        in_time = self._has_ended(within_s=_END_DEADLINE_S)
        # Nobody has waited for it yet, so its id, which is also its session's, cannot have passed to anybody else.
        left = [pid for pid in session_members(self.popen.pid) if pid != self.popen.pid]
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        os.close(self.pidfd)
        if not in_time:
            pytest.fail(f"{self.name} did not end within {_END_DEADLINE_S:g} s of {end_signal.name}; it said:\n{self.output}")
        return left


@contextmanager
def started(
    name: str,
    command: Sequence[object],
    log_path: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    end_signal: signal.Signals = signal.SIGTERM,
    pass_fds: Sequence[int] = (),
) -> Iterator[Process]:
    """Run `command` as `name` until the block ends. `env` is added to this process's own environment; `pass_fds` stay open in it."""
    with log_path.open("ab") as log:
        popen = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
            pass_fds=pass_fds,
        )
    process = Process(name, popen, log_path, end_signal)
    _processes.append(process)
    try:
        yield process
    finally:
        process.end()


def session_members(session: int) -> list[int]:
    """The ids of the living processes of a session (zombies do not live)."""
    return [pid for pid, (state, _, member_of) in _processes_of_this_machine() if member_of == session and state != "Z"]


def children() -> set[int]:
    """The ids of this process's own living children."""
    return {pid for pid, (state, parent, _) in _processes_of_this_machine() if parent == os.getpid() and state != "Z"}


def _processes_of_this_machine() -> Iterator[tuple[int, tuple[str, int, int]]]:
    """Of each process its id, and its state, its parent's id and its session's id."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # A process may end between the listing and the reading.
            with suppress(FileNotFoundError, ProcessLookupError):
                # "PID (NAME) STATE PPID PGRP SESSION ...", where NAME may hold anything, parentheses too.
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                yield int(entry.name), (fields[0], int(fields[1]), int(fields[3]))


def outputs() -> list[tuple[str, str]]:
    """Name and output of each program that ran during the present test."""
    return [(process.name, process.output) for process in _processes if process.log_path.exists()]


def forget_ended() -> None:
    """Drop the programs that have ended: their output belongs to a test before."""
    _processes[:] = [process for process in _processes if not process.ended]
