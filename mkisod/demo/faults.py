"""What the demo PACS does wrong when it is told to. Each field is one fault, all are off by default, and none depends on chance.

Where a field counts sub-operations, 1 is the first of each C-MOVE. `Tally` is the memory that the faults "for a while" need.
"""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import Literal, get_args

from attrs import Factory, define, fields, frozen

Level = Literal["STUDY", "SERIES", "IMAGE"]
LEVELS: frozenset[Level] = frozenset(get_args(Level))
Availability = Literal["ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE"]


@frozen
class FindFaults:
    """Faults of what is shown: what C-FIND answers, and what there is to move."""

    find_status: int = 0  # answer every C-FIND with this DIMSE status and nothing else
    refused_levels: frozenset[Level] = frozenset()  # answer a C-FIND at these levels with A900H
    listing_limit: int | None = None  # no more matches than this, then FE00H
    silent_levels: frozenset[Level] = frozenset()  # never answer a C-FIND at these levels
    prefix_match: bool = False  # an accession number matches whatever begins with it
    also_accession: str = ""  # every study is said to have this accession number, too: a second value
    other_accession: str = ""  # every study that matches is said to have this accession number instead of its own
    count_error: int = 0  # added to every number of related series and instances
    without_counts: bool = False  # numbers of related series and instances, modalities and availability come empty
    empty_study: bool = False  # studies are listed, but have no series and no instances
    availability: Availability = "ONLINE"  # of every study; moving one that isn't ONLINE is answered with A702H
    availability_answers: int | None = None  # after so many answers a study is ONLINE again; None: never
    late_instances: int = 0  # the last so many instances of each study are not there yet ...
    late_until_moves: int = 1  # ... before it has been moved so many times
    hidden_instances: int = 0  # the last so many instances of each study are in no answer and in no number, but are moved


@frozen
class Faults(FindFaults):
    """A set of faults. Give another one to the PACS at any time; a C-MOVE keeps to the end what it began with, except that a stall ends."""

    move_status: int = 0  # end every C-MOVE with this DIMSE status ...
    move_status_after: int = 0  # ... after so many sub-operations
    drop_instance: int | None = None  # the Nth instance is not sent, and is counted as completed
    fail_instance: int | None = None  # the Nth instance is not sent, and is counted and named as failed
    ends_at_uids: frozenset[str] = frozenset()  # at the first of these the C-MOVE ends with C000H, and counts nothing
    never_sent_uids: frozenset[str] = frozenset()  # these SOP instances are never sent, and are counted as completed
    send_nothing: bool = False  # nothing is sent, and everything is counted as completed
    send_twice: bool = False  # every instance is sent a second time
    after_final: bool = False  # the final response, with every sub-operation completed, comes before the first instance
    no_pending: bool = False  # no pending responses
    without_counters: bool = False  # no response says how many sub-operations there were
    whole_study: bool = False  # a C-MOVE of a series or of instances moves the whole study
    refuse_lists: bool = False  # a C-MOVE with a list of UIDs is answered with A801H
    omit_move_originator: bool = False
    coerce_study_uid: bool = False  # the objects carry another Study Instance UID (`coerced_uid`) than the listing
    foreign_study_uid: str = ""  # after the first sub-operation this study is sent in between, and not counted
    ignore_accession: bool = False  # a C-MOVE by accession number moves the whole archive
    stall_after: int | None = None  # after so many sub-operations nothing more happens until the faults are changed
    pause_s: float = 0.0  # between sub-operations
    abort_after: int | None = None  # A-ABORT towards the mover after so many sub-operations
    abort_store_after: int | None = None  # A-ABORT towards the destination after so many sub-operations; the rest fails

    moves: int | None = None  # the faults of this class hold for so many moves that match something; None: for good

    def at_move(self, moves_before: int) -> Faults:
        """The faults that are still there after so many moves."""
        if self.moves is None or moves_before < self.moves:
            return self
        return Faults(**{field.name: getattr(self, field.name) for field in fields(FindFaults)})


@define
class Tally:
    """How often each study was answered and moved. Safe to use from several threads."""

    _answers: Counter[str] = Factory(Counter)
    _moves: Counter[str] = Factory(Counter)
    _all_moves: int = 0
    _lock: Lock = Factory(Lock)

    def count_answer(self, study_instance_uid: str) -> int:
        """Count one answer about the study's availability; returns how many there were before it."""
        with self._lock:
            self._answers[study_instance_uid] += 1
            return self._answers[study_instance_uid] - 1

    def answers(self, study_instance_uid: str) -> int:
        """How many answers were given about the study's availability."""
        with self._lock:
            return self._answers[study_instance_uid]

    def count_move(self, study_instance_uids: set[str]) -> int:
        """Count one C-MOVE of these studies; returns how many moves of anything there were before it."""
        with self._lock:
            self._moves.update(study_instance_uids)
            self._all_moves += 1
            return self._all_moves - 1

    @property
    def all_moves(self) -> int:
        """How many moves of anything were begun."""
        return self._all_moves

    def moves(self, study_instance_uid: str) -> int:
        """How many moves of the study were begun."""
        with self._lock:
            return self._moves[study_instance_uid]


def coerced_uid(uid: str) -> str:
    """The UID that `coerce_study_uid` puts in the place of `uid`: its last digit plus one, so that no length changes."""
    return uid[:-1] + str((int(uid[-1]) + 1) % 10)
