"""`mkisod release`, `retry`, `drop`: what an operator does with the jobs in the spool. A line for each job, or JSON for a program."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable

from mkisod.cli.spool import open_layout
from mkisod.cli.terminal import say
from mkisod.daemon import recover_instance, utc_now
from mkisod.errors import Code, Permanent
from mkisod.job.lifecycle import Event
from mkisod.spool.jobs import Job
from mkisod.spool.layout import Layout
from mkisod.spool.operator import Operator
from mkisod.system.journal import make_operator_log


def add_release_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="TICKET", nargs="*", help="a ticket or a job that is held")
    parser.add_argument("--instance", metavar="NAME", help="take over all jobs of a daemon that is dead")


def add_retry_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="TICKET", nargs="*", help="a ticket or a job that is deferred (default: all of them)")


def add_drop_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="TICKET", nargs="+", help="a ticket or a job")


def run_release(arguments: argparse.Namespace) -> int:
    config, layout = open_layout(arguments, become_owner=True)
    operator = _make_operator(layout)
    if arguments.instance is None:
        if not arguments.names:
            raise Permanent(Code.USAGE, "Nothing is named.", "Name the tickets to release, or a dead daemon with --instance.")
        return _do_each(arguments, arguments.names, lambda name: f"{operator.release(name).ticket} is queued again.")
    if arguments.names:
        raise Permanent(Code.USAGE, "Tickets and --instance do not go together.", "Release the one, then the other.")

    def take_over(instance: str) -> str:
        recover_instance(config, instance, make_operator_log())
        operator.ring()
        return f"The jobs of instance {instance} are queued."

    return _do_each(arguments, [arguments.instance], take_over)


def run_retry(arguments: argparse.Namespace) -> int:
    operator = _make_operator(open_layout(arguments, become_owner=True)[1])
    names = arguments.names or operator.list_deferred_names()
    if not names:
        say("Nothing is deferred.")
    return _do_each(arguments, names, lambda name: f"{operator.retry(name).ticket} is queued again.")


def run_drop(arguments: argparse.Namespace) -> int:
    operator = _make_operator(open_layout(arguments, become_owner=True)[1])
    return _do_each(arguments, arguments.names, operator.drop)


def _make_operator(layout: Layout) -> Operator:
    """What is done stands in the journal, too: it is part of a request's story."""
    log = make_operator_log()

    def report(event: Event, job: Job) -> None:
        record = job.record
        told = log.bind(audit=True, owner_uid=record.owner_uid) if event is Event.DROPPED else log
        told.info(f"job_{event}", ticket=job.ticket, job=job.id, state=record.state, attempt=record.attempt, by="operator")

    return Operator(layout, now=utc_now, report=report)


def _do_each(arguments: argparse.Namespace, names: Iterable[str], do: Callable[[str], str]) -> int:
    """What was done is said as it is done: the next name may be wrong."""
    done = []
    for name in names:
        done.append({"name": name, "done": do(name)})
        if not arguments.json:
            print(done[-1]["done"])
    if arguments.json:
        print(json.dumps(done, indent=1))
    return 0
