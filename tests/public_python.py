"""A Python with mkisod in it that every user of the machine may run.

The one that runs the tests, its packages and the checkout may all lie where root alone can look. So Debian's Python takes its place, with a
copy of mkisod and of what it needs at run time, which is pure Python and so serves any interpreter.
"""

from __future__ import annotations

import atexit
import functools
import re
import shutil
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
DEBIAN_PYTHON = "/usr/bin/python3"
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "test_files", "palettes", "tests", "apps")


@functools.cache
def find_public_python() -> Path | None:
    """The path of such a Python; None where Debian's is missing or too old. It lasts as long as this process."""
    wanted = "import sys; sys.exit(sys.version_info < (3, 11))"
    if not Path(DEBIAN_PYTHON).exists() or subprocess.run([DEBIAN_PYTHON, "-c", wanted], check=False).returncode:
        return None
    folder = Path(tempfile.mkdtemp(prefix="mkisod-python-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    packages = folder / "packages"
    shutil.copytree(ROOT / "mkisod", packages / "mkisod", ignore=_LEFT_OUT)
    for name in re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE):
        _copy_package(name, packages)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {DEBIAN_PYTHON} "$@"\n', encoding="ascii")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path == python else 0o644)
    return python


def _copy_package(name: str, target: Path) -> None:
    """The modules and the metadata of an installed distribution."""
    tops = {Path(file).parts[0] for file in metadata.files(name) or () if ".." not in Path(file).parts}
    site_packages = Path(str(metadata.distribution(name).locate_file("")))
    for top in tops - {"__pycache__"}:
        source = site_packages / top
        if source.is_dir():
            shutil.copytree(source, target / top, ignore=_LEFT_OUT, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copy(source, target / top)
