"""Receiving under the whole daemon, beside DCMTK's movescu with a storescp that runs already, from the same archive.

Ours is the time from the moment when the daemon takes the job until the last instance was written: its first questions, the association of
the C-MOVE, what it asks and what it reads for the disc meanwhile are in it, digests as well. A further row says how long it is until the
C-MOVE is over and everything that was asked is answered: dcmqrscp lists a study only when it has moved it, and Orthanc meanwhile, on
the same processors. Another one asks how many instances there are, and not which (`query = "counts"`). Theirs is one movescu, from the
start of the process to its end, which asks nothing: the start of movescu, printed below, is in it, some milliseconds. So the measure is to
our disadvantage by the questions, and to theirs by that start. A second storescp has --bit-preserving: then it writes the bytes as they
come, reads nothing of them, and never knows whether an instance is what it was said to be. Ours reads what identifies an instance before
it takes it, compares it with what was announced, and shows nothing under its final name that is not whole.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.measuring import OURS, Measurement, make_study, print_machine, print_table, take_turns
from bench.ours import AE_TITLE, Ours, serving
from bench.theirs import move, put_aside, storescp
from tests.peers import Peer, dcmqrscp, orthanc, require
from tests.processes import HOST, free_port

ANSWERED = "until all is answered"
COUNTING, COUNTING_AE_TITLE = f"{OURS}, query = counts", "COUNTING"
# Name of the row, AE title, options.
PEERS = (("storescp", "STORESCP", ()), ("storescp --bit-preserving", "STORESCP_RAW", ("--bit-preserving",)))


def run_ours(ours: Ours) -> Measurement:
    (journey,) = ours.run(["BENCH"])
    events = journey.events
    taken_s = events["job_taken"]
    return Measurement(journey.last_instance_s - taken_s, {ANSWERED: max(events["move_finished"], events["studies_found"]) - taken_s})


def run_theirs(archive: Peer, ae_title: str, folder: Path, instances: int) -> Measurement:
    wall_s = move(archive, ae_title, folder, 1, instances)
    put_aside(folder)
    folder.mkdir()
    return Measurement(wall_s)


def measure_start_of_movescu() -> float:
    began_s = time.perf_counter()
    subprocess.run([require("movescu"), "--version"], check=True, capture_output=True)
    return time.perf_counter() - began_s


def compare_with(
    archive_name: str, make_archive: Callable[..., AbstractContextManager[Peer]], directory: Path, *, instances: int, edge: int, rounds: int
) -> None:
    with ExitStack() as stack:
        directory.mkdir()
        files = make_study(directory / "source", instances, edge)
        titles = (AE_TITLE, COUNTING_AE_TITLE, *(ae_title for _, ae_title, _ in PEERS))
        ports = {ae_title: free_port() for ae_title in titles}
        known = {ae_title: (HOST, port) for ae_title, port in ports.items()}
        archive = stack.enter_context(make_archive(directory / "archive", files, destinations=known))
        runs = {}
        for row, ae_title, query in ((OURS, AE_TITLE, "instances"), (COUNTING, COUNTING_AE_TITLE, "counts")):
            folder = directory / ae_title
            ours = serving(folder, archive, ports[ae_title], ae_title=ae_title, output=["dir"], query=query)
            runs[row] = partial(run_ours, stack.enter_context(ours))
        for row, ae_title, options in PEERS:
            folder = directory / ae_title
            stack.enter_context(storescp(folder, ae_title, ports[ae_title], options=options))
            runs[row] = partial(run_theirs, archive, ae_title, folder, instances)
        measured = take_turns(runs, rounds)
        answered = {f"{OURS}, {ANSWERED}": [replace(one, wall_s=one.shares[ANSWERED]) for one in measured[OURS]]}
        print_table(f"Receiving {instances} CT of {edge}x{edge} from {archive_name}", {**measured, **answered})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.receive", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the instances")
    arguments = parser.parse_args()
    print_machine()
    # One folder for all: what is deleted between two tables would be paid for in the next one, as `empty_files` says.
    with tempfile.TemporaryDirectory(prefix="mkisod-bench-") as name:
        for instances, edge in ((int(1000 * arguments.scale), 512), (int(2000 * arguments.scale), 64)):
            for archive_name, make_archive in (("dcmqrscp", dcmqrscp), ("Orthanc", orthanc)):
                directory = Path(name) / f"{archive_name}-{edge}"
                compare_with(archive_name, make_archive, directory, instances=instances, edge=edge, rounds=arguments.rounds)
    print(f"\nstart of movescu: {measure_start_of_movescu():.3f} s")


if __name__ == "__main__":
    main()
