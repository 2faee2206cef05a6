"""Debian root file systems to boot, made once for each release and list of packages and kept between runs.

They come from the package sources that this machine itself uses, so no mirror is named here. What is kept is in a folder of the cache
(XDG_CACHE_HOME, else /var/cache), and may be deleted at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

SUITES = ("bookworm", "trixie")

# A small Debian with systemd, and what the tests in it need: the recommended converters, PHP, and the tools of a package's own tests.
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "libnss-systemd", "python3", "adduser", "ca-certificates"),
    *("iproute2", "procps", "acl"),
    *("dcmtk", "libgdcm-tools", "php-cli", "autopkgtest", "dpkg-dev"),
)
# What would only make noise, or wants a network; and what the installer of Debian writes.
_MASKED = "apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service systemd-timesyncd.service console-getty.service"
_HOOKS = (f'systemctl --root="$1" mask {_MASKED}', 'echo "127.0.0.1 localhost" >"$1/etc/hosts"')
_SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))


def cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return Path(cache) / "mkisod" if cache else Path("/var/cache/mkisod-tests")


def read_sources(suite: str) -> tuple[str, str]:
    """This machine's own package sources, for another release: the ending of the file they are written in, and the text."""
    here = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(encoding="utf-8"), re.MULTILINE)
    path = next((path for path in _SOURCES if path.exists()), None)
    if here is None or path is None:
        raise FileNotFoundError("this machine has no package sources of Debian")
    return path.suffix, re.sub(rf"\b{here[1]}\b", suite, path.read_text(encoding="utf-8"))


def make_rootfs(suite: str, packages: tuple[str, ...] = PACKAGES) -> Path:
    """The root file system of a release; nobody may write to it. Raises CalledProcessError where it cannot be made."""
    ending, sources = read_sources(suite)
    key = hashlib.sha256(" ".join((suite, sources, *sorted(packages), *_HOOKS)).encode()).hexdigest()[:12]
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    root, part = cache / f"{suite}-{key}", cache / f"{suite}-{key}.part"
    with (cache / "lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if root.exists():
            return root
        for old in cache.glob(f"{suite}-*"):
            shutil.rmtree(old)
        sources_path = cache / f"sources{ending}"
        sources_path.write_text(sources, encoding="utf-8")
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
        hooks = [f"--customize-hook={hook}" for hook in _HOOKS]
        subprocess.run([*command, *hooks, suite, part, sources_path], check=True, capture_output=True, text=True)
        (part / "etc" / "machine-id").write_text("", encoding="ascii")  # each box makes its own
        part.rename(root)
    return root
