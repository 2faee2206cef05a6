"""Real DICOM peers for tests, each a process of its own: DCMTK's `dcmqrscp` and `storescp`, and Orthanc. And real files to serve.

The policy on what is missing: `require` finds a program or skips the test by name, with the Debian package that has it. Where CI=true
nothing is skipped: there a missing peer is a failure. Every peer is ready when its context manager yields: it has answered a C-ECHO.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pydicom.data
import pytest

from tests.processes import HOST, Process, free_port, started

# The programs that tests ask for, and the Debian package of each (debian-packages.txt).
PACKAGES = {
    "dcmdump": "dcmtk",
    "dcmmkdir": "dcmtk",
    "dcmqridx": "dcmtk",
    "dcmqrscp": "dcmtk",
    "dcmsend": "dcmtk",
    "echoscu": "dcmtk",
    "findscu": "dcmtk",
    "movescu": "dcmtk",
    "storescp": "dcmtk",
    "storescu": "dcmtk",
    "Orthanc": "orthanc",
    "dcdirdmp": "dicom3tools",
    "dcentvfy": "dicom3tools",
    "dciodvfy": "dicom3tools",
    "gdcmconv": "libgdcm-tools",
    "gdcmdump": "libgdcm-tools",
    "gdcminfo": "libgdcm-tools",
    "opj_decompress": "libopenjp2-tools",
    "xorriso": "xorriso",
    "isoinfo": "genisoimage",
    "genisoimage": "genisoimage",
    "eatmydata": "eatmydata",
    "chromium": "chromium",
    "php": "php-cli",
    "tidy": "tidy",
    "xmllint": "libxml2-utils",
    "openssl": "openssl",
    "strace": "strace",
    "ss": "iproute2",
    "bash": "bash",
    "groff": "groff-base",
    "journalctl": "systemd",
    "mandoc": "mandoc",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "dh": "debhelper",
    "dh_python3": "dh-python",
    "dpkg-buildpackage": "dpkg-dev",
    "dpkg-deb": "dpkg",
    "mount": "mount",
    "umount": "mount",
    "systemd-analyze": "systemd",
    "lintian": "lintian",
    "piuparts": "piuparts",
}

# Without it every small DIMSE message waits for a delayed acknowledgement (DCMTK's dcmnet reads it, hence Orthanc too).
_ENVIRONMENT = {"TCP_NODELAY": "1", "LC_ALL": "C.UTF-8"}


def require(tool: str) -> str:
    """The path of `tool`; without it the test is skipped, or fails where CI=true."""
    package = PACKAGES[tool]
    # Servers are in sbin, which is not on everybody's path. In a virtual environment, ours or any, pynetdicom has a storescp of its own.
    folders = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if not Path(folder, "../pyvenv.cfg").exists()]
    path = shutil.which(tool, path=os.pathsep.join([*folders, "/usr/local/sbin", "/usr/sbin"]))
    if path is None:
        reason = f"{tool} is not installed (Debian package {package})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return path


@dataclass(frozen=True)
class Peer:
    """A running peer and where to reach it."""

    ae_title: str
    host: str
    port: int
    process: Process


@dataclass(frozen=True)
class OrthancPeer(Peer):
    """An Orthanc, with its REST interface on the loopback address."""

    http_port: int

    def is_ready(self) -> bool:
        """Whether both of its servers answer; the DICOM server is up first."""
        connection = http.client.HTTPConnection(HOST, self.http_port, timeout=5)
        try:
            connection.request("GET", "/system")
            return connection.getresponse().status == http.client.OK and echo(self.ae_title, self.port)
        except ConnectionRefusedError:
            return False
        finally:
            connection.close()

    def upload(self, files: Iterable[Path]) -> None:
        """Give the archive these files, byte for byte."""
        connection = http.client.HTTPConnection(HOST, self.http_port, timeout=30)
        try:
            for path in files:
                connection.request("POST", "/instances", body=path.read_bytes(), headers={"Content-Type": "application/dicom"})
                response = connection.getresponse()
                answer = response.read()
                if response.status != http.client.OK or json.loads(answer)["Status"] not in {"Success", "AlreadyStored"}:
                    pytest.fail(f"Orthanc did not take {path}: {response.status} {answer!r}")
        finally:
            connection.close()


@dataclass(frozen=True)
class StorescpPeer(Peer):
    """A storescp and the folder it writes to."""

    folder: Path

    def files(self) -> list[Path]:
        """What has come so far, in order of name. A file being written is among them."""
        return sorted(self.folder.iterdir())


def echo(ae_title: str, port: int, host: str = HOST, calling_ae_title: str = "TESTER") -> bool:
    """Whether a C-ECHO succeeds."""
    command = [require("echoscu"), "-q", "-to", "5", "-ta", "5", "-td", "5", "-aet", calling_ae_title, "-aec", ae_title, host, str(port)]
    return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 0


@contextmanager
def dcmqrscp(
    directory: Path,
    files: Iterable[Path] = (),
    *,
    ae_title: str = "ABPACS",
    port: int | None = None,
    destinations: Mapping[str, tuple[str, int]] | None = None,
    options: Sequence[str] = (),
) -> Iterator[Peer]:
    """DCMTK's image archive over copies of `files`, with its configuration and database in `directory`, which it makes.

    `destinations` are the move destinations it knows, AE title to host and port; it reads them once, so their ports have to be known by now
    (`free_port`). `options` go to its command line: `-XM` for instance makes it check C-MOVE identifiers.
    """
    program, indexer = require("dcmqrscp"), require("dcmqridx")
    port = port or free_port()
    archive = directory / "archive"
    archive.mkdir(parents=True)
    # Copies, since it removes files when a quota is reached. It keeps at most 500 studies of at most 1 GiB.
    copies = [Path(shutil.copyfile(path, archive / f"{number:06}.dcm")) for number, path in enumerate(files)]
    for start in range(0, len(copies), 500):
        subprocess.run([indexer, archive, *copies[start : start + 500]], check=True, capture_output=True)
    hosts = "".join(
        f"destination{number} = ({title}, {host}, {destination_port})\n"
        for number, (title, (host, destination_port)) in enumerate((destinations or {}).items())
    )
    configuration = directory / "dcmqrscp.cfg"
    configuration.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 64\n"
        f"HostTable BEGIN\n{hosts}HostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{ae_title} {archive} RW (500, 1024mb) ANY\nAETable END\n",
        encoding="ascii",
    )
    command = [program, "-v", "--config", configuration, *options]
    with started("dcmqrscp", command, directory / "dcmqrscp.log", env=_ENVIRONMENT) as process:
        process.wait_ready(lambda: echo(ae_title, port))
        yield Peer(ae_title, HOST, port, process)


@contextmanager
def orthanc(
    directory: Path,
    files: Iterable[Path] = (),
    *,
    ae_title: str = "ABPACS",
    port: int | None = None,
    destinations: Mapping[str, tuple[str, int]] | None = None,
    synchronous_move: bool = True,
    configuration: Mapping[str, object] | None = None,
) -> Iterator[OrthancPeer]:
    """Orthanc over `files`, with its configuration and storage in `directory`, which it makes.

    `destinations` as for `dcmqrscp`. Without `synchronous_move` it answers a C-MOVE with Success before it has sent anything.
    `configuration` adds to, or replaces, keys of its configuration file.
    """
    program = require("Orthanc")
    port, http_port = port or free_port(), free_port()
    directory.mkdir(parents=True)
    keys: dict[str, object] = {
        "Name": ae_title,
        "DicomAet": ae_title,
        "DicomPort": port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "StorageDirectory": str(directory / "storage"),
        "IndexDirectory": str(directory / "storage"),
        "SyncStorageArea": False,
        "Plugins": [],
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
        "UnknownSopClassAccepted": True,
        "SynchronousCMove": synchronous_move,
        "DicomModalities": {title: [title, host, number] for title, (host, number) in (destinations or {}).items()},
        **(configuration or {}),
    }
    path = directory / "orthanc.json"
    path.write_text(json.dumps(keys, indent=2), encoding="utf-8")
    command, log_path = [program, path], directory / "orthanc.log"
    # Its clean way to end takes 3 seconds, and what it holds is thrown away.
    with started("Orthanc", command, log_path, env=_ENVIRONMENT, cwd=directory, end_signal=signal.SIGKILL) as process:
        peer = OrthancPeer(ae_title, HOST, port, process, http_port)
        process.wait_ready(peer.is_ready)
        peer.upload(files)
        yield peer


@contextmanager
def storescp(
    directory: Path, *, ae_title: str = "STORESCP", port: int | None = None, options: Sequence[str] = ("--accept-all", "--bit-preserving")
) -> Iterator[StorescpPeer]:
    """DCMTK's Storage SCP, collecting into `directory`/received. By default it takes every transfer syntax and writes what it reads."""
    port = port or free_port()
    folder = directory / "received"
    folder.mkdir(parents=True)
    # By default it serves one association at a time, and lets the next one wait.
    command = [require("storescp"), "-v", "--fork", "--aetitle", ae_title, "--output-directory", folder, *options, str(port)]
    with started("storescp", command, directory / "storescp.log", env=_ENVIRONMENT) as process:
        process.wait_ready(lambda: echo(ae_title, port))
        yield StorescpPeer(ae_title, HOST, port, process, folder)


def dicomdirtests() -> list[Path]:
    """The 81 instances that come with pydicom as `dicomdirtests`, in order of path.

    | accession | Patient ID, name        | studies | series | instances                   |
    |-----------|-------------------------|---------|--------|-----------------------------|
    | 1         | 12345678 Citizen^Jan    | 1       | 1      | 50 CT, none with pixel data |
    | 134       | 98890234 Doe^Peter      | 1       | 2      | 4 MR                        |
    | 428       | 98890234 Doe^Peter      | 1       | 2      | 2 MR                        |
    | 2         | 98890234 Doe^Peter      | 2       | 5      | 7 CT, 11 MR                 |
    | 2         | 77654033 Doe^Archibald  | 2       | 4      | 3 CR, 4 CT                  |

    All are Explicit VR Little Endian; nobody has a birth date.
    """
    folder = Path(pydicom.data.__file__).parent / "test_files" / "dicomdirtests"
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(("DICOMDIR", "README"))]
