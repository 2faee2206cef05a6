"""What must never be merged silently."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from mkisod.errors import Code, Permanent
from mkisod.media.consistency import Content, sort_out
from mkisod.media.header import read_header
from mkisod.media.records import describe_instance
from tests.media.objects import ROOT, make_object, write_object


def sort(objects: list[Dataset], folder: Path, *, several: bool = False, same: bool = True) -> tuple[Content, ...]:
    instances = [describe_instance(read_header(write_object(ds, folder / str(number)))) for number, ds in enumerate(objects)]
    return sort_out(instances, allow_several_patients=several, have_same_content=lambda _a, _b: same)


def change(ds: Dataset, **values: str) -> Dataset:
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    if "SOPInstanceUID" in values:
        ds.file_meta.MediaStorageSOPInstanceUID = UID(values["SOPInstanceUID"])
    return ds


def test_a_resend_is_kept_once(tmp_path: Path) -> None:
    (content,) = sort([make_object(), make_object()], tmp_path)
    assert len(content.patients[0]) == 1


def test_a_resend_with_other_content_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="twice, with different content") as raised:
        sort([make_object(), make_object()], tmp_path, same=False)
    assert raised.value.code == Code.NONCONFORMANT


@pytest.mark.parametrize("elsewhere", [{"series": 2}, {"study_uid": f"{ROOT}.5"}])
def test_one_sop_instance_in_two_places_is_refused_with_both_named(tmp_path: Path, elsewhere: dict[str, object]) -> None:
    first = make_object()
    second = change(make_object(**elsewhere), SOPInstanceUID=first.SOPInstanceUID)  # type: ignore[arg-type]
    with pytest.raises(Permanent) as raised:
        sort([first, second], tmp_path)
    assert first.SeriesInstanceUID in raised.value.message
    assert second.SeriesInstanceUID in raised.value.message


def test_one_series_in_two_studies_is_refused_with_both_named(tmp_path: Path) -> None:
    first, second = make_object(), change(make_object(study_uid=f"{ROOT}.5"), SeriesInstanceUID=f"{ROOT}.1.1")
    with pytest.raises(Permanent) as raised:
        sort([first, second], tmp_path)
    assert first.StudyInstanceUID in raised.value.message
    assert second.StudyInstanceUID in raised.value.message


def test_two_patients_are_refused_without_their_names(tmp_path: Path) -> None:
    other = change(make_object(study_uid=f"{ROOT}.5"), PatientID="P2", PatientName="Meier^Eva")
    with pytest.raises(Permanent) as raised:
        sort([make_object(), other], tmp_path)
    assert raised.value.code == Code.PATIENT_MISMATCH
    assert "Meier" not in str(raised.value)
    (content,) = sort([make_object(), other], tmp_path, several=True)
    assert len(content.patients) == 2


def test_a_merged_study_is_refused_and_apart_where_several_patients_are_allowed(tmp_path: Path) -> None:
    objects = [make_object(), change(make_object(number=2), PatientID="P2", PatientName="Meier^Eva")]
    with pytest.raises(Permanent) as raised:
        sort(objects, tmp_path)
    assert raised.value.code == Code.PATIENT_MISMATCH
    assert objects[0].StudyInstanceUID in raised.value.message
    assert [len(content.patients) for content in sort(objects, tmp_path, several=True)] == [1, 1]


def test_two_people_under_one_patient_id_never_share_a_file_set(tmp_path: Path) -> None:
    objects = [make_object(), change(make_object(study_uid=f"{ROOT}.5"), PatientName="Meier^Eva", PatientBirthDate="19900909")]
    with pytest.raises(Permanent):
        sort(objects, tmp_path)
    assert [len(content.patients) for content in sort(objects, tmp_path, several=True)] == [1, 1]


def test_spelling_does_not_make_two_people(tmp_path: Path) -> None:
    (content,) = sort([make_object(), change(make_object(study_uid=f"{ROOT}.5"), PatientName="MULLER^JURGEN")], tmp_path)
    assert len(content.patients) == 1


def test_studies_without_patient_id_are_not_taken_for_one_patient(tmp_path: Path) -> None:
    objects = [change(make_object(study_uid=f"{ROOT}.{n}"), PatientID="", PatientBirthDate="") for n in (1, 2)]
    with pytest.raises(Permanent):
        sort(objects, tmp_path)
    (content,) = sort(objects, tmp_path, several=True)
    assert len(content.patients) == 2
