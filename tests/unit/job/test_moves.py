"""What is asked for, and what the answers teach."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mkisod.job.manifest import Manifest, ReceivedInstance, SeriesListing, StudyListing
from mkisod.job.moves import MAX_UIDS_IN_MOVE, Move, learn_from_move, list_counted, plan_moves, recall_counted
from mkisod.job.patient import PatientIdentity
from mkisod.job.status import Evidence

JOHN = PatientIdentity("123", "", "Doe^John", "19700101")


def study(uid: str, *series: int, accession: str = "A1", numbered: bool = False) -> StudyListing:
    """Study `1` with series of so many instances: series 1.1, 1.2; instances 1.1.1, 1.1.2 ..."""
    listings = (
        SeriesListing(f"{uid}.{s}", "CT", tuple(f"{uid}.{s}.{i}" for i in range(1, n + 1)), n if numbered else None)
        for s, n in enumerate(series, 1)
    )
    return StudyListing(accession, uid, JOHN, ("CT",), tuple(listings))


def by_number(uid: str, number: int | None, *series: int | None, evidence: Evidence = Evidence.COUNTS) -> StudyListing:
    """A study of which no UIDs are known, with series of so many instances."""
    listings = tuple(SeriesListing(f"{uid}.{s}", "CT", (), n) for s, n in enumerate(series, 1))
    return StudyListing("A1", uid, JOHN, ("CT",), listings, evidence, number)


def receive(*uids: str) -> dict[str, ReceivedInstance]:
    return {uid: ReceivedInstance(uid, uid.split(".")[0], uid.rpartition(".")[0], JOHN, 1) for uid in uids}


def asked_by(move: Move, manifest: Manifest) -> list[str]:
    """What an archive sends in answer to a move (PS3.4 C.4.2.2.1)."""
    return list(
        dict.fromkeys(
            uid
            for listing in manifest.studies
            for series in listing.series
            for uid in series.sop_instance_uids
            if listing.study_instance_uid == move.study_instance_uid
            and move.series_instance_uid in (None, series.series_instance_uid)
            and (not move.sop_instance_uids or uid in move.sop_instance_uids)
        )
    )


@st.composite
def retrievals(draw: st.DrawFn) -> tuple[Manifest, dict[str, ReceivedInstance]]:
    """A manifest, and what of it is there already."""
    studies = [study(str(n), *draw(st.lists(st.integers(0, 4), max_size=3))) for n in range(1, draw(st.integers(1, 3)) + 1)]
    if draw(st.booleans()):  # one study under two accession numbers
        studies.append(study("1", *(len(s.sop_instance_uids) for s in studies[0].series), accession="A2"))
    manifest = Manifest(tuple(studies))
    every = sorted(manifest.find_shortage({}).named)
    return manifest, receive(*draw(st.lists(st.sampled_from(every)))) if every else {}


@given(retrievals(), st.integers(0, 4))
def test_a_round_asks_once_for_all_that_is_missing_and_never_for_what_is_there(
    retrieval: tuple[Manifest, dict[str, ReceivedInstance]], number: int
) -> None:
    manifest, received = retrieval
    asked = [uid for move in plan_moves(manifest, received, number) for uid in asked_by(move, manifest)]
    assert len(asked) == len(set(asked))
    assert set(asked) == set(manifest.find_shortage(received).named)


@given(retrievals())
def test_later_rounds_ask_by_smaller_parts(retrieval: tuple[Manifest, dict[str, ReceivedInstance]]) -> None:
    manifest, received = retrieval
    assert all(move.series_instance_uid for move in plan_moves(manifest, received, 1))
    assert all(move.sop_instance_uids for move in plan_moves(manifest, received, 2))


def test_a_first_round_asks_for_the_study_a_second_for_the_series_a_third_for_the_instances() -> None:
    manifest = Manifest((study("1", 2, 1),))
    assert plan_moves(manifest, {}, 0) == [Move("1")]
    assert plan_moves(manifest, receive("1.1.1"), 0) == [Move("1", "1.1", ("1.1.2",)), Move("1", "1.2")]
    assert plan_moves(manifest, receive("1.1.1", "1.1.2"), 1) == [Move("1", "1.2")]
    assert plan_moves(manifest, receive("1.2.1"), 2) == [Move("1", "1.1", ("1.1.1", "1.1.2"))]
    assert plan_moves(manifest, receive(*manifest.find_shortage({}).named), 0) == []


def test_a_list_of_uids_is_cut() -> None:
    moves = plan_moves(Manifest((study("1", 2 * MAX_UIDS_IN_MOVE + 1),)), {}, 2)
    assert [len(move.sop_instance_uids) for move in moves] == [MAX_UIDS_IN_MOVE, MAX_UIDS_IN_MOVE, 1]




def test_a_list_is_halved_until_one_is_left() -> None:
    first, second = Move("1", "1.1", ("a", "b", "c")).halve()
    assert first.sop_instance_uids + second.sop_instance_uids == ("a", "b", "c")
    assert first.series_instance_uid == second.series_instance_uid == "1.1"
    assert Move("1", "1.1", ("a",)).halve() == ()
    assert Move("1", "1.1").halve() == ()


def test_of_a_selection_never_the_study_is_asked_for() -> None:
    manifest = Manifest((evolve(study("1", 2, 1), is_selection=True),))
    assert plan_moves(manifest, {}, 0) == [Move("1", "1.1"), Move("1", "1.2")]
    unknown = Manifest((evolve(by_number("1", 9, None), is_selection=True),))
    for number in range(4):
        assert plan_moves(unknown, {}, number) == [Move("1", "1.1")]


def test_without_uids_the_smallest_part_that_lacks_something_is_asked_for() -> None:
    manifest = Manifest((by_number("1", 4, 2, 2),))
    assert plan_moves(manifest, {}, 0) == [Move("1")]
    for number in range(4):
        assert plan_moves(manifest, receive("1.1.1", "1.1.2", "1.2.1"), number) == [Move("1", "1.2")]
    assert plan_moves(manifest, receive("1.1.1", "1.1.2", "1.2.1", "1.2.2"), 0) == []
    assert plan_moves(Manifest((by_number("1", 5, 2, 2),)), receive("1.1.1", "1.1.2", "1.2.1", "1.2.2"), 1) == [Move("1")]
    assert plan_moves(Manifest((by_number("1", 2),)), receive("1.1.1"), 2) == [Move("1")]


def test_the_uids_of_a_listing_that_was_cut_short_are_asked_for_where_they_are_all_that_lacks() -> None:
    cut_short = evolve(study("1", 2, 2, numbered=True), evidence=Evidence.COUNTS, number_of_instances=4)
    received = receive("1.1.1", "1.2.1", "1.2.2")
    assert plan_moves(Manifest((cut_short,)), received, 2) == [Move("1", "1.1", ("1.1.2",))]
    longer = evolve(cut_short, series=(evolve(cut_short.series[0], number_of_instances=3), cut_short.series[1]), number_of_instances=5)
    assert plan_moves(Manifest((longer,)), received, 2) == [Move("1", "1.1")]


def test_where_nobody_says_how_many_there_are_the_study_is_asked_for_until_a_move_says_it() -> None:
    manifest = Manifest((by_number("1", None, evidence=Evidence.RESPONSES),))
    received = receive("1.1.1", "1.1.2")
    assert plan_moves(manifest, received, 0) == plan_moves(manifest, received, 2) == [Move("1")]
    learned = learn_from_move(manifest, Move("1"), 2, ())
    assert plan_moves(learned, received, 1) == []
    assert not learned.find_shortage(received)
    assert learn_from_move(manifest, Move("1"), None, ()) == manifest


def test_accession_numbers_are_asked_for_one_by_one_until_what_they_count_has_come() -> None:
    manifest = Manifest(by_accession={"A1": None, "A2": None})
    assert plan_moves(manifest, {}, 0) == [Move(accession="A1"), Move(accession="A2")]
    learned = learn_from_move(learn_from_move(manifest, Move(accession="A1"), 1, ()), Move(accession="A2"), 2, ())
    received = {uid: evolve(i, accession="A1") for uid, i in receive("1.1.1").items()}
    assert plan_moves(learned, received, 1) == [Move(accession="A2")]
    assert learn_from_move(learned, Move(accession="A2"), 1, ()) == learned, "what was counted once does not become less"


def test_a_move_that_counts_more_than_is_listed_ends_the_belief_in_the_listing() -> None:
    manifest = Manifest((study("1", 2, 1), study("2", 1)))
    assert learn_from_move(manifest, Move("1"), 3, ()) == manifest
    learned = learn_from_move(manifest, Move("1"), 5, ())
    first, second = learned.studies
    assert (first.evidence, first.number_of_instances, second.evidence) == (Evidence.RESPONSES, 5, Evidence.INSTANCES)
    assert "5 instances" in first.doubt
    shortage = learned.find_shortage(receive("1.1.1", "1.1.2", "1.2.1", "2.1.1"))
    assert (shortage.count, shortage.is_known) == (2, True)
    assert not learned.find_shortage(receive("1.1.1", "1.1.2", "1.2.1", "1.2.2", "1.2.3", "2.1.1"))


def test_so_does_one_of_a_series() -> None:
    selection = Manifest((evolve(study("1", 2, 1), is_selection=True),))
    learned = learn_from_move(selection, Move("1", "1.2"), 3, ())
    assert learned.studies[0].evidence is Evidence.RESPONSES
    shortage = learned.find_shortage(receive("1.1.1", "1.1.2", "1.2.1"))
    assert (shortage.count, shortage.is_known) == (2, True)
    assert learn_from_move(selection, Move("1", "1.2"), 1, ()).studies[0].evidence is Evidence.INSTANCES
    assert learn_from_move(selection, Move("1", "1.2", ("1.2.1",)), 9, ()) == selection, "a list is about what was asked for"


def test_what_a_move_names_as_failed_is_missing_by_name() -> None:
    manifest = Manifest((by_number("1", 3, 3),))
    received = receive("1.1.1", "1.1.2")
    whole = learn_from_move(manifest, Move("1"), 3, ("1.1.3",))
    assert whole.find_shortage(received).named == ("1.1.3",)
    assert plan_moves(whole, received, 2) == [Move("1", "1.1")], "in which series it is nobody says"
    by_series = learn_from_move(manifest, Move("1", "1.1"), 3, ("1.1.3",))
    assert plan_moves(by_series, received, 2) == [Move("1", "1.1", ("1.1.3",))]
    listed = Manifest((study("1", 3),))
    assert learn_from_move(listed, Move("1"), 3, ("1.1.3",)) == listed
    more = learn_from_move(listed, Move("1"), 4, ("1.1.4",))
    assert (more.studies[0].evidence, more.find_shortage({}).count) == (Evidence.INSTANCES, 4)


def test_what_only_counters_told_is_known_to_the_next_attempt() -> None:
    """Else it would take the short listing for all there is, since it has nothing left to move."""
    manifest = Manifest((study("1", 2), study("2", 1), by_number("3", None, evidence=Evidence.RESPONSES)))
    told = learn_from_move(learn_from_move(manifest, Move("1"), 4, ()), Move("3"), 7, ())
    assert list_counted(told) == {"1": 4, "3": 7}
    again = recall_counted(manifest, list_counted(told))
    assert again.find_shortage(receive("1.1.1", "1.1.2", "2.1.1")) == told.find_shortage(receive("1.1.1", "1.1.2", "2.1.1"))
    longer = Manifest((study("1", 4), study("2", 1)))
    assert recall_counted(longer, list_counted(told)) == longer


def test_counters_above_the_counts_are_believed() -> None:
    manifest = Manifest((by_number("1", 3),))
    learned = learn_from_move(manifest, Move("1"), 4, ())
    assert (learned.studies[0].evidence, learned.studies[0].number_of_instances) == (Evidence.RESPONSES, 4)
    assert learn_from_move(manifest, Move("1"), 2, ()) == manifest
    assert learn_from_move(Manifest((by_number("1", None, 2, 1),)), Move("1"), 3, ()).studies[0].evidence is Evidence.COUNTS
