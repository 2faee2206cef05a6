"""`mkisod queue`, `release`, `drop`, `retry`: what an operator does with the jobs in the spool.

As root the command first becomes the spool's owner: what root wrote there with its own umask the daemon could neither read nor remove.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from datetime import datetime
from pathlib import Path

from mkisod.config.parsing import read_config
from mkisod.config.settings import Config
from mkisod.daemon import recover_instance, utc_now
from mkisod.errors import Code, Permanent
from mkisod.spool.layout import Layout
from mkisod.spool.operator import Listed, Operator
from mkisod.system.journal import make_quiet_log

_LISTED = 50
_UMASK = 0o027


def add_queue_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help=f"every job, not only the first {_LISTED}")


def add_release_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="TICKET", nargs="*", help="a ticket or a job that is held")
    parser.add_argument("--instance", metavar="NAME", help="take over all jobs of a daemon that is dead")


def add_retry_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="TICKET", nargs="*", help="a ticket or a job that is deferred (default: all of them)")


def add_drop_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="TICKET", nargs="+", help="a ticket or a job")


def run_queue(arguments: argparse.Namespace) -> int:
    operator = Operator(_open(arguments)[1], now=utc_now)
    jobs = operator.list_jobs()
    shown = jobs if arguments.all else itertools.islice(jobs, _LISTED)
    counts = operator.count()
    if arguments.json:
        print(json.dumps({"counts": counts, "jobs": [_to_json(listed) for listed in shown]}, indent=1))
        return 0
    print(", ".join(f"{number} {place}" for place, number in counts.items()))
    for listed in shown:
        print(_to_line(listed, utc_now()))
    if not arguments.all and (more := sum(counts.values()) - _LISTED) > 0:
        print(f"... and {more} more; mkisod queue --all shows every one")
    return 0


def run_release(arguments: argparse.Namespace) -> int:
    config, layout = _open(arguments, become_owner=True)
    if arguments.instance is not None:
        recover_instance(config, arguments.instance, make_quiet_log())
        Operator(layout, now=utc_now).ring()
        print(f"The jobs of instance {arguments.instance} are queued.")
    elif not arguments.names:
        raise Permanent(Code.USAGE, "Nothing is named.", "Name the tickets to release, or a dead daemon with --instance.")
    operator = Operator(layout, now=utc_now)
    for name in arguments.names:
        print(f"{operator.release(name).ticket} is queued again.")
    return 0


def run_retry(arguments: argparse.Namespace) -> int:
    operator = Operator(_open(arguments, become_owner=True)[1], now=utc_now)
    names = arguments.names or operator.list_deferred_names()
    for name in names:
        print(f"{operator.retry(name).ticket} is queued again.")
    if not names:
        print("Nothing is deferred.")
    return 0


def run_drop(arguments: argparse.Namespace) -> int:
    operator = Operator(_open(arguments, become_owner=True)[1], now=utc_now)
    for name in arguments.names:
        print(operator.drop(name))
    return 0


def _open(arguments: argparse.Namespace, *, become_owner: bool = False) -> tuple[Config, Layout]:
    config = read_config(arguments.config)
    layout = Layout(Path(config.spool.dir), config.spool.instance)
    try:
        owner = layout.work.stat()
        if become_owner and os.geteuid() == 0:
            os.setgroups([])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)
        os.umask(_UMASK)
        next(layout.work.iterdir(), None)
    except FileNotFoundError as error:
        raise Permanent(Code.SPOOL_UNUSABLE, f"There is no spool in {layout.root}.", "Start the daemon once; it makes it.") from error
    except PermissionError as error:
        raise Permanent(Code.SPOOL_UNUSABLE, f"This user may not look into {layout.work}.", "Run the command as root.") from error
    return config, layout


def _to_json(listed: Listed) -> dict[str, object]:
    record = listed.record
    return {
        "ticket": record.ticket,
        "job": record.job,
        "place": listed.place,
        "state": record.state,
        "created": record.created.isoformat(),
        "attempt": record.attempt,
        "retry_at": record.retry_at.isoformat() if record.retry_at else None,
        "instances_expected": listed.progress.instances_expected,
        "instances_received": listed.progress.instances_received,
        "error": record.problem.code if record.problem else None,
    }


def _to_line(listed: Listed, now: datetime) -> str:
    record, progress = listed.record, listed.progress
    parts = [f"{record.ticket:<24}", f"{record.state:<11}", f"{_age(now, record.created):>8}"]
    parts.append(f"{progress.instances_received}/{progress.instances_expected}".rjust(11) if progress.instances_expected else " " * 11)
    if record.retry_at:
        parts.append(f"again in {_age(record.retry_at, now)}")
    if record.problem:
        parts.append(record.problem.code)
    return "  ".join(parts).rstrip()


def _age(later: datetime, earlier: datetime) -> str:
    seconds = max(0, int((later - earlier).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
