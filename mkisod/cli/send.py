"""`mkisod send DIR DESTINATION`: C-STORE of every DICOM file in a folder and below it. Needs no daemon and no spool."""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mkisod.cli.options import add_config, add_json
from mkisod.cli.terminal import say
from mkisod.config.parsing import read_config
from mkisod.config.settings import Config
from mkisod.errors import Code, MkisodError, Permanent, Transient
from mkisod.forwarding import make_convert
from mkisod.job.forwarding import Outcome
from mkisod.pacs.forward import Sender, Sent
from mkisod.pacs.peer import Peer, make_peer
from mkisod.pacs.stored import DicomDirectory, NotDicom, StoredInstance, read_stored

_ADDRESS = re.compile(
    r"(?P<ae_title>[\x21-\x3F\x41-\x5B\x5D-\x7E]{1,16})@"
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.%]+)\]|(?P<host>[^@\[\]:]+)):(?P<port>[0-9]{1,5})"
)

Report = dict[str, Any]


@define
class Found:
    """What a folder holds. `failed`: DICOM files that cannot be sent, by their path, and why."""

    instances: list[StoredInstance] = field(factory=list)
    failed: list[tuple[Path, str]] = field(factory=list)
    dicomdirs: int = 0
    not_dicom: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser)
    parser.add_argument("folder", metavar="DIR", type=Path, help="a folder; those in it are looked through too")
    parser.add_argument("destination", metavar="DESTINATION", help="a [forward.NAME] of the configuration, or AE@HOST:PORT")


def run(arguments: argparse.Namespace) -> int:
    config = read_config(arguments.config)
    peer = find_peer(config, arguments.destination)
    if not arguments.folder.is_dir():
        raise Permanent(Code.USAGE, f"{arguments.folder} is no folder.", "Name a folder with DICOM files.")
    found = find_instances(arguments.folder)
    sent: list[Sent] = []
    error: MkisodError | None = None
    with tempfile.TemporaryDirectory(prefix="mkisod-send-") as scratch, _showing(found.instances) as show:
        try:
            for one in Sender(peer, config.receiver.ae_title, make_convert(Path(scratch))).send(found.instances):
                sent.append(one)
                show(one)
        except MkisodError as failure:
            error = failure
        except OSError as failure:
            advice = "Free space there, or name another folder in TMPDIR."
            error = Transient(Code.DISK_FULL, f"An instance could not be converted in {scratch}: {failure.strerror}.", advice)
    report = make_report(arguments.folder, peer, found, sent, error)
    print(json.dumps(report, indent=1)) if arguments.json else _print_report(report)
    if error is not None:
        say(f"mkisod: {error}")
    elif not found.instances and not found.failed:
        say(f"mkisod: There is no DICOM file in {arguments.folder}.")
    return 0 if found.instances and not report["failed"] else 1


def find_peer(config: Config, destination: str) -> Peer:
    """Raises `Permanent` for a destination that is neither configured nor an address."""
    if destination in config.forward:
        return make_peer(destination, config.forward[destination])
    address = _ADDRESS.fullmatch(destination)
    if address is not None and 0 < int(address["port"]) < 1 << 16:
        return Peer(address["ae_title"], address["ipv6"] or address["host"], int(address["port"]), address["ae_title"])
    known = ", ".join(config.forward) or "none"
    raise Permanent(
        Code.DESTINATION_UNKNOWN,
        f"There is no destination called {destination} in the configuration, which has {known}.",
        "Name a destination of the configuration, or write AE@HOST:PORT.",
    )


def find_instances(folder: Path) -> Found:
    found = Found()
    for path in _walk(folder):
        try:
            if path.is_file():
                found.instances.append(read_stored(path))
        except DicomDirectory:
            found.dicomdirs += 1
        except NotDicom:
            found.not_dicom += 1
        except Permanent as error:
            found.failed.append((path, error.message))
        except OSError as error:
            found.failed.append((path, f"It cannot be read: {error.strerror}."))
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """Every name of a file, in order of path. Links to folders are not followed."""

    def refuse(error: OSError) -> None:
        raise Permanent(Code.USAGE, f"{error.filename} cannot be read: {error.strerror}.", "Run the command as a user who may.")

    for name, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        yield from (Path(name, file) for file in sorted(files))


def make_report(folder: Path, peer: Peer, found: Found, sent: list[Sent], error: MkisodError | None) -> Report:
    """What became of every file, for `--json`."""

    def describe(path: Path, sop_instance_uid: str | None, dimse_status: int | None, reason: str) -> dict[str, object]:
        shown = None if dimse_status is None else f"{dimse_status:04X}"
        return {"path": str(path.relative_to(folder)), "sop_instance_uid": sop_instance_uid, "dimse_status": shown, "reason": reason}

    def describe_sent(one: Sent) -> dict[str, object]:
        return describe(one.instance.path, one.instance.sop_instance_uid, one.dimse_status, one.reason)

    tried = {one.instance.path for one in sent}
    left = [instance for instance in found.instances if instance.path not in tried]
    went = [one for one in sent if one.outcome is Outcome.SENT]
    failed = [describe(path, None, None, reason) for path, reason in found.failed]
    failed += [describe_sent(one) for one in sent if one.outcome is not Outcome.SENT]
    failed += [describe(instance.path, instance.sop_instance_uid, None, error.message if error else "") for instance in left]
    return {
        "destination": str(peer),
        "sent": len(went),
        "failed": failed,
        "warnings": [describe_sent(one) for one in went if one.dimse_status],
        "conversions": [
            {
                "path": str(one.instance.path.relative_to(folder)),
                "from_transfer_syntax_uid": one.instance.transfer_syntax_uid,
                "to_transfer_syntax_uid": one.converted_to,
            }
            for one in went
            if one.converted_to
        ],
        "skipped": {"dicomdirs": found.dicomdirs, "not_dicom": found.not_dicom},
    }


def _print_report(report: Report) -> None:
    failed, skipped = report["failed"], report["skipped"]
    for one in failed:
        uid = f" ({one['sop_instance_uid']})" if one["sop_instance_uid"] else ""
        print(f"not sent: {_escape(one['path'])}{uid}: {_escape(one['reason'])}")
    for one in report["warnings"]:
        print(f"sent with a warning: {_escape(one['path'])} ({one['sop_instance_uid']}): DIMSE status {one['dimse_status']}H")
    converted = Counter((one["from_transfer_syntax_uid"], one["to_transfer_syntax_uid"]) for one in report["conversions"])
    for (before, after), count in sorted(converted.items()):
        print(f"converted: {count} from {before} to {after}")
    if any(skipped.values()):
        print(f"skipped: {skipped['dicomdirs']} DICOMDIR, {skipped['not_dicom']} files that are no DICOM files")
    print(f"{report['sent']} instances sent to {report['destination']}, {len(failed)} not")


def _escape(text: str) -> str:
    """Names of files may hold what a terminal obeys, and bytes that are no text."""
    return text if text.isprintable() else ascii(text)[1:-1]


@contextmanager
def _showing(instances: list[StoredInstance]) -> Iterator[Callable[[Sent], None]]:
    """A bar on a terminal; nothing where nobody looks."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TextColumn("instances"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=len(instances))
        yield lambda _: bar.advance(task)
