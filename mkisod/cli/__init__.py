"""The command line: what is typed, which command it is, and what its end means to the shell.

Data goes to standard output, everything said to a person to standard error. A user's mistake is one sentence that says what to do, never a
traceback. Exit codes: 0 it is as asked; 1 it is not (a request that failed, a check that is not ok, nothing found); 2 wrong usage; 78 the
configuration or the host keeps the daemon from starting; 130 interrupted from the keyboard.

A command is the module of its name, with `add_arguments` and `run`. It is imported when it is called: to start takes longer than most of
them do.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from mkisod import __version__
from mkisod.errors import Code, MkisodError
from mkisod.system.last_words import write_last_words

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CONFIGURATION = 78
EXIT_INTERRUPTED = 130

# What keeps a daemon from starting and does not go away by itself: systemd must not try again (RestartPreventExitStatus=78).
_CONFIGURATION_CODES = frozenset({Code.CONFIGURATION_INVALID, Code.SPOOL_UNUSABLE, Code.PORT_UNAVAILABLE, Code.INSTANCE_IN_USE})

Command = Callable[[argparse.Namespace], int]

# By name: what it does, and an example.
_COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "serve": ("Run the daemon.", "mkisod serve --config /etc/mkisod/mkisod.toml"),
    "check": ("Check all that a request needs.", "mkisod check --accession MR.180505.026"),
    "find": ("Show what the PACS has for an accession number. Nothing is moved.", "mkisod find MR.180505.026"),
    "submit": ("Drop a request for a disc.", "mkisod submit MR.180505.026 CT.180505.027 --wait"),
    "status": ("Show the status of a request.", "mkisod status web-4711"),
    "queue": ("Show the jobs in the spool.", "mkisod queue --watch"),
    "release": ("Let held jobs go on, or those of a dead daemon.", "mkisod release web-4711"),
    "drop": ("Remove jobs; their statuses stay.", "mkisod drop web-4711"),
    "retry": ("Try deferred jobs again now.", "mkisod retry web-4711"),
    "verify": ("Check a disc: a folder, an .ISO or a .ZIP.", "mkisod verify /media/cdrom"),
    "send": ("Send every DICOM file of a folder to a destination.", "mkisod send /media/cdrom WORKSTATION"),
    "demo": ("Show all of it: a small PACS, the daemon, one request, the disc.", "mkisod demo"),
}


def make_parser(called: Collection[str] = _COMMANDS) -> argparse.ArgumentParser:
    """`called`: the commands whose arguments it is to know; of the others it has name and summary."""
    parser = argparse.ArgumentParser(
        prog="mkisod",
        description="Retrieve studies from the PACS by accession number and put them on a disc.",
        epilog="mkisod COMMAND --help tells more. Exit codes: 0 as asked, 1 not so, 2 wrong usage, 78 wrong configuration or host.",
    )
    parser.add_argument("--version", action="version", version=f"mkisod {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (summary, example) in _COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=summary, epilog=f"Example: {example}", formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name in called:
            module = importlib.import_module(f"mkisod.cli.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    typed = sys.argv[1:] if argv is None else argv
    parser = make_parser(typed[:1])  # what stands before a command ends without one
    if not typed:
        parser.print_help(sys.stderr)  # what there is tells more than what is missing
        return EXIT_USAGE
    arguments = parser.parse_args(typed)
    try:
        run: Command = arguments.run
        exit_code = run(arguments)
        sys.stdout.flush()  # so that a reader who has gone is noticed here, not at exit
    except MkisodError as error:
        write_last_words(f"mkisod: {error}")
        if error.code is Code.USAGE:
            return EXIT_USAGE
        return EXIT_CONFIGURATION if error.code in _CONFIGURATION_CODES else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone; what is still unsaid goes nowhere, or it would fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    return exit_code
