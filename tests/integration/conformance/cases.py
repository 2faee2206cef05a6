"""What an archive may hold: one case is the files of a few accession numbers, and the request that brings them to a disc.

Generated, or pydicom's own test files given a patient, a study and an accession number of this table, so that no two cases share one. All
are small. What is compressed is left as it is: its bytes come from other people's encoders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from mkisod.demo.objects import StudyHead, encode_object, make_document, make_image, make_pdf, make_report, make_uid
from mkisod.demo.phantom import phantom_patient
from mkisod.demo.series import write_series
from tests.media.objects import make_object, make_object_with_all_keys

MANY = 1000
PRIVATE_SOP_CLASS_UID = "1.2.826.0.1.3680043.8.498.77.1"
_ROOT = "1.2.826.0.1.3680043.8.498.76"

# Family names in their own script, and the terms of Specific Character Set (PS3.3 C.12.1.1.2) that hold them.
SCRIPTS = {
    "GREEK": ("ISO_IR 126", "Διονυσιος"),
    "CYRILLIC": ("ISO_IR 144", "Люкceмбypг"),
    "HEBREW": ("ISO_IR 138", "שרון^דבורה"),
    "JAPANESE": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
    "KOREAN": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "CHINESE": ("GB18030", "Wang^XiaoDong=王^小东"),
    "UNICODE": ("ISO_IR 192", "Θεοδωράκης^山田^Ñandú"),
}


@dataclass(frozen=True)
class Instance:
    """One file of a case."""

    path: Path
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str


@dataclass(frozen=True)
class Case:
    """`write` makes the files in a folder. `lines` is the request; `modality` the one that it keeps, where it says so."""

    name: str
    write: Callable[[Path], None]
    lines: tuple[str, ...]
    modality: str = ""
    forwarded: bool = False

    @property
    def id(self) -> str:
        return self.name.replace(" ", "_").replace(",", "")

    def make(self, folder: Path) -> tuple[Instance, ...]:
        """The files of this case, in `folder`, which is made."""
        folder.mkdir()
        self.write(folder)
        return tuple(map(_describe, sorted(folder.rglob("*.dcm"))))


def _describe(path: Path) -> Instance:
    keywords = ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"]
    data_set = dcmread(path, specific_tags=keywords, stop_before_pixels=True)
    return Instance(path, *(str(data_set[keyword].value) for keyword in keywords))


def _small(folder: Path, accession: str, count: int = 2, **more: object) -> None:
    write_series(folder / "-".join([accession, *map(str, more.values())]), accession=accession, count=count, rows=8, columns=8, **more)  # type: ignore[arg-type]


def _write_single(folder: Path) -> None:
    _small(folder, "SINGLE", 4)


def _write_two_studies(folder: Path) -> None:
    _small(folder, "TWO.STUDIES", 3, study="first")
    _small(folder, "TWO.STUDIES", 2, study="second", modality="MR")


def _write_several_accessions(folder: Path) -> None:
    for number in (1, 2, 3):
        _small(folder, f"SEVERAL.{number}", number)


def _write_mixed(folder: Path) -> None:
    """A study of a CT and an MR series and a report."""
    _small(folder, "MIXED", 3)
    _small(folder, "MIXED", 2, modality="MR", series_number=2)
    _write_report(folder, "MIXED", study_uid=_read_study_uid(folder))


def _write_forward(folder: Path) -> None:
    _small(folder, "FORWARD", 3)
    _write_report(folder, "FORWARD", study_uid=_read_study_uid(folder))


def _write_many(folder: Path) -> None:
    _small(folder, "MANY", MANY)


def _read_study_uid(folder: Path) -> str:
    return str(dcmread(next(folder.rglob("*.dcm")), specific_tags=["StudyInstanceUID"]).StudyInstanceUID)


def _head(accession: str, study_uid: str = "") -> StudyHead:
    study_uid = study_uid or make_uid(1, f"conformance/{accession}")
    return StudyHead(phantom_patient(1), study_uid, accession, "1", "20260105", "081500", "Study")


def _write_report(folder: Path, accession: str, study_uid: str = "") -> None:
    head = _head(accession, study_uid)
    referred = Dataset()
    referred.SOPClassUID, referred.SOPInstanceUID, referred.SeriesInstanceUID = uid.CTImageStorage, f"{_ROOT}.2.1", f"{_ROOT}.2"
    series_uid = f"{head.study_instance_uid}.9"
    report = make_report(head, series_uid, f"{series_uid}.1", "Nothing of note.", referred)
    (folder / "report.dcm").write_bytes(encode_object(report))


def _write_pdf(folder: Path) -> None:
    head = _head("PDF")
    series_uid = f"{head.study_instance_uid}.9"
    document = make_document(head, series_uid, f"{series_uid}.1", "Letter", make_pdf(["A letter"]))
    (folder / "letter.dcm").write_bytes(encode_object(document))


def _write_private(folder: Path) -> None:
    head = _head("PRIVATE")
    series_uid = f"{head.study_instance_uid}.9"
    image = make_image(
        head,
        "MR",
        series_instance_uid=series_uid,
        frame_of_reference_uid=f"{_ROOT}.3",
        sop_instance_uid=f"{series_uid}.1",
        number=1,
        position_mm=0.0,
        rows=8,
        columns=8,
        pixels=bytes(128),
    )
    image.SOPClassUID = UID(PRIVATE_SOP_CLASS_UID)
    block = image.private_block(0x0029, "MKISOD TEST", create=True)
    block.add_new(0x10, "LO", "a private element")
    (folder / "private.dcm").write_bytes(encode_object(image))


def _write_generated(accession: str, modality: str, *sop_class_uids: str) -> Callable[[Path], None]:
    """Objects without pixel data that have what a directory record needs of them."""

    def write(folder: Path) -> None:
        for number, sop_class_uid in enumerate(sop_class_uids, 1):
            data_set = make_object_with_all_keys(sop_class_uid, number)
            del data_set.PixelData
            data_set.Modality = modality
            _settle(data_set, accession, number).save_as(folder / f"{number}.dcm", enforce_file_format=True)

    return write


def _write_enhanced(folder: Path) -> None:
    """Enhanced CT and Enhanced MR, of four frames each, with their functional groups (PS3.3 A.36, A.38)."""
    for number, (sop_class_uid, modality) in enumerate(((uid.EnhancedCTImageStorage, "CT"), (uid.EnhancedMRImageStorage, "MR")), 1):
        data_set = make_object_with_all_keys(sop_class_uid, number)
        data_set.Modality, data_set.NumberOfFrames, data_set.PixelData = modality, 4, bytes(range(64))
        data_set["PixelData"].VR = "OW"
        shared, measures = Dataset(), Dataset()
        measures.PixelSpacing, measures.SliceThickness = [1, 1], 1
        shared.PixelMeasuresSequence = [measures]
        data_set.SharedFunctionalGroupsSequence = [shared]
        data_set.PerFrameFunctionalGroupsSequence = Sequence(map(_place_frame, range(4)))
        organisation = Dataset()
        organisation.DimensionOrganizationUID = f"{_ROOT}.4.{number}"
        data_set.DimensionOrganizationSequence = [organisation]
        _settle(data_set, "ENHANCED", number).save_as(folder / f"{number}.dcm", enforce_file_format=True)


def _place_frame(number: int) -> Dataset:
    groups, content, position = Dataset(), Dataset(), Dataset()
    content.StackID, content.InStackPositionNumber = "1", number + 1
    position.ImagePositionPatient = [0, 0, number]
    groups.FrameContentSequence, groups.PlanePositionSequence = [content], [position]
    return groups


def _write_shipped(accession: str, *names: str) -> Callable[[Path], None]:
    """pydicom's own test files; `name=KEYWORD` gives one another SOP class."""

    def write(folder: Path) -> None:
        for number, (name, _, sop_class) in enumerate((name.partition("=") for name in names), 1):
            path = get_testdata_file(name, download=False)
            assert path is not None, name
            data_set = dcmread(path, force=True)
            _strip(data_set)
            if sop_class:
                data_set.SOPClassUID = getattr(uid, sop_class)
                data_set.Modality = "US"
            _settle(data_set, accession, number).save_as(folder / f"{number}.dcm", enforce_file_format=True)

    return write


def _strip(data_set: Dataset) -> None:
    """Take away what an archive may store in another way without doing wrong: padding, private elements, Implicit VR."""
    data_set.remove_private_tags()
    data_set.pop("DataSetTrailingPadding", None)
    if "TransferSyntaxUID" not in getattr(data_set, "file_meta", {}):
        data_set.file_meta = FileMetaDataset()
        data_set.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
    if data_set.file_meta.TransferSyntaxUID == uid.ImplicitVRLittleEndian:
        data_set.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    if data_set.file_meta.TransferSyntaxUID.is_encapsulated:
        data_set["PixelData"].VR = "OB"  # PS3.5 A.4


def _settle(data_set: Dataset, accession: str, number: int) -> Dataset:
    """Make it an instance of this table's one patient, in a series of its own of the study of `accession`."""
    head = _head(accession)
    patient = head.patient
    data_set.SpecificCharacterSet, data_set.AccessionNumber = head.character_set, accession
    data_set.PatientName, data_set.PatientID = patient.name, patient.patient_id
    data_set.PatientBirthDate, data_set.PatientSex = patient.birth_date, patient.sex
    data_set.StudyInstanceUID, data_set.StudyID = head.study_instance_uid, head.study_id
    data_set.StudyDate, data_set.StudyTime, data_set.StudyDescription = head.date, head.time, head.description
    data_set.ReferringPhysicianName = ""
    data_set.SeriesInstanceUID, data_set.SeriesNumber = f"{head.study_instance_uid}.{number}", number
    data_set.InstanceNumber = number
    data_set.SOPInstanceUID = f"{head.study_instance_uid}.{number}.1"
    data_set.file_meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    return data_set


def _write_scripts(folder: Path) -> None:
    """A patient for each script: nothing but the name needs its character set."""
    for number, (script, (character_set, name)) in enumerate(SCRIPTS.items(), 1):
        data_set = _settle(make_object(), f"NAME.{script}", 1)
        data_set["PixelData"].VR = "OW"
        data_set.SpecificCharacterSet, data_set.PatientName, data_set.PatientID = character_set, name, f"SCRIPT{number}"
        data_set.save_as(folder / f"{script}.dcm", enforce_file_format=True)


def list_cases() -> Iterator[Case]:
    yield Case("single study", _write_single, ("SINGLE",))
    yield Case("two studies of one accession number", _write_two_studies, ("TWO.STUDIES",))
    yield Case("several accession numbers", _write_several_accessions, ("SEVERAL.1", "SEVERAL.2", "SEVERAL.3"))
    yield Case("modality filter", _write_mixed, ("@modality MR", "MIXED"), modality="MR")
    yield Case("forward", _write_forward, ("@forward WORKSTATION", "FORWARD"), forwarded=True)
    yield Case("1,000 instances", _write_many, ("MANY",))
    received = "@profile as-received"  # nothing is converted, so that what was stored can be compared with what is on the disc
    jpeg = _write_shipped("JPEG", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_jpeg_gdcm.dcm=UltrasoundImageStorage")
    yield Case("JPEG", jpeg, (received, "JPEG"))
    yield Case("JPEG-LS", _write_shipped("JPEG.LS", "MR_small_jpeg_ls_lossless.dcm"), (received, "JPEG.LS"))
    yield Case("JPEG 2000", _write_shipped("JPEG.2000", "MR_small_jp2klossless.dcm", "693_J2KI.dcm"), (received, "JPEG.2000"))
    yield Case("RLE", _write_shipped("RLE", "MR_small_RLE.dcm"), (received, "RLE"))
    yield Case("Enhanced multi-frame", _write_enhanced, ("ENHANCED",))
    yield Case("structured report", lambda folder: _write_report(folder, "REPORT"), ("REPORT",))
    yield Case("key object selection", _write_generated("KEY.OBJECT", "KO", uid.KeyObjectSelectionDocumentStorage), ("KEY.OBJECT",))
    states = (uid.GrayscaleSoftcopyPresentationStateStorage, uid.ColorSoftcopyPresentationStateStorage)
    yield Case("presentation state", _write_generated("STATE", "PR", *states), ("STATE",))
    yield Case("encapsulated PDF", _write_pdf, ("PDF",))
    radiotherapy = _write_shipped("RT", "rtplan.dcm", "rtdose_1frame.dcm", "rtstruct.dcm")
    yield Case("radiotherapy", radiotherapy, ("RT",))
    yield Case("waveform", _write_shipped("WAVEFORM", "waveform_ecg.dcm"), ("WAVEFORM",))
    yield Case("private SOP class", _write_private, ("PRIVATE",))
    names = tuple(f"NAME.{script}" for script in SCRIPTS)
    yield Case("names in seven scripts", _write_scripts, ("@allow several-patients", *names))


CASES = tuple(list_cases())
