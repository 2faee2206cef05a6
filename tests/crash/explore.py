"""Ends lives at their steps and lets them go on, until every one has been judged."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from attrs import define, evolve, field, frozen

from mkisod.errors import Code, MkisodError
from mkisod.job.status import State
from tests.crash.check import Story, Violation, check_end, check_standing, tell
from tests.crash.disk import Content, Power, Step, begin_anew, find_kept, leave, list_powers
from tests.crash.life import Life, Outcome, Scenario, World, begin

ALL = (Content.FULL, Content.EMPTY, Content.TORN, Content.ZEROS, Content.OLD, Content.MIXED)
_LOST = timedelta(minutes=2)


@frozen
class End:
    """Of a life: after how many steps, and how; without `power` it is a kill."""

    taken: int
    power: Power | None = None


@frozen
class Start:
    """What a life starts on. Steps from `lived` on are its own; those before `base` cannot be undone any more."""

    steps: list[Step[World]]
    world: World
    lived: int
    base: int
    earlier: Story = field(factory=Story)
    deaths: tuple[End, ...] = ()


@define
class Exploration:
    """All lives of one scenario. `directory` is scratch.

    `points` counts the deaths, `states` the different ones among what they left, each of which was lived on from.
    """

    scenario: Scenario
    directory: Path
    points: int = 0
    states: int = 0
    lives: int = 0
    discs: list[dict[str, bytes]] = field(factory=list)
    _roots: int = 0
    _seen: set[int] = field(factory=set)

    def begin(self) -> Start:
        steps = begin(self.scenario, self._make_root)
        base = next((index for index, step in enumerate(steps) if step.of_client), len(steps))
        return Start(steps, steps[-1].world, len(steps), base)

    def live(self, start: Start, *, judge: bool = True) -> Life:
        """The rest of a life, and its judgement. Raises `Violation` with the way that led there."""
        root = self._make_root()
        life = Life(self.scenario, root, start.steps, start.world)
        life.discs = self.discs
        self.lives += 1
        try:
            life.run()
        except Exception as error:
            raise Violation(f"{self.scenario.name}: {error!r} after {start.deaths}") from error
        finally:
            shutil.rmtree(root)
        if judge:
            self._judge(life, start)
        return life

    def _judge(self, life: Life, start: Start) -> None:
        try:
            check_end(life, tell(life.steps, start.earlier))
        except Violation as error:
            raise Violation(f"{self.scenario.name}: {error} after {start.deaths}") from error

    def die(self, life: Life, start: Start, death: End) -> Start | None:
        """What a death leaves; None where another one left the same."""
        self.points += 1
        deaths = (*start.deaths, death)
        steps, world = life.steps[: death.taken], life.steps[death.taken - 1].world
        tree = leave(life.steps, death.taken, death.power, seed=len(start.deaths))
        story = tell(steps, start.earlier)
        try:
            check_standing(tree, self.scenario, self.discs)
        except Violation as error:
            raise Violation(f"{self.scenario.name}: {error} at once after {deaths}") from error
        if death.power is None:
            self.states += 1
            return Start(steps, world, len(steps), start.base, start.earlier, deaths)
        key = hash((frozenset(tree.files().items()), world.said, world.repaired, story.signature, len(deaths), start.earlier.signature))
        if key in self._seen:
            return None
        self._seen.add(key)
        self.states += 1
        # A clock that has lost its battery is behind, so that what comes later may seem older.
        world = evolve(world, boot=world.boot + 1, now=world.now - _LOST)
        steps = begin_anew(tree, world)
        return Start(steps, world, len(steps), len(steps), story, deaths)

    def kills(self, life: Life, start: Start) -> Iterator[End]:
        steps = life.steps
        for taken in range(start.lived, len(steps) + 1):
            if taken == len(steps) or not (steps[taken].of_client and steps[taken - 1].of_client):
                yield End(taken)

    def powers(self, life: Life, start: Start, contents: tuple[Content, ...] = ALL) -> Iterator[End]:
        safe = find_kept(life.steps, start.base)
        for kill in self.kills(life, start):
            for power in list_powers(life.steps, safe, kill.taken, contents):
                yield End(kill.taken, power)

    def end_once(self, contents: tuple[Content, ...]) -> None:
        """Every step, by kill and by power."""
        start = self.begin()
        life = self.live(start)
        for death in [*self.kills(life, start), *self.powers(life, start, contents)]:
            self._go_on(life, start, death)

    def end_twice(self, seed: int, *, firsts: int, seconds: int) -> None:
        """Kill and kill, power and kill, kill and power: a sample of the square, the same for one seed."""
        chance = random.Random(seed)  # noqa: S311 - replayable
        start = self.begin()
        life = self.live(start)
        kills, powers = list(self.kills(life, start)), list(self.powers(life, start))
        for index in range(firsts):
            kind = index % 3
            first = chance.choice(powers if kind == 1 else kills)
            after = self.die(life, start, first)
            if after is None:
                continue
            second = self.live(after)
            deaths = list((self.powers if kind == 2 else self.kills)(second, after))
            for death in chance.sample(deaths, min(seconds, len(deaths))):
                self._go_on(second, after, death)

    def fail_once(self) -> None:
        """Every step, once, by an error of the disk: the job fails of it and says so, or the daemon goes down and starts again."""
        start = self.begin()
        for kill in list(self.kills(self.live(start), start))[:-1]:
            self.points += 1
            root = self._make_root()
            life = Life(self.scenario, root, start.steps, start.world)
            life.discs = self.discs
            life.disk.fails_at = kill.taken
            try:
                life.run()
            except (OSError, MkisodError):
                after = Start(life.steps, life.world, len(life.steps), start.base, start.earlier, (kill,))
                life = self.live(after, judge=False)
            finally:
                shutil.rmtree(root)
            status = tell(life.steps, start.earlier).statuses[-1]
            if status.error is not None and status.error.code is Code.INTERNAL:
                # A disc that stands stays, and only what was to come after it has failed.
                stays = evolve(self.scenario.outcome, state=State.PARTIAL, code=Code.INTERNAL)
                outcome = stays if status.state is State.PARTIAL else Outcome(State.FAILED, code=Code.INTERNAL)
                life.scenario = evolve(self.scenario, outcome=outcome)
            self._judge(life, start)

    def kill_twice(self) -> None:
        """Every kill of every life after a kill."""
        start = self.begin()
        life = self.live(start)
        for first in self.kills(life, start):
            after = self.die(life, start, first)
            assert after is not None
            second = self.live(after)
            for death in self.kills(second, after):
                self._go_on(second, after, death)

    def _go_on(self, life: Life, start: Start, death: End) -> None:
        if (after := self.die(life, start, death)) is not None:
            self.live(after)

    def _make_root(self) -> Path:
        self._roots += 1
        return self.directory / str(self._roots)
