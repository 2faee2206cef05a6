"""How it is known that everything came: by instances, by counts, by the counters of the C-MOVE; and what is never taken for complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import WrittenSeries, write_series
from tests.daemon import Status
from tests.integration.journey.site import AE_TITLE, NOT_DONE, Site, run_command, running_site
from tests.oracles import read_objects
from tests.processes import HOST, free_port, wait_for

FIRST, SECOND = 6, 3  # instances of the two series of ACC1
ALL = FIRST + SECOND
SHORT = {"connect_timeout_s": 2, "response_timeout_s": 5, "idle_timeout_s": 2, "first_arrival_s": 0.5, "grace_s": 0.2, "further_moves": 2}


@dataclass(frozen=True)
class Asked:
    site: Site
    pacs: DemoPacs
    folder: Path
    first: WrittenSeries
    second: WrittenSeries

    @contextmanager
    def told(self, faults: Faults) -> Iterator[None]:
        self.pacs.faults = faults
        try:
            yield
        finally:
            self.pacs.faults = Faults()

    @property
    def uids(self) -> set[str]:
        return {*self.first.sop_instance_uids, *self.second.sop_instance_uids}

    def on_disc(self, status: Status) -> set[str]:
        (volume,) = status["result"]["volumes"]
        return set(read_objects(self.site.result(status) / volume["directory"]))


@contextmanager
def asked_site(folder: Path, pacs_keys: Mapping[str, object], workers: int = 2) -> Iterator[Asked]:
    first = write_series(folder / "archive" / "1", accession="ACC1", count=FIRST, rows=8, columns=8)
    second = write_series(folder / "archive" / "2", accession="ACC1", count=SECOND, rows=8, columns=8, modality="MR", series_number=2)
    write_series(folder / "archive" / "3", accession="ACC10", count=2, rows=8, columns=8, seed=7)
    port = free_port()
    with (
        DemoPacs(folder / "archive", destinations={AE_TITLE: (HOST, port)}) as pacs,
        running_site(folder, {"ABPACS": pacs.address}, port=port, workers=workers, pacs_keys=SHORT | dict(pacs_keys)) as site,
    ):
        yield Asked(site, pacs, folder / "archive", first, second)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with asked_site(tmp_path_factory.mktemp("asked"), {}) as running:
        yield running


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with asked_site(tmp_path_factory.mktemp("counted"), {"query": '"counts"'}) as running:
        yield running


def the_study(status: Status) -> Status:
    ((study,),) = (accession["studies"] for accession in status["accessions"])
    found: Status = study
    return found


def doubts(status: Status) -> list[str]:
    return [text for text in status["result"]["warnings"] if text.startswith("Whether study")]


COMPLETE = {
    # name: what the archive does, and the evidence that is left
    "lists_all": (Faults(), "instances"),
    "lists_all_and_counts_nothing": (Faults(without_counts=True), "instances"),
    "counts_less_than_it_lists": (Faults(count_error=-1), "instances"),
    "a_limit_that_cuts_one_series": (Faults(listing_limit=5), "counts"),
    "a_limit_that_cuts_the_series": (Faults(listing_limit=1), "counts"),
    "lists_no_instances": (Faults(refused_levels=frozenset({"IMAGE"})), "counts"),
    "lists_no_series": (Faults(refused_levels=frozenset({"SERIES", "IMAGE"})), "counts"),
    "lists_no_instances_and_counts_nothing": (Faults(refused_levels=frozenset({"IMAGE"}), without_counts=True), "responses"),
    "lists_no_series_and_counts_nothing": (Faults(refused_levels=frozenset({"SERIES"}), without_counts=True), "responses"),
    "cuts_the_list_and_counts_nothing": (Faults(listing_limit=5, without_counts=True), "responses"),
    "moves_more_than_it_lists": (Faults(hidden_instances=2), "responses"),
    "says_nothing_at_all": (Faults(refused_levels=frozenset({"IMAGE"}), without_counts=True, without_counters=True), "responses"),
    "counts_only_when_it_moves_later": (Faults(refused_levels=frozenset({"IMAGE"}), without_counts=True, after_final=True), "responses"),
}


@pytest.mark.parametrize("name", COMPLETE)
def test_complete_by_the_evidence_that_there_is(asked: Asked, name: str) -> None:
    fault, evidence = COMPLETE[name]
    with asked.told(fault):
        status = asked.site.request(f"complete-{name}", "ACC1")
    assert asked.on_disc(status) == asked.uids
    study = the_study(status)
    assert (study["evidence"], study["instances_expected"], study["instances_received"]) == (evidence, ALL, ALL)
    assert bool(doubts(status)) is (evidence != "instances"), "what is less certain than asked for is said"


INCOMPLETE = {
    # name: what the archive does, the evidence, how many are missing by its word, whether they can be named
    "lists_all": (Faults(), "instances", 2, True),
    "lists_no_instances": (Faults(refused_levels=frozenset({"IMAGE"})), "counts", 2, False),
    "lists_no_series_and_counts_nothing": (Faults(refused_levels=frozenset({"SERIES"}), without_counts=True), "responses", 2, False),
    "counts_more_than_it_has": (Faults(count_error=1), "counts", 4, True),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_what_is_missing_is_named_or_counted_and_the_disc_says_so(asked: Asked, name: str) -> None:
    fault, evidence, missing, named = INCOMPLETE[name]
    lost = {asked.first.sop_instance_uids[1], asked.second.sop_instance_uids[0]}
    told = {field: getattr(fault, field) for field in ("refused_levels", "without_counts", "count_error")}
    with asked.told(Faults(**told, never_sent_uids=frozenset(lost))):
        refused = asked.site.request(f"missing-{name}", "ACC1", states=NOT_DONE)
        status = asked.site.request(f"partial-{name}", "@allow partial", "ACC1", states="partial")
    assert (refused["error"]["code"], refused["error"]["transient"], refused["result"]) == ("incomplete", True, None)
    for study in (the_study(refused), the_study(status)):
        assert (study["evidence"], study["instances_received"]) == (evidence, ALL - 2)
        assert study["instances_expected"] - study["instances_received"] == missing
        assert set(study["missing"]) == (lost if named else set())
    assert asked.on_disc(status) == asked.uids - lost
    (volume,) = status["result"]["volumes"]
    tree = asked.site.result(status) / volume["directory"]
    for page in ("README.TXT", "INDEX.HTM"):
        text = (tree / page).read_text(encoding="utf-8")
        assert f"This disc is not complete. {missing} objects could not be retrieved" in text
        assert all((uid in text) is named for uid in lost)


def test_a_failed_instance_is_named_by_the_archive_although_nothing_was_listed(asked: Asked) -> None:
    lost = asked.first.sop_instance_uids[1]
    with asked.told(Faults(refused_levels=frozenset({"SERIES"}), fail_instance=2)):
        status = asked.site.request("named-by-move", "ACC1", states=NOT_DONE)
    assert the_study(status)["missing"] == [lost]


def test_a_study_of_nothing_is_not_found(asked: Asked) -> None:
    with asked.told(Faults(empty_study=True)):
        status = asked.site.request("empty", "ACC1", states=NOT_DONE)
        uncounted = Faults(empty_study=True, without_counts=True, refused_levels=frozenset({"SERIES"}))
        asked.pacs.faults = uncounted
        by_responses = asked.site.request("empty-by-responses", "ACC1", states=NOT_DONE)
    assert (status["error"]["code"], by_responses["error"]["code"]) == ("accession_not_found", "accession_not_found")
    assert status["accessions"][0]["error"]["code"] == "accession_not_found"


@pytest.mark.parametrize(
    ("name", "fault", "code"),
    [
        ("prefix", Faults(prefix_match=True), None),
        ("several_values", Faults(also_accession="ACC9"), None),
        ("only_others", Faults(other_accession="ACC9"), "accession_mismatch"),
    ],
)
def test_an_answer_counts_when_its_accession_number_does(asked: Asked, name: str, fault: Faults, code: str | None) -> None:
    with asked.told(fault):
        status = asked.site.request(f"match-{name}", "ACC1", states=["failed"] if code else "done")
    if code:
        assert status["error"]["code"] == code
        assert "1 others" in status["error"]["message"]
    else:
        assert asked.on_disc(status) == asked.uids, "ACC10 begins with ACC1, and is another one"


def test_by_one_of_several_accession_numbers_of_a_study(asked: Asked) -> None:
    with asked.told(Faults(also_accession="ACC9")):
        status = asked.site.request("second-value", "@allow several-patients", "ACC9")
    assert {study["evidence"] for study in status["accessions"][0]["studies"]} == {"instances"}
    assert status["progress"]["instances_received"] == ALL + 2, "the archive gives every study this number"


def test_a_coerced_study_instance_uid_is_refused(asked: Asked) -> None:
    with asked.told(Faults(coerce_study_uid=True)):
        status = asked.site.request("coerced", "ACC1", states="failed")
    assert status["error"]["code"] == "nonconformant"
    assert status["progress"]["instances_received"] == 0


def test_instances_that_come_late_are_picked_up(asked: Asked) -> None:
    """Not there when the archive was asked, but after the move: only the difference is listed and moved again."""
    before, asked_before = len(asked.pacs.moves), len(asked.pacs.queries)
    with asked.told(Faults(late_instances=4, late_until_moves=asked.pacs._state.tally.moves(asked.first.study_instance_uid) + 1)):
        status = asked.site.request("late", "ACC1")
    assert asked.on_disc(status) == asked.uids
    assert the_study(status)["evidence"] == "instances"
    first, *further = asked.pacs.moves[before:]
    assert len(first.sent_uids) == ALL - 4
    assert sorted(uid for move in further for uid in move.sent_uids) == sorted(asked.uids - set(first.sent_uids))
    levels = [query.keys["QueryRetrieveLevel"] for query in asked.pacs.queries[asked_before:]]
    # The listing may come just before the first move is over, or just behind it: then what came late is seen, and moved, at once.
    assert levels.count("STUDY") >= 2, "asked, and looked again"


def test_nothing_is_listed_again_where_nothing_has_come_late(asked: Asked) -> None:
    before = len(asked.pacs.queries)
    asked.site.request("not-late", "ACC1")
    assert [query.keys["QueryRetrieveLevel"] for query in asked.pacs.queries[before:]] == ["STUDY", "SERIES", "IMAGE", "IMAGE", "STUDY"]


def test_a_study_that_comes_late_is_picked_up(asked: Asked) -> None:
    """While the first one is being moved, another one of the same accession number is archived."""
    with asked.told(Faults(stall_after=2)):
        asked.site.daemon.drop("late-study", "@allow several-patients\nACC10\n@end\n")
        wait_for(lambda: (now := asked.site.daemon.status("late-study")) and now["progress"]["instances_received"] == 2, 30, "a stall")
        late = write_series(asked.folder / "late", accession="ACC10", count=2, rows=8, columns=8, seed=8, study="another")
        asked.pacs.refresh()
    status = asked.site.daemon.wait_status("late-study", "done")
    assert set(late.sop_instance_uids) <= {
        uid for volume in status["result"]["volumes"] for uid in read_objects(asked.site.result(status) / volume["directory"])
    }
    assert len(status["accessions"][0]["studies"]) == 2


def test_counts_alone_where_the_configuration_says_so(counted: Asked) -> None:
    before = len(counted.pacs.queries)
    status = counted.site.request("counts", "ACC1")
    assert counted.on_disc(status) == counted.uids
    assert (the_study(status)["evidence"], doubts(status)) == ("counts", [])
    assert {query.keys["QueryRetrieveLevel"] for query in counted.pacs.queries[before:]} == {"STUDY", "SERIES"}
    with counted.told(Faults(without_counts=True)):
        status = counted.site.request("no-counts", "ACC1")
    assert the_study(status)["evidence"] == "responses"
    assert ["responses" in text for text in doubts(status)] == [True]


def test_by_counts_the_series_that_lacks_something_is_moved_again(counted: Asked) -> None:
    before = len(counted.pacs.moves)
    with counted.told(Faults(drop_instance=ALL, moves=1 + len([m for m in counted.pacs.moves if m.level]))):
        status = counted.site.request("counts-again", "ACC1")
    assert counted.on_disc(status) == counted.uids
    _, again = counted.pacs.moves[before:]
    assert (again.level, again.keys["SeriesInstanceUID"]) == ("SERIES", counted.second.series_instance_uid)


def test_a_study_that_is_near_line_is_waited_for_by_nobody(tmp_path: Path) -> None:
    """One worker, one move at a time: while the job waits, another request is served, and nothing is moved of the first."""
    with asked_site(tmp_path, {"nearline_timeout_s": 600}, workers=1) as asked:
        with asked.told(Faults(availability="NEARLINE")):
            status = asked.site.request("near-line", "ACC1", states="deferred")
            error = status["error"]
            assert (error["code"], error["transient"]) == ("study_unavailable", True)
            assert "near line" in error["message"]
            assert status["retry_at"]
            assert asked.pacs.moves == []
        asked.site.request("on-line", "ACC10")
        assert run_command("retry", "--config", asked.site.config_path, "near-line").exit_code == 0
        assert asked.on_disc(asked.site.daemon.wait_status("near-line", "done")) == asked.uids


def test_the_wait_for_what_is_near_line_ends_in_time_and_then_it_is_moved_all_the_same(tmp_path: Path) -> None:
    with asked_site(tmp_path, {"nearline_timeout_s": 2}) as asked:
        asked.pacs.faults = Faults(availability="NEARLINE")
        asked.site.request("given-up", "ACC1", states="deferred")
        error = asked.site.daemon.wait_status("given-up", "failed")["error"]
        assert (error["code"], error["transient"]) == ("study_unavailable", False)
        assert [(move.level, move.sent_uids) for move in asked.pacs.moves][:1] == [("STUDY", ())]


def test_what_is_near_line_is_moved_at_once_where_nothing_is_to_be_waited_for(tmp_path: Path) -> None:
    """For archives that bring back what is moved, and nothing else. Here it has been said once to be near line by then."""
    with asked_site(tmp_path, {"nearline_timeout_s": 0}) as asked:
        asked.pacs.faults = Faults(availability="NEARLINE", availability_answers=1)
        assert asked.on_disc(asked.site.request("at-once", "ACC1")) == asked.uids


@pytest.mark.parametrize("where", ["OFFLINE", "UNAVAILABLE"])
def test_what_is_not_there_at_all_fails_at_once(asked: Asked, where: str) -> None:
    before = len(asked.pacs.moves)
    with asked.told(Faults(availability=where)):  # type: ignore[arg-type]
        status = asked.site.request(f"unavailable-{where}", "ACC1", states="failed")
    assert (status["error"]["code"], status["error"]["transient"]) == ("study_unavailable", False)
    assert len(asked.pacs.moves) == before
