"""`mkisod status TICKET`: what the client reads, for a person."""

from __future__ import annotations

import argparse
from pathlib import Path

from mkisod.cli.options import add_config, add_json
from mkisod.cli.terminal import describe_status, show
from mkisod.config.parsing import read_config
from mkisod.errors import Code, Permanent
from mkisod.job.request import is_ticket
from mkisod.job.status import encode_status
from mkisod.spool.drop import read_ticket_status
from mkisod.spool.layout import Layout
from mkisod.system.clock import utc_now


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser)
    parser.add_argument("ticket", metavar="TICKET")


def run(arguments: argparse.Namespace) -> int:
    config = read_config(arguments.config)
    layout = Layout(Path(config.spool.dir), config.spool.instance)
    if not is_ticket(arguments.ticket):
        raise Permanent(Code.USAGE, f"{arguments.ticket!a} is no ticket.", "A ticket has letters, digits, dots, - and _, at most 64.")
    status = read_ticket_status(layout, arguments.ticket)
    if status is None:
        raise Permanent(
            Code.USAGE,
            f"There is no status for the ticket {arguments.ticket}.",
            "Check the ticket; if it was dropped just now, see that the daemon runs.",
        )
    if arguments.json:
        print(encode_status(status).decode(), end="")
    else:
        show(describe_status(status, str(layout.ticket(status.ticket)), utc_now()))
    return 0
