"""`make demo-web`: the demo PACS, the daemon, and PHP's own web server with the example page, until Ctrl-C.

Run as `python -m mkisod.demo.web --root clients/php/examples/web`. Everything lies below one temporary folder and listens on the loopback
address. What ends by itself ends all of it, with its last words.
"""

from __future__ import annotations

import argparse
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mkisod.config.settings import MediaSettings
from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.phantom import write_phantom
from mkisod.demo.show import choose_accessions, read_last_words, set_stage
from mkisod.errors import Code, MkisodError, Permanent
from mkisod.system.journal import make_quiet_log

_SEED = 1
_WORKERS = 4  # a download must not keep others from looking
_READY_TIMEOUT_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. Prints the address once a browser may ask for it."""
    parser = argparse.ArgumentParser(prog="python -m mkisod.demo.web", description="The example web page, with all that it needs.")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="the folder with the pages")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--from", dest="folder", type=Path, metavar="DIR", help="what the PACS holds (default: a synthetic patient)")
    parser.add_argument("--pause", dest="pause_s", type=float, default=0.1, metavar="SECONDS", help="between instances (default: 0.1)")
    options = parser.parse_args(arguments)
    make_quiet_log()
    for ending in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell has it ignored in what it starts in the background
        signal.signal(ending, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            _serve(stack, options.root, options.port, options.folder, options.pause_s)
    except KeyboardInterrupt:
        sys.stdout.write("Stopped.\n")
        return 0
    except MkisodError as error:
        sys.stderr.write(f"{error}\n")
    return 1


def _serve(stack: ExitStack, root: Path, port: int, archive: Path | None, pause_s: float) -> None:
    """Start all of it, one after the other. Never returns; raises `Permanent` where something does not start, or ends."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mkisod-demo-")))
    if archive is None:
        archive = folder / "archive"
        archive.mkdir()
        write_phantom(archive, seed=_SEED)
    (folder / "stage").mkdir()
    # Slow enough for the eye.
    pacs = stack.enter_context(DemoPacs(archive, faults=Faults(pause_s=pause_s)))
    stage = stack.enter_context(set_stage(pacs, folder / "stage", MediaSettings()))
    log = folder / "php.log"
    port = port or _find_free_port()
    php = stack.enter_context(_running_php(root, port, stage.spool, folder, log))
    accessions = " and ".join(choose_accessions(pacs.archive))
    sys.stdout.write(f"Open http://127.0.0.1:{port}/ and ask for {accessions}. Ctrl-C ends it.\n")
    sys.stdout.flush()
    pid_fds = {os.pidfd_open(php.pid): ("PHP", log), os.pidfd_open(stage.daemon.pid): ("The daemon", stage.log)}
    for pid_fd in pid_fds:
        stack.callback(os.close, pid_fd)
    ended, _, _ = select.select(list(pid_fds), [], [])
    name, its_log = pid_fds[ended[0]]
    raise Permanent(Code.INTERNAL, f"{name} has ended. Its last words:\n{read_last_words(its_log)}", "")


@contextmanager
def _running_php(root: Path, port: int, spool: Path, folder: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    program = shutil.which("php")
    if program is None:
        raise Permanent(Code.USAGE, "php is not installed.", "On Debian: apt-get install php-cli")
    if not (root / "index.php").is_file():
        raise Permanent(Code.USAGE, f"There is no index.php in {root}.", "Name the folder of the web page.")
    sessions = folder / "sessions"
    sessions.mkdir()
    settings = {"session.save_path": sessions, "display_errors": 0, "log_errors": 1, "error_log": log}
    command = [program, *(f"-d{key}={value}" for key, value in settings.items()), "-S", f"127.0.0.1:{port}", "-t", str(root)]
    environment = {**os.environ, "MKISOD_SPOOL": str(spool), "PHP_CLI_SERVER_WORKERS": str(_WORKERS)}
    with log.open("ab") as output:
        # A session of its own: its workers are ended with it, and Ctrl-C on the terminal reaches it through us.
        php = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    try:
        _wait_until_it_answers(php, port, log)
        yield php
    finally:
        with suppress(ProcessLookupError):
            os.killpg(php.pid, signal.SIGTERM)
        php.wait()


def _wait_until_it_answers(php: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end_s = time.monotonic() + _READY_TIMEOUT_S
    while php.poll() is None and time.monotonic() < end_s:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise Permanent(Code.INTERNAL, f"PHP does not answer on port {port}. Its last words:\n{read_last_words(log)}", "Choose another port.")


def _find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
