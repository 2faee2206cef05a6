"""What a job costs for each of its instances, in files opened and calls that wait for the disk. No time is asserted; these stand for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.daemon import Daemon
from tests.integration.survival.site import AE_TITLE, make_site, pacs_process, write_archive
from tests.peers import require
from tests.processes import HOST, free_port

FEW, MANY = 20, 220
# To write it, to read its head, to make it durable, for its digest, and for the last check.
MOST_OPENED = 5
MOST_SYNCED = 1


def test_what_each_instance_costs(tmp_path: Path) -> None:
    """By the difference between a small and a large job: from the request to a folder with its DICOMDIR."""
    port, pacs_port = free_port(), free_port()
    archive, trace = tmp_path / "archive", tmp_path / "strace.txt"
    write_archive(archive, "FEW", count=FEW)
    write_archive(archive, "MANY", count=MANY)
    site = make_site(tmp_path, {"ABPACS": (HOST, pacs_port)}, port=port)
    # -y shows the path of a descriptor, and so to which job it belongs.
    prefix = [require("strace"), "-f", "-y", "--seccomp-bpf", "-qq", "-s", "256", "-o", trace, "-e", "trace=open,openat,fsync,fdatasync"]
    with pacs_process(archive, tmp_path, port=pacs_port, destinations={AE_TITLE: port}), site.started(prefix=prefix) as daemon:
        jobs = {accession: make_disc(daemon, accession) for accession in ("FEW", "MANY")}
        few, many = (count_calls(trace, job) for job in jobs.values())
        daemon.kill()
    each = {call: (many[call] - few[call]) / (MANY - FEW) for call in many}
    assert each["fsync"] >= 1, f"not every instance is made durable: {each}"
    assert each["fsync"] <= MOST_SYNCED, each
    assert each["open"] <= MOST_OPENED, each


def make_disc(daemon: Daemon, accession: str) -> str:
    """The id of the job that made it."""
    daemon.drop(accession, f"{accession}\n@output dir\n@end\n")
    job: str = daemon.wait_status(accession, "done")["job"]
    return job


def count_calls(trace: Path, job: str) -> Counter[str]:
    """How often a file of this job was opened, and how often one was synced."""
    counts: Counter[str] = Counter()
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        if job in line and "resumed>" not in line:
            call = line.split()[1].partition("(")[0]
            counts["fsync" if call.endswith("sync") else "open"] += 1
    return counts
