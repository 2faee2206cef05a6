"""The phantom and the long series: the same for one seed, different for another, and indexed as they were written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pydicom
import pytest

from mkisod.demo.index import read_folder
from mkisod.demo.phantom import CT_ACCESSION, MR_ACCESSION, write_phantom
from mkisod.demo.series import write_series


def digest(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.dcm")}


def test_it_follows_from_the_seed_alone(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_phantom(tmp_path / name, seed=seed, ct_slices=3, mr_slices=2, rows=8, columns=8)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert not set(digest(tmp_path / "a").values()) & set(digest(tmp_path / "c").values())


def test_it_holds_what_it_says(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path, seed=1, ct_slices=5, mr_slices=3, rows=16, columns=16)
    data_sets = [pydicom.dcmread(path) for path in sorted(tmp_path.rglob("*.dcm"))]
    assert phantom.instances == {CT_ACCESSION: 6, MR_ACCESSION: 4}
    held = [(data_set.AccessionNumber, data_set.Modality) for data_set in data_sets]
    assert sorted(set(held)) == [(CT_ACCESSION, "CT"), (CT_ACCESSION, "SR"), (MR_ACCESSION, "DOC"), (MR_ACCESSION, "MR")]
    assert {held.count((CT_ACCESSION, "CT")), held.count((MR_ACCESSION, "MR"))} == {5, 3}
    assert len({data_set.SOPInstanceUID for data_set in data_sets}) == 10
    assert {str(data_set.PatientName) for data_set in data_sets} == {phantom.patient.name}
    assert {data_set.SpecificCharacterSet for data_set in data_sets} == {"ISO_IR 192", "ISO_IR 100"}
    assert {(data_set.PatientID, data_set.PatientBirthDate) for data_set in data_sets} == {
        (phantom.patient.patient_id, phantom.patient.birth_date)
    }


def test_its_report_refers_to_an_image_of_the_study(tmp_path: Path) -> None:
    write_phantom(tmp_path, seed=1, ct_slices=5, mr_slices=1, rows=8, columns=8)
    report = pydicom.dcmread(tmp_path / "CT" / "report.dcm")
    image = report.ContentSequence[-1].ContentSequence[-1]
    referred = image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert referred in {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "CT").glob("0*.dcm")}
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert evidence.ReferencedSOPInstanceUID == referred


def test_its_document_is_a_pdf(tmp_path: Path) -> None:
    write_phantom(tmp_path, seed=1, ct_slices=1, mr_slices=1, rows=8, columns=8)
    letter = pydicom.dcmread(tmp_path / "MR" / "letter.dcm")
    pdf = letter.EncapsulatedDocument[: letter.EncapsulatedDocumentLength]
    assert pdf.startswith(b"%PDF-1.4\n")
    assert pdf.endswith(b"%%EOF\n")
    table = int(pdf.split(b"startxref\n")[1].split(b"\n")[0])
    entries = pdf[table:].split(b"\n")[3:8]
    for number, entry in enumerate(entries, start=1):
        assert pdf[int(entry[:10]) :].startswith(b"%d 0 obj" % number)


def test_the_head_is_a_head(tmp_path: Path) -> None:
    write_phantom(tmp_path, seed=1, ct_slices=3, mr_slices=1, rows=64, columns=64)
    middle = pydicom.dcmread(tmp_path / "CT" / "0002.dcm")
    values = [int.from_bytes(middle.PixelData[place : place + 2], "little") for place in range(0, len(middle.PixelData), 2)]
    rows = [values[start : start + 64] for start in range(0, len(values), 64)]
    assert rows[0][0] + middle.RescaleIntercept == -1000  # air in the corner
    assert rows[40][32] + middle.RescaleIntercept == 35  # brain
    assert max(values) + middle.RescaleIntercept == 900  # bone


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_long_series_differs_from_instance_to_instance(tmp_path: Path, modality: str) -> None:
    written = write_series(tmp_path, accession="A1", count=300, rows=5, columns=3, modality=modality)
    data_sets = [pydicom.dcmread(path) for path in sorted(tmp_path.iterdir())]
    assert [data_set.SOPInstanceUID for data_set in data_sets] == list(written.sop_instance_uids)
    assert [data_set.file_meta.MediaStorageSOPInstanceUID for data_set in data_sets] == list(written.sop_instance_uids)
    assert [data_set.InstanceNumber for data_set in data_sets] == list(range(1, 301))
    assert [data_set.SliceLocation for data_set in data_sets] == [4.0 * number for number in range(1, 301)]
    assert [data_set.ImagePositionPatient[2] for data_set in data_sets] == [4.0 * number for number in range(1, 301)]
    assert len({data_set.PixelData for data_set in data_sets}) == 300
    assert {(data_set.StudyInstanceUID, data_set.SeriesInstanceUID) for data_set in data_sets} == {
        (written.study_instance_uid, written.series_instance_uid)
    }
    assert {(data_set.AccessionNumber, data_set.Modality) for data_set in data_sets} == {("A1", modality)}
    assert all(len(data_set.PixelData) == 30 and max(data_set.PixelData[1::2]) < 16 for data_set in data_sets)


def test_series_join_one_study_or_not(tmp_path: Path) -> None:
    first = write_series(tmp_path / "1", accession="A1", count=1, rows=2, columns=2)
    second = write_series(tmp_path / "2", accession="A1", count=1, rows=2, columns=2, series="second", series_number=2)
    other = write_series(tmp_path / "3", accession="A1", count=1, rows=2, columns=2, study="other")
    assert first.study_instance_uid == second.study_instance_uid != other.study_instance_uid
    assert len({first.series_instance_uid, second.series_instance_uid, other.series_instance_uid}) == 3
    archive = read_folder(tmp_path)
    assert [len(study.series) for study in archive.studies.values()] == [2, 1]


@pytest.mark.parametrize(("count", "rows"), [(-1, 8), (1_000_000, 8), (1, 0)])
def test_a_series_that_cannot_be_is_refused(tmp_path: Path, count: int, rows: int) -> None:
    with pytest.raises(ValueError, match="series has"):
        write_series(tmp_path / "none", accession="A1", count=count, rows=rows, columns=8)
    assert not (tmp_path / "none").exists()


def test_the_index_leaves_out_what_is_no_instance(tmp_path: Path) -> None:
    written = write_series(tmp_path / "series", accession="A1", count=12, rows=2, columns=2)
    whole = (tmp_path / "series" / "000001.dcm").read_bytes()
    (tmp_path / "README.TXT").write_text("not DICOM", encoding="ascii")
    (tmp_path / "empty").touch()
    (tmp_path / "cut short").write_bytes(whole[:200])
    (tmp_path / "no preamble").write_bytes(whole[128:])
    for length in range(130, 600, 17):
        (tmp_path / f"cut at {length}").write_bytes(whole[:length])
    archive = read_folder(tmp_path)
    (study,) = archive.studies.values()
    assert study.study_instance_uid == written.study_instance_uid
    assert [instance.sop_instance_uid for instance in study.instances()] == list(written.sop_instance_uids)
    assert archive.left_out == 4 + len(range(130, 600, 17))


def test_the_index_is_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    second = write_series(tmp_path / "1", accession="A1", count=3, rows=2, columns=2, series="b", series_number=12)
    first = write_series(tmp_path / "2", accession="A1", count=12, rows=2, columns=2, series="a", series_number=3)
    for number, path in enumerate(sorted((tmp_path / "2").iterdir())):
        path.rename(path.with_name(f"{99 - number}"))
    (study,) = read_folder(tmp_path).studies.values()
    assert [instance.sop_instance_uid for instance in study.instances()] == [*first.sop_instance_uids, *second.sop_instance_uids]


def test_there_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        read_folder(tmp_path / "none")
