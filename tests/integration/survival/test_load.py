"""Load: a hundred requests at once, and a backlog of ten thousand. No time is asserted; what is counted is files opened, and memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from statistics import median

import pytest

from tests.daemon import ROOT
from tests.integration.survival.site import AE_TITLE, Site, check_disc_of, lines, make_site, pacs_process, write_archive
from tests.peers import require
from tests.processes import HOST, Process, free_port, wait_for

STUDIES = [f"ACC{number}" for number in range(20)]
SAMPLE = 100


def test_a_hundred_requests_at_once(tmp_path: Path) -> None:
    """Eight workers; twenty studies, so that each is asked for five times, by jobs that have to wait for each other."""
    archive, port, pacs_port = tmp_path / "archive", free_port(), free_port()
    write_archive(archive, *STUDIES, count=3)
    tickets = {f"t{number:03}": [STUDIES[number % 20], *([STUDIES[(number + 7) % 20]] if number % 3 == 0 else [])] for number in range(100)}
    site = make_site(tmp_path, {"ABPACS": (HOST, pacs_port)}, port=port, pacs_keys={"max_moves": 8}, jobs={"workers": 8})
    with pacs_process(archive, tmp_path, port=pacs_port, destinations={AE_TITLE: port}), site.daemon() as daemon:
        for ticket, accessions in tickets.items():
            daemon.drop(ticket, lines(*accessions))
        for ticket, accessions in tickets.items():
            check_disc_of(site, daemon.wait_status(ticket, "done", deadline_s=180), archive, accessions)
        assert Counter(event["ticket"] for event in site.events("job_published")) == dict.fromkeys(tickets, 1)
        assert not site.events("job_deferred")


@pytest.mark.parametrize("backlog", [1000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_backlog_costs_no_more_for_each_request_than_one_does(backlog: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All dropped while the daemon is down. The first one stalls for want of an archive that answers, so the rest stays queued.

    The second worker has nothing to do, and looks for a job whenever there is a new one.
    """
    strace = require("strace")
    port, pacs_port = free_port(), free_port()
    archive = tmp_path / "archive"
    write_archive(archive, "ACC1")
    site = make_site(tmp_path, {"ABPACS": (HOST, pacs_port)}, port=port, jobs={"workers": 2}, pacs_keys={"response_timeout_s": 3000})
    with site.daemon():
        pass  # makes the spool
    for number in range(backlog):
        (site.inbox / f"t{number:05}.req").write_text("ACC1\n@end\n", encoding="ascii")
    trace = tmp_path / "strace.txt"
    prefix = [strace, "-f", "--seccomp-bpf", "-qq", "-s", "256", "-o", trace, "-e", "trace=openat,open,rename"]
    with (
        pacs_process(archive, tmp_path, port=pacs_port, destinations={AE_TITLE: port}, faults='{"silent_levels": ["STUDY"]}'),
        site.started(prefix=prefix) as daemon,
    ):
        memory = []
        for share in range(1, 11):
            wait_for(partial(has_claimed, site, backlog * share // 10), 600, f"{share} tenths of the claims")
            memory.append(read_memory_kib(daemon.process, "mkisod"))
        opened, listed = count_opened(trace, site), count_listings(trace, site)
        for number in (0, backlog // 2, backlog - 1):
            daemon.wait_status(f"t{number:05}", ["queued", "retrieving"])
        asked = count_of_queue(site, tmp_path)
        daemon.kill()
    first, last = median(opened[:SAMPLE]), median(opened[-SAMPLE:])
    with capsys.disabled():
        found = f"{first:g} files opened a claim at first, {last:g} at last, {listed} listings; {asked} by mkisod queue; VmRSS {memory}"
        print(f"\nbacklog {backlog}: {found}")  # noqa: T201
    assert len(opened) >= backlog - 1
    assert last <= first + 1, "the cost of a claim grows with the backlog"
    assert listed <= 3 * (backlog // 100) + 30, "what waits is listed for each claim"
    # A name, a place in the queue and what the drop looked like: well below 2 KiB for each request.
    assert memory[-1] - memory[0] <= 2 * backlog + 8192, memory
    assert asked <= 2 * 51 + 20, "mkisod queue reads more than it shows"


def has_claimed(site: Site, number: int) -> bool:
    return len(site.jobs("queued")) >= number - 1  # one is in hand


def read_memory_kib(process: Process, module: str) -> int:
    """VmRSS of the Python process, which is a child of strace."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status = (path / "status").read_text(encoding="ascii")
            if f"PPid:\t{process.popen.pid}\n" in status and module in (path / "cmdline").read_text(encoding="utf-8"):
                return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])
        except FileNotFoundError:
            continue
    pytest.fail("the daemon is gone")


def count_opened(trace: Path, site: Site) -> list[int]:
    """How many files below the spool the thread that claims has opened between one claim and the next."""
    opened, count, thread = list[int](), 0, ""
    spool = str(site.spool)
    with trace.open(encoding="utf-8", errors="replace") as file:
        calls = list(file)
    for call in calls:
        if "rename(" in call and "/inbox/" in call:
            thread = call.split()[0]
            break
    for call in calls:
        if not call.startswith(f"{thread} "):
            continue
        if "rename(" in call and "/inbox/" in call:
            opened.append(count)
            count = 0
        elif "open" in call and spool in call:
            count += 1
    return opened[1:]


def count_listings(trace: Path, site: Site) -> int:
    """How often the daemon has listed the inbox, or the jobs that wait. Each costs as much as there is."""
    listed = [f'"{site.spool}/{place}", ' for place in ("inbox", "work/queued", "work/deferred")]
    with trace.open(encoding="utf-8", errors="replace") as file:
        return sum("O_DIRECTORY" in call and any(place in call for place in listed) for call in file)


def count_of_queue(site: Site, folder: Path) -> int:
    """How many files below the spool `mkisod queue` opens."""
    trace = folder / "queue.txt"
    command = [require("strace"), "-f", "-qq", "-o", str(trace), "-e", "trace=openat,open", sys.executable]
    command += ["-m", "mkisod", "queue", "--json", "--config", str(site.config_path)]
    done = subprocess.run(command, check=True, capture_output=True, env={"PYTHONPATH": str(ROOT)}, cwd="/")
    assert len(json.loads(done.stdout)["jobs"]) == 50
    return sum(str(site.spool) in call for call in trace.read_text(encoding="utf-8", errors="replace").splitlines())
