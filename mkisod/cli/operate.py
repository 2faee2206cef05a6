"""What `mkisod release`, `retry` and `drop` have in common: an operator's step for each job that is named, and a line about it, or JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable

from mkisod.job.lifecycle import Event
from mkisod.spool.jobs import Job
from mkisod.spool.layout import Layout
from mkisod.spool.operator import Operator
from mkisod.system.clock import utc_now
from mkisod.system.journal import make_operator_log


def make_operator(layout: Layout) -> Operator:
    """What is done stands in the journal, too: it is part of a request's story."""
    log = make_operator_log()

    def report(event: Event, job: Job) -> None:
        record = job.record
        told = log.bind(audit=True, owner_uid=record.owner_uid) if event is Event.DROPPED else log
        told.info(f"job_{event}", ticket=job.ticket, job=job.id, state=record.state, attempt=record.attempt, by="operator")

    return Operator(layout, now=utc_now, report=report)


def do_each(arguments: argparse.Namespace, names: Iterable[str], do: Callable[[str], str]) -> int:
    """What was done is said as it is done: the next name may be wrong."""
    done = []
    for name in names:
        done.append({"name": name, "done": do(name)})
        if not arguments.json:
            print(done[-1]["done"])
    if arguments.json:
        print(json.dumps(done, indent=1))
    return 0
