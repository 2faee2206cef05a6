"""What may happen to a job, and what follows from it: one table.

Pure. Rule 1: everything that affects transitions stands in this file. Rule 2: it knows states and events, not files; what has to be
done to the spool is named as an `Effect`, in the order in which it must be done, and carried out by `spool`.

The order of the effects is what makes a crash between any two of them harmless:
- the record goes before the rename, so that a job found in a directory explains itself;
- the status goes last, so that the client is never told what could still be undone;
- a job is removed after its status, so that the start-up scan can say again what the client did not get to read.
"""

from __future__ import annotations

from enum import StrEnum

from attrs import frozen

from mkisod.job.status import State


class Event(StrEnum):
    CLAIMED = "claimed"  # a drop was taken over and its request is valid
    REFUSED = "refused"  # a drop was taken over and its request is not valid
    TAKEN = "taken"  # a worker begins
    RETRIEVED = "retrieved"  # every instance of the manifest has arrived
    ASSEMBLED = "assembled"  # the file-set is built and checked
    PUBLISHED = "published"  # the result stands in the outbox
    FAILED = "failed"  # it cannot go on
    STOPPED = "stopped"  # the daemon stops; the job is not at fault
    RECOVERED = "recovered"  # found half done at start


class Effect(StrEnum):
    WRITE_RECORD = "write job.json"
    MOVE_TO_QUEUED = "move the job to queued"
    MOVE_TO_ACTIVE = "move the job to active"
    MOVE_TO_HELD = "move the job to held"
    REMOVE_DROP = "remove the client's file"
    DISCARD_OBJECTS = "discard what was received"
    WRITE_STATUS = "write the status"
    REMOVE_SUPERSEDED = "remove an older result of the ticket"
    REMOVE_JOB = "remove the job"


@frozen
class Transition:
    next_state: State
    effects: tuple[Effect, ...]


_TO_QUEUED = (Effect.WRITE_RECORD, Effect.MOVE_TO_QUEUED, Effect.WRITE_STATUS)
_TO_HELD = (Effect.WRITE_RECORD, Effect.MOVE_TO_HELD, Effect.DISCARD_OBJECTS, Effect.WRITE_STATUS)
_IN_PLACE = (Effect.WRITE_RECORD, Effect.WRITE_STATUS)
_ACTIVE = (State.RETRIEVING, State.ASSEMBLING, State.PUBLISHING)

# None is the state of what is not yet a job.
TRANSITIONS: dict[tuple[State | None, Event], Transition] = {
    (None, Event.CLAIMED): Transition(
        State.QUEUED, (Effect.WRITE_RECORD, Effect.MOVE_TO_QUEUED, Effect.REMOVE_DROP, Effect.WRITE_STATUS)
    ),
    (None, Event.REFUSED): Transition(State.FAILED, (Effect.WRITE_RECORD, Effect.MOVE_TO_HELD, Effect.WRITE_STATUS)),
    (State.QUEUED, Event.TAKEN): Transition(State.RETRIEVING, (Effect.MOVE_TO_ACTIVE, *_IN_PLACE)),
    (State.RETRIEVING, Event.RETRIEVED): Transition(State.ASSEMBLING, _IN_PLACE),
    (State.ASSEMBLING, Event.ASSEMBLED): Transition(State.PUBLISHING, _IN_PLACE),
    (State.PUBLISHING, Event.PUBLISHED): Transition(State.DONE, (Effect.WRITE_STATUS, Effect.REMOVE_SUPERSEDED, Effect.REMOVE_JOB)),
    **{(state, Event.FAILED): Transition(State.FAILED, _TO_HELD) for state in _ACTIVE},
    **{(state, Event.STOPPED): Transition(State.QUEUED, _TO_QUEUED) for state in _ACTIVE},
    **{(state, Event.RECOVERED): Transition(State.QUEUED, _TO_QUEUED) for state in (State.QUEUED, *_ACTIVE)},
}


class ImpossibleTransition(Exception):
    """A defect: the event cannot happen in that state."""


def find_transition(state: State | None, event: Event) -> Transition:
    """What an event leads to. Raises `ImpossibleTransition`."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ImpossibleTransition(f"{event} cannot happen to a job that is {state or 'not yet there'}") from None


def draw_diagram() -> str:
    """The state diagram in docs/architecture.md, in Mermaid's notation."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), transition in TRANSITIONS.items():
        arrows.setdefault((state or "[*]", transition.next_state), []).append(event)
    ends = sorted({t.next_state for t in TRANSITIONS.values() if t.next_state.finished})
    lines = [f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in arrows.items()]
    return "\n".join(["stateDiagram-v2", *lines, *(f"    {state} --> [*]" for state in ends)]) + "\n"
