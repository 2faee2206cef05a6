"""How a status looks to a person: at a glance in words, and as one line that says what is going on just now.

Colour only where somebody looks: rich leaves it out where the output is no terminal, or where NO_COLOR is set. What is printed has no
escape sequences of its own: texts that came from elsewhere are printed as they are, never as markup.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime

from rich.console import Console
from rich.text import Text

from mkisod.job.status import AccessionStatus, Forwarding, State, Status, StudyStatus

_STYLES = {State.DONE: "green", State.PARTIAL: "yellow", State.FAILED: "red", State.CANCELLED: "red", State.DEFERRED: "yellow"}
_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


def say(message: str) -> None:
    """To the person at the terminal, not into the data."""
    print(message, file=sys.stderr)


def show(lines: Iterable[Text | str]) -> None:
    """On standard output, a line each, never wrapped: what is long is meant to be copied whole."""
    texts = [line if isinstance(line, Text) else Text(line) for line in lines]
    if texts:  # all at once: a print of its own for each line takes three times as long
        Console(soft_wrap=True, highlight=False, markup=False, emoji=False).print(Text("\n").join(texts))


def style_state(state: State) -> Text:
    return Text(state, style=_STYLES.get(state, "cyan"))


def describe_age(later: datetime, earlier: datetime) -> str:
    """A span of time in its largest unit."""
    seconds = max(0, int((later - earlier).total_seconds()))
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def describe_bytes(size_bytes: float) -> str:
    return f"{size_bytes / 2**30:.1f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.1f} MiB"


def describe_status(status: Status, directory: str, now: datetime) -> list[Text | str]:
    """A status at a glance; `directory` is where the ticket's files are."""
    lines: list[Text | str] = [Text.assemble(f"{status.ticket}: ", style_state(status.state), describe_state(status, now))]
    for accession in status.accessions:
        lines += _describe_accession(accession)
    if status.result:
        for volume in status.result.volumes:
            names = [name for name in (volume.directory, volume.image, volume.archive) if name]
            lines += [f"  {directory}/{status.result.path}/{name}" for name in names]
    lines += [f"  {_describe_forwarding(forwarding)}" for forwarding in status.forward]
    if status.result:
        texts = (*status.result.conversions, *status.result.substitutions, *status.result.warnings)
        lines += [f"  note: {text}" for text in texts]
    if status.error:
        lines += [Text(f"  {status.error.message} [{status.error.code}]", style="red"), f"  {status.error.advice}"]
    return lines


def _describe_accession(accession: AccessionStatus) -> list[Text | str]:
    lines: list[Text | str] = [f"  {accession.accession}: {_describe_study(study)}" for study in accession.studies]
    if accession.error:
        lines.append(Text(f"  {accession.accession}: {accession.error.message}", style="red"))
    return lines


def _describe_study(study: StudyStatus) -> str:
    missing = f", {len(study.missing)} missing" if study.missing else ""
    return f"{', '.join(study.modalities)}, {study.instances_received} of {study.instances_expected} instances{missing}"


def _describe_forwarding(forwarding: Forwarding) -> str:
    failed = f", {len(forwarding.failed)} failed" if forwarding.failed else ""
    return f"to {forwarding.destination}: {forwarding.sent} sent{failed}"


def describe_state(status: Status, now: datetime) -> str:
    """What stands behind the state's name: how far it is, or what it waits for. Empty, or begins with a comma."""
    progress, state = status.progress, status.state
    if state is State.DEFERRED and status.retry_at is not None:
        why = f" after {status.error.code}" if status.error else ""
        return f"{why}, again in {describe_age(status.retry_at, now)}"
    if state is State.FORWARDING:
        return "".join(f", {forwarding.sent} to {forwarding.destination}" for forwarding in status.forward)
    if status.finished or not progress.instances_expected:
        return ""
    if state is State.ASSEMBLING and progress.percent_assembled is not None:
        return f", {progress.percent_assembled} % of the disc"
    left = f", about {progress.eta_s} s left" if progress.eta_s else ""
    return f", {progress.instances_received} of {progress.instances_expected} instances{left}"
