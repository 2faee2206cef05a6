"""The pages: valid, plain, and safe with hostile text."""

from __future__ import annotations

import html
from pathlib import Path

import pytest
from attrs import evolve
from pydicom import uid

from mkisod.media.convert import Conversion
from mkisod.media.header import read_header
from mkisod.media.hierarchy import build_hierarchy
from mkisod.media.pages import PageFacts, render_index, render_readme
from mkisod.media.records import describe_instance
from tests.media.discs import ORDER
from tests.media.objects import make_object, write_object

HOSTILE = '<script src="http://example.org">&\x07'


@pytest.fixture
def facts(tmp_path: Path) -> PageFacts:
    ds = make_object()
    ds.SeriesDescription = ds.StudyDescription = HOSTILE
    ds.PatientName = "Müller^Jürgen<i>"
    hierarchy = build_hierarchy([[describe_instance(read_header(write_object(ds, tmp_path / "object")))]])
    return PageFacts(
        file_set_id="TEST_2OF3",
        created=ORDER.created,
        institution="Klinik für Radiologie",
        contact="+49 30 1",
        disclaimer="Nur für Frau & Herrn",
        creator="mkisod 1.0",
        missing=("1.2.3",),
        volume_names=("TEST_1OF3", "TEST_2OF3", "TEST_3OF3"),
        extras=("VIEWER.EXE",),
        hierarchy=hierarchy,
        profile="STD-GEN-CD",
        conversions=(Conversion("1.2", uid.JPEGBaseline8Bit, uid.ExplicitVRLittleEndian, was_lossy=True),),
    )


def test_index_says_what_is_on_the_disc(facts: PageFacts) -> None:
    text = html.unescape(render_index(facts).decode())
    for expected in (
        "Klinik für Radiologie",
        "+49 30 1",
        "mkisod 1.0",
        "2 of 3; the others are TEST_1OF3, TEST_3OF3",
        "Müller, Jürgen<i>",
        "born 1960-01-02, Patient ID P1",
        "accession number A1",
        "1.2.3",
        "profile STD-GEN-CD",
        "1 had been compressed with loss",
        "VIEWER.EXE",
        "Nur für Frau & Herrn",
        'href="README.TXT"',
    ):
        assert expected in text


def test_index_holds_no_markup_of_an_object_and_nothing_from_outside(facts: PageFacts) -> None:
    page = render_index(facts).decode()
    assert "<script" not in page
    assert "<i>" not in page
    assert "\x07" not in page
    assert "&lt;script src=&quot;http://example.org&quot;&gt;&amp;" in page
    assert 'src="' not in page
    assert page.count("href=") == 2


def test_readme_is_ascii_with_crlf(facts: PageFacts) -> None:
    page = render_readme(facts)
    assert page.isascii()
    assert page.count(b"\n") == page.count(b"\r\n")
    assert b"Klinik fur Radiologie" in page
    assert b"Muller, Jurgen" in page
    assert b"not complete" in page
    assert b"\x07" not in page


@pytest.mark.parametrize(
    ("missing", "unnamed", "said"),
    [
        (("1.2.3", "1.2.4"), 0, "not complete. 2 objects could not be retrieved:"),
        ((), 3, "not complete. 3 objects could not be retrieved."),
        (("1.2.3",), 2, "not complete. 3 objects could not be retrieved; 1 of them are named here:"),
        (("1.2.3",), None, "not complete. At least 1 object could not be retrieved:"),
        ((), None, "not known whether this disc is complete"),
        (tuple(f"1.2.{n}" for n in range(150)), 0, "150 objects could not be retrieved; the first 100 of them are named here:"),
    ],
)
def test_what_is_missing_is_said_by_name_and_by_number(facts: PageFacts, missing: tuple[str, ...], unnamed: int | None, said: str) -> None:
    facts = evolve(facts, missing=missing, missing_unnamed=unnamed)
    assert said in render_readme(facts).decode()
    assert said in render_index(facts).decode()


def test_a_complete_single_volume_says_nothing_of_others(facts: PageFacts) -> None:
    page = render_readme(evolve(facts, missing=(), volume_names=("TEST_2OF3",)))
    assert b"Volume" not in page
    assert b"not complete" not in page


def test_a_patient_id_that_stands_in_for_none_is_not_shown(tmp_path: Path, facts: PageFacts) -> None:
    ds = make_object()
    del ds.PatientID
    hierarchy = build_hierarchy([[describe_instance(read_header(write_object(ds, tmp_path / "object")))]])
    assert "Patient ID" not in render_index(evolve(facts, hierarchy=hierarchy)).decode()
