"""DCMTK's movescu and storescp, which benches compare with: at their best, and as people run them."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.measuring import empty_files
from tests.peers import Peer, echo, require
from tests.processes import started

LARGEST_PDU = "131072"
# Without it delayed acknowledgements cost 40 ms an instance.
AT_ITS_BEST = {"TCP_NODELAY": "1"}


@contextmanager
def storescp(folder: Path, ae_title: str, port: int, *, options: Sequence[str] = (), defaults: bool = False) -> Iterator[None]:
    """Runs until the block ends and collects into `folder`, which it makes. `defaults`: without its best settings."""
    folder.mkdir()
    tuned = [] if defaults else ["--max-pdu", LARGEST_PDU]
    command = [require("storescp"), "--accept-all", *tuned, *options, "--aetitle", ae_title, "--output-directory", folder, port]
    log_path = folder.with_suffix(".log")
    with started("storescp", command, log_path, env={} if defaults else AT_ITS_BEST) as process:
        process.wait_ready(lambda: echo(ae_title, port))
        yield


def put_aside(folder: Path) -> None:
    """Out of the way, beside where it was, and without contents."""
    empty_files(folder)
    folder.rename(tempfile.mkdtemp(prefix="aside-", dir=folder.parent))


def move(archive: Peer, ae_title: str, folder: Path, study: int, instances: int, *, defaults: bool = False) -> float:
    """Lets movescu have a study of `make_study` moved to a storescp with an empty `folder`. Wall time, from its start to its end."""
    command = [require("movescu"), "-S", "-aec", archive.ae_title, "-aem", ae_title]
    command += ["-k", "0008,0052=STUDY", "-k", f"0020,000D=2.25.1.{study}", archive.host, str(archive.port)]
    began_s = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **({} if defaults else AT_ITS_BEST)})
    wall_s = time.perf_counter() - began_s
    if (arrived := sum(1 for _ in folder.iterdir())) != instances:
        raise SystemExit(f"{ae_title}: {arrived} of {instances} instances arrived")
    return wall_s
