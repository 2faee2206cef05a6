"""What is still to be sent, what is said of it, and what a death may leave of the lines that it is known by."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mkisod.job.forwarding import Entry, Outcome, decode_entries, describe_forwarding, encode_entry, plan_sending
from mkisod.job.status import InstanceResult

SENT, FAILED, SETBACK = Outcome.SENT, Outcome.FAILED, Outcome.SETBACK
UIDS = ["1.1", "1.2", "1.3", "1.4"]

entries = st.builds(
    Entry,
    st.sampled_from(["A", "B"]),
    st.sampled_from(UIDS),
    st.sampled_from(Outcome),
    st.none() | st.sampled_from(["0000", "A700", "B000", "C000"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)


def entry(uid: str, outcome: Outcome, status: str | None = "0000", destination: str = "A", reason: str = "") -> Entry:
    return Entry(destination, uid, outcome, status, reason)


@given(st.lists(entries, max_size=8))
def test_lines_and_back(written: list[Entry]) -> None:
    data = b"".join(map(encode_entry, written))
    assert decode_entries(data) == (written, len(data))


@given(st.lists(entries, min_size=1, max_size=5), st.data())
def test_whatever_a_death_leaves_of_the_lines_nothing_is_told_that_was_not_written(written: list[Entry], data: st.DataObject) -> None:
    """The end is cut off, or became zeros: what is told is a beginning of what was written."""
    whole = b"".join(map(encode_entry, written))
    cut = data.draw(st.integers(0, len(whole)))
    for left in (whole[:cut], whole[:cut] + bytes(len(whole) - cut)):
        told, size = decode_entries(left)
        assert told == written[: len(told)]
        assert decode_entries(left[:size]) == (told, size)
        assert size <= cut or left == whole


@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    told, size = decode_entries(data)
    assert len(told) <= data.count(b"\n")
    assert size <= len(data)


def test_what_is_settled_is_not_sent_again_and_setbacks_come_last() -> None:
    told = [entry("1.1", SENT), entry("1.2", FAILED, "C000"), entry("1.3", SETBACK, None)]
    assert plan_sending(UIDS, "A", told) == ["1.4", "1.3"]
    assert plan_sending(UIDS, "B", told) == UIDS
    assert plan_sending(UIDS, "A", [*told, entry("1.4", SETBACK), entry("1.4", SETBACK)]) == ["1.3", "1.4"]
    assert plan_sending(UIDS, "A", [*told, entry("1.3", SENT), entry("1.4", SENT)]) == []


def test_what_is_said_while_it_goes_on_and_when_it_is_over() -> None:
    told = [
        entry("1.1", SENT),
        entry("1.2", SETBACK, "A700", reason="no room"),
        entry("1.2", SENT, "B000"),
        entry("1.3", SETBACK, None, reason="it broke"),
        Entry("B", "1.1", SENT, "0000", converted_from="1.2.3", converted_to="1.2"),
    ]
    one, other = describe_forwarding(UIDS, ["A", "B"], told, is_over=False)
    assert (one.destination, one.sent, one.failed) == ("A", 2, ())
    assert one.warnings == (InstanceResult("1.2", "B000"),)
    assert (other.sent, other.conversions) == (1, ("1.1: from 1.2.3 to 1.2",))
    one, other = describe_forwarding(UIDS, ["A", "B"], told, is_over=True, reason="given up")
    assert one.failed == (InstanceResult("1.3", None, "it broke"), InstanceResult("1.4", None, "given up"))
    assert (other.sent, len(other.failed)) == (1, 3)


@given(st.lists(entries, max_size=12))
def test_in_the_end_every_instance_is_sent_or_failed(told: list[Entry]) -> None:
    for forwarding in describe_forwarding(UIDS, ["A", "B"], told, is_over=True):
        assert forwarding.sent + len(forwarding.failed) == len(UIDS)
