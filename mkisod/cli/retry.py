"""`mkisod retry`: deferred jobs are tried again now."""

from __future__ import annotations

import argparse

from mkisod.cli.operate import do_each, make_operator
from mkisod.cli.options import add_config, add_json
from mkisod.cli.spool import open_layout
from mkisod.cli.terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser)
    parser.add_argument("names", metavar="TICKET", nargs="*", help="a ticket or a job that is deferred (default: all of them)")


def run(arguments: argparse.Namespace) -> int:
    operator = make_operator(open_layout(arguments, become_owner=True)[1])
    names = arguments.names or operator.list_deferred_names()
    if not names:
        say("Nothing is deferred.")
    return do_each(arguments, names, lambda name: f"{operator.retry(name).ticket} is queued again.")
