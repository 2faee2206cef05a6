"""What waiting costs: how soon a drop is taken, what ten thousand of them change, and what the daemon does while nothing happens.

One PACS takes connections and never answers, so that what is asked of it waits in the queue; another one refuses them, so that a worker is
free again at once for what is asked of that one. Figures that are compared with each other come from the same run.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import evolve

from bench.measuring import print_machine
from mkisod.job.record import decode_record, encode_record, make_status
from mkisod.job.status import State, encode_status
from mkisod.spool.layout import Layout
from tests.daemon import Daemon, running_daemon
from tests.processes import free_port

CONFIG = """
[spool]
dir = "{spool}"
min_free_mib = 0
[receiver]
host = "127.0.0.1"
port = {port}
[jobs]
workers = 2
retry_first_s = 86400
retry_max_s = 86400
[pacs.SILENT]
host = "127.0.0.1"
port = {silent_port}
connect_timeout_s = 86400
[pacs.REFUSING]
host = "127.0.0.1"
port = {refusing_port}
"""
DROPS = 300  # for each figure
_LOOK_S = 0.0005
_INBOX_LOOK_S = 0.1  # a listing of ten thousand names costs something itself
_PATIENCE_S = 3600.0
_SETTLING_S = 3.0  # after a start, or a burst, until nothing is left to do


def wait_until(is_so: Callable[[], bool], look_s: float) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while not is_so():
        if time.monotonic() > end_s:
            raise TimeoutError
        time.sleep(look_s)


def measure_drops(daemon: Daemon, name: str, pacs: str, is_so: Callable[[bytes], bool]) -> list[float]:
    """Seconds from the rename of a drop into the inbox until its status is as it should be, one drop after the other."""
    found = []
    for number in range(DROPS):
        ticket = f"{name}-{number}"
        status = daemon.outbox / ticket / "status.json"
        began_s = time.perf_counter()
        daemon.drop(ticket, f"@pacs {pacs}\nA1\n@end\n")
        wait_until(lambda status=status: status.exists() and is_so(status.read_bytes()), _LOOK_S)  # type: ignore[misc]
        found.append(time.perf_counter() - began_s)
    return found


def is_accepted(_: bytes) -> bool:
    return True


def is_taken(status: bytes) -> bool:
    return b'"state": "queued"' not in status


def read_memory_mib(daemon: Daemon) -> float:
    lines = Path(f"/proc/{daemon.process.popen.pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


def read_cpu_s(daemon: Daemon) -> float:
    """Of all threads, as exactly as the scheduler has it."""
    tasks = Path(f"/proc/{daemon.process.popen.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9


def count_wakeups(daemon: Daemon) -> int:
    """Voluntary context switches of all threads: how often one of them has gone to sleep, and so has been woken."""
    total = 0
    for task in Path(f"/proc/{daemon.process.popen.pid}/task").iterdir():
        lines = (task / "status").read_text(encoding="ascii").splitlines()
        total += int(next(line.split()[1] for line in lines if line.startswith("voluntary_ctxt_switches")))
    return total


def describe(found: list[float]) -> str:
    ordered = sorted(found)
    return f"median {1000 * statistics.median(ordered):.1f} ms, p99 {1000 * ordered[int(0.99 * len(ordered))]:.1f} ms"


def report_drops(daemon: Daemon, waiting: str) -> None:
    memory = f"memory {read_memory_mib(daemon):.1f} MiB"
    name, began_s = waiting.replace(",", "").replace(" ", "-"), read_cpu_s(daemon)
    accepted = describe(measure_drops(daemon, name, "SILENT", is_accepted))
    cpu_s = (read_cpu_s(daemon) - began_s) / DROPS
    taken = describe(measure_drops(daemon, f"{name}-free", "REFUSING", is_taken))
    print(f"{waiting}: rename to status {accepted}, {1000 * cpu_s:.1f} ms of CPU; to taken by a free worker {taken}; {memory}", flush=True)


def report_idle(daemon: Daemon, idle_s: float, waiting: str) -> None:
    time.sleep(_SETTLING_S)
    cpu_s, wakeups = read_cpu_s(daemon), count_wakeups(daemon)
    time.sleep(idle_s)
    percent, wakeups = 100 * (read_cpu_s(daemon) - cpu_s) / idle_s, count_wakeups(daemon) - wakeups
    print(f"idle for {idle_s:g} s, {waiting}: {percent:.3f} % of a core, {wakeups / idle_s:.2f} wake-ups a second", flush=True)


def drop_at_once(daemon: Daemon, name: str, count: int) -> None:
    """So many that are in the inbox before the first of them is claimed: they are written under other names beforehand."""
    for number in range(count):
        (daemon.inbox / f"{name}-{number:06}.tmp").write_bytes(b"@pacs SILENT\nA1\n@end\n")
    cpu_s, began_s = read_cpu_s(daemon), time.perf_counter()
    for number in range(count):
        (daemon.inbox / f"{name}-{number:06}.tmp").rename(daemon.inbox / f"{name}-{number:06}.req")
    wait_until(lambda: not any(name.endswith(".req") for name in os.listdir(daemon.inbox)), _INBOX_LOOK_S)  # noqa: PTH208 - names are enough
    wall_ms, cpu_ms = (1000 * (now - then) / count for now, then in ((time.perf_counter(), began_s), (read_cpu_s(daemon), cpu_s)))
    print(f"{count:,} dropped at once: {wall_ms:.1f} ms for each, of which {cpu_ms:.1f} ms CPU", flush=True)


def report_commands(config: Path, waiting: str) -> None:
    for words in ("queue", "queue --all", "queue --all --json", "status nobody"):
        command = [sys.executable, "-m", "mkisod", *words.split(), "--config", str(config)]
        found = []
        for _ in range(4):
            began_s = time.perf_counter()
            subprocess.run(command, check=False, capture_output=True)
            found.append(time.perf_counter() - began_s)
        print(f"mkisod {words}, {waiting}: {statistics.median(found[1:]):.2f} s", flush=True)


def defer_all(layout: Layout) -> None:
    """As if every queued job had failed, and were to be tried again tomorrow."""
    for path in layout.queued.iterdir():
        directory = layout.job(layout.queued, path.name)
        record = decode_record(directory.record.read_bytes())
        now = datetime.now(UTC)
        record = evolve(record, state=State.DEFERRED, retry_at=now + timedelta(days=1))
        directory.record.write_bytes(encode_record(record))
        layout.status(record.ticket).write_bytes(encode_status(make_status(record, now, ("A1",))))
        path.rename(layout.deferred / path.name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.spool", description=__doc__)
    parser.add_argument("--waiting", type=int, nargs="+", default=[10, 1_000, 10_000])
    parser.add_argument("--idle-s", type=float, default=60)
    arguments = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="mkisod-bench-") as name, socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        folder, config_path = Path(name), Path(name) / "mkisod.toml"
        config = CONFIG.format(spool=folder / "spool", port=free_port(), silent_port=silent.getsockname()[1], refusing_port=free_port())
        waiting, most = 0, f"{max(arguments.waiting):,}"
        with running_daemon(folder, config) as daemon:
            report_idle(daemon, arguments.idle_s, "nothing waiting")
            measure_drops(daemon, "warm", "REFUSING", is_taken)
            for count in arguments.waiting:
                drop_at_once(daemon, f"many-{count}", count - waiting)
                report_drops(daemon, f"{count:,} queued")
                waiting = count
            report_idle(daemon, arguments.idle_s, f"{most} queued")
            report_commands(config_path, f"{most} queued")
        defer_all(Layout(folder / "spool", "main"))
        began_s = time.perf_counter()
        with running_daemon(folder, config) as daemon:
            print(f"start with {most} deferred: {time.perf_counter() - began_s:.1f} s", flush=True)
            report_idle(daemon, arguments.idle_s, f"{most} deferred")
            report_drops(daemon, f"{most} deferred")


if __name__ == "__main__":
    main()
