"""`kill -9` of a real daemon under a stream of requests: none is lost, none is done twice, no disc is a wrong one.

The moments are drawn from a seeded generator: after some time, which may end before the daemon is ready; after some lines of its journal;
or at a durable system call of some number, where strace ends it before the call is made. A failure names the seed and the moments.
"""

from __future__ import annotations

import hashlib
import random
import select
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.integration.survival.site import AE_TITLE, Site, check_disc_of, lines, make_site, pacs_process, write_archive
from tests.peers import require
from tests.processes import HOST, free_port, wait_for

ACCESSIONS = [f"ACC{number}" for number in range(1, 7)]
INSTANCES = 25
DELAY_S = (0.3, 3.0)
MOST_EVENTS = 24
MOST_CALLS = 40  # of one thread
WORKERS = 3


@dataclass
class Stream:
    """Requests of one or two accession numbers each, dropped as time goes by, whether or not a daemon is there."""

    site: Site
    requests: dict[str, list[str]]
    dropped: list[str] = field(default_factory=list)
    finished: dict[str, str] = field(default_factory=dict)  # ticket to job, once the status said so

    def drop(self, number: int) -> None:
        for ticket in [ticket for ticket in self.requests if ticket not in self.dropped][:number]:
            written = self.site.inbox / f".{ticket}"
            written.write_text(lines(*self.requests[ticket]), encoding="ascii")
            written.rename(self.site.inbox / f"{ticket}.req")
            self.dropped.append(ticket)

    def look(self, daemon: Daemon) -> None:
        """What was finished stays so, as the same job."""
        for ticket in self.dropped:
            status = daemon.status(ticket)
            if ticket in self.finished:
                assert status is not None
                assert (status["state"], status["job"]) == ("done", self.finished[ticket])
            elif status is not None and status["finished"]:
                assert status["state"] == "done", status
                self.finished[ticket] = status["job"]


@contextmanager
def killed(site: Site, kind: str, number: float) -> Iterator[Daemon]:
    """A daemon that dies at that moment; the block runs beside it, and its death is waited for after."""
    prefix: list[object] = []
    if kind == "call":
        inject = f"inject=rename,fsync,mkdir:signal=KILL:when={number:g}"
        prefix = [require("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=rename,fsync,mkdir", "-e", inject]
    log = site.folder / "mkisod.log"
    begins_at = log.stat().st_size
    with site.started(prefix=prefix, wait_ready=False) as daemon:
        yield daemon
        if kind == "delay":
            has_ended(daemon, number)
        else:
            wait_for(lambda: has_ended(daemon, 0) or has_said(site, log, begins_at, number if kind == "events" else None), 60, kind)
        daemon.kill()


def has_ended(daemon: Daemon, within_s: float) -> bool:
    return bool(select.select([daemon.process.pidfd], [], [], within_s)[0])


def has_said(site: Site, log: Path, begins_at: int, number: float | None) -> bool:
    """So many lines, or all that it has to say: a daemon that has nothing to do says nothing more, and makes no call."""
    with log.open("rb") as file:
        file.seek(begins_at)
        said = file.read()
    if number is not None and said.count(b"\n") >= number:
        return True
    return b"daemon_ready" in said and not list(site.inbox.iterdir()) and not find_places(site)


def find_places(site: Site) -> list[str]:
    return [place for place in ("active/main", "queued", "deferred") if site.jobs(place)]


def draw_moment(chance: random.Random) -> tuple[str, float]:
    kind = chance.choice(["delay", "events", "call"])
    if kind == "delay":
        return kind, round(chance.uniform(*DELAY_S), 3)
    return kind, chance.randint(1, MOST_EVENTS if kind == "events" else MOST_CALLS)


def kill_again_and_again(folder: Path, *, kills: int, requests: int, seed: int) -> str:
    """Returns what was found, in figures."""
    archive, port, pacs_port = folder / "archive", free_port(), free_port()
    write_archive(archive, *ACCESSIONS, count=INSTANCES)
    site = make_site(folder, {"ABPACS": (HOST, pacs_port)}, port=port, pacs_keys={"max_moves": WORKERS}, jobs={"workers": WORKERS})
    chance = random.Random(seed)  # noqa: S311 - replayable, not secret
    wanted = {f"t{number:03}": chance.sample(ACCESSIONS, chance.choice([1, 1, 2])) for number in range(requests)}
    stream, moments, found = Stream(site, wanted), list[tuple[str, float]](), Counter[str]()
    with (
        pacs_process(archive, folder, port=pacs_port, destinations={AE_TITLE: port}, faults='{"pause_s": 0.03}'),
    ):
        with site.daemon():
            pass  # makes the spool
        try:
            for number in range(kills):
                moment = draw_moment(chance)
                moments.append(moment)
                with killed(site, *moment) as daemon:
                    # Ever as many as there are left for the kills that are left, so that the stream lasts to the end.
                    stream.drop(round((requests - len(stream.dropped)) / (kills - number)))
                found.update(find_places(site) or ["idle"])
                stream.look(daemon)
            stream.drop(requests)
            with site.daemon() as daemon:
                for ticket in wanted:
                    daemon.wait_status(ticket, "done", deadline_s=120)
                stream.look(daemon)
                check_all(site, stream, archive, daemon)
        except BaseException as error:
            error.add_note(f"seed {seed}, moments {moments}")
            raise
    return f"{kills} kills (seed {seed}), {requests} requests: 0 lost, 0 twice, 0 wrong; found at the kills: {dict(found)}"


def check_all(site: Site, stream: Stream, archive: Path, daemon: Daemon) -> None:
    claimed = Counter(event["ticket"] for event in site.events("job_claimed"))
    published = Counter(event["ticket"] for event in site.events("job_published"))
    assert max(claimed.values()) == max(published.values()) == 1, "done twice"
    for ticket, accessions in stream.requests.items():
        status = daemon.status(ticket)
        assert status is not None
        check_disc_of(site, status, archive, accessions)
        result = site.spool / "outbox" / ticket / status["result"]["path"]
        for volume in status["result"]["volumes"]:
            assert hashlib.sha256((result / volume["image"]).read_bytes()).hexdigest() == volume["sha256"]
    assert not find_places(site)
    assert site.jobs("held") == site.jobs("trash") == []
    assert [path.name for path in site.inbox.iterdir()] == []
    assert len(list((site.spool / "outbox").iterdir())) == len(stream.requests)


def test_nothing_is_lost_when_the_daemon_is_killed(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, kills=8, requests=10, seed=4)


@pytest.mark.soak
def test_nothing_is_lost_when_the_daemon_is_killed_two_hundred_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = kill_again_and_again(tmp_path, kills=200, requests=50, seed=200)
    with capsys.disabled():
        print(f"\n{said}")  # noqa: T201
