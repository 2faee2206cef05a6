"""`mkisod drop`: jobs are removed; their statuses stay."""

from __future__ import annotations

import argparse

from mkisod.cli.operate import do_each, make_operator
from mkisod.cli.options import add_config, add_json
from mkisod.cli.spool import open_layout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser)
    parser.add_argument("names", metavar="TICKET", nargs="+", help="a ticket or a job")


def run(arguments: argparse.Namespace) -> int:
    return do_each(arguments, arguments.names, make_operator(open_layout(arguments, become_owner=True)[1]).drop)
