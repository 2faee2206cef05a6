"""Several daemons on one spool: two of one name are refused, two of two names share the work, and a dead one's jobs are taken over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from tests.daemon import Daemon
from tests.integration.survival.site import (
    AE_TITLE,
    Site,
    check_disc_of,
    is_empty,
    lines,
    make_site,
    read_events,
    told,
    wait_exit,
    wait_received,
    write_archive,
)
from tests.processes import HOST, free_port, wait_for

ACCESSIONS = [f"ACC{number}" for number in range(6)]
OTHER_AE_TITLE = "CDRECORD2"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_archive(folder, *ACCESSIONS)
    return folder


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def pacs(archive: Path, ports: tuple[int, int]) -> Iterator[DemoPacs]:
    with DemoPacs(archive, destinations={AE_TITLE: (HOST, ports[0]), OTHER_AE_TITLE: (HOST, ports[1])}) as pacs:
        yield pacs


@pytest.fixture
def site(pacs: DemoPacs, ports: tuple[int, int], tmp_path: Path) -> Site:
    return make_site(tmp_path, {"ABPACS": pacs.address}, port=ports[0], spool={"scan_interval_s": 0.2}, jobs={"workers": 1})


def write_other(site: Site, port: int, *, instance: str = "other") -> Path:
    """The configuration of another daemon of this spool."""
    text = site.config.replace("[spool]\n", f'[spool]\ninstance = "{instance}"\n')
    text = text.replace("[receiver]\n", f'[receiver]\nae_title = "{OTHER_AE_TITLE}"\n').replace(f"port = {site.port}\n", f"port = {port}\n")
    path = site.folder / f"{instance}-{port}.toml"
    path.write_text(text, encoding="utf-8")
    return path


@contextmanager
def other_daemon(site: Site, port: int) -> Iterator[Daemon]:
    with site.started(config_path=write_other(site, port)) as daemon:
        yield daemon


def test_a_second_daemon_of_the_same_name_is_refused(site: Site, ports: tuple[int, int]) -> None:
    with site.daemon() as daemon:
        with site.started(config_path=write_other(site, ports[1], instance="main"), wait_ready=False) as other:
            assert wait_exit(other.process) == 78
            assert "Another daemon serves the spool" in other.process.output
            assert "Traceback" not in other.process.output
        daemon.drop("still-served", lines(ACCESSIONS[0]))
        daemon.wait_status("still-served", "done")


def test_the_jobs_of_a_living_daemon_are_not_taken_over(site: Site, pacs: DemoPacs) -> None:
    with site.daemon() as daemon, told(pacs, Faults(stall_after=2)):
        daemon.drop("t", lines(ACCESSIONS[0]))
        wait_received(daemon, "t", 2)
        said = site.command("release", "--instance", "main")
        assert (said.exit_code, said.output) == (78, "")
        assert "Another daemon serves the spool" in said.messages
        assert len(site.jobs("active/main")) == 1
        said = site.command("release", "--instance", "nobody")
        assert (said.exit_code, "no instance nobody" in said.messages) == (2, True)


def test_the_jobs_of_a_dead_daemon_are_taken_over(site: Site, pacs: DemoPacs, archive: Path, ports: tuple[int, int]) -> None:
    """One with some instances, one that waits: the other daemon goes on with both."""
    with site.daemon() as daemon:
        with told(pacs, Faults(stall_after=2)):
            daemon.drop("t", lines(ACCESSIONS[0]))
            wait_received(daemon, "t", 2)
            daemon.kill()
        assert len(site.jobs("active/main")) == 1
        with other_daemon(site, ports[1]) as other:
            said = site.command("release", "--instance", "main")
            assert (said.exit_code, "are queued" in said.output) == (0, True), said
            status = other.wait_status("t", "done")
            check_disc_of(site, status, archive, [ACCESSIONS[0]])
            assert site.jobs("active/main") == []
            other.stop()


def test_two_daemons_share_the_work_and_do_nothing_twice(site: Site, pacs: DemoPacs, archive: Path, ports: tuple[int, int]) -> None:
    """The second one starts and ends again and again: its start-up scan finds jobs that are in other hands a moment later."""
    pacs.faults = Faults(pause_s=0.05)
    tickets = {f"t{number:02}": ACCESSIONS[number % len(ACCESSIONS)] for number in range(24)}
    ends = [*iter(tickets)][5::6]
    with site.daemon() as daemon:
        remaining = iter(tickets.items())
        for end in ends:
            with other_daemon(site, ports[1]) as other:
                for ticket, accession in remaining:
                    daemon.drop(ticket, lines(accession))
                    if ticket == end:
                        break
                daemon.wait_status(end, ["queued", "retrieving", "assembling", "publishing", "done"])
                other.stop()
        with other_daemon(site, ports[1]) as other:
            for ticket, accession in tickets.items():
                check_disc_of(site, daemon.wait_status(ticket, "done"), archive, [accession])
            daemon.process.check_alive()
            other.stop()
        both = site.journal() + (site.folder / f"other-{ports[1]}.log").read_text(encoding="utf-8")
        for event in ("job_claimed", "job_published"):
            assert Counter(e["ticket"] for e in read_events(both, event)) == dict.fromkeys(tickets, 1)
        wait_for(lambda: is_empty(site), 30, "the spool to be empty")
        other_journal = both.removeprefix(site.journal())
        assert read_events(other_journal, "job_published"), "the other one did nothing"
