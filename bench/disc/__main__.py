"""What an instance costs, by their number: CPU time for each, and memory; of a disc alone, and of a whole job in the daemon.

Linear cost is the same time for each instance, however many there are and in however many series. The disc alone is `build_disc` with
folder and image, in a process of its own. The job comes from the demo PACS; the daemon is started anew for each case, and looked at by
/proc ten times a second. The last figure is what one large object costs.
"""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.measuring import print_machine
from bench.ours import AE_TITLE, Journey, Ours, serving
from mkisod.demo.series import write_series
from mkisod.media.disc import DiscOrder, build_disc
from tests.peers import Peer
from tests.processes import HOST, free_port, started, wait_for

CASES = ((2_000, 1), (20_000, 1), (20_000, 100))
SIDE = 16
INTERVAL_S = 0.1
LARGE_BYTES = 2 << 30
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """What /proc says at a moment: the most memory that was resident until then, and the CPU time of all threads."""

    moment_s: float
    peak_mib: float
    cpu_s: float


def read_sample(pid: int) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    times = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    cpu_s = (int(times[11]) + int(times[12])) / TICKS_A_SECOND
    return Sample(time.time(), int(status.partition("VmHWM:")[2].split()[0]) / 1024, cpu_s)


@contextmanager
def sampling(pid: int) -> Iterator[list[Sample]]:
    samples = [read_sample(pid)]
    is_over = threading.Event()

    def sample() -> None:
        while not is_over.wait(INTERVAL_S):
            samples.append(read_sample(pid))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        is_over.set()
        thread.join()


def make_archive(folder: Path, count: int, series: int) -> None:
    folder.mkdir()
    for number in range(1, series + 1):
        size = {"rows": SIDE, "columns": SIDE, "count": count // series}
        write_series(folder / f"{number}", accession="BENCH", series_number=number, series=f"{number}", **size)


def measure_disc(archive: Path, result: Path) -> None:
    """Prints CPU seconds and peak memory in MiB."""
    result.mkdir()
    names = sorted(str(path) for path in archive.rglob("*") if path.is_file())
    order = DiscOrder("BENCH", "1.2.826.0.1.3680043.8.498.1", datetime.now(UTC), medium="dvd")
    began_s = time.process_time()
    build_disc(order, map(Path, names), result, report_progress=lambda _done, _total: None)
    print(time.process_time() - began_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def run_disc(archive: Path, folder: Path) -> tuple[float, str]:
    command = [sys.executable, "-m", "bench.disc", str(archive), str(folder / "result")]
    cpu_s, peak_mib = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    return cpu_s, f"{peak_mib:.0f}"


@contextmanager
def serving_from(archive: Path, folder: Path) -> Iterator[Ours]:
    """A daemon, and the demo PACS with this archive."""
    port, pacs_port = free_port(), free_port()
    destination = f"{AE_TITLE}={HOST}:{port}"
    command = [sys.executable, "-m", "mkisod.demo.pacs", "--from", archive, "--port", pacs_port, "--destination", destination]
    with started("demo PACS", command, folder / "pacs.log") as process:
        wait_for(lambda: "listening on" in process.output, 300, "the demo PACS")
        with serving(folder / "daemon", Peer("ABPACS", HOST, pacs_port, process), port, output=("dir", "iso")) as ours:
            yield ours


def run_job(archive: Path, folder: Path) -> tuple[float, str]:
    with serving_from(archive, folder) as ours, sampling(ours.pid) as samples:
        (journey,) = ours.run(["BENCH"])
    return describe_job(journey, samples)


def measure_large_object(folder: Path) -> None:
    """A job with one object of 2 GiB, after one with a small object: what a job costs whatever it holds is there by then."""
    archive = folder / "archive"
    write_series(archive / "small", accession="SMALL", rows=SIDE, columns=SIDE, count=1)
    write_series(archive / "large", accession="LARGE", rows=SIDE, columns=SIDE, count=1)
    (path,) = (path for path in (archive / "large").rglob("*") if path.is_file())
    length_at = path.stat().st_size - SIDE * SIDE * 2 - 4  # of the pixel data, which come last; what they grow by is a hole
    with path.open("r+b") as file:
        file.seek(length_at)
        file.write(struct.pack("<I", LARGE_BYTES))
        file.truncate(length_at + 4 + LARGE_BYTES)
    with serving_from(archive, folder) as ours:
        ours.run(["SMALL"])
        before_mib = read_sample(ours.pid).peak_mib
        ours.run(["LARGE"])
        grown_mib = read_sample(ours.pid).peak_mib - before_mib
    print("\n### One object of 2 GiB in the daemon, with its image")
    print(f"\nVmHWM after a small one {before_mib:.0f} MiB, grown by {grown_mib:.1f} MiB")


def describe_job(journey: Journey, samples: list[Sample]) -> tuple[float, str]:
    def until(moment_s: float) -> Sample:
        return [sample for sample in samples if sample is samples[0] or sample.moment_s <= moment_s][-1]

    end = until(journey.done_s + INTERVAL_S)
    retrieved = until(journey.events["job_retrieved"] + INTERVAL_S)
    peaks = [samples[0].peak_mib, retrieved.peak_mib, end.peak_mib]
    return end.cpu_s - samples[0].cpu_s, ", ".join(f"{peak:.0f}" for peak in peaks)


def compare(title: str, memory: str, run: Callable[[Path, Path], tuple[float, str]], archives: dict[tuple[int, int], Path]) -> None:
    print(f"\n### {title}\n\n| instances | series | CPU ms each | of the first case | {memory} |\n|---|---|---|---|---|")
    first_ms = 0.0
    for (count, series), archive in archives.items():
        with tempfile.TemporaryDirectory(prefix="mkisod-bench-") as folder:
            cpu_s, peaks = run(archive, Path(folder))
        each_ms = cpu_s / count * 1000
        first_ms = first_ms or each_ms
        print(f"| {count} | {series} | {each_ms:.3f} | {each_ms / first_ms:.2f} | {peaks} |", flush=True)


def main() -> None:
    print_machine()
    with tempfile.TemporaryDirectory(prefix="mkisod-bench-") as folder:
        archives = {case: Path(folder, f"{case[0]}-{case[1]}") for case in CASES}
        for (count, series), archive in archives.items():
            make_archive(archive, count, series)
        compare("A disc alone, with its image", "peak MiB", run_disc, archives)
        compare("A job in the daemon, from the demo PACS", "VmHWM in MiB at the start, after the retrieval, at the end", run_job, archives)
    with tempfile.TemporaryDirectory(prefix="mkisod-bench-") as folder:
        measure_large_object(Path(folder))


if __name__ == "__main__":
    measure_disc(Path(sys.argv[1]), Path(sys.argv[2])) if len(sys.argv) > 1 else main()
