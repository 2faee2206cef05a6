"""Every command that the documents show is run as it stands there, by a shell, at a site where it makes sense (tests/documents.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import write_series
from tests.daemon import ROOT, Daemon
from tests.documents import RUN
from tests.integration.survival.site import AE_TITLE, Site, lines, make_site
from tests.peers import storescp
from tests.processes import HOST, free_port, wait_for

TICKET = "web-4711"
DISC = "/media/cdrom"
# The commands name no configuration; this stands for the one that they would find. The daemon knows one PACS more, which is not there.
WRAPPER = """#!/bin/sh
command=$1; shift
PYTHONPATH={root} exec {python} -m mkisod "$command" --config {config} "$@"
"""


@dataclass
class Place:
    """A site with a daemon, and one request whose state can be chosen."""

    site: Site
    daemon: Daemon
    path: str

    def prepare(self, state: str) -> str:
        """Bring the ticket into a state; the folder of its disc, if it has one."""
        self._clear()
        if not state:
            return ""
        text = {"done": lines("MR.180505.026"), "failed": lines("NOWHERE"), "deferred": lines("@pacs SILENT", "MR.180505.026")}[state]
        before = self.daemon.status(TICKET)
        self.daemon.drop(TICKET, text)

        def reached() -> bool:
            self.daemon.process.check_alive()
            status = self.daemon.status(TICKET)
            return status is not None and status["job"] != (before and before["job"]) and status["state"] == state

        wait_for(reached, 60, f"{TICKET} to be {state}")
        status = self.daemon.status(TICKET)
        assert status is not None
        if state != "done":
            return ""
        return str(self.daemon.outbox / TICKET / status["result"]["path"] / status["result"]["volumes"][0]["directory"])

    def _clear(self) -> None:
        """End what the command before has left unfinished."""
        status = self.daemon.status(TICKET)
        if status is not None and not status["finished"]:
            self.site.control(f"{TICKET}.cancel")

            def is_over() -> bool:
                self.daemon.process.check_alive()
                status = self.daemon.status(TICKET)
                return status is not None and status["finished"]

            wait_for(is_over, 60, f"{TICKET} to be over")
        wait_for(lambda: not (self.site.inbox / f"{TICKET}.cancel").exists(), 30, "the control file to go")

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{self.path}:{os.environ['PATH']}", "COLUMNS": "200"}
        return subprocess.run(
            ["/bin/sh", "-euc", command],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
            stdin=subprocess.DEVNULL,
            cwd=self.site.folder,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    for modality, accession in (("MR", "MR.180505.026"), ("CT", "CT.180505.027")):
        write_series(folder / "archive" / accession, accession=accession, modality=modality, count=3, rows=16, columns=16)
    port, path = free_port(), folder / "bin"
    with DemoPacs(folder / "archive", destinations={AE_TITLE: (HOST, port)}) as pacs, storescp(folder / "station") as station:
        jobs = {"not_found_retry_s": [], "retry_first_s": 600, "retry_max_s": 600}
        healthy, silent = {"ABPACS": pacs.address}, (HOST, free_port())
        config = folder / "healthy.toml"
        config.write_text(make_site(folder, healthy, port=port, jobs=jobs).config, encoding="utf-8")
        site = make_site(folder, healthy | {"SILENT": silent}, port=port, jobs=jobs)
        destination = f'[forward.WORKSTATION]\nhost = "{station.host}"\nport = {station.port}\nae_title = "{station.ae_title}"\n'
        site = Site(folder, site.config + destination, port)
        with config.open("a", encoding="utf-8") as file:
            file.write(destination)
        path.mkdir()
        wrapper = path / "mkisod"
        wrapper.write_text(WRAPPER.format(root=ROOT, python=sys.executable, config=config), encoding="utf-8")
        wrapper.chmod(0o755)
        with site.daemon() as daemon:
            (site.spool / "work" / "active" / "ct").mkdir()  # of a daemon that is dead
            yield Place(site, daemon, str(path))


@pytest.mark.parametrize("command", RUN)
def test_a_documented_command_does_what_it_is_shown_for(place: Place, command: str) -> None:
    disc = place.prepare(RUN[command])
    done = place.run(command.replace(DISC, disc) if disc else command)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert done.stdout or done.stderr
