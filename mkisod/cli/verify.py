"""`mkisod verify PATH`: is this disc good? A folder with a DICOMDIR, an ISO image or a ZIP, ours or anybody's, or the result of a job."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mkisod.cli.options import add_config, add_json
from mkisod.errors import Code, Permanent
from mkisod.media.verify import verify_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("path", metavar="PATH", type=Path, help="a folder with a DICOMDIR, an .ISO, a .ZIP, or the result of a job")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    path: Path = arguments.path
    try:
        faults = [str(fault) for fault in verify_path(path)]
    except OSError as error:
        raise Permanent(Code.USAGE, f"{path} cannot be read: {error.strerror}.", "Name a folder, an .ISO or a .ZIP.") from error
    if arguments.json:
        print(json.dumps({"path": str(path), "good": not faults, "faults": faults}, indent=1))
    else:
        print("\n".join(faults) if faults else f"{path} is good.")
    if faults:
        print(f"mkisod: {path} has {len(faults)} {'fault' if len(faults) == 1 else 'faults'}.", file=sys.stderr)
    return 1 if faults else 0
