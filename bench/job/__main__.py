"""The whole job, from the request to a disc that is done: mkisod beside DCMTK's tools, from the same archive, to the same end.

Theirs is movescu to a storescp that runs already, dcmmkdir, the faster of xorriso and genisoimage, sync -f, and sha256sum over what ours
has digests of. It is given its best: TCP_NODELAY=1, PDUs of 131,072 bytes, no sleep, and the renaming that dcmmkdir needs is not counted.
Ours verifies what came and reads the disc back besides. `--defaults` shows theirs as people run it: without these two settings.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from bench.measuring import OURS, Measurement, make_study, print_shares, print_table, take_turns
from tests.daemon import Daemon, running_daemon
from tests.peers import Peer, dcmqrscp, orthanc, require
from tests.processes import HOST, Process, free_port, started

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
max_moves = {jobs}
[jobs]
workers = {jobs}
[media]
medium = "dvd"
"""


@contextmanager
def storescp(folder: Path, port: int, *, defaults: bool) -> Iterator[Process]:
    folder.mkdir()
    tuned = [] if defaults else ["--max-pdu", "131072"]
    command = [require("storescp"), "--accept-all", *tuned, "--aetitle", "STORESCP", "--output-directory", folder, port]
    with started("storescp", command, folder.parent / "storescp.log", env={} if defaults else {"TCP_NODELAY": "1"}) as process:
        yield process


class Theirs:
    """DCMTK's tools and a mastering program."""

    def __init__(self, archive: Peer, folder: Path, mastering: str, *, defaults: bool) -> None:
        self._archive, self._received, self._mastering = archive, folder, mastering
        self._env = os.environ if defaults else {**os.environ, "TCP_NODELAY": "1"}

    def _run(self, *command: object, cwd: Path | None = None) -> None:
        subprocess.run([str(part) for part in command], check=True, capture_output=True, env=self._env, cwd=cwd)

    def run(self, study: int, instances: int) -> Measurement:
        shutil.rmtree(self._received.parent / "disc", ignore_errors=True)
        for path in self._received.iterdir():
            path.unlink()
        archive, began_s = self._archive, time.perf_counter()
        self._run(
            require("movescu"), "-S", "-aec", archive.ae_title, "-aem", "STORESCP", "-k", "0008,0052=STUDY",
            "-k", f"0020,000D=2.25.1.{study}", archive.host, archive.port,
        )  # fmt: skip
        moved_s = time.perf_counter() - began_s
        disc = self._received.parent / "disc"
        folder = disc / "VOLUME" / "DICOM"
        folder.mkdir(parents=True)
        files = sorted(self._received.iterdir())
        if len(files) != instances:
            raise SystemExit(f"{len(files)} of {instances} instances arrived")
        for number, path in enumerate(files):
            path.rename(folder / f"IN{number:06}")
        began_s = time.perf_counter()
        self._run(require("dcmmkdir"), "+r", "+id", disc / "VOLUME", "DICOM", cwd=disc / "VOLUME")
        image = disc / "VOLUME.ISO"
        program = (
            [require("xorriso"), "-as", "mkisofs"]
            if self._mastering == "xorriso"
            else [require("isoinfo").replace("isoinfo", "genisoimage")]
        )
        self._run(*program, "-quiet", "-iso-level", "1", "-V", "VOLUME", "-o", image, disc / "VOLUME")
        self._run("sync", "-f", image)
        with (disc / "SHA256SUMS").open("w") as sums:
            names = [path.relative_to(disc) for path in [image, *sorted((disc / "VOLUME").rglob("*"))] if path.is_file()]
            subprocess.run(["/usr/bin/sha256sum", *names], check=True, cwd=disc, stdout=sums)
        return Measurement(moved_s + time.perf_counter() - began_s, {"move": moved_s})


class Ours:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._count = 0

    def run(self, accessions: list[str]) -> Measurement:
        """One request for each accession, all dropped at once; until the last is done."""
        self._count += 1
        tickets = [f"bench-{self._count}-{number}" for number in range(len(accessions))]
        began_s = time.perf_counter()
        for ticket, accession in zip(tickets, accessions, strict=True):
            self._daemon.drop(ticket, f"{accession}\n@end\n")
        for ticket in tickets:
            self._daemon.wait_status(ticket, "done", 600)
        wall_s = time.perf_counter() - began_s
        for ticket in tickets:
            (self._daemon.inbox / f"{ticket}.discard").touch()
            while self._daemon.status(ticket) and any(path.is_dir() for path in (self._daemon.outbox / ticket).iterdir()):
                time.sleep(0.02)
        return Measurement(wall_s, self._read_shares(tickets[0]))

    def _read_shares(self, ticket: str) -> dict[str, float]:
        """From the journal: when each phase of the first request was over."""
        moments = {}
        for line in self._daemon.process.log_path.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            if event.get("ticket") == ticket:
                moments.setdefault(event["event"], datetime.fromisoformat(event["timestamp"]).timestamp())
        ends = ("job_claimed", "studies_found", "move_finished", "job_retrieved", "job_assembled", "job_published")
        names = ("ask", "move", "last look", "assemble and check", "sync and publish")
        return {name: moments[end] - moments[begin] for name, begin, end in zip(names, ends, ends[1:], strict=False)}


def measure(make_archive: object, name: str, directory: Path, arguments: argparse.Namespace) -> None:
    instances, jobs = int(950 * arguments.scale), arguments.jobs
    with ExitStack() as stack:
        files = [
            path
            for study in range(1, jobs + 1)
            for path in make_study(directory / "source" / str(study), instances, 512, study=study, accession=f"BENCH{study}")
        ]
        port, peer_port = free_port(), free_port()
        known = {"CDRECORD": (HOST, port), "STORESCP": (HOST, peer_port)}
        archive = stack.enter_context(make_archive(directory / "archive", files, destinations=known))  # type: ignore[operator]
        daemon_folder = directory / "daemon"
        daemon_folder.mkdir()
        config = CONFIG.format(spool=daemon_folder / "spool", port=port, pacs_port=archive.port, jobs=jobs)
        daemon = stack.enter_context(running_daemon(daemon_folder, config))
        (directory / "theirs").mkdir()
        received = directory / "theirs" / "received"
        stack.enter_context(storescp(received, peer_port, defaults=arguments.defaults))
        ours = Ours(daemon)
        runs = {OURS: lambda: ours.run([f"BENCH{study}" for study in range(1, jobs + 1)])}
        for mastering in ("xorriso", "genisoimage"):
            theirs = Theirs(archive, received, mastering, defaults=arguments.defaults)
            runs[f"DCMTK, {mastering}"] = lambda theirs=theirs: theirs.run(1, instances)  # type: ignore[misc]
        measured = take_turns(runs, arguments.rounds)
        title = f"{jobs} job{'s at once' if jobs > 1 else ''} of {instances} CT of 512x512 from {name}"
        print_table(title + (", theirs with its defaults" if arguments.defaults else ""), measured, times=jobs)
        print_shares(measured)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.job", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the instances")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once; theirs cannot share its port, so it is done so many times")
    parser.add_argument("--archive", choices=["dcmqrscp", "Orthanc"], action="append")
    parser.add_argument("--defaults", action="store_true", help="theirs without its best settings")
    arguments = parser.parse_args()
    archives = {"dcmqrscp": dcmqrscp, "Orthanc": orthanc}
    for name in arguments.archive or archives:
        with tempfile.TemporaryDirectory(prefix="mkisod-bench-") as folder:
            measure(archives[name], name, Path(folder), arguments)


if __name__ == "__main__":
    main()
