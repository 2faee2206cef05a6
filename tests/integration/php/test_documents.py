"""What the documents show of PHP is run as it stands there, with other names for the spool, the folder and the patient."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import ROOT
from tests.integration.php.site import PHP_FOLDER, Site, running_site
from tests.oracles import check_sums
from tests.peers import require

CLIENT_README = PHP_FOLDER / "README.md"
MIGRATION = ROOT / "docs/migration.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("documents")) as site:
        yield site


def read_blocks(path: Path) -> list[str]:
    return re.findall(r"^```php\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def translate(text: str, site: Site, folder: Path) -> str:
    """The same for this site."""
    names = {
        "/var/spool/mkisod": str(site.spool),
        "/srv/discs/4711": str(folder / "4711"),
        "MR.180505.026": "PHANTOM.MR.1",
        "CT.180506.011": "PHANTOM.CT.1",
        "'4711'": "'PHANTOM1'",
    }
    for name, other in names.items():
        text = text.replace(name, other)
    return text


def run_php(code: str) -> str:
    command = [require("php"), "-d", "error_reporting=-1", "-d", "display_errors=stderr", "-r", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=PHP_FOLDER)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_the_three_calls(site: Site, tmp_path: Path) -> None:
    setup, calls, handling = read_blocks(CLIENT_README)
    assert run_php(translate(setup + calls + handling, site, tmp_path)).splitlines()[-1].startswith("done ")
    check_sums(tmp_path / "4711")


def test_every_method_is_in_the_readme() -> None:
    source, readme = (PHP_FOLDER / "Mkisod.php").read_text(encoding="utf-8"), CLIENT_README.read_text(encoding="utf-8")
    methods = set(re.findall(r"public (?:static )?function (\w+)", source)) - {"__construct", "text"}
    assert {name for name in methods if f"{name}(" not in readme} == set()
    assert len(methods) > 20


def test_the_line_by_line_of_the_migration(site: Site, tmp_path: Path) -> None:
    old, new = read_blocks(MIGRATION)
    assert "dcmqr" in old
    names = f"$accession_number = 'PHANTOM.MR.1'; $dicomdir = '{tmp_path}/disc'; "
    run_php(f"require 'Mkisod.php'; $mkisod = new Mkisod\\Client('{site.spool}'); " + names + new)
    assert (tmp_path / "disc/DICOMDIR").is_file()


def test_the_commands_of_the_migration(site: Site, tmp_path: Path) -> None:
    commands = re.findall(r"^    (php .*)$", MIGRATION.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(commands) == 2
    for number, command in enumerate(commands):
        (tmp_path / str(number)).mkdir()
        words = [require("php"), *translate(command, site, tmp_path / str(number)).split()[1:]]
        subprocess.run(
            words,
            check=True,
            timeout=60,
            cwd=PHP_FOLDER / "examples",
            env={**os.environ, "MKISOD_SPOOL": str(site.spool)},
        )
        assert (tmp_path / str(number) / "4711/DICOMDIR").is_file()


def test_links_lead_somewhere() -> None:
    for path in (CLIENT_README, MIGRATION):
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.name}: {link}"
