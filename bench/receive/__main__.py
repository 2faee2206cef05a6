"""Moves the same study to mkisod's receiver, to DCMTK's storescp at its best, and to a stock pynetdicom SCP; prints wall and CPU time.

Machines are shared and noisy, so absolute figures mean little: receivers take turns, and what counts is the median of the ratios of
neighbours. The time is that of one C-MOVE, as movescu sees it, from an archive that runs all the time; after each, the number of files is
checked. storescp has TCP_NODELAY=1 (without it delayed acknowledgements cost 40 ms an instance) and PDUs of 131072 bytes; a second one
also has --bit-preserving: then it writes the bytes as they come, reads nothing of them, and never knows whether the instance is whose it
was said to be. mkisod reads what identifies an instance before it takes it, and shows nothing under its final name that is not whole.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measuring import make_study
from tests.peers import Peer, dcmqrscp, echo, orthanc, require
from tests.processes import Process, free_port, started

_STUDY_INSTANCE_UID = "2.25.1.1"


@dataclass(frozen=True)
class Workload:
    name: str
    instances: int
    edge: int  # of the square image, in pixels


@dataclass(frozen=True)
class Target:
    ae_title: str
    port: int
    directory: Path
    process: Process


@dataclass(frozen=True)
class Measurement:
    wall_s: float
    cpu_s: float


def cpu_s(process: Process) -> float:
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_move(archive: Peer, target: Target, instances: int) -> Measurement:
    for path in target.directory.iterdir():
        path.unlink()
    os.sync()  # what the one before left to be written is not held against this one
    command = [require("movescu"), "-S", "-aec", archive.ae_title, "-aem", target.ae_title]
    command += ["-k", "0008,0052=STUDY", "-k", f"0020,000D={_STUDY_INSTANCE_UID}", archive.host, str(archive.port)]
    cpu_before_s, before_s = cpu_s(target.process), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "TCP_NODELAY": "1"})
    wall_s = time.perf_counter() - before_s
    arrived = sum(1 for path in target.directory.iterdir() if path.suffix != ".part")
    if arrived != instances:
        sys.exit(f"{target.ae_title}: {arrived} of {instances} instances arrived from {archive.ae_title}")
    return Measurement(wall_s, cpu_s(target.process) - cpu_before_s)


@contextmanager
def targets(directory: Path, ports: dict[str, int]) -> Iterator[dict[str, Target]]:
    """The receivers, running."""

    def command(name: str, folder: Path) -> list[object]:
        if name.startswith("storescp"):
            options = ["--accept-all", "--max-pdu", "131072", "--aetitle", name.upper(), "--output-directory", folder]
            raw = ["--bit-preserving"] if name == "storescp_raw" else []
            return [require("storescp"), *options, *raw, ports[name]]
        return [sys.executable, "-m", "bench.receive.server", name, folder, ports[name]]

    with ExitStack() as stack:
        found = {}
        for name, port in ports.items():
            folder = directory / name
            folder.mkdir()
            log_path = directory / f"{name}.log"
            process = stack.enter_context(started(name, command(name, folder), log_path, env={"TCP_NODELAY": "1"}))
            ae_title = name.upper()

            def is_ready(ae_title: str = ae_title, port: int = port) -> bool:
                return echo(ae_title, port)

            process.wait_ready(is_ready)
            found[name] = Target(ae_title, port, folder, process)
        yield found


def report(title: str, measured: dict[str, list[Measurement]]) -> None:
    print(f"\n{title}")
    ours = [one.wall_s for one in measured["mkisod"]]
    for name, measurements in measured.items():
        wall = [one.wall_s for one in measurements]
        ratio = statistics.median(mine / other for mine, other in zip(ours, wall, strict=True))
        cpu = statistics.median(one.cpu_s for one in measurements)
        print(
            f"  {name:12}  median {statistics.median(wall):6.2f} s  ({min(wall):.2f} to {max(wall):.2f})  CPU {cpu:5.2f} s"
            f"  mkisod / this, median of pairs: {ratio:4.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.receive", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the instances")
    parser.add_argument("--archive", choices=["dcmqrscp", "Orthanc"], action="append")
    arguments = parser.parse_args()
    archives: dict[str, Callable[..., AbstractContextManager[Peer]]] = {"dcmqrscp": dcmqrscp, "Orthanc": orthanc}
    workloads = [Workload("CT of 512x512", int(1000 * arguments.scale), 512), Workload("objects of 64x64", int(2000 * arguments.scale), 64)]
    for workload in workloads:
        for archive_name in arguments.archive or archives:
            with tempfile.TemporaryDirectory(prefix="mkisod-bench-") as name, ExitStack() as stack:
                directory = Path(name)
                (directory / "source").mkdir()
                files = make_study(directory / "source", workload.instances, workload.edge)
                ports = {receiver: free_port() for receiver in ("mkisod", "storescp", "storescp_raw", "pynetdicom")}
                running = stack.enter_context(targets(directory, ports))
                known = {receiver.upper(): ("127.0.0.1", port) for receiver, port in ports.items()}
                archive = stack.enter_context(archives[archive_name](directory / "archive", files, destinations=known))
                measured: dict[str, list[Measurement]] = {receiver: [] for receiver in ports}
                for number in range(arguments.rounds + 1):
                    for receiver in list(ports)[:: 1 if number % 2 else -1]:
                        measurement = run_move(archive, running[receiver], workload.instances)
                        if number:  # the first round warms up
                            measured[receiver].append(measurement)
                report(f"{workload.instances} {workload.name} from {archive_name}", measured)


if __name__ == "__main__":
    main()
