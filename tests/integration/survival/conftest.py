"""The archive that most tests have, and what only root can set up.

Where that cannot be had the test is skipped by name; where CI=true it fails (tests/peers.py has the policy).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from mkisod.demo.pacs import DemoPacs
from tests.integration.survival.site import AE_TITLE
from tests.processes import HOST, free_port
from tests.public_python import DEBIAN_PYTHON, find_public_python

NOBODY = 65534
SOMEBODY = 65533

MakeDisk = Callable[[int], Path]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def pacs(archive: Path, port: int) -> Iterator[DemoPacs]:
    with DemoPacs(archive, destinations={AE_TITLE: (HOST, port)}) as pacs:
        yield pacs


def give_up(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """A file system of so many MiB, all of them for the test."""
    mounted: list[Path] = []

    def mount(size_mib: int) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        options = f"size={size_mib}m,mode=755"
        done = subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", options, "none", folder], check=False, capture_output=True)
        if done.returncode:
            give_up(f"no file system can be mounted: {done.stderr.decode().strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["/bin/umount", "--lazy", folder], check=True)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as none of pytest's own may be."""
    if os.geteuid() != 0:
        give_up("only root can become another user")
    with tempfile.TemporaryDirectory(prefix="mkisod-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def public_python() -> Path:
    """A Python with mkisod that every user may run."""
    python = find_public_python()
    if python is None:
        give_up(f"there is no {DEBIAN_PYTHON} of 3.11 or later for another user to run")
    return python


def as_user(uid: int, gid: int = NOBODY) -> list[str]:
    """What to put before a command."""
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
