"""The daemon's life in one thread: a start on what is there, then rounds and a worker until nothing is left to do.

A `Life` is the real spool, the real worker and the real start-up scan on a `CrashDisk`. What the client and the operator do is a list of
`Word`s, each said once, when what it waits for can be read in a status. Clock and randomness are the world's, which survives a death.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import structlog
from attrs import evolve, field, frozen

from mkisod import forwarding as forwarding_module
from mkisod import worker as worker_module
from mkisod.attempt import Services
from mkisod.config.settings import Config, DestinationSettings, JobSettings, SpoolSettings
from mkisod.configuration import check_request
from mkisod.errors import Code, Permanent
from mkisod.job.status import State
from mkisod.media.disc import Disc, DiscOrder, build_disc
from mkisod.pacs.expectations import Expectations
from mkisod.spool import jobs as jobs_module
from mkisod.spool import operator
from mkisod.spool.layout import Layout, make_directories
from mkisod.spool.operator import Operator
from mkisod.spool.spool import Host, Spool, open_spool
from mkisod.worker import Worker
from tests.crash.archive import Archive, Destination, Retrieving, Sending, build_small_disc
from tests.crash.disk import CrashDisk, Name, Step, Tree, begin_anew

TICKET = "t-1"
DESTINATION = "WORKSTATION"
BEGIN = datetime(2026, 1, 1, 12, tzinfo=UTC)
_TICK = timedelta(seconds=0.04)  # with every look at the clock
_MOST_ROUNDS = 60


@frozen
class World:
    """What survives the daemon: the time, what has been said, which boot it is, how many numbers have been drawn."""

    now: datetime = BEGIN
    said: int = 0
    repaired: bool = False
    boot: int = 1
    delivered: frozenset[str] = frozenset()  # what the destination has taken
    numbers: int = 0


@frozen
class Word:
    """What the client or the operator does once, when `state` can be read: a file in the inbox, or the operator's `verb`."""

    state: State
    suffix: str = ""
    text: str = ""
    verb: str = ""


@frozen
class Outcome:
    """How a request ends. `accessions`: what is on its disc, without what is `missing`; nothing: there is no disc."""

    state: State
    accessions: tuple[str, ...] = ()
    missing: frozenset[str] = frozenset()
    code: Code | None = None


@frozen
class Scenario:
    """A request, and what happens to it. `unsynced`: the client did not sync its drop. `tick`: how fast the clock goes."""

    name: str
    outcome: Outcome
    text: str = "A1\n@end\n"
    words: tuple[Word, ...] = ()
    archive: Archive = field(factory=Archive)
    destination: Destination = field(factory=Destination)
    jobs: JobSettings = field(factory=lambda: JobSettings(workers=1, retry_first_s=30.0, not_found_retry_s=()))
    real_disc: bool = False
    unsynced: bool = False
    dropped: bool = False  # the operator removes what failed
    keeps_result: bool = False  # of an earlier request of the ticket: it goes when there is a new one
    leaves_held: bool = False  # an earlier request of the ticket, which failed
    tick: timedelta = _TICK

    @property
    def drops(self) -> int:
        return 1 + sum(word.suffix == ".req" for word in self.words)


class Restless(AssertionError):
    """There is always something to do: a job goes in circles."""


def silence() -> Any:
    """A logger that says nothing."""
    return structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@contextmanager
def _sync_before(paths: Sequence[Path], sync: Callable[[Path], None]) -> Iterator[None]:
    """One order of those that two threads may take, so that a life is the same each time."""
    for path in paths:
        sync(path)
    yield


class Life:
    """One life of the daemon, from `steps` on. Its disk has the whole story afterwards."""

    def __init__(self, scenario: Scenario, root: Path, steps: list[Step[World]], world: World, *, dies_at: int | None = None) -> None:
        self.scenario = scenario
        self.world = world
        self.discs: list[dict[str, bytes]] = []  # that the media room finished
        self.layout = Layout(root, "main")
        self.disk = CrashDisk(root, steps, lambda: self.world, dies_at=dies_at)

    @property
    def steps(self) -> list[Step[World]]:
        return self.disk.steps

    def run(self) -> None:
        """Until there is rest, or death; after a stop it starts again. Raises `Restless`."""
        while not self._serve():
            pass

    def _serve(self) -> bool:
        """False: it was stopped."""
        self._stopped = False
        spool, forward = SpoolSettings(dir=str(self.disk.root), min_free_mib=0), {DESTINATION: DestinationSettings(host="localhost")}
        config = Config(spool=spool, jobs=self.scenario.jobs, forward=forward)
        host = Host(self.look_at_clock, self._look_at_seconds, self._draw, f"boot-{self.world.boot}", silence())
        self._workers: list[Worker] = []
        self.spool: Spool = open_spool(
            self.layout,
            self.disk,
            config.spool,
            host,
            check_request=partial(check_request, config),
            cancel_active=lambda job: any(worker.cancel(job) for worker in self._workers),
            report_queued=lambda: None,
            is_stopping=lambda: False,
        )
        expectations = Expectations(has_room=self.spool.retention.has_room)
        self._workers.append(Worker(Services(config, self.spool, expectations, host)))
        self.spool.jobs.lock()
        try:
            with self._stand_ins():
                self.spool.recover()
                for _ in range(_MOST_ROUNDS):
                    if not self._go_round():
                        return True
                    if self._stopped:
                        return False
            raise Restless
        finally:
            self.spool.jobs.unlock()

    def look_at_clock(self) -> datetime:
        self.world = evolve(self.world, now=self.world.now + self.scenario.tick)
        return self.world.now

    def _look_at_seconds(self) -> float:
        return (self.look_at_clock() - BEGIN).total_seconds()

    def _draw(self, count: int) -> bytes:
        """Never the same twice, not in another life either."""
        self.world = evolve(self.world, numbers=self.world.numbers + 1)
        return bytes(self.world.numbers // 31**place % 31 for place in range(count))  # 31: the letters of a job id

    @contextlib.contextmanager
    def _stand_ins(self) -> Iterator[None]:
        retrieving = partial(
            Retrieving,
            archive=self.scenario.archive,
            is_repaired=lambda: self.world.repaired,
            now=self.look_at_clock,
            notice=self.disk.notice,
            meanwhile=self._meanwhile,
        )
        sending = partial(
            Sending,
            destination=self.scenario.destination,
            now=self.look_at_clock,
            meanwhile=self._meanwhile,
            deliver=self._deliver,
        )
        with (
            mock.patch.object(worker_module, "Retrieval", retrieving),
            mock.patch.object(forwarding_module, "Sender", sending),
            mock.patch.object(worker_module, "build_disc", self._build_disc),
            mock.patch.object(jobs_module, "sync_meanwhile", _sync_before),
            mock.patch.object(operator, "Disk", return_value=self.disk),
        ):
            yield

    def _build_disc(self, order: DiscOrder, objects: list[Path], directory: Path, **arguments: Any) -> Disc:
        if self.scenario.real_disc:
            disc = build_disc(order, objects, directory, **arguments)
            self.disk.notice(directory)
        else:
            disc = build_small_disc(order, objects, directory, **arguments, notice=self.disk.notice)
        top = f"{directory.relative_to(self.disk.root)}/"
        self.discs.append({path.removeprefix(top): data for path, data in self.disk.tree.files(top).items() if path != top})
        return disc

    def _deliver(self, uid: str) -> None:
        self.world = evolve(self.world, delivered=self.world.delivered | {uid})

    def _meanwhile(self) -> None:
        """What the other thread does while this one retrieves or forwards."""
        if self._say():
            self.spool.rounds.go(set())

    def _go_round(self) -> bool:
        """One round, then all the work there is. False: there is rest, and nothing will come of waiting."""
        before = len(self.steps)
        wait_s = self.spool.rounds.go(set()) or 0.0
        if self._say():
            return True
        while not self._stopped and (job := self.spool.queue.choose()) is not None:
            if self._workers[0].take(job):
                self._workers[0].carry()
        if len(self.steps) > before:
            return True
        if any(self.layout.deferred.iterdir()) or any(self.layout.inbox.glob("*.req")):
            self.world = evolve(self.world, now=self.world.now + timedelta(seconds=wait_s + 1))
            return True
        return False

    def _say(self) -> bool:
        """The next word, if what it waits for is there."""
        if self.world.said >= len(self.scenario.words):
            return False
        word = self.scenario.words[self.world.said]
        status = self.spool.outbox.read_status(TICKET)
        if status is None or status.state is not word.state:
            return False
        if word.verb:
            return self._stop() if word.verb == "stop" else self._operate(word)
        self.world = evolve(self.world, said=self.world.said + 1)
        self.drop(self.layout.inbox / (TICKET + word.suffix), word.text)
        return True

    def _stop(self) -> bool:
        """SIGTERM."""
        self.world = evolve(self.world, said=self.world.said + 1)
        self._stopped = True
        self._workers[0].stop()
        return True

    def _operate(self, word: Word) -> bool:
        self.world = evolve(self.world, repaired=True)
        with contextlib.suppress(Permanent):  # what was said before a death may be done already
            getattr(Operator(self.layout, now=self.look_at_clock), word.verb)(TICKET)
        self.world = evolve(self.world, said=self.world.said + 1)
        return True

    def drop(self, path: Path, text: str) -> None:
        """What a client does: write under another name, sync, rename."""
        temporary = path.with_name(f".{path.name}.tmp")
        with self.disk.client():
            self.disk.write(temporary, text.encode())
            if not self.scenario.unsynced:
                self.disk.sync(temporary)
            self.disk.rename(temporary, path)
            if not self.scenario.unsynced:
                self.disk.sync(path.parent)


def begin(scenario: Scenario, make_root: Callable[[], Path]) -> list[Step[World]]:
    """A spool with the first drop in it."""
    spool = make_root()
    make_directories(Layout(spool, "main"))
    tree, world = Tree(), World()
    for path in sorted(spool.rglob("*")):
        parent = tree.find(str(path.parent.relative_to(spool)))
        tree.apply(Name(parent, path.name, len(tree.directories), is_directory=True))
    life = Life(scenario, make_root(), begin_anew(tree, world), world)
    life.drop(life.layout.drop(TICKET), scenario.text)
    return life.steps
