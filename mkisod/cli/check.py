"""`mkisod check`: everything that has to be right before the first request, a line each.

Nothing is taken from a PACS unless an accession number is named: then one instance of it is moved, to prove the way back, and dropped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from attrs import frozen
from structlog.typing import FilteringBoundLogger

from mkisod.cli.options import add_config, add_json
from mkisod.config.settings import Config
from mkisod.configuration import load_config, make_receiver_settings
from mkisod.errors import Code, MkisodError, Permanent
from mkisod.job.moves import Move
from mkisod.job.request import find_accession_fault
from mkisod.pacs.contact import Contact, Sink, decode_contact
from mkisod.pacs.echo import send_echo
from mkisod.pacs.find import find_studies, list_study
from mkisod.pacs.peer import Peer, make_peer
from mkisod.pacs.questions import Questions
from mkisod.pacs.receiver import Receiver
from mkisod.pacs.return_path import judge, try_move
from mkisod.spool.layout import Layout
from mkisod.spool.probe import is_served, probe_spool
from mkisod.spool.witness import ask_for_word
from mkisod.system.journal import make_quiet_log

_MESSAGE_ID = 0xFFFF  # of our C-MOVE: a running daemon counts from 1, so it takes what comes of ours for nobody's

ReadContacts = Callable[[], Sequence[Contact]]


@frozen
class Finding:
    """`ok` is None where nothing is wrong, but nothing is proven either."""

    subject: str
    ok: bool | None
    found: str
    advice: str = ""


_WORDS = {True: "ok", False: "FAIL", None: "open"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser)
    parser.add_argument("--accession", metavar="NUMBER", help="move one instance of it, to prove that the PACS reaches us")
    parser.add_argument("--pacs", metavar="NAME", help="the PACS that has it (default: the first)")


def run(arguments: argparse.Namespace) -> int:
    findings = []
    for finding in check(arguments.config, make_quiet_log(), arguments.accession, arguments.pacs):
        findings.append(finding)
        if not arguments.json:
            print(f"{_WORDS[finding.ok]:<4}  {finding.subject}: {finding.found}")
            if finding.advice:
                print(f"      {finding.advice}", flush=True)
    if arguments.json:
        print(json.dumps([{"subject": f.subject, "ok": f.ok, "found": f.found, "advice": f.advice} for f in findings], indent=1))
    bad = sum(finding.ok is False for finding in findings)
    if bad:
        print(f"mkisod: {bad} of {len(findings)} checks failed. Follow the advice below each.", file=sys.stderr)
    return 1 if bad else 0


def check(path: Path, log: FilteringBoundLogger, accession: str | None, pacs: str | None) -> Iterator[Finding]:
    try:
        config = load_config(path)
    except MkisodError as error:
        yield Finding("configuration", False, error.message, error.advice)
        return
    name = pacs or config.default_pacs
    if name not in config.pacs:
        raise Permanent(Code.PACS_UNKNOWN, f"There is no PACS called {name} in the configuration, which has {', '.join(config.pacs)}.")
    if accession is not None and (fault := find_accession_fault(accession)):
        raise Permanent(Code.ACCESSION_INVALID, f"{accession!a}: {fault}.")
    layout = Layout(Path(config.spool.dir), config.spool.instance)
    yield Finding("configuration", True, str(path) if path.exists() else f"{path} is not there; all defaults")
    yield _try("spool", lambda: probe_spool(layout))
    yield _try("receiver", lambda: _check_receiver(config, layout, log))
    for pacs_name, settings in config.pacs.items():
        yield _try(f"PACS {pacs_name}", partial(_check_echo, make_peer(pacs_name, settings), config.receiver.ae_title))
    for destination, address in config.forward.items():
        yield _try(f"destination {destination}", partial(_check_echo, make_peer(destination, address), config.receiver.ae_title))
    subject = f"return path from {name}"
    if accession is None:
        yield Finding(
            subject,
            None,
            f"unproven: whether {name} knows {config.receiver.ae_title} and reaches port {config.receiver.port} only a move can show.",
            "Name the accession number of any study: mkisod check --accession NUMBER moves one instance of it and drops it.",
        )
    else:
        yield _try(subject, lambda: _prove_return_path(config, layout, name, accession, log))


def _try(subject: str, find: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, True, find())
    except MkisodError as error:
        return Finding(subject, False, error.message, error.advice)


def _check_echo(peer: Peer, ae_title: str) -> str:
    send_echo(peer, ae_title)
    return f"{peer.ae_title}@{peer.host}:{peer.port} answers C-ECHO"


def _check_receiver(config: Config, layout: Layout, log: FilteringBoundLogger) -> str:
    """The port is free, or the daemon has it already."""
    receiver = config.receiver
    ours = Receiver(make_receiver_settings(config), Sink(lambda _: None), log=log)
    try:
        ours.bind()
        ours.stop(0)
    except Permanent as error:
        if error.code is not Code.PORT_UNAVAILABLE:
            raise
        _find_daemon(config, layout)
        return f"{receiver.ae_title} has port {receiver.port}: the daemon is running"
    return f"port {receiver.port} is free for {receiver.ae_title}"


def _find_daemon(config: Config, layout: Layout) -> None:
    """Raises `Permanent` where the port is in use, but not by a daemon of ours."""
    receiver = config.receiver
    if receiver.tls is not None:  # our own certificate is made for other names than localhost, so no C-ECHO to ourselves
        if is_served(layout):
            return
        raise Permanent(Code.PORT_UNAVAILABLE, f"Port {receiver.port} is in use, but no daemon serves {layout.root}.")
    ourselves = Peer("mkisod", receiver.host or "localhost", receiver.port, receiver.ae_title)
    try:
        send_echo(ourselves, receiver.ae_title)
    except MkisodError:
        raise Permanent(
            Code.PORT_UNAVAILABLE, f"Port {receiver.port} is in use, and what listens there does not answer as {receiver.ae_title}."
        ) from None


def _prove_return_path(config: Config, layout: Layout, name: str, accession: str, log: FilteringBoundLogger) -> str:
    settings, ae_title = config.pacs[name], config.receiver.ae_title
    peer = make_peer(name, settings)
    move = _choose_instance(peer, ae_title, accession)
    with _watch_port(config, layout, log) as read_contacts:
        trial = try_move(peer, settings, ae_title, move, read_contacts=read_contacts, message_id=_MESSAGE_ID)
    return judge(trial, peer, ae_title, config.receiver.port, move)


def _choose_instance(peer: Peer, ae_title: str, accession: str) -> Move:
    with Questions(peer, ae_title) as questions:
        study = list_study(questions, find_studies(questions, accession)[0])
    series = next((series for series in study.series if series.sop_instance_uids), None)
    if series is None:
        raise Permanent(Code.QUERY_FAILED, f"{peer} lists no instance of the study, so there is none to move alone.")
    return Move(study.study_instance_uid, series.series_instance_uid, series.sop_instance_uids[:1])


@contextmanager
def _watch_port(config: Config, layout: Layout, log: FilteringBoundLogger) -> Iterator[ReadContacts]:
    """Gives what tells who has come to our port: seen here where the port is free, else by the daemon that has it."""
    contacts: list[Contact] = []
    receiver = Receiver(make_receiver_settings(config), Sink(contacts.append), log=log, report_contact=contacts.append)
    try:
        receiver.bind()
    except Permanent as error:
        if error.code is not Code.PORT_UNAVAILABLE:
            raise
        with ask_for_word(layout) as read:
            yield lambda: [decode_contact(line) for line in read()]
        return
    receiver.start()
    try:
        yield lambda: contacts
    finally:
        receiver.stop(0)
