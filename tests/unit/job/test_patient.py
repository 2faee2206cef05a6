"""The rule of one patient, as a table: when two answers speak of the same person."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkisod.job.patient import PatientIdentity as P
from mkisod.job.patient import confirms_belief, contradicts_belief, fold_name, group_patients, same_patient


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Doe^John", ("doe", "john")),
        (" DOE ^  John^^Dr ", ("doe", "john")),
        ("Müller^Zoë", ("muller", "zoe")),
        ("Mu\N{COMBINING DIAERESIS}ller^Zoe", ("muller", "zoe")),
        ("Ørsted^Łukasz", ("orsted", "lukasz")),
        ("Straße^Ö", ("strasse", "o")),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ("yamada", "tarou")),
        ("=山田^太郎", ("山田", "太郎")),
        ("^^^^=山田^太郎", ("山田", "太郎")),
        ("Van  der Berg", ("van der berg", "")),
        ("", ("", "")),
        ("^", ("", "")),
        ("==", ("", "")),
    ],
)
def test_a_name_is_folded_to_family_and_given_name(name: str, folded: tuple[str, str]) -> None:
    assert fold_name(name) == folded


JOHN = P("123", "", "Doe^John", "19700101")
SAME = [
    ("a name that the archive could not spell", P("1", name="????^?????"), P("1", name="שרון^דבורה")),
    ("... but for a letter", P("1", name="M?ller^J?rgen"), P("1", name="Müller^Jürgen")),
    ("equal", JOHN, JOHN),
    ("ID alone", P("123"), P("123")),
    ("padding", JOHN, P("123 ", " ", "DOE^JOHN", "19700101")),
    ("one issuer missing", P("123", "A"), P("123")),
    ("married", P("123", name="Doe^Anna"), P("123", name="Smith^Anna")),
    ("another given name", P("123", name="Doe^Anna"), P("123", name="Doe^Anni")),
    ("one birth date missing", JOHN, P("123", name="Doe^John")),
    ("family name alone", P("123", name="Doe"), P("123", name="Smith^Anna")),
    ("no ID, name and birth date", P("", "", "Doe^John", "19700101"), P("", "", "doe^john", "19700101")),
    ("one ID a placeholder", JOHN, P("UNKNOWN", "", "Doe^John", "19700101")),
]
DIFFERENT = [
    ("another ID", JOHN, P("124", "", "Doe^John", "19700101")),
    ("ID in another case", P("a1"), P("A1")),
    ("another issuer", P("123", "A"), P("123", "B")),
    ("another birth date under one ID", JOHN, P("123", "", "Doe^John", "19700102")),
    ("another name under one ID", JOHN, P("123", "", "Smith^Anna", "19700101")),
    ("nothing known of either", P(), P()),
    ("a placeholder ID twice", P("UNKNOWN"), P("UNKNOWN")),
    ("a placeholder ID and a name twice", P("unknown ", name="Doe^John"), P("unknown ", name="Doe^John")),
    ("one ID missing and no birth date", P("123", name="Doe^John"), P("", name="Doe^John")),
    ("no ID and no name", P(birth_date="19700101"), P(birth_date="19700101")),
    ("zeros", P("000", name="Doe^John"), P("000", name="Doe^John")),
]


@pytest.mark.parametrize(("case", "a", "b"), SAME, ids=[case for case, *_ in SAME])
def test_these_are_one_person(case: str, a: P, b: P) -> None:
    assert same_patient(a, b), case
    assert same_patient(b, a), case
    assert len(group_patients([a, b])) == 1, case


@pytest.mark.parametrize(("case", "a", "b"), DIFFERENT, ids=[case for case, *_ in DIFFERENT])
def test_these_are_two(case: str, a: P, b: P) -> None:
    assert not same_patient(a, b), case
    assert not same_patient(b, a), case
    assert len(group_patients([a, b])) == 2, case


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (P(), P(), True),
        (P("UNKNOWN"), P("UNKNOWN", name="Doe^John"), True),
        (P(name="Doe^John"), P(name="Doe^John", birth_date="19700101"), True),
        (P(name="Doe^John"), P(name="Smith^Anna"), False),
        (P("123"), P(""), False),
        (P("123"), P("124"), False),
    ],
)
def test_within_one_study_equal_ids_are_enough_even_if_they_say_nothing(a: P, b: P, same: bool) -> None:
    assert same_patient(a, b, same_study=True) is same


def test_whoever_agrees_with_two_does_not_make_them_one() -> None:
    no_issuer, here, there = P("123"), P("123", "A"), P("123", "B")
    for order in ([no_issuer, here, there], [here, no_issuer, there], [here, there, no_issuer]):
        assert len(group_patients(order)) == 2


values = st.builds(
    P,
    patient_id=st.sampled_from(["", "123", "124", "UNKNOWN"]),
    issuer=st.sampled_from(["", "A", "B"]),
    name=st.sampled_from(["", "Doe^John", "DOE^JOHN", "Smith^Anna", "Doe^Anna"]),
    birth_date=st.sampled_from(["", "19700101", "19700102"]),
)


@given(st.lists(values, max_size=6), st.booleans())
def test_there_is_one_group_exactly_where_every_two_agree(identities: list[P], same_study: bool) -> None:
    groups = group_patients(identities, same_study=same_study)
    agree = all(same_patient(a, b, same_study=same_study) for a, b in combinations(identities, 2))
    assert (len(groups) <= 1) is agree
    assert {identity for group in groups for identity in group} == set(identities)


@given(values, values, st.booleans())
def test_agreement_has_no_direction(a: P, b: P, same_study: bool) -> None:
    assert same_patient(a, b, same_study=same_study) is same_patient(b, a, same_study=same_study)


@pytest.mark.parametrize(
    ("identity", "patient_id", "birth_date", "contradicts", "confirms"),
    [
        (JOHN, None, None, False, True),
        (JOHN, "123", "19700101", False, True),
        (P("123 "), "123", None, False, True),
        (JOHN, "124", None, True, False),
        (JOHN, None, "19700102", True, False),
        (P(), "123", None, False, False),
        (P("123"), "123", "19700101", False, False),
        (P("UNKNOWN"), "123", None, True, False),
    ],
)
def test_what_the_client_believes(identity: P, patient_id: str | None, birth_date: str | None, contradicts: bool, confirms: bool) -> None:
    assert contradicts_belief(identity, patient_id, birth_date) is contradicts
    assert confirms_belief([identity], patient_id, birth_date) is confirms
