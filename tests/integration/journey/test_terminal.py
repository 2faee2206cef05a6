"""What a person sees: `submit --wait`, `demo` and `queue --watch` on a real terminal (a pseudo-terminal), and without one."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.phantom import CT_ACCESSION, write_phantom
from tests.integration.journey.site import AE_TITLE, Site, command_environment, run_command, running_site
from tests.processes import HOST, free_port

CT_INSTANCES = 13  # with the report
_COLOUR = re.compile(rb"\x1b\[[0-9;]*3[0-9](;[0-9;]*)?m")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DemoPacs, int]]:
    folder, port = tmp_path_factory.mktemp("archive"), free_port()
    write_phantom(folder, seed=1, ct_slices=CT_INSTANCES - 1, mr_slices=1, rows=16, columns=16)
    with DemoPacs(folder, destinations={AE_TITLE: (HOST, port)}) as pacs:
        yield pacs, port


@pytest.fixture
def site(tmp_path: Path, archive: tuple[DemoPacs, int]) -> Iterator[Site]:
    pacs, port = archive
    pacs.faults = Faults()
    with running_site(tmp_path, {"ABPACS": pacs.address}, port=port) as site:
        yield site


class Screen:
    """A program on a terminal of 100 columns and 30 lines, and all that it has written."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self._terminal = terminal
        self.output = b""

    def read_until(self, is_enough: Callable[[bytes], bool], deadline_s: float = 60) -> bytes:
        """What it has written when that is enough, or when it has ended."""
        end_s = time.monotonic() + deadline_s
        while not is_enough(self.output):
            if not select.select([self._terminal], [], [], max(0, end_s - time.monotonic()))[0]:
                pytest.fail(f"not seen in time; the screen has {self.output!r}")
            try:
                data = os.read(self._terminal, 65536)
            except OSError:  # EIO: nobody has the other end any more
                break
            self.output += data
        return self.output

    def end(self, deadline_s: float = 60) -> int:
        self.read_until(lambda _: False, deadline_s)
        return self.process.wait(deadline_s)


@contextmanager
def on_terminal(*arguments: object, env: Mapping[str, str] | None = None) -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    environment = {**os.environ, **command_environment(), "TERM": "xterm-256color", "COLUMNS": "100", **(env or {})}
    environment.pop("CI", None)  # rich takes it for a sign that nobody looks
    command = [sys.executable, "-m", "mkisod", *map(str, arguments)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True)
    os.close(theirs)
    try:
        yield Screen(process, ours)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)


def test_submit_wait_shows_count_rate_and_time_left(site: Site, archive: tuple[DemoPacs, int]) -> None:
    archive[0].faults = Faults(pause_s=0.3)  # slow enough to be seen
    with on_terminal("submit", CT_ACCESSION, "--wait", "--config", site.config_path) as screen:
        screen.read_until(lambda output: b"s left" in output)
        assert b"MiB/s" in screen.output
        assert re.search(rb"[1-9][0-9]?/%d instances" % CT_INSTANCES, screen.output)
        archive[0].faults = Faults()
        assert screen.end() == 0
    text = screen.output.decode()
    assert "done" in text
    assert f"{CT_INSTANCES} of {CT_INSTANCES} instances" in text
    assert _COLOUR.search(screen.output)


def test_no_colour_where_none_is_wanted(site: Site) -> None:
    with on_terminal("submit", CT_ACCESSION, "--wait", "--config", site.config_path, env={"NO_COLOR": "1"}) as screen:
        assert screen.end() == 0
    assert b"done" in screen.output
    assert not _COLOUR.search(screen.output)


def test_without_a_terminal_plain_lines(site: Site) -> None:
    said = run_command("submit", CT_ACCESSION, "--wait", "--config", site.config_path)
    assert said.exit_code == 0
    assert "\x1b" not in said.output + said.messages
    assert said.messages.splitlines()[-1] == "done"


def test_queue_watch_follows_a_job_and_ends_by_ctrl_c(site: Site, archive: tuple[DemoPacs, int]) -> None:
    archive[0].faults = Faults(stall_after=2)
    with on_terminal("queue", "--watch", "--config", site.config_path) as screen:
        screen.read_until(lambda output: b"0 active" in output)
        site.daemon.drop("watched", f"{CT_ACCESSION}\n@end\n")
        screen.read_until(lambda output: b"watched" in output and b"retrieving" in output and b"1 active" in output)
        archive[0].faults = Faults()
        site.daemon.wait_status("watched", "done")
        seen = len(screen.output)
        screen.read_until(lambda output: b"0 active" in output[seen:])
        os.killpg(screen.process.pid, signal.SIGINT)
        assert screen.end() == 0
    assert b"Traceback" not in screen.output


def test_queue_watch_without_a_terminal_a_line_for_each_change(site: Site) -> None:
    command = [sys.executable, "-u", "-m", "mkisod", "queue", "--watch", "--config", str(site.config_path)]
    environment = {**os.environ, **command_environment()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        try:
            site.daemon.drop("nowhere", "NOWHERE\n@end\n")
            site.daemon.wait_status("nowhere", "deferred")
            assert next(line for line in process.stdout if "deferred" in line) == "nowhere  deferred\n"
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_watch_is_no_json(site: Site) -> None:
    said = run_command("queue", "--watch", "--json", "--config", site.config_path)
    assert (said.exit_code, said.output) == (2, "")


def test_the_operator_may_ask_for_json(site: Site) -> None:
    site.daemon.drop("again", "NOWHERE\n@end\n")
    site.daemon.wait_status("again", "deferred")
    (done,) = json.loads(run_command("retry", "again", "--json", "--config", site.config_path).output)
    assert done == {"name": "again", "done": "again is queued again."}


def test_demo_on_a_terminal() -> None:
    with on_terminal("demo") as screen:
        assert screen.end(120) == 0
    assert b"done" in screen.output
    assert b".ISO" in screen.output
