"""The daemon as its users know it: a process of its own, driven by files in the inbox, answering by files in the outbox.

Nothing of mkisod is imported here: the harness knows the contract (docs/contract.md), not the code. Every status that it reads is
validated against docs/status.schema.json.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.processes import Process, started, wait_for

ROOT = Path(__file__).parent.parent
Status = dict[str, Any]

_READY_DEADLINE_S = 30.0


class Daemon:
    """A daemon that has said READY."""

    def __init__(self, process: Process, spool: Path) -> None:
        self.process = process
        self.inbox = spool / "inbox"
        self.outbox = spool / "outbox"
        schema = json.loads((ROOT / "docs" / "status.schema.json").read_text(encoding="utf-8"))
        validator_class = jsonschema.validators.validator_for(schema)
        validator_class.check_schema(schema)
        self._validator = validator_class(schema, format_checker=validator_class.FORMAT_CHECKER)

    def drop(self, ticket: str, text: str | bytes) -> None:
        """Drop a request as clients do: write a file that the daemon leaves alone, rename it. The text goes in as it is."""
        written = self.inbox / f"{ticket}.tmp"
        written.write_bytes(text.encode() if isinstance(text, str) else text)
        written.rename(self.inbox / f"{ticket}.req")

    def status(self, ticket: str) -> Status | None:
        """The status as it stands, or None if there is none yet. The test fails if it breaks the schema."""
        path = self.outbox / ticket / "status.json"
        try:
            # Replaced atomically: what is read is whole, or the contract is broken.
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        status: Status = json.loads(text)
        errors = [f"{error.json_path}: {error.message}" for error in self._validator.iter_errors(status)]
        if errors or status["ticket"] != ticket:
            pytest.fail(f"the status of {ticket} breaks the contract: {errors}\n{text}")
        return status

    def wait_status(self, ticket: str, states: str | Iterable[str], deadline_s: float = 60) -> Status:
        """Wait until the state of a request is one of `states`, and return its status.

        The test fails when the daemon ends, when the request is finished in another state, or when it takes longer than `deadline_s`.
        """
        wanted = {states} if isinstance(states, str) else set(states)
        last: Status | None = None

        def reached() -> Status | None:
            nonlocal last
            self.process.check_alive()
            last = self.status(ticket)
            if last is None or last["state"] in wanted:
                return last
            if last["finished"]:
                pytest.fail(f"{ticket} ended as {last['state']}, not as {' or '.join(sorted(wanted))}:\n{json.dumps(last, indent=1)}")
            return None

        try:
            return wait_for(reached, deadline_s, f"{ticket} to be {' or '.join(sorted(wanted))}")
        except pytest.fail.Exception as failure:
            failure.add_note(f"last status: {json.dumps(last)}")
            raise

    def stop(self) -> None:
        """End the daemon by SIGTERM, and hold it to its promises: exit status 0, nothing left running, no traceback."""
        if self.process.ended:
            return
        left = self.process.end(signal.SIGTERM)
        output = self.process.output
        assert self.process.popen.returncode == 0, f"exit status {self.process.popen.returncode} after SIGTERM:\n{output}"
        assert not left, f"left running: {left}"
        assert "Traceback (most recent call last)" not in output, output

    def kill(self) -> None:
        """End the daemon by SIGKILL: the death that it cannot prepare for."""
        self.process.end(signal.SIGKILL)


@contextmanager
def running_daemon(tmp_path: Path, config: str, *, env: Mapping[str, str] | None = None) -> Iterator[Daemon]:
    """`mkisod serve` under `config`, the text of a mkisod.toml that names `spool.dir`; from READY to SIGTERM.

    The configuration and the log go to `tmp_path`, and a second daemon in the same folder appends to the same log. When the block ends
    well, and the test has not ended the daemon itself, `Daemon.stop` holds it to its promises.
    """
    spool = Path(tomllib.loads(config)["spool"]["dir"])
    config_path = tmp_path / "mkisod.toml"
    config_path.write_text(config, encoding="utf-8")
    command = [sys.executable, "-m", "mkisod", "serve", "--config", config_path]
    # A folder of its own, not tmp_path: the address of a Unix socket holds no more than 107 characters.
    with tempfile.TemporaryDirectory(prefix="mkisod-") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        address = os.path.join(folder, "notify")  # noqa: PTH118 - it goes to bind() and into the environment as it is
        notify.bind(address)
        environment = {"PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": address, **(env or {})}
        with started("mkisod", command, tmp_path / "mkisod.log", env=environment, cwd=tmp_path) as process:
            _wait_ready(process, notify)
            daemon = Daemon(process, spool)
            yield daemon
            daemon.stop()


def _wait_ready(process: Process, notify: socket.socket) -> None:
    """Wait for READY=1 (sd_notify(3)): exact, and at once over when the daemon dies first."""
    end = time.monotonic() + _READY_DEADLINE_S
    while (left_s := end - time.monotonic()) > 0:
        readable, _, _ = select.select([notify.fileno(), process.pidfd], [], [], left_s)
        if notify.fileno() in readable:
            if b"READY=1" in notify.recv(65536).split(b"\n"):
                return
        elif readable:
            process.check_alive()
    pytest.fail(f"no READY within {_READY_DEADLINE_S:g} s")
