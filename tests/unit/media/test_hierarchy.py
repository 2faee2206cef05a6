"""Places, order, numbers and stand-ins; and the links of the DICOMDIR made of them."""

from __future__ import annotations

import io
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from mkisod.media.dicomdir import encode_dicomdir
from mkisod.media.directory import read_directory, split_file_id
from mkisod.media.header import read_header
from mkisod.media.hierarchy import Hierarchy, build_hierarchy
from mkisod.media.keys import TAGS
from mkisod.media.records import Instance, describe_instance
from tests.media.objects import ROOT, make_object, write_object


def describe(ds: Dataset, folder: Path) -> Instance:
    return describe_instance(read_header(write_object(ds, folder / ds.SOPInstanceUID)))


def build(objects: list[Dataset], folder: Path) -> Hierarchy:
    return build_hierarchy([[describe(ds, folder) for ds in objects]])


def test_files_are_numbered_in_the_order_of_the_records(tmp_path: Path) -> None:
    later = [make_object(number=n, series=s, study_uid=f"{ROOT}.2") for s in (2, 1) for n in (10, 9, 1)]
    earlier = make_object(study_uid=f"{ROOT}.3")
    earlier.StudyDate = "20190101"
    hierarchy = build([*later, earlier], tmp_path)
    assert [(placed.file_id, placed.instance.sop_instance_uid.removeprefix(ROOT)) for placed in hierarchy.files] == [
        ("DICOM\\PT000001\\ST000001\\SE000001\\IN000001", ".3.1.1"),
        ("DICOM\\PT000001\\ST000002\\SE000001\\IN000001", ".2.1.1"),
        ("DICOM\\PT000001\\ST000002\\SE000001\\IN000002", ".2.1.9"),
        ("DICOM\\PT000001\\ST000002\\SE000001\\IN000003", ".2.1.10"),
        ("DICOM\\PT000001\\ST000002\\SE000002\\IN000001", ".2.2.1"),
        ("DICOM\\PT000001\\ST000002\\SE000002\\IN000002", ".2.2.9"),
        ("DICOM\\PT000001\\ST000002\\SE000002\\IN000003", ".2.2.10"),
    ]


def test_missing_numbers_are_the_next_free_ones(tmp_path: Path) -> None:
    objects = [make_object(number=n) for n in (1, 2, 3, 4)] + [make_object(series=2)]
    del objects[1].InstanceNumber
    objects[2].InstanceNumber = ""
    objects[3].InstanceNumber = "2"
    del objects[4].SeriesNumber
    hierarchy = build(objects, tmp_path)
    assert [(s.keyword, s.value) for s in hierarchy.substitutions] == [
        ("InstanceNumber", "3"),
        ("InstanceNumber", "4"),
        ("SeriesNumber", "2"),
    ]
    assert hierarchy.substitutions[0].sop_instance_uid == objects[1].SOPInstanceUID


def test_a_study_without_a_date_has_the_earliest_of_its_instances(tmp_path: Path) -> None:
    objects = [make_object(number=n) for n in (1, 2)]
    for ds, date in zip(objects, ("20200303", "20200302"), strict=True):
        del ds.StudyDate, ds.StudyTime
        ds.SeriesDate, ds.SeriesTime = date, "070707"
    (patient,) = build(objects, tmp_path).roots
    assert patient.lower[0].elements[TAGS["StudyDate"]] == b"20200302"
    assert patient.lower[0].elements[TAGS["StudyTime"]] == b"070707"


def test_a_study_without_any_date_has_an_impossible_one(tmp_path: Path) -> None:
    ds = make_object()
    del ds.StudyDate, ds.StudyTime, ds.StudyID, ds.Modality, ds.PatientID
    hierarchy = build([ds], tmp_path)
    assert [(s.record_type, s.keyword, s.value) for s in hierarchy.substitutions] == [
        ("PATIENT", "PatientID", ds.StudyInstanceUID),
        ("STUDY", "StudyDate", "19000101"),
        ("STUDY", "StudyTime", "000000"),
        ("STUDY", "StudyID", "1"),
        ("SERIES", "Modality", "OT"),
    ]


def test_disagreeing_instances_are_warned_of_without_their_values(tmp_path: Path) -> None:
    objects = [make_object(number=n) for n in (1, 2)]
    objects[1].PatientSex = "F"
    objects[1].StudyDescription = "Knie"
    hierarchy = build(objects, tmp_path)
    assert hierarchy.warnings == (
        f"The instances of patient of study {objects[0].StudyInstanceUID} have different values of PatientSex; the record follows one.",
        f"The instances of study {objects[0].StudyInstanceUID} have different values of StudyDescription; the record follows one.",
    )


def test_the_links_lead_through_all_records(tmp_path: Path) -> None:
    hierarchy = build([make_object(number=n, series=s, study_uid=f"{ROOT}.{u}") for u in (1, 2) for s in (1, 2) for n in (1, 2)], tmp_path)
    data = encode_dicomdir("TEST", "2.25.1", hierarchy.roots)
    directory = read_directory(io.BytesIO(data), len(data))
    assert directory.defects == ()
    leaves = [leaf for patient in directory.roots for study in patient.lower for series in study.lower for leaf in series.lower]
    read = [split_file_id(leaf.read_values()) for leaf in leaves]
    assert ["\\".join(file_id) for file_id in read] == [placed.file_id for placed in hierarchy.files]
    # pydicom's own count of where items begin agrees with the offsets.
    dicomdir = dcmread(io.BytesIO(data))
    offsets = {item.seq_item_tell for item in dicomdir.DirectoryRecordSequence}
    links = {link for item in dicomdir.DirectoryRecordSequence for link in (item[0x00041400].value, item[0x00041420].value)} - {0}
    assert links | {dicomdir[0x00041200].value} == offsets
    assert dicomdir.file_meta.FileMetaInformationGroupLength == data.index(b"\x04\x00\x30\x11") - 144


def test_an_empty_directory_has_no_first_record() -> None:
    data = encode_dicomdir("", "2.25.1", ())
    assert read_directory(io.BytesIO(data), len(data)).defects == ()
