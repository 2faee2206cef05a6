"""How things look on a terminal: a status in words, and a progress bar while it moves. Plain lines where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mkisod.errors import Code, Transient
from mkisod.job.status import State, Status

_LOOK_INTERVAL_S = 0.2


def say(message: str) -> None:
    """To the person at the terminal, not into the data."""
    print(message, file=sys.stderr)


def describe_status(status: Status, directory: str) -> str:
    """A status at a glance; `directory` is where the ticket's files are."""
    lines = [f"{status.ticket}: {describe_state(status)}"]
    for accession in status.accessions:
        for study in accession.studies:
            count = f"{study.instances_received} of {study.instances_expected} instances"
            missing = f", {len(study.missing)} missing" if study.missing else ""
            lines.append(f"  {accession.accession}: {', '.join(study.modalities)}, {count}{missing}")
        if accession.error:
            lines.append(f"  {accession.accession}: {accession.error.message}")
    if status.result:
        for volume in status.result.volumes:
            names = [name for name in (volume.directory, volume.image, volume.archive) if name]
            lines += [f"  {directory}/{status.result.path}/{name}" for name in names]
        lines += [f"  note: {text}" for text in (*status.result.substitutions, *status.result.warnings)]
    if status.error:
        lines += [f"  {status.error.message} [{status.error.code}]", f"  {status.error.advice}"]
    return "\n".join(lines)


def describe_state(status: Status) -> str:
    progress = status.progress
    if status.finished or not progress.instances_expected:
        return str(status.state)
    if status.state is State.ASSEMBLING and progress.percent_assembled is not None:
        return f"{status.state}, {progress.percent_assembled} % of the disc"
    left = f", about {progress.eta_s} s left" if progress.eta_s else ""
    return f"{status.state}, {progress.instances_received} of {progress.instances_expected} instances{left}"


def follow(read: Callable[[], Status | None], is_given_up: Callable[[], bool]) -> Status:
    """Show a request's progress until it is finished. Raises `Transient` where `is_given_up`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return _follow_plainly(read, is_given_up)
    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TextColumn("instances  {task.fields[rate]}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("waiting", total=None, rate="")

        def show(status: Status) -> None:
            progress = status.progress
            if status.state is State.ASSEMBLING and progress.percent_assembled is not None:
                bar.update(task, description=str(status.state), rate=f"{progress.percent_assembled} % of the disc")
                return
            mib = f"{progress.bytes_received / 2**20:.1f} MiB" + (f", {progress.eta_s} s left" if progress.eta_s else "")
            bar.update(
                task,
                description=str(status.state),
                total=progress.instances_expected or None,
                completed=progress.instances_received,
                rate=mib if progress.bytes_received else "",
            )

        return _look_until_finished(read, show, is_given_up)


def _follow_plainly(read: Callable[[], Status | None], is_given_up: Callable[[], bool]) -> Status:
    last = ""

    def show(status: Status) -> None:
        nonlocal last
        if (line := describe_state(status)) != last:
            last = line
            say(line)

    return _look_until_finished(read, show, is_given_up)


def _look_until_finished(read: Callable[[], Status | None], show: Callable[[Status], None], is_given_up: Callable[[], bool]) -> Status:
    while True:
        status = read()
        if status is not None:
            show(status)
            # `failed` can become `queued` again by an operator, but not by itself.
            if status.state in (State.DONE, State.PARTIAL, State.FAILED, State.CANCELLED):
                return status
        if is_given_up():
            raise Transient(Code.INTERNAL, "The daemon ended before the request did.")
        time.sleep(_LOOK_INTERVAL_S)
