"""Sends the same folder by mkisod, by DCMTK's dcmsend and by its storescu at their best; prints wall and CPU time.

The destination is a storescp that runs all the time, with TCP_NODELAY=1 and PDUs of 131072 bytes, and writes bytes as they come; or one
with 16384 bytes, which is what most destinations announce. dcmsend and storescu have TCP_NODELAY=1 and the largest PDU they know. `mkisod`
is the sender as the daemon uses it, from the first look at the files to the end of the association; `mkisod send` is the command, with the
start of its interpreter. After each run the number of files is checked.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.measuring import OURS, Measurement, make_study, print_machine, print_table, take_turns
from mkisod.job.forwarding import Outcome
from mkisod.pacs.forward import Sender
from mkisod.pacs.peer import Peer
from mkisod.pacs.stored import read_stored
from tests.peers import StorescpPeer, require, storescp

_LARGEST_PDU = "131072"


def run_sender(folder: Path, peer: StorescpPeer) -> Measurement:
    def refuse(*_: object) -> None:
        raise AssertionError("nothing is to be converted here")

    wall_s, cpu_s = time.perf_counter(), time.process_time()
    sender = Sender(Peer("BENCH", peer.host, peer.port, peer.ae_title), "BENCH", refuse)  # type: ignore[arg-type]
    outcomes = {sent.outcome for sent in sender.send([read_stored(path) for path in sorted(folder.iterdir())])}
    measurement = Measurement(time.perf_counter() - wall_s, time.process_time() - cpu_s)
    if outcomes != {Outcome.SENT}:
        sys.exit(f"mkisod: {outcomes}")
    return measurement


def run_program(*command: object) -> Measurement:
    before, wall_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "TCP_NODELAY": "1"}
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    wall_s, after = time.perf_counter() - wall_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Measurement(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def checked(run: Callable[[], Measurement], peer: StorescpPeer, instances: int) -> Measurement:
    for path in peer.folder.iterdir():
        path.unlink()
    measurement = run()
    if len(peer.files()) != instances:
        sys.exit(f"{len(peer.files())} of {instances} instances arrived")
    return measurement


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.forward", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the instances")
    arguments = parser.parse_args()
    print_machine()
    for instances, edge in ((int(1000 * arguments.scale), 512), (int(2000 * arguments.scale), 64)):
        for pdu_bytes in (_LARGEST_PDU, "16384"):
            with tempfile.TemporaryDirectory(prefix="mkisod-bench-") as name:
                folder = Path(name, "source")
                make_study(folder, instances, edge)
                options = ["--accept-all", "--bit-preserving", "--max-pdu", pdu_bytes]
                with storescp(Path(name, "peer"), options=options) as peer:
                    to, pdus = ["-aec", peer.ae_title, peer.host, peer.port], ["--max-pdu", _LARGEST_PDU, "--max-send-pdu", _LARGEST_PDU]
                    (Path(name, "mkisod.toml")).write_text("", encoding="ascii")
                    destination = f"{peer.ae_title}@{peer.host}:{peer.port}"
                    ours = [sys.executable, "-m", "mkisod", "send", "--config", Path(name, "mkisod.toml"), folder, destination]
                    runs = {
                        OURS: partial(run_sender, folder, peer),
                        "mkisod send": partial(run_program, *ours),
                        "dcmsend": partial(run_program, require("dcmsend"), *pdus, "+sd", *to, folder),
                        "storescu": partial(run_program, require("storescu"), *pdus, "+sd", *to, folder),
                    }
                    measured = take_turns({key: partial(checked, run, peer, instances) for key, run in runs.items()}, arguments.rounds)
                print_table(f"{instances} CT of {edge}x{edge} to storescp, PDUs of {pdu_bytes} bytes", measured)


if __name__ == "__main__":
    main()
