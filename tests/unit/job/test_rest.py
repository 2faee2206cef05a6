"""What is left to move of a list that fails, against archives that are functions: which UIDs they send of those that they are asked for."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from mkisod.job.moves import Move
from mkisod.job.rest import Rest

UIDS = [f"1.{number}" for number in range(40)]
Send = Callable[[tuple[str, ...]], set[str]]


def move_all(uids: list[str], send: Send) -> tuple[set[str], list[tuple[str, ...]]]:
    """What is missing at the end, and what was asked for. A move fails where it does not bring all that it was asked for."""
    missing, asked = set(uids), []
    rest = Rest([Move("1", "1.1", tuple(uids))], in_parts=True)
    while (move := rest.take()) is not None:
        sent = send(move.sop_instance_uids)
        missing -= sent
        asked.append(move.sop_instance_uids)
        assert len(asked) <= 16 * len(uids) + 16, "it ends"
        rest.note(move, failed=not sent.issuperset(move.sop_instance_uids), has_sent=bool(sent), missing=missing)
    return missing, asked


@given(st.lists(st.sampled_from(UIDS), min_size=1, unique=True), st.sets(st.sampled_from(UIDS), max_size=3))
def test_what_ends_every_list_costs_itself_alone(uids: list[str], bad: set[str]) -> None:
    def send(asked: tuple[str, ...]) -> set[str]:
        return set() if bad & set(asked) else set(asked)

    missing, _ = move_all(uids, send)
    assert missing == bad & set(uids)


@given(st.lists(st.sampled_from(UIDS), min_size=2, unique=True))
def test_an_archive_that_takes_no_lists_is_asked_one_by_one(uids: list[str]) -> None:
    missing, asked = move_all(uids, lambda asked: set(asked) if len(asked) == 1 else set())
    assert missing == set()
    assert sum(len(one) > 1 for one in asked) <= len(uids).bit_length()
    assert sum(len(one) == 1 for one in asked) == len(uids)


@given(st.lists(st.sampled_from(UIDS), min_size=1, unique=True), st.sampled_from(UIDS))
def test_what_is_sent_again_and_again_brings_nothing(uids: list[str], always: str) -> None:
    _, asked = move_all(uids, lambda _: {always})
    assert len(asked) <= 20


def test_a_little_each_time_is_progress() -> None:
    missing, asked = move_all(UIDS, lambda asked: set(asked[:1]))
    assert (missing, len(asked)) == (set(), len(UIDS))
