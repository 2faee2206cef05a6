"""The whole journey on one machine: a demo PACS, the daemon as a process of its own, one request, one disc.

Everything lies below one folder and listens on free ports of the loopback address, so that it disturbs nothing and nobody. The daemon is
the real one, started as systemd would start it and driven by files alone. On failure the daemon's own words are shown.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import asdict, frozen

import mkisod
from mkisod.config.settings import MediaSettings
from mkisod.demo.index import Archive
from mkisod.demo.pacs import DemoPacs
from mkisod.errors import Code, Permanent

_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 30.0
_LAST_WORDS = 2000
_FILES_SHOWN = 4


@frozen
class Stage:
    """Where the show is played."""

    config: Path
    spool: Path
    log: Path
    daemon: subprocess.Popen[bytes]

    @property
    def is_over(self) -> bool:
        return self.daemon.poll() is not None


@contextmanager
def set_stage(pacs: DemoPacs, folder: Path, media: MediaSettings) -> Iterator[Stage]:
    """Start the daemon beside a running demo PACS; `folder` is empty. Raises `Permanent` where the daemon does not start."""
    config, spool, log = folder / "mkisod.toml", folder / "spool", folder / "daemon.log"
    port = _find_free_port()
    pacs.add_destination("CDRECORD", "127.0.0.1", port)
    config.write_text(_make_config(spool, port, pacs.address, media), encoding="utf-8")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications, log.open("wb") as output:
        notifications.bind("")  # an abstract name, chosen by the kernel: a path might be too long for a socket
        name = notifications.getsockname().decode()
        code = str(Path(mkisod.__file__).parent.parent)  # the daemon is of the same code, wherever that lies
        environment = {**os.environ, "NOTIFY_SOCKET": "@" + name.removeprefix("\0"), "PYTHONPATH": code}
        command = [sys.executable, "-m", "mkisod", "serve", "--config", str(config)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment) as daemon:
            stage = Stage(config, spool, log, daemon)
            try:
                _wait_until_ready(notifications, stage)
                yield stage
            finally:
                _stop(daemon)


def choose_accessions(archive: Archive, most: int = 2) -> list[str]:
    """The first accession numbers of the archive that belong to one patient: what a first request can ask for."""
    patients: dict[str, set[bytes]] = {}
    for study in archive.studies.values():
        accession = study.attributes.get("AccessionNumber", b"").decode("ascii", "replace").strip(" \0")
        if accession:
            patients.setdefault(accession, set()).add(study.attributes.get("PatientID", b"").strip())
    of_one: dict[bytes, list[str]] = {}
    for accession, ids in patients.items():
        if len(ids) == 1:
            of_one.setdefault(ids.pop(), []).append(accession)
    if not of_one:
        advice = "Name a folder with DICOM files, or the accession numbers to ask for."
        raise Permanent(Code.USAGE, "No accession number in this folder belongs to one patient alone.", advice)
    return max(of_one.values(), key=len)[:most]


def list_tree(top: Path) -> list[str]:
    """The files below a folder with their sizes; of many in one folder the first ones, and how many more."""
    lines = []
    for folder in sorted(path for path in (top, *top.rglob("*")) if path.is_dir()):
        files = sorted(path for path in folder.iterdir() if path.is_file())
        lines += [f"{path.stat().st_size:>10}  {path.relative_to(top)}" for path in files[:_FILES_SHOWN]]
        if len(files) > _FILES_SHOWN:
            lines.append(f"{'':>10}  {folder.relative_to(top)}/... {len(files) - _FILES_SHOWN} more")
    return lines


def read_last_words(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-_LAST_WORDS:]


def _make_config(spool: Path, port: int, pacs: tuple[str, int], media: MediaSettings) -> str:
    # What JSON writes of texts, numbers and lists of them is TOML too.
    keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in asdict(media).items())
    return (
        f'[spool]\ndir = "{spool}"\nmin_free_mib = 0\n\n'
        f'[receiver]\nhost = "127.0.0.1"\nport = {port}\n\n'
        f'[pacs.ABPACS]\nhost = "{pacs[0]}"\nport = {pacs[1]}\n\n'
        f"[media]\n{keys}"
    )


def _find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(notifications: socket.socket, stage: Stage) -> None:
    """READY=1 comes once the port is bound and the spool recovered. A daemon that ends closes nothing here, so its pidfd is watched too."""
    pid_fd = os.pidfd_open(stage.daemon.pid)
    try:
        while True:
            readable, _, _ = select.select([notifications.fileno(), pid_fd], [], [], _READY_TIMEOUT_S)
            if notifications.fileno() in readable:
                if b"READY=1" in notifications.recv(4096).splitlines():
                    return
            else:
                raise Permanent(Code.INTERNAL, f"The daemon did not start. Its last words:\n{read_last_words(stage.log)}")
    finally:
        os.close(pid_fd)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    if daemon.poll() is None:
        daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        raise
