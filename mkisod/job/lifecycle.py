"""What may happen to a job, and what follows from it: one table.

Pure. Rule 1: everything that affects transitions stands in this file. Rule 2: it knows states and events, not files; what has to be
done to the spool is named as an `Effect`, in the order in which it must be done, and carried out by `spool`.

The order of the effects is what makes a crash between any two of them harmless:
- the record goes before the rename, so that a job found in a directory explains itself;
- a job that waits is taken in hand first, by a rename that only one can do, and given away last: whoever finds it in `queued` or
  `deferred` may take it, write its status and end it, so nobody else touches it or its status from then on;
- in hand, the status goes last, so that the client is never told what could still be undone;
- a drop's first status is written while it is in hand: so a job found elsewhere whose ticket has another job's status is the older one;
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
    RETRIEVED = "retrieved"  # what can come has arrived
    ASSEMBLED = "assembled"  # the file-set is built and checked
    PUBLISHED = "published"  # the result stands in the outbox
    PUBLISHED_PARTIAL = "published_partial"  # it does, and instances are missing
    KEPT = "kept"  # what was received will be wanted when the result stands in the outbox
    PUBLISHED_TO_FORWARD = "published_to_forward"  # the result stands there, and is to be forwarded
    TAKEN_TO_FORWARD = "taken_to_forward"  # a worker begins to send what is published
    FORWARDED = "forwarded"  # every destination has every instance
    FORWARDED_PARTIAL = "forwarded_partial"  # given up for some, or the disc is partial
    DEFERRED = "deferred"  # it failed, and may succeed later
    DUE = "due"  # later is now
    FAILED = "failed"  # it cannot go on
    LEFT_INCOMPLETE = "left_incomplete"  # given up for want of instances; what came is kept
    POSTPONED = "postponed"  # another job has one of its studies in hand
    STOPPED = "stopped"  # the daemon stops; the job is not at fault
    RECOVERED = "recovered"  # found half done at start
    CANCELLED = "cancelled"  # the client or the operator withdrew it
    RELEASED = "released"  # the operator, or the client with .publish, lets it go on
    DROPPED = "dropped"  # the operator removes what failed


class Effect(StrEnum):
    WRITE_RECORD = "write job.json"
    MOVE_TO_QUEUED = "move the job to queued"
    MOVE_TO_ACTIVE = "move the job to active"
    MOVE_TO_DEFERRED = "move the job to deferred"
    MOVE_TO_HELD = "move the job to held"
    REMOVE_DROP = "remove the client's file"
    DISCARD_UNTRUSTED = "discard what an earlier boot received and nobody synced"
    DISCARD_OBJECTS = "discard what was received"
    SYNC_OBJECTS = "sync what was received"
    WRITE_RESULT = "write the status into the result"
    WRITE_STATUS = "write the status"
    REMOVE_SUPERSEDED = "remove an older result of the ticket"
    REMOVE_JOB = "remove the job"


@frozen
class Transition:
    next_state: State
    effects: tuple[Effect, ...]


def _keep(move: Effect) -> tuple[Effect, ...]:
    return (Effect.WRITE_RECORD, move, Effect.WRITE_STATUS)


def _give_away(move: Effect) -> tuple[Effect, ...]:
    return (Effect.WRITE_RECORD, Effect.WRITE_STATUS, move)


_IN_PLACE = (Effect.WRITE_RECORD, Effect.WRITE_STATUS)
# The record goes first: a job whose record says cancelled is removed at the next start, wherever it is.
_REMOVED = (Effect.WRITE_RECORD, Effect.WRITE_STATUS, Effect.REMOVE_JOB)
_PUBLISHED = (Effect.WRITE_STATUS, Effect.REMOVE_SUPERSEDED, Effect.REMOVE_JOB)
# The result goes first: what it says is what a start goes by, and it is over once it says so.
_FORWARDED = (Effect.WRITE_RESULT, Effect.WRITE_STATUS, Effect.REMOVE_JOB)
_TO_QUEUED = _give_away(Effect.MOVE_TO_QUEUED)
_IN_HAND = (State.RETRIEVING, State.ASSEMBLING, State.PUBLISHING)

# None is the state of what is not yet a job. A crash between record and rename leaves a job whose state is already the next one where it
# was: so what leads to `queued` may happen to a job that is `queued` by its record.
TRANSITIONS: dict[tuple[State | None, Event], Transition] = {
    (None, Event.CLAIMED): Transition(
        State.QUEUED, (Effect.WRITE_RECORD, Effect.WRITE_STATUS, Effect.REMOVE_DROP, Effect.MOVE_TO_QUEUED)
    ),
    (None, Event.REFUSED): Transition(State.FAILED, _give_away(Effect.MOVE_TO_HELD)),
    (State.QUEUED, Event.TAKEN): Transition(State.RETRIEVING, (Effect.MOVE_TO_ACTIVE, Effect.DISCARD_UNTRUSTED, *_IN_PLACE)),
    (State.QUEUED, Event.FAILED): Transition(State.FAILED, (Effect.MOVE_TO_ACTIVE, *_keep(Effect.MOVE_TO_HELD))),
    (State.RETRIEVING, Event.RETRIEVED): Transition(State.ASSEMBLING, _IN_PLACE),
    (State.ASSEMBLING, Event.ASSEMBLED): Transition(State.PUBLISHING, _IN_PLACE),
    (State.PUBLISHING, Event.PUBLISHED): Transition(State.DONE, _PUBLISHED),
    (State.PUBLISHING, Event.PUBLISHED_PARTIAL): Transition(State.PARTIAL, _PUBLISHED),
    (State.PUBLISHING, Event.KEPT): Transition(State.PUBLISHING, (Effect.SYNC_OBJECTS, Effect.WRITE_RECORD)),
    (State.PUBLISHING, Event.PUBLISHED_TO_FORWARD): Transition(
        State.QUEUED, (Effect.WRITE_RECORD, Effect.WRITE_STATUS, Effect.REMOVE_SUPERSEDED, Effect.MOVE_TO_QUEUED)
    ),
    (State.QUEUED, Event.TAKEN_TO_FORWARD): Transition(State.FORWARDING, (Effect.MOVE_TO_ACTIVE, *_IN_PLACE)),
    (State.FORWARDING, Event.FORWARDED): Transition(State.DONE, _FORWARDED),
    (State.FORWARDING, Event.FORWARDED_PARTIAL): Transition(State.PARTIAL, _FORWARDED),
    **{
        (state, Event.FORWARDED_PARTIAL): Transition(State.PARTIAL, (Effect.MOVE_TO_ACTIVE, *_FORWARDED))
        for state in (State.QUEUED, State.DEFERRED)
    },
    **{
        (state, Event.DEFERRED): Transition(State.DEFERRED, _give_away(Effect.MOVE_TO_DEFERRED))
        for state in (*_IN_HAND, State.FORWARDING)
    },
    **{
        (state, Event.FAILED): Transition(
            State.FAILED, (Effect.WRITE_RECORD, Effect.MOVE_TO_HELD, Effect.DISCARD_OBJECTS, Effect.WRITE_STATUS)
        )
        for state in _IN_HAND
    },
    (State.RETRIEVING, Event.LEFT_INCOMPLETE): Transition(
        State.FAILED, (Effect.SYNC_OBJECTS, Effect.WRITE_RECORD, Effect.MOVE_TO_HELD, Effect.WRITE_STATUS)
    ),
    (State.RETRIEVING, Event.POSTPONED): Transition(State.QUEUED, _TO_QUEUED),
    **{(state, Event.STOPPED): Transition(State.QUEUED, _TO_QUEUED) for state in (*_IN_HAND, State.FORWARDING)},
    **{
        (state, Event.RECOVERED): Transition(State.QUEUED, _TO_QUEUED)
        for state in (State.QUEUED, State.DEFERRED, State.FAILED, *_IN_HAND, State.FORWARDING)
    },
    **{(state, Event.DUE): Transition(State.QUEUED, (Effect.MOVE_TO_ACTIVE, *_TO_QUEUED)) for state in (State.QUEUED, State.DEFERRED)},
    **{(state, Event.RELEASED): Transition(State.QUEUED, (Effect.MOVE_TO_ACTIVE, *_TO_QUEUED)) for state in (State.QUEUED, State.FAILED)},
    **{
        (state, Event.CANCELLED): Transition(State.CANCELLED, (Effect.MOVE_TO_ACTIVE, *_REMOVED))
        for state in (State.QUEUED, State.DEFERRED, State.CANCELLED, *_IN_HAND)
    },
    (State.FAILED, Event.DROPPED): Transition(State.FAILED, (Effect.REMOVE_JOB,)),
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
