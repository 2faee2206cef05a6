"""Asking for a study of 1,000 instances: our questions at all three levels, beside findscu's one at IMAGE level."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

from bench.measuring import OURS, Measurement, make_study, print_machine, print_table, take_turns
from mkisod.pacs.find import find_studies, list_study
from mkisod.pacs.peer import Peer as PacsPeer
from mkisod.pacs.questions import Questions
from tests.peers import Peer, dcmqrscp, orthanc, require

INSTANCES = 1000


def ask(archive: Peer) -> Measurement:
    began_s = time.perf_counter()
    with Questions(PacsPeer("ABPACS", archive.host, archive.port, archive.ae_title), "CDRECORD") as questions:
        (study,) = [list_study(questions, study) for study in find_studies(questions, "BENCH")]
    wall_s = time.perf_counter() - began_s
    if (listed := sum(1 for _ in study.sop_instance_uids)) != INSTANCES:
        raise SystemExit(f"{listed} of {INSTANCES} instances were listed")
    return Measurement(wall_s)


def ask_by_findscu(archive: Peer) -> Measurement:
    keys = ("0008,0052=IMAGE", "0020,000D=2.25.1.1", "0020,000E=2.25.2.1.1", "0008,0018")
    command = [require("findscu"), "-S", "-aec", archive.ae_title, *(part for key in keys for part in ("-k", key))]
    began_s = time.perf_counter()
    subprocess.run([*command, archive.host, str(archive.port)], check=True, capture_output=True, env={**os.environ, "TCP_NODELAY": "1"})
    return Measurement(time.perf_counter() - began_s)


def main() -> None:
    print_machine()
    with tempfile.TemporaryDirectory(prefix="mkisod-bench-") as folder:
        files = make_study(Path(folder, "source"), INSTANCES, 16)
        for name, make_archive in (("dcmqrscp", dcmqrscp), ("Orthanc", orthanc)):
            with make_archive(Path(folder, name), files) as archive:
                measured = take_turns({OURS: partial(ask, archive), "findscu": partial(ask_by_findscu, archive)}, rounds=5)
                print_table(f"C-FIND of {INSTANCES} instances from {name}", measured)


if __name__ == "__main__":
    main()
