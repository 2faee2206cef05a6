"""A site that things happen to: one spool, the daemons that serve it, and archives that come and go.

What a test knows of the daemon is what an operator knows: files in the spool, the journal, the commands. Times are short here, so that a
retry is a matter of a second.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import WrittenSeries, write_series
from tests.daemon import ROOT, Daemon, Status, running_daemon
from tests.integration.journey.site import Said, run_command
from tests.processes import HOST, Process, free_port, started, wait_for

AE_TITLE = "CDRECORD"
SOON_H = 0.0001  # a third of a second

Table = Mapping[str, object]
Event = dict[str, Any]

_TIMEOUTS = {"connect_timeout_s": 5, "response_timeout_s": 30, "idle_timeout_s": 600}
_PACS = {"first_arrival_s": 0.5, "grace_s": 0.3, "further_moves": 1} | _TIMEOUTS
_JOBS = {"retry_first_s": 0.2, "retry_max_s": 1}
_SPOOL = {"min_free_mib": 0, "settle_s": 600}
_READY_DEADLINE_S = 30


@dataclass(frozen=True)
class Site:
    """A spool and the configuration of its daemons. Nothing runs yet."""

    folder: Path
    config: str
    port: int
    python: Path = Path(sys.executable)
    config_path: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "config_path", self.folder / "mkisod.toml")
        self.config_path.write_text(self.config, encoding="utf-8")

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def inbox(self) -> Path:
        return self.spool / "inbox"

    def daemon(self, **environment: str) -> Any:
        """`running_daemon` here: from READY to SIGTERM."""
        return running_daemon(self.folder, self.config, env=environment)

    @contextmanager
    def started(self, *, prefix: Sequence[object] = (), config_path: Path | None = None, wait_ready: bool = True) -> Iterator[Daemon]:
        """A daemon that need not end well. `prefix`: what runs it, `setpriv` or `strace` for instance."""
        path = config_path or self.config_path
        command = [*prefix, self.python, "-m", "mkisod", "serve", "--config", path]
        log_path = path.with_suffix(".log")
        begins_at = log_path.stat().st_size if log_path.exists() else 0
        with started("mkisod", command, log_path, env={"PYTHONPATH": str(ROOT)}, cwd=self.folder) as process:
            if wait_ready:
                process.wait_ready(lambda: b"daemon_ready" in log_path.read_bytes()[begins_at:], _READY_DEADLINE_S)
            yield Daemon(process, self.spool)

    def command(self, *arguments: object, config_path: Path | None = None) -> Said:
        name, *rest = arguments
        return run_command(name, "--config", config_path or self.config_path, *rest, python=self.python)

    def jobs(self, place: str) -> list[str]:
        """The names in `work/<place>`."""
        return sorted(path.name for path in (self.spool / "work" / place).iterdir())

    def control(self, name: str, text: str = "") -> None:
        """Drop a control file as clients do."""
        written = self.inbox / f"{name}.tmp"
        written.write_text(text, encoding="ascii")
        written.rename(self.inbox / name)

    def journal(self) -> str:
        path = self.folder / "mkisod.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def events(self, name: str = "") -> list[Event]:
        """What the daemons of this site said so far: all of it, or the events of one name."""
        return read_events(self.journal(), name)


def read_events(journal: str, name: str = "") -> list[Event]:
    events = []
    for line in journal.splitlines():
        if line.startswith("{"):
            try:
                event: Event = json.loads(line)
            except ValueError:  # cut short by a kill
                continue
            if not name or event["event"] == name:
                events.append(event)
    return events


def make_site(
    folder: Path,
    pacs: Mapping[str, tuple[str, int]],
    *,
    port: int | None = None,
    spool: Table | None = None,
    pacs_keys: Table | None = None,
    jobs: Table | None = None,
    python: Path = Path(sys.executable),
) -> Site:
    """A site in `folder`. `pacs`: name, which is its AE title too, to host and port. The other tables are added to those of the file."""
    port = port or free_port()
    tables = {
        "spool": {"dir": str(folder / "spool"), **_SPOOL, **(spool or {})},
        "receiver": {"host": HOST, "port": port},
        **{
            f"pacs.{name}": {"host": host, "port": number, "ae_title": name, **_PACS, **(pacs_keys or {})}
            for name, (host, number) in pacs.items()
        },
        "jobs": {**_JOBS, **(jobs or {})},
    }
    text = ""
    for name, table in tables.items():
        text += f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items()) + "\n"
    return Site(folder, text, port, python)


@contextmanager
def pacs_process(archive: Path, folder: Path, *, port: int, destinations: Mapping[str, int], faults: str = "{}") -> Iterator[Process]:
    """The demo PACS as a process of its own: it shares nothing with the test, and can be killed."""
    destination = [word for title, number in destinations.items() for word in ("--destination", f"{title}={HOST}:{number}")]
    command = [sys.executable, "-m", "mkisod.demo.pacs", "--from", archive, "--port", port, "--faults", faults, *destination]
    log_path = folder / f"pacs-{port}.log"
    said = log_path.stat().st_size if log_path.exists() else 0
    with started("demo PACS", command, log_path, env={"PYTHONPATH": str(ROOT)}, cwd=folder) as process:
        process.wait_ready(lambda: "listening on" in process.output[said:])
        yield process


def write_archive(folder: Path, *accessions: str, count: int = 6, rows: int = 16, columns: int = 16) -> dict[str, WrittenSeries]:
    """One study of `count` instances for each accession number, all of one patient."""
    return {
        accession: write_series(folder / accession, accession=accession, count=count, rows=rows, columns=columns)
        for accession in accessions
    }


@contextmanager
def told(pacs: DemoPacs, faults: Faults) -> Iterator[None]:
    """The archive does this wrong for as long as the block lasts."""
    pacs.faults = faults
    try:
        yield
    finally:
        pacs.faults = Faults()


def lines(*words: str) -> str:
    return "".join(f"{word}\n" for word in (*words, "@end"))


def wait_until(daemon: Daemon, ticket: str, condition: Any, what: str, deadline_s: float = 60) -> Status:
    """Wait until the status of a ticket meets `condition`."""

    def met() -> Status | None:
        daemon.process.check_alive()
        status = daemon.status(ticket)
        return status if status is not None and condition(status) else None

    return wait_for(met, deadline_s, what)


def wait_received(daemon: Daemon, ticket: str, number: int) -> Status:
    return wait_until(daemon, ticket, lambda status: status["progress"]["instances_received"] >= number, f"{number} instances of {ticket}")


def read_job(site: Site, ticket: str) -> str:
    return str(json.loads((site.spool / "outbox" / ticket / "status.json").read_text(encoding="utf-8"))["job"])


def is_empty(site: Site) -> bool:
    """Nothing is left of any job, but for what is in the outbox."""
    places = [f"active/{instance}" for instance in site.jobs("active")]
    return not any(site.jobs(place) for place in (*places, "queued", "deferred", "held", "trash"))


def wait_exit(process: Process, deadline_s: float = 30) -> int:
    """Wait until a program ends by itself; its exit status."""
    code = wait_for(lambda: (process.popen.poll(),) if process.popen.poll() is not None else None, deadline_s, f"{process.name} to end")[0]
    assert code is not None
    process.ended = True
    os.close(process.pidfd)
    return code


def wait_logged(process: Process, text: str, deadline_s: float = _READY_DEADLINE_S) -> str:
    """Wait until a program has written `text`; all of its output."""

    def said() -> str | None:
        process.check_alive()
        return output if text in (output := process.output) else None

    return wait_for(said, deadline_s, f"{process.name} to say {text!r}")


def pause(process: Process) -> None:
    """Stop it in its tracks: whatever comes, it does not see it."""
    os.kill(process.popen.pid, signal.SIGSTOP)


def resume(process: Process) -> None:
    os.kill(process.popen.pid, signal.SIGCONT)


# --- What is on a disc ------------------------------------------------------------------------------------------------------------


def read_data_set(path: Path) -> bytes:
    """An object without its file meta information (PS3.10 7.1), which every program writes anew: preamble, DICM, group length, group."""
    data = path.read_bytes()
    return data[144 + int.from_bytes(data[140:144], "little") :]


def find_objects(archive: Path, *accessions: str) -> list[bytes]:
    """The data sets that an archive written by `write_archive` holds for these accession numbers."""
    return sorted(read_data_set(path) for accession in accessions for path in (archive / accession).iterdir())


def read_volumes(spool: Path, status: Status) -> list[bytes]:
    """The data sets on the disc that a status speaks of."""
    result = spool / "outbox" / status["ticket"] / status["result"]["path"]
    trees = [result / volume["directory"] / "DICOM" for volume in status["result"]["volumes"]]
    return sorted(read_data_set(path) for tree in trees for path in tree.rglob("*") if path.is_file())


def check_disc_of(site: Site, status: Status, archive: Path, accessions: Iterable[str]) -> None:
    """The disc holds these accession numbers, byte for byte, and is the only one of its ticket."""
    assert read_volumes(site.spool, status) == find_objects(archive, *accessions), f"the disc of {status['ticket']} is wrong"
    # What a result supersedes goes after the status.
    folder, names = site.spool / "outbox" / status["ticket"], {"status.json", status["job"]}
    wait_for(lambda: {path.name for path in folder.iterdir()} == names, 30, f"{status['ticket']} to have one result")
