"""`mkisod queue`: the jobs in the spool, once or for as long as somebody looks."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mkisod.cli.options import add_config, add_json
from mkisod.cli.spool import open_layout
from mkisod.cli.terminal import describe_age, show, style_state
from mkisod.errors import Code, Permanent
from mkisod.spool.operator import Listed, Operator
from mkisod.system.clock import utc_now

_LISTED = 50
_INTERVAL_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser)
    parser.add_argument("--all", action="store_true", help=f"every job, not only the first {_LISTED}")
    parser.add_argument("--watch", action="store_true", help="go on looking, until interrupted")


def run(arguments: argparse.Namespace) -> int:
    operator = Operator(open_layout(arguments)[1], now=utc_now)
    most = None if arguments.all else _LISTED
    if arguments.watch:
        if arguments.json:
            raise Permanent(Code.USAGE, "--watch is for a person, --json for a program.", "Ask for --json again and again instead.")
        _watch(operator, most)
        return 0
    (counts, jobs), now = _look(operator, most), utc_now()
    if arguments.json:
        print(json.dumps({"counts": counts, "jobs": [_to_json(listed) for listed in jobs]}, indent=1))
    else:
        show([_describe_counts(counts), *(_to_line(listed, now) for listed in jobs), *_describe_rest(counts, jobs, most)])
    return 0


def _look(operator: Operator, most: int | None) -> tuple[dict[str, int], list[Listed]]:
    return operator.count(), list(itertools.islice(operator.list_jobs(), most))


def _watch(operator: Operator, most: int | None) -> None:
    """Until Ctrl-C, which is how this is meant to end."""
    console = Console()
    try:
        if console.is_terminal:
            # As many as fit: below the last line of the screen nobody sees anything.
            fitting = max(1, console.height - 5)
            with Live(console=console, auto_refresh=False, screen=True) as live:
                _repeat(lambda: live.update(_make_table(*_look(operator, fitting), utc_now()), refresh=True))
        else:
            _repeat(_Changes(operator, most).say)
    except KeyboardInterrupt:
        return


def _repeat(step: Callable[[], None]) -> None:
    while True:
        step()
        time.sleep(_INTERVAL_S)


class _Changes:
    """A line for each job that is new or has gone on."""

    def __init__(self, operator: Operator, most: int | None) -> None:
        self._operator = operator
        self._most = most
        self._before: dict[str, str] = {}

    def say(self) -> None:
        _, jobs = _look(self._operator, self._most)
        now = {listed.record.job: _describe_job(listed) for listed in jobs}
        show(text for job, text in now.items() if self._before.get(job) != text)
        self._before = now


def _describe_job(listed: Listed) -> str:
    progress = listed.progress
    count = f"  {progress.instances_received}/{progress.instances_expected}" if progress.instances_expected else ""
    return f"{listed.record.ticket}  {listed.record.told_state}{count}"


def _describe_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {place}" for place, number in counts.items())


def _describe_rest(counts: dict[str, int], jobs: Sequence[Listed], most: int | None) -> list[str]:
    more = sum(counts.values()) - len(jobs)
    return [f"... and {more} more; mkisod queue --all shows every one"] if most is not None and more > 0 else []


def _make_table(counts: dict[str, int], jobs: Sequence[Listed], now: datetime) -> Table:
    table = Table(title=_describe_counts(counts), title_justify="left", expand=True, box=None, pad_edge=False)
    for heading, justify in (("ticket", "left"), ("state", "left"), ("age", "right"), ("instances", "right"), ("", "left")):
        table.add_column(heading, justify=justify, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]
    for listed in jobs:
        table.add_row(*_make_cells(listed, now))
    if (more := sum(counts.values()) - len(jobs)) > 0:
        table.caption = f"... and {more} more"
    return table


def _make_cells(listed: Listed, now: datetime) -> tuple[Text | str, ...]:
    record, progress = listed.record, listed.progress
    count = f"{progress.instances_received}/{progress.instances_expected}" if progress.instances_expected else ""
    again = f"again in {describe_age(record.retry_at, now)}" if record.retry_at else ""
    code = str(record.problem.code) if record.problem else ""
    return (
        Text(record.ticket),
        style_state(record.told_state),
        describe_age(now, record.created),
        count,
        "  ".join(filter(None, (again, code))),
    )


def _to_line(listed: Listed, now: datetime) -> Text:
    ticket, state, age, count, rest = map(str, _make_cells(listed, now))
    line = Text(f"{ticket:<24}  {state:<11}  {age:>8}  {count:>11}  {rest}".rstrip())
    begin = max(24, len(ticket)) + 2
    line.stylize(style_state(listed.record.told_state).style, begin, begin + len(state))
    return line


def _to_json(listed: Listed) -> dict[str, object]:
    record = listed.record
    return {
        "ticket": record.ticket,
        "job": record.job,
        "place": listed.place,
        "state": record.told_state,
        "created": record.created.isoformat(),
        "attempt": record.attempt,
        "retry_at": record.retry_at.isoformat() if record.retry_at else None,
        "instances_expected": listed.progress.instances_expected,
        "instances_received": listed.progress.instances_received,
        "error": record.problem.code if record.problem else None,
    }
