"""`mkisod submit ACCESSION...`: drop a request as any client does, and follow it if asked to."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mkisod.cli.follow import follow
from mkisod.cli.options import add_config, add_json
from mkisod.cli.terminal import describe_status, say, show
from mkisod.config.parsing import read_config
from mkisod.errors import Code, Permanent
from mkisod.job.request import MEDIA, OUTPUTS, PRIORITIES, is_ticket, parse_request
from mkisod.job.status import State, Status, encode_status
from mkisod.spool.drop import make_ticket, read_ticket_status, write_drop
from mkisod.spool.durable import Disk
from mkisod.spool.layout import Layout
from mkisod.system.clock import utc_now


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser)
    parser.add_argument("accessions", metavar="ACCESSION", nargs="+")
    parser.add_argument("--wait", action="store_true", help="follow it to its end; the exit code is 0 only if it is done")
    parser.add_argument("--ticket", metavar="TICKET", help="the name of the request (default: a new one that cannot be guessed)")
    parser.add_argument("--pacs", metavar="NAME", help="a PACS of the configuration (default: the first)")
    parser.add_argument("--patient", metavar="ID", help="the Patient ID that the studies must have")
    parser.add_argument("--birthdate", metavar="YYYYMMDD", help="the birth date that the patient must have")
    parser.add_argument("--modality", metavar="CODE", nargs="+", help="only series of these modalities, such as CT MR")
    parser.add_argument("--output", metavar="KIND", nargs="+", choices=OUTPUTS, help=f"what to make: {', '.join(OUTPUTS)}")
    parser.add_argument("--media", metavar="MEDIUM", help=f"{', '.join(MEDIA)} or a size in MiB")
    parser.add_argument("--profile", metavar="NAME", help="auto, as-received, or a profile such as STD-GEN-CD")
    parser.add_argument("--label", metavar="TEXT", help="the File-set ID of the disc: A-Z 0-9 _, at most 16 characters")
    parser.add_argument("--forward", metavar="NAME", nargs="+", help="send everything on to these destinations of the configuration")
    parser.add_argument("--priority", choices=PRIORITIES, help="before or after others (default: normal)")
    parser.add_argument("--partial", action="store_true", help="publish although instances are missing; the disc says so")
    parser.add_argument("--several-patients", action="store_true", help="allow studies of several patients on one disc")


def run(arguments: argparse.Namespace) -> int:
    config = read_config(arguments.config)
    layout = Layout(Path(config.spool.dir), config.spool.instance)
    ticket = arguments.ticket or make_ticket(utc_now(), os.urandom(8))
    if not is_ticket(ticket):
        raise Permanent(Code.USAGE, f"{ticket!a} is no ticket.", "A ticket has letters, digits, dots, - and _, at most 64.")
    text = make_request(arguments)
    parse_request(text.encode(errors="surrogateescape"))  # a mistake is said here and now
    before = read_ticket_status(layout, ticket) if arguments.ticket else None
    write_drop(layout, Disk(), ticket, text)
    say(f"The request is dropped as {ticket}.")
    if not arguments.wait:
        print(f'{{"ticket": "{ticket}"}}' if arguments.json else ticket)
        return 0
    status = wait_for_end(layout, ticket, before)
    if arguments.json:
        print(encode_status(status).decode(), end="")
    else:
        show(describe_status(status, str(layout.ticket(ticket)), utc_now()))
    return 0 if status.state is State.DONE else 1


def make_request(arguments: argparse.Namespace) -> str:
    directives = [
        ("@pacs", arguments.pacs),
        ("@patient", arguments.patient),
        ("@birthdate", arguments.birthdate),
        ("@modality", " ".join(arguments.modality or ())),
        ("@output", " ".join(arguments.output or ())),
        ("@media", arguments.media),
        ("@profile", arguments.profile),
        ("@label", arguments.label),
        ("@forward", " ".join(arguments.forward or ())),
        ("@priority", arguments.priority),
        ("@allow", " ".join(filter(None, ("partial" * arguments.partial, "several-patients" * arguments.several_patients)))),
    ]
    lines = [f"{name} {value}" for name, value in directives if value] + arguments.accessions + ["@end"]
    return "\n".join(lines) + "\n"


def wait_for_end(layout: Layout, ticket: str, before: Status | None) -> Status:
    """Follow the status on the terminal until it is finished. `before`: that of an earlier request under the same ticket."""

    def read() -> Status | None:
        status = read_ticket_status(layout, ticket)
        return None if status is not None and before is not None and status.job == before.job else status

    return follow(read, lambda: False, utc_now)
