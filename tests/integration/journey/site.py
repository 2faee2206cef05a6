"""A site: archives, and one daemon in front of them, started as its users start it.

The daemon knows each archive by a name, and each archive sends to CDRECORD on a port of this site alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.daemon import ROOT, Daemon, Status, running_daemon
from tests.processes import HOST, free_port

AE_TITLE = "CDRECORD"

Address = tuple[str, int]


# Settings of every archive here, unless a test has others.
PACS_KEYS = {"first_arrival_s": 10, "grace_s": 0.5}

# A failure that may go away by itself can be tried again later: then the request isn't finished, and its status says the same.
NOT_DONE = ("failed", "deferred")


def make_config(
    spool: Path, port: int, pacs: Mapping[str, Address], *, workers: int = 2, pacs_keys: Mapping[str, object] | None = None
) -> str:
    """A mkisod.toml. `pacs`: name, which is its AE title too, to host and port; `pacs_keys` goes into each of its tables.

    `settle_s` is long: what is renamed into place, or ends in @end, is taken at once, and nothing here waits for it.
    """
    keys = "".join(f"{key} = {value}\n" for key, value in (PACS_KEYS | dict(pacs_keys or {})).items())
    tables = "".join(
        f'[pacs.{name}]\nhost = "{host}"\nport = {number}\nae_title = "{name}"\n{keys}\n' for name, (host, number) in pacs.items()
    )
    return (
        f'[spool]\ndir = "{spool}"\nmin_free_mib = 0\nsettle_s = 600\n\n[receiver]\nhost = "{HOST}"\nport = {port}\n\n'
        f"{tables}[jobs]\nworkers = {workers}\n"
    )


@dataclass(frozen=True)
class Site:
    """A running daemon, and what its users have of it beside the spool: the configuration file."""

    daemon: Daemon
    spool: Path
    config_path: Path
    port: int

    def request(self, ticket: str, *lines: str, states: str | Sequence[str] = "done", deadline_s: float = 60) -> Status:
        """Drop a request and wait for one of `states`."""
        self.daemon.drop(ticket, "".join(f"{line}\n" for line in (*lines, "@end")))
        return self.daemon.wait_status(ticket, states, deadline_s)

    def result(self, status: Status) -> Path:
        """The folder of a published result."""
        folder: Path = self.daemon.outbox / status["ticket"] / status["result"]["path"]
        return folder

    def held(self, status: Status) -> Path:
        """Where a failed job is kept for the operator."""
        folder: Path = self.spool / "work" / "held" / status["job"]
        return folder


@contextmanager
def running_site(
    folder: Path, pacs: Mapping[str, Address], *, port: int | None = None, workers: int = 2, pacs_keys: Mapping[str, object] | None = None
) -> Iterator[Site]:
    """A daemon with its spool in `folder`, from READY to SIGTERM. A second one in the same folder finds the spool of the first."""
    port = port or free_port()
    spool = folder / "spool"
    with running_daemon(folder, make_config(spool, port, pacs, workers=workers, pacs_keys=pacs_keys)) as daemon:
        yield Site(daemon, spool, folder / "mkisod.toml", port)


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    exit_code: int
    output: str
    messages: str


def run_command(
    *arguments: object, env: Mapping[str, str] | None = None, deadline_s: float = 120, python: Path = Path(sys.executable)
) -> Said:
    """Run `mkisod` with these arguments to its end. Whatever it was told: it never shows a traceback."""
    command = [str(python), "-m", "mkisod", *map(str, arguments)]
    environment = {**os.environ, **command_environment(), **(env or {})}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=deadline_s, stdin=subprocess.DEVNULL, env=environment
    )
    said = Said(done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in said.output + said.messages, said
    return said


def command_environment() -> dict[str, str]:
    """What a command finds in its environment beside this process's own."""
    return {"PYTHONPATH": str(ROOT), "COLUMNS": "1000"}
