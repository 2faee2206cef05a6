"""`mkisod release`: held jobs go on, or those of a daemon that is dead."""

from __future__ import annotations

import argparse

from mkisod.cli.operate import do_each, make_operator
from mkisod.cli.options import add_config, add_json
from mkisod.cli.spool import open_layout
from mkisod.errors import Code, Permanent
from mkisod.system.journal import make_operator_log
from mkisod.takeover import recover_instance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser)
    parser.add_argument("names", metavar="TICKET", nargs="*", help="a ticket or a job that is held")
    parser.add_argument("--instance", metavar="NAME", help="take over all jobs of a daemon that is dead")


def run(arguments: argparse.Namespace) -> int:
    config, layout = open_layout(arguments, become_owner=True)
    operator = make_operator(layout)
    if arguments.instance is None:
        if not arguments.names:
            raise Permanent(Code.USAGE, "Nothing is named.", "Name the tickets to release, or a dead daemon with --instance.")
        return do_each(arguments, arguments.names, lambda name: f"{operator.release(name).ticket} is queued again.")
    if arguments.names:
        raise Permanent(Code.USAGE, "Tickets and --instance do not go together.", "Release the one, then the other.")

    def take_over(instance: str) -> str:
        recover_instance(config, instance, make_operator_log())
        operator.ring()
        return f"The jobs of instance {instance} are queued."

    return do_each(arguments, [arguments.instance], take_over)
