"""What has to hold of the rules of a job's life whatever happens in it, tried on made-up histories."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mkisod.errors import ADVICE, Code, Problem
from mkisod.job.crashes import MOST_CRASHES_IN_COMPANY, MOST_LONE_CRASHES, Crashes, begin_attempt, end_attempt, note_death
from mkisod.job.lifecycle import TRANSITIONS, Effect, Event, ImpossibleTransition, find_transition
from mkisod.job.retry import History, RetryRules, note_failure, plan_retry
from mkisod.job.status import State

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
# A job ends here by itself; where it failed, the operator, the client or `held_days` ends it.
_GONE = (State.DONE, State.PARTIAL, State.CANCELLED)


# --- The lifecycle -----------------------------------------------------------------------------------------------------------------


@given(st.sampled_from([None, *State]), st.sampled_from(list(Event)))
def test_every_event_has_one_answer_in_every_state(state: State | None, event: Event) -> None:
    try:
        transition = find_transition(state, event)
    except ImpossibleTransition:
        assert (state, event) not in TRANSITIONS
    else:
        assert transition.effects, "something happens, and nothing of it is kept"


def list_possible(state: State | None) -> list[Event]:
    return [event for event in Event if (state, event) in TRANSITIONS]


@given(st.data())
def test_wherever_a_job_gets_there_is_a_way_out(data: st.DataObject) -> None:
    """Any events in any order: what cannot happen is refused and changes nothing; what is left is never a dead end."""
    state: State | None = None
    for event in data.draw(st.lists(st.sampled_from(list(Event)), max_size=40)):
        before = state
        try:
            transition = find_transition(state, event)
        except ImpossibleTransition:
            assert state is before
            continue
        state = transition.next_state
        if Effect.REMOVE_JOB in transition.effects:
            assert state.finished
            return
    steps = 0
    while state not in _GONE:
        # The straight way: never back to where it has to wait, and out of `failed` by the operator's hand.
        ahead = [Event.CLAIMED, Event.TAKEN, Event.RETRIEVED, Event.ASSEMBLED, Event.PUBLISHED, Event.FORWARDED, Event.DUE, Event.RELEASED]
        event = next(event for event in ahead if event in list_possible(state))
        state = find_transition(state, event).next_state
        steps += 1
        assert steps < len(State)


# --- Retries -----------------------------------------------------------------------------------------------------------------------

_TRANSIENT = [Code.PACS_UNREACHABLE, Code.ASSOCIATION_REJECTED, Code.TIMEOUT, Code.DISK_FULL, Code.MOVE_FAILED, Code.INCOMPLETE]
_TRANSIENT += [Code.STUDY_UNAVAILABLE]  # near line
_delays = st.integers(1, 36000).map(lambda tenths: tenths / 10)
_hours = st.integers(0, 2880).map(lambda minutes: minutes / 60)
_rules = st.builds(
    RetryRules,
    retry_first_s=_delays,
    retry_max_s=_delays,
    not_found_retry_s=st.lists(_delays, max_size=5).map(tuple),
    give_up_after_h=_hours,
    incomplete_give_up_h=_hours,
)


def make_problem(code: Code) -> Problem:
    return Problem(code, "It failed.", ADVICE[code], transient=code in _TRANSIENT)


@settings(max_examples=200)
@given(_rules, st.lists(st.sampled_from([*_TRANSIENT, Code.ACCESSION_NOT_FOUND]), min_size=1, max_size=8), st.integers(0, 2**32))
def test_retries_end(rules: RetryRules, codes: list[Code], seed: int) -> None:
    """Whatever an archive answers, over and over: the job is given up in the end, and never later than the rules say."""
    chance = random.Random(seed)  # noqa: S311 - replayable
    now, history, attempts = BEGIN, History(begun=BEGIN), 0
    # The fastest that the rules allow, with the jitter; each failure that is not found besides.
    shortest_s = 0.75 * min(rules.retry_first_s, rules.retry_max_s)
    most = rules.give_up_after_h * 3600 / shortest_s + len(rules.not_found_retry_s) + 2
    if most > 5000:
        return
    while True:
        problem = make_problem(codes[attempts % len(codes)])
        history = note_failure(history, problem, now)
        retry_at = plan_retry(history, problem, rules, now, chance.random())
        if retry_at is None:
            return
        assert retry_at > now
        assert (retry_at - now).total_seconds() <= max(1.25 * rules.retry_max_s, *rules.not_found_retry_s, 0)
        now, attempts = retry_at, attempts + 1
        assert attempts <= most


@given(_rules, st.floats(0, 1), st.floats(0, 1e6))
def test_what_is_permanent_is_not_tried_again(rules: RetryRules, chance: float, age_s: float) -> None:
    now = BEGIN + timedelta(seconds=age_s)
    for code in set(Code) - set(_TRANSIENT) - {Code.ACCESSION_NOT_FOUND}:
        assert plan_retry(note_failure(History(BEGIN), make_problem(code), now), make_problem(code), rules, now, chance) is None


@given(_rules, st.integers(1, 12), st.floats(0, 1))
def test_the_waits_grow_up_to_the_longest(rules: RetryRules, failures: int, chance: float) -> None:
    def wait_s(count: int) -> float | None:
        at = plan_retry(History(BEGIN, failures=count), make_problem(Code.TIMEOUT), rules, BEGIN, chance)
        return None if at is None else (at - BEGIN).total_seconds()

    first, second = wait_s(failures), wait_s(failures + 1)
    assert (first is None) == (second is None) == (rules.give_up_after_h == 0)
    if first is not None and second is not None:
        assert first <= second + 1e-5


def test_the_end_of_the_patience_with_a_study_that_is_near_line_is_not_slept_through() -> None:
    rules, problem = RetryRules(nearline_timeout_s=100), make_problem(Code.STUDY_UNAVAILABLE)
    now, history, waits = BEGIN, History(BEGIN), []
    for _ in range(4):
        history = note_failure(history, problem, now)
        retry_at = plan_retry(history, problem, rules, now, 0.5)
        assert retry_at is not None
        waits.append((retry_at - now).total_seconds())
        now = retry_at
    assert waits == [30, 60, 10, 240]
    # Neither another failure in between nor the sight of the study on line makes it begin anew.
    assert note_failure(history, make_problem(Code.TIMEOUT), now).near_line_since == BEGIN


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_the_jitter_is_a_quarter(chance: float) -> None:
    at = plan_retry(History(BEGIN, failures=1), make_problem(Code.TIMEOUT), RetryRules(), BEGIN, chance)
    assert at is not None
    assert (at - BEGIN).total_seconds() == pytest.approx(30 * (0.75 + 0.5 * chance))


# --- Deaths ------------------------------------------------------------------------------------------------------------------------


@given(
    innocent=st.integers(1, 4),
    poisonous=st.integers(0, 2),
    workers=st.integers(1, 4),
    seed=st.integers(0, 2**32),
    mercy=st.integers(0, 3),
)
def test_the_innocent_go_free_and_the_poisonous_are_held(innocent: int, poisonous: int, workers: int, seed: int, mercy: int) -> None:
    """A daemon that dies whenever a poisonous job runs, but for the first `mercy` times, and that starts again.

    Jobs are taken in any order, each by a worker as the daemon would: what has to run alone waits until nothing else runs.
    """
    chance = random.Random(seed)  # noqa: S311 - replayable
    deadly = {f"poison-{index}": mercy for index in range(poisonous)}
    waiting = {**{f"innocent-{index}": Crashes() for index in range(innocent)}, **dict.fromkeys(deadly, Crashes())}
    held, done, deaths = set[str](), set[str](), 0
    while waiting:
        running: list[str] = []
        for name in sorted(waiting, key=lambda _: chance.random()):
            crashes = waiting[name]
            if crashes.is_poisonous:
                held.add(name)
                del waiting[name]
                continue
            if len(running) == workers or (crashes.must_run_alone and running):
                continue
            waiting[name] = begin_attempt(crashes, 0)
            running.append(name)
            if crashes.must_run_alone:
                break
        poisons = [name for name in running if name in deadly]
        if any(deadly[name] == 0 for name in poisons):
            deaths += 1
            for name in running:
                waiting[name] = note_death(waiting[name], 0, 0)
            assert deaths <= len(deadly) * (MOST_CRASHES_IN_COMPANY + MOST_LONE_CRASHES), "it never ends"
            continue
        for name in running:
            waiting[name] = end_attempt(waiting[name])
            if name in deadly:
                deadly[name] -= 1
            else:
                done.add(name)
                del waiting[name]
    assert held == set(deadly)
    assert len(done) == innocent


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 2)), max_size=60))
def test_a_job_that_gets_on_is_never_held(history: list[tuple[bool, int, int]]) -> None:
    """A death after a new object, or in a phase never reached before, is no mark against the job; and each count is of its own kind."""
    crashes, objects = Crashes(), 0
    counted = Counter[str]()
    for dies, new_objects, phase in history:
        if crashes.is_poisonous:
            break
        alone, furthest = crashes.must_run_alone, crashes.furthest_phase
        crashes = begin_attempt(crashes, objects)
        objects += new_objects
        if not dies:
            crashes = end_attempt(crashes)
            continue
        crashes = note_death(crashes, objects, phase)
        if new_objects or phase > furthest:
            counted.clear()
        else:
            counted["alone" if alone else "company"] += 1
        assert (crashes.in_company, crashes.while_alone) == (counted["company"], counted["alone"])
    assert crashes.is_poisonous == (counted["alone"] >= MOST_LONE_CRASHES)
