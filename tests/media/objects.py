"""Generated objects: one of any SOP class, with every attribute that a directory record may ask for, and small enough for hundreds."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, BlendingSoftcopyPresentationStateStorage, CTImageStorage, EncapsulatedCDAStorage, ExplicitVRLittleEndian

from mkisod.media.elements import Encoding, read_elements

# A UID root of nobody; UIDs below it are made by counting.
ROOT = "1.2.826.0.1.3680043.8.498.1"
STUDY_UID = f"{ROOT}.1"
FINDING = "Adenocarcinoma"


def make_code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def make_object(sop_class_uid: str = CTImageStorage, number: int = 1, *, series: int = 1, study_uid: str = STUDY_UID) -> Dataset:
    """A small object. `number` makes its SOP Instance UID and its Instance Number, `series` its Series Instance UID and Series Number."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = UID(sop_class_uid)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(f"{study_uid}.{series}.{number}")
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Müller^Jürgen", "P1", "19600102", "M"
    ds.StudyInstanceUID, ds.StudyID, ds.StudyDate, ds.StudyTime = study_uid, "S1", "20200101", "101010"
    ds.AccessionNumber, ds.StudyDescription = "A1", "Schädel"
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.Modality = f"{study_uid}.{series}", str(series), "CT"
    ds.InstanceNumber = str(number)
    ds.Rows = ds.Columns = 4
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = bytes(range(16))
    return ds


def make_object_with_all_keys(sop_class_uid: str, number: int) -> Dataset:
    """An object that has a value for every key of every type of record, and a secret in its report."""
    ds = make_object(sop_class_uid, 1, series=number)
    ds.ContentDate, ds.ContentTime = "20200102", "111111"
    ds.InstanceCreationDate, ds.InstanceCreationTime = "20200105", "010101"
    ds.PresentationCreationDate, ds.PresentationCreationTime = "20200103", "121212"
    ds.InstitutionName = "Hôpital"
    ds.SeriesDescription = "Série"
    ds.ContentLabel, ds.ContentDescription, ds.ContentCreatorName = "LABEL", "Übersicht", "Cré^Ator"
    ds.DoseSummationType, ds.DoseComment, ds.StructureSetLabel, ds.StructureSetDate, ds.RTPlanLabel = "PLAN", "c", "L", "20200101", "P"
    ds.TreatmentDate, ds.UserContentLabel = "20200101", "USER"
    ds.MIMETypeOfEncapsulatedDocument, ds.DocumentTitle = "application/pdf", "Bericht"
    if sop_class_uid == EncapsulatedCDAStorage:
        ds.MIMETypeOfEncapsulatedDocument, ds.HL7InstanceIdentifier = "text/XML", "2.16.840^1"
    _add_report(ds)
    _add_references(ds, blending=sop_class_uid == BlendingSoftcopyPresentationStateStorage)
    ds.ImageType, ds.NumberOfFrames = ["ORIGINAL", "PRIMARY", "AXIAL"], "1"
    ds.DataPointRows, ds.DataPointColumns = 1, 8
    ds.FrameOfReferenceUID, ds.PixelSpacing = f"{ROOT}.9", ["0.5", "0.5"]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = ["0", "0", "1"], ["1", "0", "0", "0", "1", "0"]
    definition = Dataset()
    definition.Modality = "CT"
    definition.ProcedureCodeSequence = definition.ReasonForRequestedProcedureCodeSequence = [make_code("1", "Any")]
    ds.HangingProtocolName, ds.HangingProtocolDescription, ds.HangingProtocolLevel = "N", "D", "SITE"
    ds.HangingProtocolCreator, ds.HangingProtocolCreationDateTime, ds.NumberOfPriorsReferenced = "Wir", "20200101101010", 1
    ds.HangingProtocolDefinitionSequence = [definition]
    ds.HangingProtocolUserIdentificationCodeSequence = [make_code("1", "Any")]
    ds.Manufacturer, ds.ImplantName, ds.ImplantPartNumber, ds.ImplantSize = "ACME", "Stem", "1", "8"
    ds.ImplantAssemblyTemplateName, ds.ImplantAssemblyTemplateIssuer = "A", "I"
    ds.ImplantTemplateGroupName, ds.ImplantTemplateGroupIssuer = "G", "I"
    ds.ProcedureTypeCodeSequence = [make_code("1", "Any")]
    return ds


def _add_report(ds: Dataset) -> None:
    """A verified report of two modifiers of its title and one finding, which no directory record may show."""
    ds.CompletionFlag, ds.VerificationFlag, ds.ValueType = "COMPLETE", "VERIFIED", "CONTAINER"
    observers = [Dataset(), Dataset(), Dataset()]
    for observer, moment in zip(observers, ("20200105101010", "20200107101010", "20200106101010"), strict=True):
        observer.VerificationDateTime = moment
    ds.VerifyingObserverSequence = observers
    ds.ConceptNameCodeSequence = [make_code("11528", "Befund für")]
    ds.ContentSequence = [
        _make_item("HAS CONCEPT MOD", "CODE", ConceptCodeSequence=[make_code("1", "German")]),
        _make_item("CONTAINS", "TEXT", TextValue=FINDING),
        _make_item("HAS CONCEPT MOD", "TEXT", TextValue="Übersetzung"),
    ]


def _make_item(relationship: str, value_type: str, **values: object) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = relationship, value_type, [make_code("121049", "Concept")]
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _add_references(ds: Dataset, *, blending: bool) -> None:
    image, series = Dataset(), Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = CTImageStorage, f"{ROOT}.8"
    series.SeriesInstanceUID, series.ReferencedImageSequence = f"{ROOT}.7", [image]
    ds.ReferencedImageSequence = ds.ReferencedImageEvidenceSequence = [image]
    if not blending:
        ds.ReferencedSeriesSequence = [series]
        return
    layers = [Dataset(), Dataset()]
    for layer in layers:
        layer.StudyInstanceUID, layer.ReferencedSeriesSequence = STUDY_UID, [series]
    ds.BlendingSequence = layers


def receive_file(source: Path, target: Path) -> Path:
    """What the receiver would have written of the object in `source`: its data set untouched behind a fresh Part 10 header.

    Raises ValueError where the file says nothing of its transfer syntax, so that no peer could send it.
    """
    data = source.read_bytes()
    with source.open("rb") as file:
        ds = dcmread(file, stop_before_pixels=True)
    if "TransferSyntaxUID" not in ds.file_meta or "SOPInstanceUID" not in ds:
        raise ValueError(f"{source.name} cannot be sent")
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ds.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    with target.open("wb") as file:
        file.write(bytes(128) + b"DICM")
        write_file_meta_info(DicomFileLike(file), meta)
        file.write(data[_find_data_set(source) :])
    return target


def _find_data_set(path: Path) -> int:
    with path.open("rb") as file:
        file.seek(132)
        read_elements(file, path.stat().st_size, Encoding(), (), stop_at=0x00030000)
        return file.tell()


def write_object(ds: Dataset, path: Path) -> Path:
    ds.save_as(path, enforce_file_format=True)
    return path
