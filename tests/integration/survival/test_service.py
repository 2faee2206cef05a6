"""The daemon and its service manager, played by the test: what it says, what it leaves in keeping, and what it does when told to reload.

The real systemd is in tests/system.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mkisod.demo.pacs import DemoPacs
from tests.daemon import ROOT, Daemon
from tests.integration.survival.site import AE_TITLE, Site, lines, make_site, wait_logged, write_archive
from tests.peers import echo, require
from tests.processes import HOST, Process, free_port, started, wait_for

# What a manager does between fork and exec: the descriptors get their numbers, from 3 on, and the process is told its own id.
_LAUNCH = """
import fcntl, os, sys
fds, *command = sys.argv[1:]
given = [int(fd) for fd in fds.split(",") if fd]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 1000) for fd in given]  # out of the way first
for fd in given:  # which may have any number; a copy that is left keeps the port
    os.close(fd)
for number, fd in enumerate(high):
    os.dup2(fd, 3 + number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(high))
os.execv(command[0], command)
"""


class Manager:
    """Plays systemd to one service: reads what it says, keeps its descriptors, hands them back."""

    def __init__(self, site: Site, notify: socket.socket, address: str) -> None:
        self.site = site
        self.said: list[str] = []
        self.kept: dict[str, socket.socket] = {}
        self._notify = notify
        self._address = address

    def read(self) -> list[str]:
        """All that was said since the start of the service, line by line."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._notify, 65536, 8)
            except BlockingIOError:
                return self.said
            message = data.decode("ascii").splitlines()
            self._obey(dict(line.split("=", 1) for line in message), fds)
            self.said += message

    def _obey(self, message: dict[str, str], fds: list[int]) -> None:
        if "FDSTORE" in message:
            self.kept[message["FDNAME"]] = socket.socket(fileno=fds.pop())
        if "FDSTOREREMOVE" in message:
            self.kept.pop(message["FDNAME"]).close()
        for fd in fds:  # of a barrier
            os.close(fd)

    def wait_said(self, line: str) -> None:
        wait_for(lambda: line in self.read(), 30, f"the daemon to say {line}")

    @contextmanager
    def service(self, handed: dict[str, socket.socket] | None = None, **environment: str) -> Iterator[Process]:
        """The daemon, from READY on, with what is kept of it, or with `handed`."""
        sockets = self.kept if handed is None else handed
        fds = [sock.fileno() for sock in sockets.values()]
        command = [sys.executable, "-m", "mkisod", "serve", "--config", self.site.config_path]
        launch = [sys.executable, "-c", _LAUNCH, ",".join(map(str, fds)), *command]
        env = {"PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": self._address, "LISTEN_FDNAMES": ":".join(sockets), **environment}
        self.said.clear()
        with started("mkisod", launch, self.site.folder / "mkisod.log", env=env, cwd=self.site.folder, pass_fds=fds) as process:
            process.wait_ready(lambda: "READY=1" in self.read())
            yield process


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_archive(folder, "ACC1")
    return folder


@pytest.fixture
def manager(pacs: DemoPacs, port: int, tmp_path: Path) -> Iterator[Manager]:
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port)
    with tempfile.TemporaryDirectory(prefix="mkisod-") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        address = f"{folder}/notify"
        notify.bind(address)
        notify.setblocking(False)
        manager = Manager(site, notify, address)
        yield manager
        for sock in manager.kept.values():
            sock.close()


def rewrite(site: Site, old: str, new: str) -> None:
    text = site.config_path.read_text(encoding="utf-8")
    assert old in text
    site.config_path.write_text(text.replace(old, new), encoding="utf-8")


# --- What it says ---


def test_the_status_counts(manager: Manager) -> None:
    with manager.service() as process:
        daemon = Daemon(process, manager.site.spool)
        daemon.drop("t", lines("ACC1"))
        daemon.wait_status("t", "done")
        daemon.drop("n", lines("NOWHERE"))
        daemon.wait_status("n", "deferred")
        manager.wait_said("STATUS=1 job running, 0 deferred, 0 instances today")
        manager.wait_said("STATUS=0 jobs running, 1 deferred, 6 instances today")
        assert manager.said.index("READY=1") < min(number for number, line in enumerate(manager.said) if "running" in line)
        process.end(signal.SIGTERM)
        said = manager.read()
        assert "STOPPING=1" in said
        assert [line for line in said if line.startswith("EXTEND_TIMEOUT_USEC=")]


def test_the_watchdog_is_fed_while_it_lives(manager: Manager) -> None:
    with manager.service(WATCHDOG_USEC="300000") as process:
        for number in range(1, 4):
            wait_for(lambda: manager.read().count("WATCHDOG=1") >= number, 30, "the watchdog to be fed")  # noqa: B023
        process.end(signal.SIGTERM)


def test_another_process_s_watchdog_is_left_alone(manager: Manager) -> None:
    with manager.service(WATCHDOG_USEC="1000", WATCHDOG_PID="1") as process:
        daemon = Daemon(process, manager.site.spool)
        daemon.drop("t", lines("ACC1"))
        daemon.wait_status("t", "done")
        process.end(signal.SIGTERM)
        assert "WATCHDOG=1" not in manager.read()


def test_converters_that_are_not_installed_are_named(manager: Manager) -> None:
    with manager.service(PATH="/nonexistent") as process:
        (event,) = manager.site.events("converters_missing")
        assert event["programs"] == ["dcmconv", "dcmdjpeg", "dcmdjpls", "dcmdrle", "gdcmconv"]
        assert "libgdcm-tools" in event["advice"]
        process.end(signal.SIGTERM)


# --- The port ---


@pytest.mark.parametrize("end_signal", [signal.SIGTERM, signal.SIGKILL])
def test_who_connects_between_two_lives_is_served_by_the_second(manager: Manager, port: int, end_signal: signal.Signals) -> None:
    require("echoscu")
    with manager.service() as process:
        process.end(end_signal)
    manager.read()
    assert list(manager.kept) == ["dicom"]
    with ExitStack() as waiting:
        for _ in range(200):  # more than the backlog of most servers
            waiting.enter_context(socket.create_connection((HOST, port), timeout=10))
        with manager.service() as process:
            wait_logged(process, "listener_handed_over")
            assert echo(AE_TITLE, port)
            assert "FDSTORE=1" not in manager.said, "it is kept already"
            process.end(signal.SIGTERM)


def test_a_new_port_gives_up_the_old_one_first(manager: Manager, port: int) -> None:
    """Every address in the place of one: with the old socket still open that could not be bound."""
    with manager.service() as process:
        process.end(signal.SIGTERM)
    manager.read()
    rewrite(manager.site, f'host = "{HOST}"\nport = {port}', f'host = ""\nport = {port}')
    others = free_port()
    with manager.service() as process:
        assert echo(AE_TITLE, port)
        assert manager.kept["dicom"].getsockname()[0] != HOST
        process.end(signal.SIGTERM)
    rewrite(manager.site, f"port = {port}", f"port = {others}")
    with manager.service() as process:
        assert echo(AE_TITLE, others)
        assert not echo(AE_TITLE, port)
        process.end(signal.SIGTERM)


def test_a_socket_unit_wins_and_keeps_its_socket(manager: Manager, port: int) -> None:
    with manager.service() as process:
        process.end(signal.SIGTERM)
    manager.read()
    with socket.create_server((HOST, 0)) as of_unit, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as strange:
        number = of_unit.getsockname()[1]
        handed = {"mkisod.socket": of_unit, "strange": strange, **manager.kept}
        with manager.service(handed) as process:
            assert echo(AE_TITLE, number)
            wait_logged(process, "listener_ignored")
            assert not manager.kept, "what was kept is given up"
            assert not echo(AE_TITLE, port)
            process.end(signal.SIGTERM)
        socket.create_connection((HOST, number), timeout=10).close()  # it listens still


def test_descriptors_of_another_process_are_left_alone(manager: Manager, port: int) -> None:
    with socket.create_server((HOST, 0)) as other:
        command = [sys.executable, "-m", "mkisod", "serve", "--config", manager.site.config_path]
        env = {"PYTHONPATH": str(ROOT), "LISTEN_FDS": "1", "LISTEN_PID": "1"}
        with started("mkisod", command, manager.site.folder / "mkisod.log", env=env, pass_fds=[other.fileno()]) as process:
            wait_logged(process, "daemon_ready")
            assert echo(AE_TITLE, port)


# --- Reload ---


def test_a_reload_serves_jobs_that_begin_after_it(manager: Manager, pacs: DemoPacs) -> None:
    site, (_, pacs_port) = manager.site, pacs.address
    rewrite(site, f"port = {pacs_port}", f"port = {free_port()}")  # nobody there
    with manager.service() as process:
        daemon = Daemon(process, site.spool)
        daemon.drop("t", lines("ACC1"))
        daemon.wait_status("t", "deferred")
        text = site.config_path.read_text(encoding="utf-8")

        site.config_path.write_text("[receiver]\nport = 'x'\n", encoding="utf-8")
        os.kill(process.popen.pid, signal.SIGHUP)
        wait_logged(process, "configuration_not_reloaded")
        (event,) = site.events("configuration_not_reloaded")
        assert "receiver.port: write a whole number" in str(event)

        site.config_path.write_text(text + "workers = 5\n", encoding="utf-8")
        rewrite(site, text[text.index("[pacs.") :].split("port = ")[1].split()[0], str(pacs_port))
        os.kill(process.popen.pid, signal.SIGHUP)
        wait_logged(process, "configuration_reloaded")
        (event,) = site.events("configuration_reloaded")
        assert event["changed"] == ["pacs.ABPACS.port"]
        assert event["needs_restart"] == ["jobs.workers"]
        daemon.wait_status("t", "done")
        wait_for(lambda: any(line.endswith("; some of the configuration needs a restart") for line in manager.read()), 30, "the status")
        process.end(signal.SIGTERM)
        assert process.popen.returncode == 0


def test_a_reload_changes_who_may_associate(manager: Manager, port: int) -> None:
    with manager.service() as process:
        assert echo(AE_TITLE, port)
        rewrite(manager.site, "[receiver]", '[receiver]\nallowed_calling_ae_titles = ["SOMEBODY"]')
        os.kill(process.popen.pid, signal.SIGHUP)
        wait_logged(process, "configuration_reloaded")
        assert not echo(AE_TITLE, port)
        assert echo(AE_TITLE, port, calling_ae_title="SOMEBODY")
        process.end(signal.SIGTERM)
