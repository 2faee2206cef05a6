"""From an object to what its records hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import uid
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset

from mkisod.errors import Code, Permanent
from mkisod.media.header import read_header
from mkisod.media.keys import KEYS, TAGS
from mkisod.media.record_types import ROOT_RECORD_TYPES, find_record_type
from mkisod.media.records import Instance, describe_instance
from tests.media.objects import FINDING, make_object, make_object_with_all_keys, write_object


def describe(ds: Dataset, folder: Path) -> Instance:
    return describe_instance(read_header(write_object(ds, folder / "object")))


@pytest.mark.parametrize(
    ("sop_class_uid", "record_type"),
    [
        (uid.CTImageStorage, "IMAGE"),
        (uid.SegmentationStorage, "IMAGE"),
        (uid.RTIonPlanStorage, "RT PLAN"),
        (uid.EncapsulatedPDFStorage, "ENCAP DOC"),
        (uid.KeyObjectSelectionDocumentStorage, "KEY OBJECT DOC"),
        (uid.RTBeamsDeliveryInstructionStorage, "PLAN"),
        (uid.HangingProtocolStorage, "HANGING PROTOCOL"),
        ("1.2.840.113619.4.26", "PRIVATE"),
        (uid.CTDefinedProcedureProtocolStorage, "PRIVATE"),
    ],
)
def test_each_sop_class_has_its_record_type(sop_class_uid: str, record_type: str) -> None:
    assert find_record_type(sop_class_uid) == record_type


def test_every_record_type_has_its_keys() -> None:
    types = {find_record_type(sop_class_uid) for sop_class_uid in UID_dictionary}
    assert types <= set(KEYS)
    assert types >= ROOT_RECORD_TYPES
    assert set(KEYS) - types == {"PATIENT", "STUDY", "SERIES"}


def test_a_report_shows_its_title_and_its_modifiers_but_no_finding(tmp_path: Path) -> None:
    instance = describe(make_object_with_all_keys(uid.ComprehensiveSRStorage, 1), tmp_path)
    assert not any(FINDING.encode() in value for value in instance.leaf.values())
    assert b"bersetzung" in instance.leaf[TAGS["ContentSequence"]]
    assert instance.leaf[TAGS["VerificationDateTime"]] == b"20200107101010"
    assert not instance.substitutions


def test_text_passes_through_byte_for_byte(tmp_path: Path) -> None:
    ds = make_object()
    ds.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    ds.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    instance = describe(ds, tmp_path)
    assert instance.patient[TAGS["PatientName"]] == bytes(ds["PatientName"].value.original_string).strip()
    assert instance.patient[TAGS["SpecificCharacterSet"]] == rb"\ISO 2022 IR 87"
    assert instance.identity.name == "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.parametrize("transfer_syntax_uid", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian])
def test_the_encoding_of_the_object_makes_no_difference(tmp_path: Path, transfer_syntax_uid: uid.UID) -> None:
    ds = make_object_with_all_keys(uid.ComprehensiveSRStorage, 1)
    del ds.PixelData
    explicit = describe(ds, tmp_path)
    ds.file_meta.TransferSyntaxUID = transfer_syntax_uid
    other = describe(ds, tmp_path)
    syntax = 0x00041512
    assert other.leaf == {**explicit.leaf, syntax: transfer_syntax_uid.encode()}
    assert (other.patient, other.study, other.series) == (explicit.patient, explicit.study, explicit.series)


def test_numbers_of_a_big_endian_object_are_turned(tmp_path: Path) -> None:
    ds = make_object()
    ds.Rows = 0x0102
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
    assert describe(ds, tmp_path).leaf[TAGS["Rows"]] == b"\x02\x01"


def test_keys_are_found_in_the_shared_functional_groups(tmp_path: Path) -> None:
    ds = make_object(uid.EnhancedCTImageStorage)
    group, measures = Dataset(), Dataset()
    measures.PixelSpacing = ["0.25", "0.25"]
    group.PixelMeasuresSequence = [measures]
    ds.SharedFunctionalGroupsSequence = [group]
    assert describe(ds, tmp_path).leaf[TAGS["PixelSpacing"]] == b"0.25\\0.25"


@pytest.mark.parametrize(
    ("sop_class_uid", "missing", "expected"),
    [
        (uid.BasicTextSRStorage, "CompletionFlag", "PARTIAL"),
        (uid.BasicTextSRStorage, "VerificationFlag", "UNVERIFIED"),
        (uid.BasicTextSRStorage, "ContentDate", "20200105"),
        (uid.BasicTextSRStorage, "ContentTime", "000000"),  # the other moments have other dates
        (uid.RTPlanStorage, "RTPlanLabel", "UNLABELED"),
        (uid.EncapsulatedPDFStorage, "MIMETypeOfEncapsulatedDocument", "application/pdf"),
        (uid.GrayscaleSoftcopyPresentationStateStorage, "PresentationCreationDate", "20200102"),
    ],
)
def test_what_an_object_lacks_is_stood_in_for_and_reported(tmp_path: Path, sop_class_uid: str, missing: str, expected: str) -> None:
    ds = make_object_with_all_keys(sop_class_uid, 1)
    delattr(ds, missing)
    instance = describe(ds, tmp_path)
    assert instance.leaf[TAGS[missing]] == expected.encode()
    (substitution,) = instance.substitutions
    assert (substitution.keyword, substitution.value) == (missing, expected)
    assert substitution.sop_instance_uid == ds.SOPInstanceUID


@pytest.mark.parametrize(
    ("sop_class_uid", "missing"),
    [
        (uid.BasicTextSRStorage, "ConceptNameCodeSequence"),
        (uid.BasicTextSRStorage, "VerifyingObserverSequence"),
        (uid.RTDoseStorage, "DoseSummationType"),
        (uid.CTImageStorage, "StudyInstanceUID"),
        (uid.CTImageStorage, "SeriesInstanceUID"),
    ],
)
def test_where_no_honest_value_exists_the_instance_is_named(tmp_path: Path, sop_class_uid: str, missing: str) -> None:
    ds = make_object_with_all_keys(sop_class_uid, 1)
    delattr(ds, missing)
    with pytest.raises(Permanent) as raised:
        describe(ds, tmp_path)
    assert raised.value.code == Code.NONCONFORMANT
    assert ds.SOPInstanceUID in raised.value.message


def test_a_file_meta_information_that_names_another_instance_is_refused(tmp_path: Path) -> None:
    path = write_object(make_object(), tmp_path / "object")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"498.1.1.1.1\0", b"498.1.1.1.2\0", 1))
    with pytest.raises(Permanent, match="another SOP instance"):
        describe_instance(read_header(path))
