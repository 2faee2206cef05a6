"""Nothing is lost, whatever dies: every life of a request is ended at every durable step, once and twice, and goes on to its one end.

Prints how many deaths there were. The long runs are marked `soak`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.crash.check import Violation
from tests.crash.disk import Content, Death, leave
from tests.crash.explore import ALL, Exploration
from tests.crash.guards import GUARDS, Guard
from tests.crash.life import Life, Scenario
from tests.crash.scenarios import SCENARIOS

_MEMORY = Path("/dev/shm")  # a file system in memory, since it is the disk that is played
_SEED = 20261122
_BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
_each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mkisod-crash-", dir=_MEMORY if _MEMORY.is_dir() else None))
    yield path
    shutil.rmtree(path)


def report(exploration: Exploration, capsys: pytest.CaptureFixture[str]) -> None:
    tell(f"{exploration.scenario.name}: {exploration.points} crash points, {exploration.states} different states lived on from", capsys)


def tell(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{line}")


@_each_scenario
def test_a_death_at_any_step_loses_nothing(scenario: Scenario, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exploration = Exploration(scenario, directory)
    exploration.end_once((Content.MIXED,))
    report(exploration, capsys)
    assert exploration.points > 50


@_each_scenario
def test_two_deaths_in_a_row_lose_nothing(scenario: Scenario, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sample of the square of all pairs."""
    exploration = Exploration(scenario, directory)
    exploration.end_twice(_SEED, firsts=6, seconds=4)
    report(exploration, capsys)


@pytest.mark.parametrize("scenario", [scenario for scenario in SCENARIOS if not scenario.words], ids=lambda scenario: scenario.name)
def test_a_step_that_fails_loses_nothing(scenario: Scenario, directory: Path) -> None:
    exploration = Exploration(scenario, directory)
    exploration.fail_once()
    assert exploration.points > 30


@pytest.mark.soak
@_each_scenario
def test_a_death_at_any_step_with_any_content_loses_nothing(
    scenario: Scenario, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exploration = Exploration(scenario, directory)
    exploration.end_once(ALL)
    report(exploration, capsys)


@pytest.mark.soak
@_each_scenario
def test_two_deaths_at_any_two_steps_lose_nothing(scenario: Scenario, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Kill and kill: the whole square. With power cuts in it: a large sample."""
    exploration = Exploration(scenario, directory)
    exploration.kill_twice()
    exploration.end_twice(_SEED, firsts=600, seconds=10)
    report(exploration, capsys)


def test_the_steps_tell_what_a_kill_leaves(directory: Path) -> None:
    """The trees that lives go on from are made of the steps. Here the process really dies, and what stands there is the same."""
    scenario = _BY_NAME["done"]
    exploration = Exploration(scenario, directory)
    start = exploration.begin()
    whole = exploration.live(start)
    for end in exploration.kills(whole, start):
        root = directory / f"killed-{end.taken}"
        life = Life(scenario, root, start.steps, start.world, dies_at=end.taken)
        if end.taken < len(whole.steps):
            with pytest.raises(Death):
                life.run()
        else:
            life.run()
        # What is written without the seam stands there a moment before its steps do.
        life.disk.dies_at = None
        for path in sorted(root.iterdir()):
            life.disk.notice(path)
        paths = [(path, str(path.relative_to(root))) for path in root.rglob("*")]
        found = {name + "/" * path.is_dir(): b"" if path.is_dir() else path.read_bytes() for path, name in paths}
        taken = len(life.steps)
        assert [step.change for step in life.steps] == [step.change for step in whole.steps[:taken]], end
        assert found == leave(whole.steps, taken, None).files(), end
        shutil.rmtree(root)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_without_a_guard_something_is_found(guard: Guard, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exploration = Exploration(_BY_NAME[guard.scenario], directory)
    end = partial(exploration.end_twice, _SEED, firsts=300, seconds=12) if guard.twice else partial(exploration.end_once, (Content.EMPTY,))
    with guard.remove():
        exploration.live(exploration.begin())  # while nothing dies, nobody misses it
        with pytest.raises(Violation) as violation:
            end()
    tell(f"without '{guard.name}', after {exploration.points} crash points: {str(violation.value)[:400]}", capsys)
