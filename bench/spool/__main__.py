"""What waiting costs: how soon a drop is taken, what ten thousand of them change, and what the daemon does while nothing happens.

The PACS takes connections and never answers, so that nothing but the spool is at work: jobs wait. Figures that are compared with each
other come from the same run.
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
from pathlib import Path

from tests.daemon import Daemon, running_daemon
from tests.processes import free_port

CONFIG = """
[spool]
dir = "{spool}"
min_free_mib = 0
[receiver]
host = "127.0.0.1"
port = {port}
[pacs.ABPACS]
host = "127.0.0.1"
port = {pacs_port}
connect_timeout_s = 86400
"""
_LOOK_S = 0.0005


def measure_latencies(daemon: Daemon, name: str, count: int) -> list[float]:
    """Seconds from the rename of a drop into the inbox to its first status, one drop after the other."""
    found = []
    for number in range(count):
        ticket = f"{name}-{number}"
        status = daemon.outbox / ticket / "status.json"
        began_s = time.perf_counter()
        daemon.drop(ticket, "A1\n@end\n")
        while not status.exists():
            time.sleep(_LOOK_S)
        found.append(time.perf_counter() - began_s)
    return found


def read_resident_mib(daemon: Daemon) -> float:
    status = Path(f"/proc/{daemon.process.popen.pid}/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024


def read_cpu_s(daemon: Daemon) -> float:
    fields = Path(f"/proc/{daemon.process.popen.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.spool", description=__doc__)
    parser.add_argument("--waiting", type=int, default=10_000)
    parser.add_argument("--idle-s", type=float, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mkisod-bench-") as name, socket.create_server(("127.0.0.1", 0)) as pacs:
        folder = Path(name)
        config = CONFIG.format(spool=folder / "spool", port=free_port(), pacs_port=pacs.getsockname()[1])
        with running_daemon(folder, config) as daemon:
            time.sleep(1)
            cpu_s, wakeups = read_cpu_s(daemon), count_wakeups(daemon)
            time.sleep(arguments.idle_s)
            percent = 100 * (read_cpu_s(daemon) - cpu_s) / arguments.idle_s
            print(f"idle for {arguments.idle_s:g} s: {percent:.2f} % of a core, "
                  f"{(count_wakeups(daemon) - wakeups) / arguments.idle_s:.2f} wake-ups a second", flush=True)  # fmt: skip
            measure_latencies(daemon, "warm", 10)
            report(daemon, "few", 10)
            began_s = time.perf_counter()
            for number in range(arguments.waiting):
                daemon.drop(f"many-{number:06}", "A1\n@end\n")
            last = daemon.outbox / f"many-{arguments.waiting - 1:06}" / "status.json"
            while not last.exists():
                time.sleep(0.05)
            wall_s = time.perf_counter() - began_s
            print(f"{arguments.waiting} drops taken in {wall_s:.1f} s: {1000 * wall_s / arguments.waiting:.1f} ms each", flush=True)
            report(daemon, "many", arguments.waiting)
            began_s = time.perf_counter()
            command = [sys.executable, "-m", "mkisod", "queue", "--config", str(folder / "mkisod.toml")]
            subprocess.run(command, check=True, capture_output=True)
            print(f"mkisod queue with {arguments.waiting} jobs: {time.perf_counter() - began_s:.2f} s", flush=True)


def report(daemon: Daemon, name: str, waiting: int) -> None:
    latencies = describe(measure_latencies(daemon, name, 200))
    print(f"from rename to status, {waiting} waiting: {latencies}; memory {read_resident_mib(daemon):.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
