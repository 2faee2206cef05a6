"""Debian with a real systemd, and the package in it. Needs root; a box for each module of tests and each release.

Where it cannot be had the tests are skipped by name; where CI=true they fail (tests/peers.py has the policy).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from tests.daemon import ROOT
from tests.peers import require
from tests.system.box import Box, booted
from tests.system.rootfs import SUITES, make_rootfs

_PROGRAMS = ("systemd-nspawn", "mmdebstrap", "dh", "dh_python3", "dpkg-buildpackage", "lintian", "piuparts")


def give_up(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@dataclass(frozen=True)
class Package:
    deb: Path
    older: Path  # the same program as an older version
    wheels: Path  # what it was built from

    def build(self, folder: Path) -> Path:
        return build(folder, WHEELS=str(self.wheels))


def build(folder: Path, **environment: str) -> Path:
    """Build the package into `folder`."""
    command = [ROOT / "packaging" / "build-deb.sh", folder]
    env = {**os.environ, "PIP": f"{sys.executable} -m pip", **environment}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    if done.returncode:
        pytest.fail(f"the package cannot be built:\n{done.stdout}{done.stderr}", pytrace=False)
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session", autouse=True)
def _needs() -> None:
    if os.geteuid() != 0:
        give_up("only root can boot a Debian in a container")
    for program in _PROGRAMS:
        require(program)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory, _needs: None) -> Package:
    folder = tmp_path_factory.mktemp("package")
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    requirements = ["--require-hashes", "--no-deps", "--requirement", str(ROOT / "requirements.txt")]
    subprocess.run([*pip, "download", "--no-build-isolation", "--dest", str(wheels), *requirements], check=True, capture_output=True)
    deb = build(folder, WHEELS=str(wheels))
    # The older one is the same but for its number, and is packed quickly.
    tree = folder / "tree"
    subprocess.run([require("dpkg-deb"), "--raw-extract", deb, tree], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(control.read_text(encoding="utf-8").replace("\nVersion: ", "\nVersion: 0.0.1~", 1), encoding="utf-8")
    older = folder / "older.deb"
    subprocess.run([require("dpkg-deb"), "--build", "-Znone", tree, older], check=True, capture_output=True)
    shutil.rmtree(tree)
    return Package(deb, older, wheels)


@pytest.fixture(scope="session", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def rootfs(suite: str, _needs: None) -> Path:
    try:
        return make_rootfs(suite)
    except subprocess.CalledProcessError as error:
        give_up(f"no root file system of {suite} can be made: {error.stderr[-1000:]}")


@pytest.fixture(scope="module")
def box(rootfs: Path, suite: str, package: Package) -> Iterator[Box]:
    """A Debian that has booted, with both packages in /root and nothing installed."""
    with tempfile.TemporaryDirectory(prefix="mkisod-box-", dir="/var/tmp", ignore_cleanup_errors=True) as folder:  # not a tmpfs
        try:
            with booted(rootfs, Path(folder), suite) as box:
                box.run("systemctl", "is-system-running", "--wait")
                box.copy(package.deb, "/opt/mkisod.deb")
                box.copy(package.older, "/opt/older.deb")
                yield box
        except subprocess.CalledProcessError as error:
            give_up(f"no file system can be laid over another one here: {error.stderr}")


@pytest.fixture(scope="module")
def service(box: Box) -> Box:
    """The same with the package installed and its service running."""
    box.run("dpkg", "--install", "/opt/mkisod.deb")
    box.wait_unit("mkisod.service", "ActiveState", "active")
    return box
