"""The command line: what is typed, which command it is, and what its end means to the shell.

Data goes to standard output, everything said to a person to standard error. A user's mistake is one sentence that says what to do, never a
traceback. Exit codes: 0 it is as asked; 1 it is not (a request that failed, a check that is not ok, nothing found); 2 wrong usage; 78 the
configuration or the host keeps the daemon from starting; 130 interrupted from the keyboard.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mkisod import __version__
from mkisod.cli import check, demo, find, operate, queue, send, serve, status, submit, verify
from mkisod.config.parsing import DEFAULT_PATH, ConfigurationInvalid
from mkisod.errors import Code, MkisodError
from mkisod.system.journal import write_last_words

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CONFIGURATION = 78
EXIT_INTERRUPTED = 130

# What keeps a daemon from starting and does not go away by itself: systemd must not try again (RestartPreventExitStatus=78).
_CONFIGURATION_CODES = frozenset({Code.CONFIGURATION_INVALID, Code.SPOOL_UNUSABLE, Code.PORT_UNAVAILABLE, Code.INSTANCE_IN_USE})

Command = Callable[[argparse.Namespace], int]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mkisod",
        description="Retrieve studies from the PACS by accession number and put them on a disc.",
        epilog="mkisod COMMAND --help tells more. Exit codes: 0 as asked, 1 not so, 2 wrong usage, 78 wrong configuration or host.",
    )
    parser.add_argument("--version", action="version", version=f"mkisod {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, run: Command, summary: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=summary, description=summary, epilog=f"Example: {example}", formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.set_defaults(run=run)
        return command

    serve_ = add("serve", serve.run, "Run the daemon.", "mkisod serve --config /etc/mkisod/mkisod.toml")
    check_ = add("check", check.run, "Check all that a request needs.", "mkisod check --accession MR.180505.026")
    find_ = add("find", find.run, "Show what the PACS has for an accession number. Nothing is moved.", "mkisod find MR.180505.026")
    submit_ = add("submit", submit.run, "Drop a request for a disc.", "mkisod submit MR.180505.026 CT.180505.027 --wait")
    status_ = add("status", status.run, "Show the status of a request.", "mkisod status web-4711")
    queue_ = add("queue", queue.run, "Show the jobs in the spool.", "mkisod queue --watch")
    release_ = add("release", operate.run_release, "Let held jobs go on, or those of a dead daemon.", "mkisod release web-4711")
    drop_ = add("drop", operate.run_drop, "Remove jobs; their statuses stay.", "mkisod drop web-4711")
    retry_ = add("retry", operate.run_retry, "Try deferred jobs again now.", "mkisod retry web-4711")
    verify_ = add("verify", verify.run, "Check a disc: a folder, an .ISO or a .ZIP.", "mkisod verify /media/cdrom")
    send_ = add("send", send.run, "Send every DICOM file of a folder to a destination.", "mkisod send /media/cdrom WORKSTATION")
    demo_ = add("demo", demo.run, "Show all of it: a small PACS, the daemon, one request, the disc.", "mkisod demo")

    for command in (serve_, check_, find_, submit_, status_, queue_, release_, drop_, retry_, verify_, send_):
        help_ = f"the configuration (default: {DEFAULT_PATH})"
        command.add_argument("--config", metavar="FILE", type=Path, default=DEFAULT_PATH, help=help_)
    for command in (check_, find_, submit_, status_, queue_, release_, drop_, retry_, send_):
        command.add_argument("--json", action="store_true", help="print JSON")
    check.add_arguments(check_)
    find_.add_argument("accession", metavar="ACCESSION")
    find_.add_argument("--pacs", metavar="NAME", help="a PACS of the configuration (default: the first)")
    submit.add_arguments(submit_)
    status_.add_argument("ticket", metavar="TICKET")
    queue.add_arguments(queue_)
    operate.add_release_arguments(release_)
    operate.add_drop_arguments(drop_)
    operate.add_retry_arguments(retry_)
    send.add_arguments(send_)
    demo.add_arguments(demo_)
    verify.add_arguments(verify_)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help(sys.stderr)  # what there is tells more than what is missing
        return EXIT_USAGE
    arguments = parser.parse_args(argv)
    try:
        run: Command = arguments.run
        exit_code = run(arguments)
        sys.stdout.flush()  # so that a reader who has gone is noticed here, not at exit
    except MkisodError as error:
        write_last_words(f"mkisod: {error}")
        if error.code is Code.USAGE:
            return EXIT_USAGE
        return EXIT_CONFIGURATION if error.code in _CONFIGURATION_CODES or isinstance(error, ConfigurationInvalid) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone; what is still unsaid goes nowhere, or it would fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    return exit_code
