"""The package as a file: what Debian's own judges say of it, and what is in it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest

from mkisod.config.parsing import parse_config
from mkisod.config.settings import Config, MetricsSettings
from tests.daemon import ROOT
from tests.peers import require
from tests.system.conftest import Package

UNITS = ("mkisod.service", "mkisod@.service")
MOST_EXPOSED = 15  # 1.5


@pytest.fixture(scope="module")
def tree(package: Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it installs."""
    folder = tmp_path_factory.mktemp("tree")
    subprocess.run([require("dpkg-deb"), "--raw-extract", package.deb, folder], check=True)
    return folder


def test_the_same_sources_give_the_same_bytes(package: Package, tmp_path: Path) -> None:
    again = package.build(tmp_path)
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (package.deb, again)}
    assert len(digests) == 1


def test_lintian_finds_neither_errors_nor_warnings(package: Package) -> None:
    # It would rather not be run by root; the tests are.
    command = [require("lintian"), "--allow-root", "--fail-on", "error,warning", str(package.deb)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_the_units_are_valid_and_confined(tree: Path, unit: str) -> None:
    path = next(path for path in tree.rglob(unit) if path.parent.name == "system")
    command = [require("systemd-analyze"), "security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_the_default_configuration_says_the_defaults(tree: Path) -> None:
    text = (tree / "etc" / "mkisod" / "mkisod.toml").read_text(encoding="utf-8")
    installed = Config(metrics=MetricsSettings(textfile="/run/mkisod/mkisod.prom"))
    assert parse_config(text, Path("mkisod.toml")) == installed
    # With every # taken away it says the same: what it shows are the defaults.
    shown = re.sub(r"(?m)^#(?! )", "", text)
    assert shown.count("\n[") >= 4
    assert parse_config(shown, Path("mkisod.toml")) == installed


def test_it_brings_what_is_pinned_and_nothing_else(tree: Path) -> None:
    pins = re.findall(r"(?m)^(\S+)==(\S+) ", (ROOT / "requirements.txt").read_text(encoding="utf-8"))
    library = tree / "usr" / "lib" / "mkisod"
    brought = [path.name.removesuffix(".dist-info").rsplit("-", 1) for path in library.glob("*.dist-info")]
    assert sorted((name.replace("_", "-"), version) for name, version in brought) == sorted(pins)
    assert not [path for path in library.rglob("*") if path.suffix in {".so", ".pyc", ".whl"}]
    copyright_ = (tree / "usr" / "share" / "doc" / "mkisod" / "copyright").read_text(encoding="utf-8")
    assert not [name for name, _ in pins if f"vendor/{name.replace('-', '_')}" not in copyright_]


def test_piuparts(package: Package, rootfs: Path, suite: str) -> None:
    """Install, remove, install, purge in a bare Debian: nothing is left, and nothing of others is touched."""
    command = [require("piuparts"), f"--existing-chroot={rootfs}", f"--distribution={suite}", "--keep-sources-list", "--no-eatmydata"]
    # apt-extracttemplates leaves that one, whatever is installed.
    command += ["--ignore-regex=/var/cache/debconf/tmp.ci.*", "--install-remove-install", str(package.deb)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, "TMPDIR": "/var/tmp"})
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
