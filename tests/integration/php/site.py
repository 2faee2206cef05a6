"""A site for PHP: a demo PACS, the daemon, and PHP's command line with the client at hand."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkisod.demo.pacs import DemoPacs
from mkisod.demo.phantom import write_phantom
from tests.daemon import ROOT, Daemon, running_daemon
from tests.integration.journey.site import AE_TITLE, make_config
from tests.peers import require
from tests.processes import HOST, free_port

PHP_FOLDER = ROOT / "clients/php"

# Retries come at once, so that nothing here waits for the clock. make_config ends in the table [jobs].
_PACS_KEYS = {"first_arrival_s": 0.5, "grace_s": 0.2, "further_moves": 1}
_JOBS = "retry_first_s = 0.2\nretry_max_s = 0.5\nnot_found_retry_s = [0.1]\nincomplete_give_up_h = 0.0001\n"

# `$call` stands for what a test wants of the client; a failure is printed in its parts.
_PRELUDE = """
error_reporting(E_ALL);
set_error_handler(function (int $number, string $message, string $file, int $line): bool {
    throw new ErrorException($message, 0, $number, $file, $line);
});
require $argv[1];
$mkisod = new Mkisod\\Client($argv[2]);
$argv = array_slice($argv, 3);
try {
    $answer = (function () use ($mkisod, $argv) { CALL })();
    echo json_encode(['answer' => $answer], JSON_UNESCAPED_SLASHES | JSON_PRESERVE_ZERO_FRACTION);
} catch (Mkisod\\Failure $failure) {
    echo json_encode(['failure' => [
        'code' => $failure->getErrorCode(), 'message' => $failure->getMessage(), 'advice' => $failure->getAdvice(),
        'transient' => $failure->isTransient(), 'state' => $failure->getStatus()['state'] ?? null,
    ]], JSON_UNESCAPED_SLASHES);
}
"""


@dataclass(frozen=True)
class Site:
    daemon: Daemon
    pacs: DemoPacs
    spool: Path

    def command(self, call: str, *arguments: object) -> list[str]:
        """The command line of a piece of PHP that has `$mkisod` and `$argv` and returns something."""
        code = _PRELUDE.replace("CALL", call)
        return [require("php"), "-r", code, "--", str(PHP_FOLDER / "Mkisod.php"), str(self.spool), *map(str, arguments)]

    def php(self, call: str, *arguments: object, deadline_s: float = 60) -> Any:
        """What it returns. The test fails on a `Failure`."""
        said = run(self.command(call, *arguments), deadline_s=deadline_s)
        assert "answer" in said, said
        return said["answer"]

    def php_failure(self, call: str, *arguments: object) -> dict[str, Any]:
        """The `Failure` that it ends in."""
        said = run(self.command(call, *arguments))
        assert "failure" in said, said
        failure: dict[str, Any] = said["failure"]
        assert failure["message"]
        return failure


def run(command: list[str], *, deadline_s: float = 60, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=deadline_s, env={**os.environ, **(env or {})})
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@contextmanager
def running_site(folder: Path, *, more: str = "", slices: int = 12, rows: int = 32, pacs_runs: bool = True) -> Iterator[Site]:
    """A PACS with the phantom patient, and a daemon. `more` stands at the end of the configuration, after [jobs].

    Unless `pacs_runs` the PACS is there, but has to be started.
    """
    archive, port, pacs_port, spool = folder / "archive", free_port(), free_port(), folder / "spool"
    archive.mkdir()
    write_phantom(archive, seed=1, ct_slices=slices, mr_slices=slices, rows=rows, columns=rows)
    pacs = DemoPacs(archive, port=pacs_port, destinations={AE_TITLE: (HOST, port)})
    config = make_config(spool, port, {"ABPACS": (HOST, pacs_port)}, pacs_keys=_PACS_KEYS) + _JOBS + more
    try:
        if pacs_runs:
            pacs.start()
        with running_daemon(folder, config) as daemon:
            yield Site(daemon, pacs, spool)
    finally:
        pacs.stop()
