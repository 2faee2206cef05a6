"""What stands around the service in a box: a PACS, clients that load the port, configurations, and requests."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.daemon import ROOT
from tests.processes import Process, started, wait_for
from tests.system.box import Box

SPOOL = "/var/spool/mkisod"
CONFIG = "/etc/mkisod/mkisod.toml"
PORT = 10104
_ENVIRONMENT = {"PYTHONPATH": str(ROOT)}

# Times that suit a test: a retry is a matter of a second.
QUICK = """
[spool]
min_free_mib = 0
settle_s = 600
[pacs.ABPACS]
first_arrival_s = 2
grace_s = 0.3
connect_timeout_s = 5
[jobs]
retry_first_s = 0.5
retry_max_s = 1
not_found_retry_s = []
"""


def configure(box: Box, text: str = QUICK, path: str = CONFIG) -> None:
    box.path(path).write_text(text, encoding="utf-8")


@contextmanager
def pacs_in(box: Box, archive: Path, log: Path, *, faults: str = "{}", destinations: tuple[str, ...] = ()) -> Iterator[Process]:
    """The demo PACS with the network of the box, where the default configuration looks for it."""
    known = [word for destination in (f"CDRECORD=127.0.0.1:{PORT}", *destinations) for word in ("--destination", destination)]
    command = [sys.executable, "-m", "mkisod.demo.pacs", "--from", archive, "--port", 11112, "--faults", faults, *known]
    said = log.stat().st_size if log.exists() else 0
    with started("demo PACS", [*box.network, *command], log, env=_ENVIRONMENT, cwd=log.parent) as process:
        process.wait_ready(lambda: "listening on" in process.output[said:])
        yield process


class Load:
    """Clients that come to the port again and again."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def wait_more(self, number: int = 20) -> None:
        """Until so many associations more have been served."""
        self._process.wait_ready(lambda: self._served() >= 1)
        wanted = self._served() + number
        self._process.wait_ready(lambda: self._served() >= wanted, deadline_s=120)

    def _served(self) -> int:
        return self._process.output.count(".")

    def finish(self) -> dict[str, Any]:
        """What became of all of them."""
        self._process.end(signal.SIGTERM)
        report: dict[str, Any] = json.loads(self._process.output.splitlines()[-1])
        return report


@contextmanager
def load_on(box: Box, file: Path, log: Path) -> Iterator[Load]:
    """C-ECHO and C-STORE of `file`, an association each, one after the other from two threads."""
    command = [sys.executable, "-m", "tests.system.load", PORT, file]
    with started("load", [*box.network, *command], log, env=_ENVIRONMENT, cwd=ROOT) as process:
        yield Load(process)


def drop(box: Box, ticket: str, *lines: str, user: str = "www-data", spool: str = SPOOL) -> None:
    """Drop a request as a client does, by two steps of a shell."""
    text = "".join(f"{line}\n" for line in (*lines, "@end"))
    script = 'umask 027; cat >"$0/inbox/.$1.tmp" && mv "$0/inbox/.$1.tmp" "$0/inbox/$1.req"'
    box.run("sh", "-c", script, spool, ticket, user=user, text=text)


def read_status(box: Box, ticket: str) -> dict[str, Any] | None:
    try:
        status: dict[str, Any] = json.loads(box.path(f"{SPOOL}/outbox/{ticket}/status.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return status


def wait_state(box: Box, ticket: str, state: str, deadline_s: float = 90) -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        status = read_status(box, ticket)
        assert status is None or not status["finished"] or status["state"] == state, status
        return status if status is not None and status["state"] == state else None

    return wait_for(reached, deadline_s, f"{ticket} to be {state}")


def read_journal(box: Box, *matches: str) -> list[dict[str, Any]]:
    """Entries of the journal, all of their fields."""
    box.run("journalctl", "--sync")
    lines = box.run("journalctl", "--output=json", "--all", *matches).splitlines()
    return [json.loads(line) for line in lines]
