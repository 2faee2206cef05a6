"""What the standard asks of each type of directory record: a table, and nothing else.

`KEYS` says which attributes a type of record carries and of what type they are (PS3.3 F.5.1 to F.5.48); `MOMENTS`, `FALLBACKS`,
`MIME_TYPES` and `NUMBERS` say what stands in for a Type 1 key that the object does not have. A new record type, key or stand-in is one
more row here.

The keys that the general purpose profiles for DVD, USB and flash add (PS3.11 H.3.3.1 and J.3.3.1) are in the table too, for every disc:
any further attribute of the object's modules is permitted as a key (Type 3), and viewers show them.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen
from pydicom.datadict import dictionary_VR, tag_for_keyword

TEXT_VRS = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI", "UR", "UT", "UC"})


@frozen
class Key:
    """An attribute of a directory record. `type` is "1", "1C" (copied where the object has a value) or "2" (else empty)."""

    tag: int
    keyword: str
    vr: str
    type: str
    # Looked up in Shared Functional Groups too, where the object itself does not have it (PS3.11 Table H.3-1, note).
    in_functional_groups: bool = False
    is_text: bool = field(init=False, repr=False, eq=False)

    @is_text.default
    def _find_is_text(self) -> bool:
        return self.vr in TEXT_VRS


def _keys(*rows: str, functional_groups: str = "") -> tuple[Key, ...]:
    """Each row is a type and the keywords that have it: "1C ImageType NumberOfFrames"."""
    keys = [
        Key(tag, keyword, dictionary_VR(tag), row.split()[0], keyword in functional_groups.split())
        for row in (*rows, "1C SpecificCharacterSet")  # every record has its own, where one of its keys may need it
        for keyword in row.split()[1:]
        if (tag := tag_for_keyword(keyword)) is not None
    ]
    return tuple(sorted(keys, key=lambda key: key.tag))


# PS3.3 Table 10-12, Content Identification Macro.
_CONTENT_IDENTIFICATION = ("1 InstanceNumber ContentLabel", "2 ContentDescription ContentCreatorName")
_CONTENT_MOMENT = "1 ContentDate ContentTime"
# PS3.11 D.3.3.1, H.3.3.1 and J.3.3.1.
_OF_IMAGES = (
    "1C ReferencedImageSequence CalibrationImage LossyImageCompressionRatio FrameOfReferenceUID SynchronizationFrameOfReferenceUID"
    " AcquisitionTimeSynchronized AcquisitionDateTime ImagePositionPatient ImageOrientationPatient PixelSpacing"
)
_IN_FUNCTIONAL_GROUPS = "ImagePositionPatient ImageOrientationPatient PixelSpacing"

KEYS: Mapping[str, tuple[Key, ...]] = {
    "PATIENT": _keys("1 PatientID", "2 PatientName", "1C PatientBirthDate PatientSex"),
    "STUDY": _keys("1 StudyDate StudyTime StudyID StudyInstanceUID", "2 StudyDescription AccessionNumber"),
    "SERIES": _keys(
        "1 Modality SeriesInstanceUID SeriesNumber",
        "1C SeriesDescription InstitutionName InstitutionAddress PerformingPhysicianName",
    ),
    "IMAGE": _keys(
        "1 InstanceNumber",
        "1C ImageType Rows Columns NumberOfFrames",
        _OF_IMAGES,
        functional_groups=_IN_FUNCTIONAL_GROUPS,
    ),
    "RT DOSE": _keys("1 InstanceNumber DoseSummationType", "1C DoseComment"),
    "RT STRUCTURE SET": _keys("1 InstanceNumber StructureSetLabel", "2 StructureSetDate StructureSetTime"),
    "RT PLAN": _keys("1 InstanceNumber RTPlanLabel", "2 RTPlanDate RTPlanTime"),
    "RT TREAT RECORD": _keys("1 InstanceNumber", "2 TreatmentDate TreatmentTime"),
    "PRESENTATION": _keys(
        "1 PresentationCreationDate PresentationCreationTime", *_CONTENT_IDENTIFICATION, "1C ReferencedSeriesSequence BlendingSequence"
    ),
    "WAVEFORM": _keys("1 InstanceNumber", _CONTENT_MOMENT),
    "SR DOCUMENT": _keys(
        "1 InstanceNumber CompletionFlag VerificationFlag ConceptNameCodeSequence",
        _CONTENT_MOMENT,
        "1C VerificationDateTime ContentSequence",
    ),
    "KEY OBJECT DOC": _keys("1 InstanceNumber ConceptNameCodeSequence", _CONTENT_MOMENT, "1C ContentSequence"),
    "SPECTROSCOPY": _keys(
        "1 ImageType InstanceNumber NumberOfFrames Rows Columns DataPointRows DataPointColumns",
        _CONTENT_MOMENT,
        "1C ReferencedImageEvidenceSequence",
        _OF_IMAGES,
        functional_groups=_IN_FUNCTIONAL_GROUPS,
    ),
    "RAW DATA": _keys(_CONTENT_MOMENT, "2 InstanceNumber"),
    "REGISTRATION": _keys(_CONTENT_MOMENT, *_CONTENT_IDENTIFICATION),
    "FIDUCIAL": _keys(_CONTENT_MOMENT, *_CONTENT_IDENTIFICATION),
    "VALUE MAP": _keys(_CONTENT_MOMENT, *_CONTENT_IDENTIFICATION),
    "ENCAP DOC": _keys(
        "1 InstanceNumber MIMETypeOfEncapsulatedDocument",
        "2 ContentDate ContentTime DocumentTitle ConceptNameCodeSequence",
        "1C HL7InstanceIdentifier",
    ),
    # dciodvfy wants them, other readers of the standard do not.
    "STEREOMETRIC": _keys("1C InstanceNumber ContentLabel ContentDescription ContentCreatorName"),
    "SURFACE": _keys(_CONTENT_MOMENT, *_CONTENT_IDENTIFICATION),
    "SURFACE SCAN": _keys(_CONTENT_MOMENT),
    "MEASUREMENT": _keys(_CONTENT_MOMENT, *_CONTENT_IDENTIFICATION),
    "TRACT": _keys(_CONTENT_MOMENT, *_CONTENT_IDENTIFICATION),
    "ASSESSMENT": _keys("1 InstanceNumber InstanceCreationDate", "2 InstanceCreationTime"),
    "RADIOTHERAPY": _keys("1 InstanceNumber", "1C UserContentLabel UserContentLongLabel", "2 ContentDescription ContentCreatorName"),
    "PLAN": _keys(),
    "ANNOTATION": _keys(_CONTENT_MOMENT, *_CONTENT_IDENTIFICATION),
    "PRIVATE": _keys("1C InstanceNumber"),
    # At the root, without a patient.
    "HANGING PROTOCOL": _keys(
        "1 HangingProtocolName HangingProtocolDescription HangingProtocolLevel HangingProtocolCreator HangingProtocolCreationDateTime",
        "1 HangingProtocolDefinitionSequence NumberOfPriorsReferenced",
        "2 HangingProtocolUserIdentificationCodeSequence",
    ),
    "PALETTE": _keys("1 ContentLabel", "2 ContentDescription"),
    "IMPLANT": _keys("1 Manufacturer ImplantName ImplantPartNumber", "1C ImplantSize"),
    # Readers of the standard disagree which of the two belongs here (pydicom: Manufacturer, DCMTK: Issuer); the object has both.
    "IMPLANT ASSY": _keys("1 ImplantAssemblyTemplateName ProcedureTypeCodeSequence", "1C Manufacturer ImplantAssemblyTemplateIssuer"),
    "IMPLANT GROUP": _keys("1 ImplantTemplateGroupName ImplantTemplateGroupIssuer", "1C ImplantTemplateGroupDescription"),
    "INVENTORY": _keys(_CONTENT_MOMENT),
}

# Dates that say nearly the same, nearest first, each with its time. Never the present: a plausible false date is worse than an
# impossible one.
MOMENTS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "StudyDate": (("SeriesDate", "SeriesTime"), ("AcquisitionDate", "AcquisitionTime"), ("ContentDate", "ContentTime")),
    "ContentDate": (
        ("InstanceCreationDate", "InstanceCreationTime"),
        ("AcquisitionDate", "AcquisitionTime"),
        ("SeriesDate", "SeriesTime"),
        ("StudyDate", "StudyTime"),
    ),
    "PresentationCreationDate": (
        ("ContentDate", "ContentTime"),
        ("InstanceCreationDate", "InstanceCreationTime"),
        ("SeriesDate", "SeriesTime"),
        ("StudyDate", "StudyTime"),
    ),
    "InstanceCreationDate": (("ContentDate", "ContentTime"), ("SeriesDate", "SeriesTime"), ("StudyDate", "StudyTime")),
}
NO_DATE = "19000101"
NO_TIME = "000000"

# What stands for a Type 1 key that the object leaves out, and why that is honest. A Type 1 key that is in none of these tables has no
# honest stand-in: such an instance cannot be put on a disc.
FALLBACKS: Mapping[str, tuple[str, str]] = {
    "Modality": ("OT", "OT is the defined term for another modality"),
    "StudyID": ("1", "a study without an ID of its own"),
    "CompletionFlag": ("PARTIAL", "nothing says that the document is complete"),
    "VerificationFlag": ("UNVERIFIED", "nothing says that the document was verified"),
    "ContentLabel": ("UNLABELED", "the object has no label"),
    "StructureSetLabel": ("UNLABELED", "the object has no label"),
    "RTPlanLabel": ("UNLABELED", "the object has no label"),
    "Manufacturer": ("UNKNOWN", "the object names no manufacturer"),
}
# The SOP class alone says what an encapsulated document is (PS3.3 A.45 and A.85).
MIME_TYPES: Mapping[str, str] = {
    "1.2.840.10008.5.1.4.1.1.104.1": "application/pdf",
    "1.2.840.10008.5.1.4.1.1.104.2": "text/XML",
    "1.2.840.10008.5.1.4.1.1.104.3": "model/stl",
    "1.2.840.10008.5.1.4.1.1.104.4": "model/obj",
    "1.2.840.10008.5.1.4.1.1.104.5": "model/mtl",
}
# Given by the place in the hierarchy: the next number that no sibling has.
NUMBERS = frozenset({"SeriesNumber", "InstanceNumber"})

# Looked at beside the keys themselves.
_OTHER_KEYWORDS = (
    "SOPClassUID SOPInstanceUID IssuerOfPatientID SharedFunctionalGroupsSequence VerifyingObserverSequence"
    " RelationshipType"
)

# Keyword to tag, of every attribute that a disc needs to know.
TAGS: Mapping[str, int] = {key.keyword: key.tag for keys in KEYS.values() for key in keys} | {
    keyword: tag
    for keyword in (*_OTHER_KEYWORDS.split(), *(keyword for pairs in MOMENTS.values() for pair in pairs for keyword in pair))
    if (tag := tag_for_keyword(keyword)) is not None
}
