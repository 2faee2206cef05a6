"""`mkisod demo`: all of it at once, to see it work before anything is configured."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from mkisod.cli.follow import follow
from mkisod.cli.terminal import describe_status, say, show
from mkisod.config.parsing import DEFAULT_PATH, read_config
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.phantom import write_phantom
from mkisod.demo.show import choose_accessions, list_tree, set_stage
from mkisod.errors import Code, Permanent
from mkisod.job.status import State, encode_status
from mkisod.spool.drop import read_ticket_status, write_drop
from mkisod.spool.durable import Disk
from mkisod.spool.layout import Layout
from mkisod.system.clock import utc_now
from mkisod.system.journal import make_quiet_log

_TICKET = "demo"
_SEED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    help_ = f"the configuration; its [media] holds for the demo too (default: {DEFAULT_PATH})"
    parser.add_argument("--config", metavar="FILE", type=Path, default=DEFAULT_PATH, help=help_)
    parser.add_argument("accessions", metavar="ACCESSION", nargs="*", help="what to ask for (default: two accessions of one patient)")
    parser.add_argument("--from", dest="folder", metavar="DIR", type=Path, help="what the PACS holds (default: a synthetic patient)")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="leave the outbox in this new folder")
    parser.add_argument("--json", action="store_true", help="print only the final status, as JSON")


def run(arguments: argparse.Namespace) -> int:
    make_quiet_log()
    if arguments.folder is not None and not arguments.folder.is_dir():
        raise Permanent(Code.USAGE, f"{arguments.folder} is no folder.", "Name a folder with DICOM files, or leave --from out.")
    if arguments.keep is not None and arguments.keep.exists():
        raise Permanent(Code.USAGE, f"{arguments.keep} exists already.", "Name a folder that is not there yet.")
    with tempfile.TemporaryDirectory(prefix="mkisod-demo-") as temporary:
        return _play(arguments, Path(temporary))


def _play(arguments: argparse.Namespace, temporary: Path) -> int:
    archive = arguments.folder
    if archive is None:
        archive = temporary / "archive"
        archive.mkdir()
        write_phantom(archive, seed=_SEED)
    stage_folder = temporary / "stage"
    stage_folder.mkdir()
    with DemoPacs(archive) as pacs:
        accessions = arguments.accessions or choose_accessions(pacs.archive)
        say(f"A PACS with {archive.name} runs on port {pacs.address[1]}. The daemon starts.")
        with set_stage(pacs, stage_folder, read_config(arguments.config).media) as stage:
            layout = Layout(stage.spool, "main")
            say(f"The daemon is ready. A request for {' and '.join(accessions)} is dropped into {layout.inbox}.")
            write_drop(layout, Disk(), _TICKET, "\n".join([*accessions, "@end"]) + "\n")
            status = follow(lambda: read_ticket_status(layout, _TICKET), lambda: stage.is_over, utc_now)
            if arguments.json:
                print(encode_status(status).decode(), end="")
            else:
                show([*describe_status(status, str(layout.ticket(_TICKET)), utc_now()), *list_tree(layout.ticket(_TICKET))])
            if arguments.keep is not None:
                shutil.copytree(layout.outbox, arguments.keep)
                say(f"The outbox is left in {arguments.keep}.")
            elif not arguments.json:
                say("All of it is removed again. mkisod demo --keep DIR leaves the disc in a new folder.")
    return 0 if status.state is State.DONE else 1
