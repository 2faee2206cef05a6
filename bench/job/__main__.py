"""The whole job, from the request to a disc that is done: mkisod beside DCMTK's tools, from the same archive, to the same end.

Theirs is movescu to a storescp that runs already, dcmmkdir, xorriso or genisoimage, sync -f, and sha256sum over what ours has digests of.
It is given its best: TCP_NODELAY=1, PDUs of 131,072 bytes, no sleep, and the renaming that dcmmkdir needs is not counted. Ours asks the
archive what there is, verifies that it came, and reads disc and image back besides. Debian's sha256sum does not use what the processor has
for it, openssl (and so Python) does: each run of theirs computes its digests by both, and a row tells what it takes with openssl alone.
Several jobs at once: theirs cannot share its port, so it is done so many times. Theirs is shown once, too, as people run it: with its
defaults.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from bench.measuring import OURS, Measurement, make_study, print_machine, print_shares, print_table, take_turns
from bench.ours import AE_TITLE, Journey, Ours, serving
from bench.theirs import move, put_aside, storescp
from tests.peers import Peer, dcmqrscp, orthanc, require
from tests.processes import HOST, free_port

INSTANCES = 950  # 500 MB of CT of 512x512
MASTERING = {"xorriso": ("xorriso", "-as", "mkisofs"), "genisoimage": ("genisoimage",)}


class MakeArchive(Protocol):
    def __call__(
        self, directory: Path, files: list[Path], *, destinations: Mapping[str, tuple[str, int]]
    ) -> AbstractContextManager[Peer]: ...


def run_ours(ours: Ours, accessions: list[str]) -> Measurement:
    journeys = ours.run(accessions)
    wall_s = max(journey.done_s for journey in journeys) - min(journey.dropped_s for journey in journeys)
    return Measurement(wall_s, split(journeys[0]))


def split(journey: Journey) -> dict[str, float]:
    events = journey.events
    return {
        "until taken": events["job_taken"] - journey.dropped_s,
        "ask and move": events["move_finished"] - events["job_taken"],
        "last look": events["job_retrieved"] - events["move_finished"],
        "assemble and check": events["job_assembled"] - events["job_retrieved"],
        "publish": journey.done_s - events["job_assembled"],
    }


def run_theirs(archive: Peer, received: Path, instances: int, mastering: str, *, defaults: bool) -> Measurement:
    moved_s = move(archive, "STORESCP", received, 1, instances, defaults=defaults)
    disc = received.with_name("disc")
    volume, image = disc / "VOLUME", disc / "VOLUME.ISO"
    (volume / "DICOM").mkdir(parents=True)
    for number, path in enumerate(sorted(received.iterdir())):
        path.rename(volume / "DICOM" / f"IN{number:06}")
    began_s = time.perf_counter()
    program, *options = MASTERING[mastering]
    call(require("dcmmkdir"), "+r", "+id", volume, "DICOM", cwd=volume)
    made_directory_s = time.perf_counter()
    call(require(program), *options, "-quiet", "-iso-level", "1", "-V", "VOLUME", "-o", image, volume)
    made_image_s = time.perf_counter()
    call("sync", "-f", image)
    synced_s = time.perf_counter()
    names = [path.relative_to(disc) for path in [image, *sorted(volume.rglob("*"))] if path.is_file()]
    (disc / "SHA256SUMS").write_bytes(call("/usr/bin/sha256sum", *names, cwd=disc))
    ended_s = time.perf_counter()
    call(require("openssl"), "dgst", "-sha256", "-r", *names, cwd=disc)
    ended_by_openssl_s = time.perf_counter()
    put_aside(disc)
    return Measurement(
        moved_s + ended_s - began_s,
        {
            "move": moved_s,
            "dcmmkdir": made_directory_s - began_s,
            "image": made_image_s - made_directory_s,
            "sync": synced_s - made_image_s,
            "sha256sum": ended_s - synced_s,
            "openssl": ended_by_openssl_s - ended_s,
        },
    )


def with_openssl(one: Measurement) -> Measurement:
    return replace(one, wall_s=one.wall_s - one.shares["sha256sum"] + one.shares["openssl"])


def call(*command: object, cwd: Path | None = None) -> bytes:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, cwd=cwd).stdout


def measure(make_archive: MakeArchive, name: str, *, instances: int, jobs: int, rounds: int, defaults: bool = False) -> None:
    with tempfile.TemporaryDirectory(prefix="mkisod-bench-") as folder, ExitStack() as stack:
        directory = Path(folder)
        accessions = [f"BENCH{study}" for study in range(1, jobs + 1)]
        files = [
            path
            for study, accession in enumerate(accessions, 1)
            for path in make_study(directory / "source" / accession, instances, 512, study=study, accession=accession)
        ]
        port, peer_port = free_port(), free_port()
        known = {AE_TITLE: (HOST, port), "STORESCP": (HOST, peer_port)}
        archive = stack.enter_context(make_archive(directory / "archive", files, destinations=known))
        ours = stack.enter_context(serving(directory / "daemon", archive, port, output=["dir", "iso"], jobs=jobs))
        received = directory / "received"
        stack.enter_context(storescp(received, "STORESCP", peer_port, defaults=defaults))
        runs = {OURS: partial(run_ours, ours, accessions)}
        for mastering in MASTERING:
            runs[f"DCMTK, {mastering}"] = partial(run_theirs, archive, received, instances, mastering, defaults=defaults)
        measured = take_turns(runs, rounds)
        title = f"{jobs} job{'s at once' if jobs > 1 else ''} of {instances} CT of 512x512 from {name}"
        by_openssl = {f"{row}, openssl": [with_openssl(one) for one in measured[row]] for row in measured if row != OURS}
        print_table(title + (", theirs with its defaults" if defaults else ""), {**measured, **by_openssl}, times=jobs)
        print_shares(measured)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.job", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the instances")
    arguments = parser.parse_args()
    print_machine()
    instances = int(INSTANCES * arguments.scale)
    archives: dict[str, MakeArchive] = {"dcmqrscp": dcmqrscp, "Orthanc": orthanc}
    for jobs in (1, 4):
        for name, make_archive in archives.items():
            measure(make_archive, name, instances=instances, jobs=jobs, rounds=arguments.rounds)
    measure(dcmqrscp, "dcmqrscp", instances=instances, jobs=1, rounds=1, defaults=True)


if __name__ == "__main__":
    main()
