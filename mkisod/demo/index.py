"""What a folder of DICOM files holds: studies, series and SOP instances, with the attributes that a query may ask for.

Values are kept as the files hold them, undecoded, so that what a query returns is what was stored, whatever the character set. Nothing is
read beyond the headers, and of an instance only what finds and sends it is kept. A file that is no SOP instance of a study (a README,
a DICOMDIR, a damaged file) is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import Factory, define, frozen
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pynetdicom.dsutils import split_dataset

STUDY_KEYS = (
    "SpecificCharacterSet",
    "StudyInstanceUID",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
)
SERIES_KEYS = ("SpecificCharacterSet", "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "BodyPartExamined")
_INSTANCE_KEYS = ("SOPInstanceUID", "SOPClassUID", "InstanceNumber")
_TAGS = {keyword: tag for keyword in (*STUDY_KEYS, *SERIES_KEYS, *_INSTANCE_KEYS) if (tag := tag_for_keyword(keyword)) is not None}
_LAST_TAG = max(_TAGS.values())


@frozen
class Instance:
    """One SOP instance: where its file is, where in it the data set begins, and how that is encoded."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    instance_number: bytes
    path: Path
    offset: int
    size_bytes: int


@define
class Series:
    """A series and its instances by SOP Instance UID, in the order of their instance numbers."""

    attributes: Mapping[str, bytes]
    instances: dict[str, Instance] = Factory(dict)


@define
class Study:
    """A study and its series by Series Instance UID, in the order of their series numbers."""

    study_instance_uid: str
    attributes: Mapping[str, bytes]
    series: dict[str, Series] = Factory(dict)

    def instances(self) -> Iterator[Instance]:
        """All instances, series by series."""
        for series in self.series.values():
            yield from series.instances.values()


@define
class Archive:
    """Everything that the folder holds. `left_out` counts the files that are no instances."""

    studies: dict[str, Study] = Factory(dict)
    left_out: int = 0

    def instances(self) -> Iterator[Instance]:
        """All instances, study by study."""
        for study in self.studies.values():
            yield from study.instances()


def read_folder(folder: Path) -> Archive:
    """Read the headers of every file below `folder`. Raises NotADirectoryError where there is none; unreadable files raise OSError."""
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    archive = Archive()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if not _add_file(archive, path):
            archive.left_out += 1
    for study in archive.studies.values():
        study.series = dict(sorted(study.series.items(), key=lambda item: (_number(item[1].attributes["SeriesNumber"]), item[0])))
        for series in study.series.values():
            series.instances = dict(sorted(series.instances.items(), key=lambda item: (_number(item[1].instance_number), item[0])))
    return archive


def _add_file(archive: Archive, path: Path) -> bool:
    try:
        meta, offset = split_dataset(path)
        with path.open("rb") as file:
            header = read_partial(file, stop_when=_is_beyond, specific_tags=list(_TAGS.values()))
    except (InvalidDicomError, EOFError, NotImplementedError, ValueError):  # pydicom's answers to what is not DICOM
        return False
    values = {keyword: _stored_value(header, keyword) for keyword in _TAGS}
    study_uid, series_uid, instance_uid, class_uid = (
        _uid(values[keyword]) for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
    )
    syntax_uid = str(meta.get("TransferSyntaxUID", ""))
    if not (study_uid and series_uid and instance_uid and class_uid and syntax_uid):
        return False
    study = archive.studies.get(study_uid)
    if study is None:
        study = archive.studies[study_uid] = Study(study_uid, {key: values[key] for key in STUDY_KEYS})
    series = study.series.get(series_uid)
    if series is None:
        series = study.series[series_uid] = Series({key: values[key] for key in SERIES_KEYS})
    series.instances[instance_uid] = Instance(
        sop_instance_uid=instance_uid,
        sop_class_uid=class_uid,
        transfer_syntax_uid=syntax_uid,
        study_instance_uid=study_uid,
        instance_number=values["InstanceNumber"],
        path=path,
        offset=offset,
        size_bytes=path.stat().st_size - offset,
    )
    return True


def _is_beyond(tag: int, _vr: str | None, _length: int) -> bool:
    return tag > _LAST_TAG


def _stored_value(header: Dataset, keyword: str) -> bytes:
    """The value as the file holds it, empty where it is absent. The character set is the one element that pydicom decodes on reading."""
    tag = _TAGS[keyword]
    if tag not in header:
        return b""
    value = header.get_item(tag).value
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else "\\".join(value)).encode("ascii", "replace")


def _uid(value: bytes) -> str:
    return value.decode("ascii", "replace").strip(" \0")


def _number(value: bytes) -> int:
    try:
        return int(value)
    except ValueError:
        return 0  # no number, or none that is one: in front
