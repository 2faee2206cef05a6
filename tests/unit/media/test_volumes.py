"""Cutting at studies, then series, then instances; and names and UIDs of volumes."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mkisod.errors import Code, Permanent
from mkisod.media.consistency import Content
from mkisod.media.header import read_header
from mkisod.media.records import Instance, describe_instance
from mkisod.media.volumes import cut_volumes, find_capacity, make_volume_uid, name_volume
from tests.media.objects import make_object, write_object

MIB = 1 << 20


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    return describe_instance(read_header(write_object(make_object(), tmp_path_factory.mktemp("object") / "object")))


def make_instances(template: Instance, sizes: list[tuple[int, int, int]]) -> tuple[Instance, ...]:
    """Each is a study, a series of it, and a size in bytes."""
    return tuple(
        evolve(
            template,
            path=str(number),
            size_bytes=size,
            study_instance_uid=f"1.{study}",
            series_instance_uid=f"1.{study}.{series}",
            sop_instance_uid=f"1.{study}.{series}.{number:04d}",
        )
        for number, (study, series, size) in enumerate(sizes)
    )


def cut(instances: tuple[Instance, ...], medium: str) -> list[list[str]]:
    return [
        sorted({i.series_instance_uid for patient in content.patients for i in patient})
        for content in cut_volumes([Content((instances,))], medium)
    ]


def test_what_fits_is_not_cut(template: Instance) -> None:
    assert cut(make_instances(template, [(1, 1, MIB), (2, 1, MIB)]), "4") == [["1.1.1", "1.2.1"]]


def test_studies_stay_whole_where_they_fit(template: Instance) -> None:
    instances = make_instances(template, [(1, 1, MIB), (1, 2, MIB), (2, 1, MIB), (2, 2, MIB)])
    assert cut(instances, "3") == [["1.1.1", "1.1.2"], ["1.2.1", "1.2.2"]]


def test_a_large_study_is_cut_at_its_series(template: Instance) -> None:
    assert cut(make_instances(template, [(1, s, MIB) for s in (1, 2, 3)]), "3") == [["1.1.1", "1.1.2"], ["1.1.3"]]


def test_a_large_series_is_cut_at_its_instances(template: Instance) -> None:
    contents = cut_volumes([Content((make_instances(template, [(1, 1, MIB)] * 5),))], "3")
    assert [len(content.patients[0]) for content in contents] == [2, 2, 1]


def test_an_object_larger_than_the_medium_is_named(template: Instance) -> None:
    with pytest.raises(Permanent) as raised:
        cut(make_instances(template, [(1, 1, 3 * MIB)]), "2")
    assert raised.value.code == Code.OBJECT_TOO_LARGE
    assert "1.1.1.0000" in raised.value.message


@pytest.mark.parametrize(("medium", "fits"), [("cd", False), ("9000", False), ("usb", False), ("dvd", True), ("dvd-dl", True)])
def test_a_file_of_4_gib_goes_on_a_dvd_alone(template: Instance, medium: str, fits: bool) -> None:
    instances = make_instances(template, [(1, 1, 1 << 32)])
    if fits:
        assert cut(instances, medium) == [["1.1.1"]]
        return
    with pytest.raises(Permanent) as raised:
        cut(instances, medium)
    assert raised.value.code == Code.OBJECT_TOO_LARGE


def test_usb_has_no_limit(template: Instance) -> None:
    assert len(cut(make_instances(template, [(1, 1, (1 << 32) - 1)] * 9), "usb")) == 1
    assert find_capacity("cd") == 359_844 * 2048
    assert find_capacity("100") == 100 * MIB


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, MIB)), min_size=1, max_size=40))
def test_nothing_is_lost_and_nothing_is_too_large(template: Instance, sizes: list[tuple[int, int, int]]) -> None:
    instances = make_instances(template, sizes)
    contents = cut_volumes([Content((instances,))], "2")
    placed = [instance for content in contents for patient in content.patients for instance in patient]
    assert sorted(i.sop_instance_uid for i in placed) == sorted(i.sop_instance_uid for i in instances)
    for content in contents:
        assert content.patients
        assert sum(i.size_bytes for patient in content.patients for i in patient) < 2 * MIB


def test_volumes_have_names_of_16_characters_at_most() -> None:
    assert name_volume("D20260101_ABCD", 1, 1) == "D20260101_ABCD"
    assert name_volume("D20260101_ABCD", 2, 3) == "D20260101_A_2OF3"
    assert name_volume("D20260101_ABCD", 10, 12) == "D20260101_10OF12"
    assert name_volume("A", 2, 3) == "A_2OF3"


def test_volumes_have_uids_of_their_own() -> None:
    uids = [make_volume_uid("2.25.1", number) for number in (1, 2, 3)]
    assert uids[0] == "2.25.1"
    assert len(set(uids)) == len(uids)
    assert all(len(uid) <= 64 and uid.startswith("2.25.") for uid in uids)
