"""Conformant SOP instances of the phantom: the modules of PS3.3 that the CT, MR, Basic Text SR and Encapsulated PDF IODs ask for.

Everything follows from the arguments: no clock, no chance. UIDs are UUIDs made from a seed and a name (PS3.5 B.2).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from io import BytesIO

from attrs import frozen
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)
from pydicom.valuerep import format_number_as_ds

_NAMESPACE = uuid.UUID("6f2d1c52-6f0c-4a7e-9d58-6d6b69736f64")
FIELD_OF_VIEW_MM = 240.0
SLICE_DISTANCE_MM = 4.0


@frozen
class Patient:
    """Whom the objects belong to. `sex` is M, F or O; the birth date is YYYYMMDD."""

    name: str
    patient_id: str
    issuer: str
    birth_date: str
    sex: str


@frozen
class StudyHead:
    """What all instances of a study share. `character_set` is the Specific Character Set that its files are written in."""

    patient: Patient
    study_instance_uid: str
    accession: str
    study_id: str
    date: str
    time: str
    description: str
    character_set: str = "ISO_IR 192"


def make_uid(seed: int, name: str) -> str:
    """The UID that belongs to this seed and name."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, f'{seed}/{name}').int}"


def encode_object(data_set: Dataset) -> bytes:
    """The data set as a Part 10 file, Explicit VR Little Endian."""
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    encoded = BytesIO()
    dcmwrite(encoded, data_set, enforce_file_format=True)
    return encoded.getvalue()


def make_image(
    head: StudyHead,
    modality: str,
    *,
    series_instance_uid: str,
    frame_of_reference_uid: str,
    sop_instance_uid: str,
    number: int,
    position_mm: float,
    rows: int,
    columns: int,
    pixels: bytes,
    series_number: int = 1,
) -> Dataset:
    """A CT or MR image of one axial slice, 16 bits unsigned. Raises ValueError for another modality."""
    if modality not in {"CT", "MR"}:
        raise ValueError(f"the phantom has CT and MR images, not {modality!r}")
    data_set = _begin(head, CTImageStorage if modality == "CT" else MRImageStorage, sop_instance_uid)
    _add_series(data_set, modality, series_instance_uid, series_number, f"{modality} head axial")
    data_set.BodyPartExamined = "HEAD"
    data_set.PatientPosition = "HFS"
    data_set.FrameOfReferenceUID = frame_of_reference_uid
    data_set.PositionReferenceIndicator = ""
    data_set.InstanceNumber = number
    data_set.AcquisitionNumber = 1
    data_set.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if modality == "CT" else ["ORIGINAL", "PRIMARY", "OTHER"]
    spacing_row, spacing_column = FIELD_OF_VIEW_MM / rows, FIELD_OF_VIEW_MM / columns
    corner_mm = ((spacing_column - FIELD_OF_VIEW_MM) / 2, (spacing_row - FIELD_OF_VIEW_MM) / 2, position_mm)
    data_set.PixelSpacing = [format_number_as_ds(spacing_row), format_number_as_ds(spacing_column)]
    data_set.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data_set.ImagePositionPatient = [format_number_as_ds(part) for part in corner_mm]
    data_set.SliceThickness = SLICE_DISTANCE_MM
    data_set.SpacingBetweenSlices = SLICE_DISTANCE_MM
    data_set.SliceLocation = position_mm
    if modality == "CT":
        data_set.KVP = 120
        data_set.RescaleIntercept, data_set.RescaleSlope, data_set.RescaleType = -1024, 1, "HU"
        data_set.WindowCenter, data_set.WindowWidth = 40, 120
    else:
        data_set.ScanningSequence, data_set.SequenceVariant, data_set.ScanOptions = "SE", "NONE", ""
        data_set.MRAcquisitionType = "2D"
        data_set.RepetitionTime, data_set.EchoTime, data_set.EchoTrainLength = 4000, 100, 1
        data_set.MagneticFieldStrength = 1.5
        data_set.WindowCenter, data_set.WindowWidth = 450, 900
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.Rows, data_set.Columns = rows, columns
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 16, 12, 11, 0
    data_set.PixelData = pixels
    data_set["PixelData"].VR = "OW"
    return data_set


def make_report(
    head: StudyHead, series_instance_uid: str, sop_instance_uid: str, text: str, referred: Dataset
) -> Dataset:
    """A Basic Text SR (PS3.3 A.35.1, TID 2000) with one finding that refers to one image of the same study."""
    data_set = _begin(head, BasicTextSRStorage, sop_instance_uid)
    _add_series(data_set, "SR", series_instance_uid, 2, "Report")
    data_set.ReferencedPerformedProcedureStepSequence = []
    data_set.InstanceNumber = 1
    data_set.CompletionFlag, data_set.VerificationFlag = "COMPLETE", "UNVERIFIED"
    data_set.PerformedProcedureCodeSequence = []
    data_set.CurrentRequestedProcedureEvidenceSequence = [_refer_to_study(head, referred)]
    data_set.ValueType, data_set.ContinuityOfContent = "CONTAINER", "SEPARATE"
    data_set.ConceptNameCodeSequence = [_code("18748-4", "LN", "Diagnostic imaging report")]
    data_set.ContentTemplateSequence = [_item(MappingResource="DCMR", TemplateIdentifier="2000")]
    image = _item(
        RelationshipType="CONTAINS",
        ValueType="IMAGE",
        ConceptNameCodeSequence=[_code("121080", "DCM", "Best illustration of finding")],
        ReferencedSOPSequence=[_refer_to(referred)],
    )
    finding = _item(
        RelationshipType="CONTAINS",
        ValueType="TEXT",
        ConceptNameCodeSequence=[_code("121071", "DCM", "Finding")],
        TextValue=text,
    )
    section = _item(
        RelationshipType="CONTAINS",
        ValueType="CONTAINER",
        ContinuityOfContent="SEPARATE",
        ConceptNameCodeSequence=[_code("121070", "DCM", "Findings")],
        ContentSequence=[finding, image],
    )
    language = _item(
        RelationshipType="HAS CONCEPT MOD",
        ValueType="CODE",
        ConceptNameCodeSequence=[_code("121049", "DCM", "Language of Content Item and Descendants")],
        ConceptCodeSequence=[_code("en", "RFC5646", "English")],
    )
    observer = _item(
        RelationshipType="HAS OBS CONTEXT",
        ValueType="PNAME",
        ConceptNameCodeSequence=[_code("121008", "DCM", "Person Observer Name")],
        PersonName="Observer^Synthetic",
    )
    data_set.ContentSequence = [language, observer, section]
    return data_set


def make_document(head: StudyHead, series_instance_uid: str, sop_instance_uid: str, title: str, pdf: bytes) -> Dataset:
    """An Encapsulated PDF (PS3.3 A.45.1)."""
    data_set = _begin(head, EncapsulatedPDFStorage, sop_instance_uid)
    _add_series(data_set, "DOC", series_instance_uid, 2, title)
    data_set.ConversionType = "WSD"
    data_set.InstanceNumber = 1
    data_set.AcquisitionDateTime = ""
    data_set.BurnedInAnnotation = "NO"
    data_set.DocumentTitle = title
    data_set.ConceptNameCodeSequence = [_code("18748-4", "LN", "Diagnostic imaging report")]
    data_set.MIMETypeOfEncapsulatedDocument = "application/pdf"
    data_set.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    data_set.EncapsulatedDocumentLength = len(pdf)
    return data_set


def make_pdf(lines: Sequence[str]) -> bytes:
    """One A4 page of text, as small as PDF 1.4 allows. What Latin-1 does not have becomes a question mark."""
    escaped = [line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)").encode("latin-1", "replace") for line in lines]
    content = b"BT /F1 14 Tf 18 TL 72 760 Td " + b" ".join(b"(" + line + b") Tj T*" for line in escaped) + b" ET"
    bodies = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    )
    pdf, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(bodies, start=1):
        offsets.append(len(pdf))
        pdf += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(pdf)
    pdf += b"xref\n0 %d\n0000000000 65535 f \n" % (len(bodies) + 1) + b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return bytes(pdf + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(bodies) + 1, table))


def _begin(head: StudyHead, sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    data_set = Dataset()
    data_set.SpecificCharacterSet = head.character_set
    data_set.SOPClassUID, data_set.SOPInstanceUID = sop_class_uid, sop_instance_uid
    data_set.PatientName, data_set.PatientID, data_set.IssuerOfPatientID = head.patient.name, head.patient.patient_id, head.patient.issuer
    data_set.PatientBirthDate, data_set.PatientSex = head.patient.birth_date, head.patient.sex
    data_set.StudyInstanceUID, data_set.StudyID, data_set.AccessionNumber = head.study_instance_uid, head.study_id, head.accession
    data_set.StudyDate, data_set.StudyTime, data_set.StudyDescription = head.date, head.time, head.description
    data_set.ContentDate, data_set.ContentTime = head.date, head.time
    data_set.ReferringPhysicianName = ""
    data_set.Manufacturer = "mkisod"
    data_set.ManufacturerModelName = "Phantom"
    data_set.DeviceSerialNumber = "1"
    data_set.SoftwareVersions = "1"
    return data_set


def _add_series(data_set: Dataset, modality: str, series_instance_uid: str, number: int, description: str) -> None:
    data_set.Modality, data_set.SeriesInstanceUID = modality, series_instance_uid
    data_set.SeriesNumber, data_set.SeriesDescription = number, description
    data_set.SeriesDate, data_set.SeriesTime = data_set.StudyDate, data_set.StudyTime


def _refer_to(referred: Dataset) -> Dataset:
    return _item(ReferencedSOPClassUID=referred.SOPClassUID, ReferencedSOPInstanceUID=referred.SOPInstanceUID)


def _refer_to_study(head: StudyHead, referred: Dataset) -> Dataset:
    series = _item(SeriesInstanceUID=referred.SeriesInstanceUID, ReferencedSOPSequence=[_refer_to(referred)])
    return _item(StudyInstanceUID=head.study_instance_uid, ReferencedSeriesSequence=[series])


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _item(**elements: object) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item
