"""A throw-away Debian with a real systemd as its first process: systemd-nspawn over a root file system that is not written to.

It has a network of its own, with a loopback interface alone. Programs run inside it by `run`; `network` lets a program of this machine use
its network. systemd-nspawn itself says when the box has booted.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers import require
from tests.processes import started, wait_for

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
    "DEBIAN_FRONTEND": "noninteractive",
}
_BOOT_DEADLINE_S = 60.0
_CGROUPS = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup")


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Box:
    suite: str
    root: Path
    leader: int  # its first process, as this machine numbers it

    @property
    def network(self) -> list[str]:
        """Put before a command of this machine, so that it talks to what listens in the box."""
        return ["nsenter", f"--target={self.leader}", "--net", "--"]

    def command(self, *words: object, user: str = "root") -> list[str]:
        """The command line that runs a command in the box."""
        enter = ["nsenter", f"--target={self.leader}", *("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"), "--"]
        become = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"]
        return [*enter, *become, *(str(word) for word in words)]

    def try_(self, *words: object, user: str = "root", text: str = "") -> Said:
        """Run a command in the box; `text` is its standard input."""
        done = subprocess.run(
            self.command(*words, user=user), check=False, capture_output=True, text=True, input=text, env=_ENVIRONMENT, timeout=300, cwd="/"
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def run(self, *words: object, user: str = "root", text: str = "") -> str:
        """The same for a command that has to succeed; what it printed."""
        said = self.try_(*words, user=user, text=text)
        if said.code:
            journal = self.try_("journalctl", "-n", 60).out
            pytest.fail(f"{' '.join(map(str, words))} ended with {said.code}:\n{said.out}{said.err}\n{journal}")
        return said.out

    def path(self, inside: str) -> Path:
        """A file of the box as this machine sees it."""
        return self.root / inside.lstrip("/")

    def copy(self, file: Path, inside: str) -> str:
        shutil.copyfile(file, self.path(inside))
        return inside

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit."""
        names = [f"--property={name}" for name in properties]
        return dict(line.split("=", 1) for line in self.run("systemctl", "show", unit, *names).splitlines())

    def wait_unit(self, unit: str, property_: str, wanted: str, deadline_s: float = 60) -> None:
        wait_for(lambda: self.show(unit, property_)[property_] == wanted, deadline_s, f"{property_} of {unit} to be {wanted}")

    def wait(self, *words: object, what: str, deadline_s: float = 60) -> str:
        """Wait until a command in the box succeeds and prints something."""

        def answer() -> str:
            said = self.try_(*words)
            return "" if said.code else said.out.strip()

        return wait_for(answer, deadline_s, what)


@contextmanager
def booted(rootfs: Path, folder: Path, suite: str) -> Iterator[Box]:
    """A box over `rootfs`, its own files in `folder`, which exists and is empty."""
    name = f"mkisod-{suite}-{os.getpid()}"
    upper, work, root = (folder / part for part in ("upper", "work", "root"))
    for path in (upper, work, root):
        path.mkdir()
    overlay = f"lowerdir={rootfs},upperdir={upper},workdir={work}"
    subprocess.run([require("mount"), "-t", "overlay", name, "-o", overlay, root], check=True, capture_output=True, text=True)
    try:
        with _own_cgroup(name) as join, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind("")  # an abstract name of the kernel's choice
            command = [
                *("systemd-nspawn", "--quiet", f"--directory={root}", "--boot", f"--machine={name}", "--register=no", "--keep-unit"),
                *("--private-network", "--notify-ready=yes", "--console=pipe", "--kill-signal=SIGRTMIN+4"),
                # For IPAddressDeny; without SYS_MODULE, or a unit that loads modules would fail.
                *("--capability=all", "--drop-capability=CAP_SYS_MODULE", "--system-call-filter=bpf"),
            ]
            address = "@" + notify.getsockname().decode().removeprefix("\0")
            environment = {**_ENVIRONMENT, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "NOTIFY_SOCKET": address}
            with started(name, [*join, *command], folder / "console.log", env=environment) as process:
                leader = _await_boot(notify, process.pidfd)
                # What it says later (how long each stop takes, for instance) is of no use. Unread it would fill the socket, and then
                # systemd-nspawn would wait for us, and the box for it.
                notify.close()
                if leader is None:
                    pytest.fail(f"{name} did not boot:\n{process.output}")
                yield Box(suite, root, leader)
    finally:
        subprocess.run([require("umount"), "--lazy", root], check=True)


def _await_boot(notify: socket.socket, pidfd: int) -> int | None:
    leader, ready, end = None, False, time.monotonic() + _BOOT_DEADLINE_S
    while not (leader and ready):
        readable, _, _ = select.select([notify.fileno(), pidfd], [], [], max(0.0, end - time.monotonic()))
        if notify.fileno() not in readable:
            return None
        for line in notify.recv(65536).decode().splitlines():
            if line.startswith("X_NSPAWN_LEADER_PID="):
                leader = int(line.partition("=")[2])
            ready = ready or line == "READY=1"
    return leader


@contextmanager
def _own_cgroup(name: str) -> Iterator[list[str]]:
    """With --keep-unit systemd-nspawn makes control groups beside its own, which would meet those of another box, and leaves them behind.

    Gives what to put before its command.
    """
    groups = [Path(top) / name for top in _CGROUPS if Path(top, "cgroup.procs").exists()]
    for group in groups:
        group.mkdir()
    try:
        script = 'for group; do [ "$group" != -- ] || break; echo $$ >"$group/cgroup.procs"; shift; done; shift; exec "$@"'
        yield ["sh", "-c", script, "sh", *map(str, groups), "--"]
    finally:
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                wait_for(lambda: _remove(folder), 10, f"{folder} to be empty")  # noqa: B023


def _remove(folder: str) -> bool:
    try:
        os.rmdir(folder)  # noqa: PTH106 - a control group, not a path of ours
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
