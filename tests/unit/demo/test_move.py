"""What a C-MOVE decides before anything is sent: the plan of its deliveries, and how they are spread over associations."""

from __future__ import annotations

from pathlib import Path

import pytest

from mkisod.demo.faults import Faults, Tally, coerced_uid
from mkisod.demo.index import Archive, Instance, Series, Study
from mkisod.demo.move import plan_deliveries, select_instances, split_deliveries
from mkisod.demo.query import Refused


def instance(number: int, class_uid: str = "1.1", syntax_uid: str = "1.9") -> Instance:
    return Instance(f"1.2.{number}", class_uid, syntax_uid, "1.2", b"%d" % number, Path("unused"), 0, 0)


def archive(instances: list[Instance]) -> Archive:
    series = Series({"SeriesNumber": b"1", "Modality": b"CT"}, {one.sop_instance_uid: one for one in instances})
    return Archive({"1.2": Study("1.2", {"AccessionNumber": b"A1 "}, {"1.2.0": series})})


def test_without_faults_each_instance_is_sent_once() -> None:
    instances = [instance(number) for number in range(5)]
    planned = plan_deliveries(archive(instances), instances, Faults())
    assert [(delivery.instance, delivery.outcome, delivery.counted) for delivery in planned] == [(one, "send", True) for one in instances]


def test_contexts_are_one_for_each_pair_and_at_most_128_for_each_association() -> None:
    instances = [instance(number, f"1.1.{number % 200}", f"1.9.{number % 2}") for number in range(1000)]
    planned = plan_deliveries(archive(instances), instances, Faults())
    batches = split_deliveries(planned)
    assert [len(contexts) for contexts, _ in batches] == [128, 72]
    for contexts, batch in batches:
        assert all(context_id % 2 and 1 <= context_id <= 255 for context_id in contexts)
        assert {(one.instance.sop_class_uid, one.instance.transfer_syntax_uid) for one in batch} == set(contexts.values())
    sent = [delivery.instance.sop_instance_uid for _, batch in batches for delivery in batch]
    assert sorted(sent) == sorted(one.sop_instance_uid for one in instances)


def test_nothing_to_send_needs_no_association() -> None:
    assert split_deliveries([]) == []


@pytest.mark.parametrize("accession", ["A1", "A*"])
def test_an_accession_selects_by_matching(accession: str) -> None:
    held = archive([instance(1)])
    level, instances = select_instances(held, {"QueryRetrieveLevel": "STUDY", "AccessionNumber": accession}, Faults(), accession_moves=True)
    assert (level, len(instances)) == ("STUDY", 1)


def test_an_accession_is_refused_where_the_archive_does_not_take_it() -> None:
    with pytest.raises(Refused) as refused:
        select_instances(archive([]), {"QueryRetrieveLevel": "STUDY", "AccessionNumber": "A1"}, Faults(), accession_moves=False)
    assert refused.value.dimse_status == 0xA900


def test_faults_of_c_move_end_after_their_number_of_moves() -> None:
    faults = Faults(drop_instance=1, count_error=2, moves=1)
    assert faults.at_move(0) is faults
    assert faults.at_move(1) == Faults(count_error=2)
    assert Faults(drop_instance=1).at_move(99).drop_instance == 1


def test_the_tally_counts_each_study_by_itself() -> None:
    tally = Tally()
    assert [tally.count_answer("a"), tally.count_answer("a"), tally.count_answer("b")] == [0, 1, 0]
    assert (tally.answers("a"), tally.answers("c")) == (2, 0)
    assert [tally.count_move({"a"}), tally.count_move({"a", "b"})] == [0, 1]
    assert (tally.moves("a"), tally.moves("b")) == (2, 1)


@pytest.mark.parametrize(("uid", "coerced"), [("1.2.3", "1.2.4"), ("1.2.9", "1.2.0"), ("1.2.19", "1.2.10")])
def test_a_coerced_uid_is_another_one_of_the_same_length(uid: str, coerced: str) -> None:
    assert coerced_uid(uid) == coerced
