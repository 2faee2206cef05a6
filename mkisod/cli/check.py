"""`mkisod check`: everything that has to be right before the first request, a line each."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from attrs import frozen
from structlog.typing import FilteringBoundLogger

from mkisod.config.parsing import read_config
from mkisod.config.settings import Config
from mkisod.daemon import check_config, make_receiver_settings
from mkisod.errors import Code, MkisodError, Permanent
from mkisod.pacs.associate import Peer, make_peer, send_echo
from mkisod.pacs.expectations import Expectations
from mkisod.pacs.receiver import Receiver
from mkisod.spool.layout import Layout
from mkisod.spool.probe import probe_spool
from mkisod.system.journal import make_quiet_log


@frozen
class Finding:
    subject: str
    found: str
    advice: str = ""  # empty: it is ok

    @property
    def ok(self) -> bool:
        return not self.advice


def run(arguments: argparse.Namespace) -> int:
    findings = list(check(arguments.config, make_quiet_log()))
    if arguments.json:
        print(json.dumps([{"subject": f.subject, "ok": f.ok, "found": f.found, "advice": f.advice} for f in findings], indent=1))
    else:
        for finding in findings:
            print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.subject}: {finding.found}")
            if not finding.ok:
                print(f"      {finding.advice}")
    bad = sum(not finding.ok for finding in findings)
    if bad:
        print(f"mkisod: {bad} of {len(findings)} checks failed. Follow the advice below each.", file=sys.stderr)
    return 1 if bad else 0


def check(path: Path, log: FilteringBoundLogger) -> Iterator[Finding]:
    try:
        config = read_config(path)
        check_config(config, path)
    except MkisodError as error:
        yield Finding("configuration", error.message, error.advice)
        return
    yield Finding("configuration", str(path) if path.exists() else f"{path} is not there; all defaults")
    yield _try("spool", lambda: probe_spool(Layout(Path(config.spool.dir), config.spool.instance)))
    yield _try("receiver", lambda: _check_receiver(config, log))
    for name, settings in config.pacs.items():
        yield _try(f"PACS {name}", partial(_check_echo, make_peer(name, settings), config.receiver.ae_title))


def _try(subject: str, find: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, find())
    except MkisodError as error:
        return Finding(subject, error.message, error.advice)


def _check_echo(peer: Peer, ae_title: str) -> str:
    send_echo(peer, ae_title, time.monotonic)
    return f"{peer.ae_title}@{peer.host}:{peer.port} answers C-ECHO"


def _check_receiver(config: Config, log: FilteringBoundLogger) -> str:
    """The port is free, or the daemon has it already."""
    receiver = config.receiver
    ours = Receiver(make_receiver_settings(config), Expectations(log, has_room=lambda: True), log=log)
    try:
        ours.bind()
        ours.stop(0)
    except Permanent as error:
        if error.code is not Code.PORT_UNAVAILABLE:
            raise
        ourselves = Peer("mkisod", receiver.host or "localhost", receiver.port, receiver.ae_title)
        try:
            send_echo(ourselves, receiver.ae_title, time.monotonic)
        except MkisodError:
            raise Permanent(
                Code.PORT_UNAVAILABLE, f"Port {receiver.port} is in use, and what listens there does not answer as {receiver.ae_title}."
            ) from None
        return f"{receiver.ae_title} answers on port {receiver.port}: the daemon is running"
    return f"port {receiver.port} is free for {receiver.ae_title}"
