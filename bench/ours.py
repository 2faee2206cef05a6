"""mkisod as its users have it, a daemon that is given requests, and the moments of a request as the kernel and the journal hold them.

No clock of the bench decides when a request was done: that is when the kernel renamed the status that says so. When an instance had come is
when its file was last written. So nothing depends on how often the bench looks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench.measuring import empty_files
from tests.daemon import Daemon, running_daemon
from tests.peers import Peer
from tests.processes import HOST, wait_for

AE_TITLE = "CDRECORD"

_CONFIG = """
[spool]
dir = "{spool}"
min_free_mib = 0
[receiver]
ae_title = "{ae_title}"
host = "{host}"
port = {port}
[pacs.ABPACS]
host = "{host}"
port = {pacs_port}
max_moves = {jobs}
query = "{query}"
[jobs]
workers = {jobs}
[media]
medium = "dvd"
output = {output}
"""


@dataclass(frozen=True)
class Journey:
    """What became of one request. Moments are seconds since the epoch; `events` has when each was first logged."""

    dropped_s: float
    last_instance_s: float
    done_s: float
    events: Mapping[str, float]


class Ours:
    """A daemon. Results are removed before the next request, outside of what is measured."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._count = 0

    @property
    def pid(self) -> int:
        """For what /proc has to say of the daemon."""
        return self._daemon.process.popen.pid

    def run(self, accessions: Sequence[str], *, look: Callable[[Path], None] = lambda _result: None) -> list[Journey]:
        """A request for each accession number, all dropped at once; returns when the last one is done.

        `look` is shown each result, whose files are empty afterwards.
        """
        self._count += 1
        dropped_s = {f"bench-{self._count}-{number}": 0.0 for number in range(len(accessions))}
        for ticket, accession in zip(dropped_s, accessions, strict=True):
            dropped_s[ticket] = time.time()
            self._daemon.drop(ticket, f"{accession}\n@end\n")
        for ticket in dropped_s:
            wait_for(lambda ticket=ticket: self._is_done(ticket), 600, f"{ticket} to be done")
        journeys = [self._read_journey(ticket, moment_s) for ticket, moment_s in dropped_s.items()]
        for ticket in dropped_s:
            look(result := self._find_result(ticket))
            empty_files(result)
        wait_for(self._is_at_rest, 60, "what the jobs have left to be removed")
        return journeys

    def _is_done(self, ticket: str) -> bool:
        self._daemon.process.check_alive()
        path = self._daemon.outbox / ticket / "status.json"
        status = json.loads(path.read_bytes()) if path.exists() else {"finished": False}
        if status["finished"] and status["state"] != "done":
            raise SystemExit(f"{ticket} ended as {status['state']}:\n{json.dumps(status, indent=1)}")
        return bool(status["finished"])

    def _find_result(self, ticket: str) -> Path:
        (result,) = (path for path in (self._daemon.outbox / ticket).iterdir() if path.is_dir())
        return result

    def _is_at_rest(self) -> bool:
        return not any((self._daemon.inbox.parent / "work" / "trash").iterdir())

    def _read_journey(self, ticket: str, dropped_s: float) -> Journey:
        result = self._find_result(ticket)
        # The tree on the disc is made of links to the files that were received.
        last_s = max(path.stat().st_mtime for path in result.glob("*/DICOM/**/*") if path.is_file())
        done_s = (self._daemon.outbox / ticket / "status.json").stat().st_ctime
        events: dict[str, float] = {}
        # What is logged last of a job is logged behind its status.
        wait_for(lambda: "job_published" in events or events.update(self._read_events(ticket)), 60, "the journal")
        return Journey(dropped_s, last_s, done_s, events)

    def _read_events(self, ticket: str) -> dict[str, float]:
        moments: dict[str, float] = {}
        for line in self._daemon.process.log_path.read_bytes().splitlines():
            event = json.loads(line)
            if event.get("ticket") == ticket:
                moments.setdefault(event["event"], datetime.fromisoformat(event["timestamp"]).timestamp())
        return moments


@contextmanager
def serving(
    folder: Path,
    archive: Peer,
    port: int,
    *,
    output: Sequence[str],
    ae_title: str = AE_TITLE,
    jobs: int = 1,
    query: str = "instances",
    env: Mapping[str, str] | None = None,
) -> Iterator[Ours]:
    """A daemon with its spool in `folder`, which it makes. `jobs`: as many at once, each with a C-MOVE of its own."""
    folder.mkdir()
    spool, outputs = folder / "spool", json.dumps(list(output))
    config = _CONFIG.format(
        spool=spool, host=HOST, port=port, ae_title=ae_title, pacs_port=archive.port, query=query, jobs=jobs, output=outputs
    )
    with running_daemon(folder, config, env=env) as daemon:
        yield Ours(daemon)
