"""The table of what may happen to a job: it leaves nobody stuck, and its order of effects loses nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mkisod.job.lifecycle import TRANSITIONS, Effect, Event, ImpossibleTransition, Transition, draw_diagram, find_transition
from mkisod.job.status import State

MOVES = {effect for effect in Effect if effect.name.startswith("MOVE_TO_")}
# Where a state is a place of its own. A job that is in hand changes its state where it is; one that is finished well has no place.
PLACE_OF = {State.QUEUED: Effect.MOVE_TO_QUEUED, State.DEFERRED: Effect.MOVE_TO_DEFERRED, State.FAILED: Effect.MOVE_TO_HELD}
ROWS = [pytest.param(state, event, t, id=f"{state or 'drop'}-{event}") for (state, event), t in TRANSITIONS.items()]


def test_every_state_that_can_be_reached_has_a_way_to_an_end() -> None:
    reached = {transition.next_state for transition in TRANSITIONS.values()}
    sources = {state for state, _ in TRANSITIONS}
    assert sources - {None} <= reached, "no row for a state that nothing leads to"
    ends = {state for state in reached if state.finished}
    while more := {s for (s, _), t in TRANSITIONS.items() if s is not None and t.next_state in ends} - ends:
        ends |= more
    assert reached <= ends


def test_every_event_happens_to_something() -> None:
    assert {event for _, event in TRANSITIONS} == set(Event)


@pytest.mark.parametrize("state", [state for state in State if not state.finished and (state, Event.TAKEN) not in TRANSITIONS])
def test_what_a_dead_daemon_had_in_hand_is_taken_up_again(state: State) -> None:
    if any(transition.next_state is state for transition in TRANSITIONS.values()):
        assert find_transition(state, Event.RECOVERED).next_state is State.QUEUED


@pytest.mark.parametrize(("state", "event", "transition"), ROWS)
def test_a_crash_between_record_and_rename_is_recovered_from(state: State | None, event: Event, transition: Transition) -> None:
    """In `active/` then stands a job whose record has the next state already; only drops that are still there are claimed again."""
    effects = transition.effects
    in_hand = state not in (None, State.QUEUED, State.DEFERRED, State.FAILED, State.CANCELLED)
    if in_hand and Effect.WRITE_RECORD in effects:
        assert (transition.next_state, Event.RECOVERED) in TRANSITIONS or Effect.REMOVE_JOB in effects, event


@pytest.mark.parametrize(("state", "event", "transition"), ROWS)
def test_the_record_goes_before_the_rename(state: State | None, event: Event, transition: Transition) -> None:
    effects = transition.effects
    assert len(set(effects)) == len(effects), (state, event)
    leaving = [effect for effect in effects if effect in MOVES - {Effect.MOVE_TO_ACTIVE}]
    assert len(leaving) <= 1, (state, event)
    for move in leaving:
        assert PLACE_OF[transition.next_state] is move
        assert effects.index(Effect.WRITE_RECORD) < effects.index(move)


@pytest.mark.parametrize(("state", "event", "transition"), ROWS)
def test_what_waits_is_taken_in_hand_first_by_one_rename(state: State | None, event: Event, transition: Transition) -> None:
    """A worker, the inbox's thread, another daemon and the operator may want one job at once: who renames it has it."""
    if state in (State.QUEUED, State.DEFERRED, State.FAILED) and event is not Event.RECOVERED:
        assert transition.effects[0] in (Effect.MOVE_TO_ACTIVE, Effect.REMOVE_JOB), (state, event)


@pytest.mark.parametrize(("state", "event", "transition"), ROWS)
def test_a_job_is_given_away_last(state: State | None, event: Event, transition: Transition) -> None:
    """Whoever finds a job in `queued/` or `deferred/` may take it, write its status and end it: nobody else may touch it from then on."""
    for move in (Effect.MOVE_TO_QUEUED, Effect.MOVE_TO_DEFERRED):
        assert move not in transition.effects or transition.effects[-1] is move, (state, event)


@pytest.mark.parametrize(("state", "event", "transition"), ROWS)
def test_nothing_is_removed_before_the_client_is_told(state: State | None, event: Event, transition: Transition) -> None:
    effects = transition.effects
    for removal in (Effect.REMOVE_SUPERSEDED, Effect.REMOVE_JOB):
        if removal in effects and Effect.WRITE_STATUS in effects:
            assert effects.index(Effect.WRITE_STATUS) < effects.index(removal), (state, event)
    if transition.next_state is not state:
        assert Effect.WRITE_STATUS in effects, (state, event)


def test_the_journey_of_a_request() -> None:
    state: State | None = None
    for event in (Event.CLAIMED, Event.TAKEN, Event.RETRIEVED, Event.ASSEMBLED, Event.PUBLISHED):
        state = find_transition(state, event).next_state
    assert state is State.DONE


@pytest.mark.parametrize(
    ("state", "event"),
    [(State.DONE, Event.TAKEN), (State.QUEUED, Event.PUBLISHED), (None, Event.TAKEN), (State.RETRIEVING, Event.CLAIMED)],
)
def test_what_cannot_happen_is_a_defect(state: State | None, event: Event) -> None:
    with pytest.raises(ImpossibleTransition, match=event):
        find_transition(state, event)


def test_the_picture_in_the_documentation_is_drawn_from_the_table() -> None:
    text = (Path(__file__).parents[3] / "docs" / "architecture.md").read_text(encoding="utf-8")
    (drawn,) = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    assert drawn == draw_diagram()
