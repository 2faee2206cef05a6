"""What stands in a job's directory from an earlier attempt, read back from the files themselves."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.multival import MultiValue

from mkisod.job.manifest import ReceivedInstance
from mkisod.job.patient import PatientIdentity

_TAGS = ["SpecificCharacterSet", "SOPInstanceUID", "AccessionNumber", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate"]
_TAGS += ["StudyInstanceUID", "SeriesInstanceUID"]


def read_received(path: Path) -> ReceivedInstance:
    """The instance in a file that the receiver wrote. Raises `pydicom.errors.InvalidDicomError` or OSError."""
    dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)

    def text(keyword: str) -> str:
        value = dataset.get(keyword)
        values = [] if value is None else value if isinstance(value, MultiValue) else [value]
        return "\\".join(str(one).strip(" \0") for one in values)

    return ReceivedInstance(
        sop_instance_uid=text("SOPInstanceUID"),
        study_instance_uid=text("StudyInstanceUID"),
        series_instance_uid=text("SeriesInstanceUID"),
        patient=PatientIdentity(text("PatientID"), text("IssuerOfPatientID"), text("PatientName"), text("PatientBirthDate")),
        size_bytes=path.stat().st_size,
        accession=text("AccessionNumber"),
    )
