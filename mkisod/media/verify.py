"""Reads a finished file-set back as a stranger would and says in plain words what is wrong with it.

For any disc, ours or not, in a folder, an ISO 9660 image or a ZIP archive. Knows what the standard asks, not how `build_disc` works:
it follows the links of the DICOMDIR, opens every file that a record references, and compares. A good disc has no `Fault`. Faults name
keys, UIDs and File IDs, never the text of a patient.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

from mkisod.errors import Permanent
from mkisod.job.patient import PatientIdentity
from mkisod.media.directory import ReadRecord, read_directory, split_file_id
from mkisod.media.header import Header, HeaderReader
from mkisod.media.iso import SECTOR_BYTES, is_iso_name
from mkisod.media.keys import KEYS, TAGS, TEXT_VRS
from mkisod.media.record_types import ROOT_RECORD_TYPES, find_record_type
from mkisod.media.source import ArchiveSource, ImageSource, Source, SourceDefect, open_source
from mkisod.media.sums import SUMS_NAME, check_sums

_COMPONENT = re.compile(r"[A-Z0-9_]{1,8}")
_FILE_SET_ID = re.compile(r"[A-Z0-9_ ]{0,16}")
_COMPARE_BLOCK_BYTES = 1 << 20

# PS3.3 Table F.4-1, as far as it says more than "any".
_BELOW = {
    "": {"PATIENT", "PRIVATE", *ROOT_RECORD_TYPES},
    "PATIENT": {"STUDY", "HANGING PROTOCOL", "PRIVATE"},
    "STUDY": {"SERIES", "PRIVATE"},
}
_LEVEL_UIDS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}
_UPPER = ("PATIENT", "STUDY", "SERIES")
_UPPER_KEYWORDS = frozenset(key.keyword for record_type in _UPPER for key in KEYS[record_type])
# Keys whose value is not that of the attribute of the same name at the top of the data set.
_MADE_BY_CREATOR = frozenset({"VerificationDateTime", "PrivateRecordUID"})

# Keyword to the values that files have.
ValuesBelow = dict[str, set[bytes]]


@frozen
class Fault:
    """One thing that is wrong: where, and what."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


def verify_path(path: Path) -> tuple[Fault, ...]:
    """What is wrong with the disc at `path`: a folder, an image or an archive; or with all of them in the folder of a result.

    Raises OSError where it cannot be read at all.
    """
    if (path / SUMS_NAME).is_file() and not (path / "DICOMDIR").exists():
        return tuple(fault for inner in sorted(path.iterdir()) if _is_volume(inner) for fault in verify_path(inner))
    faults = [Fault(where, message) for where, message in check_sums(path)]
    try:
        with open_source(path) as source:
            if isinstance(source, ImageSource):
                faults += _verify_image(source, path)
            elif isinstance(source, ArchiveSource) and (damaged := source.find_damaged()):
                faults.append(Fault(damaged, "its content is not that of which the archive holds the checksum"))
            faults += _verify_file_set(source)
    except SourceDefect as defect:
        faults.append(Fault(path.name, str(defect)))
    return tuple(faults)


def _is_volume(path: Path) -> bool:
    return path.suffix.upper() in (".ISO", ".ZIP") or path.is_dir()


def compare_trees(image: Path, tree: Path) -> tuple[Fault, ...]:
    """Where an image or archive differs from the folder it was made of, byte by byte."""
    faults = []
    try:
        with open_source(tree) as folder, open_source(image) as source:
            for path in sorted({*folder.sizes, *source.sizes}):
                if folder.sizes.get(path) != source.sizes.get(path):
                    faults.append(Fault(path, f"{image.name} does not hold the same file"))
                    continue
                with folder.open(path) as expected, source.open(path) as found:
                    while block := expected.read(_COMPARE_BLOCK_BYTES):
                        if found.read(len(block)) != block:
                            faults.append(Fault(path, f"its content in {image.name} is not that of the tree"))
                            break
    except SourceDefect as defect:
        faults.append(Fault(image.name, str(defect)))
    return tuple(faults)


def _verify_image(source: ImageSource, path: Path) -> Iterator[Fault]:
    """PS3.12 F.2: what the disc asks of ISO 9660."""
    size = source.size_bytes
    if size < source.volume.size_bytes or size % SECTOR_BYTES:
        yield Fault(path.name, f"the image has {size} bytes, its volume descriptor says {source.volume.size_bytes}")
    if source.volume.system_identifier:
        yield Fault(path.name, "the system identifier is not blank (PS3.12 F.2.2.1)")
    for name in source.sizes:
        if not is_iso_name(name):
            yield Fault(name, "the name is not one of ISO 9660 level 1")
    if "DICOMDIR" in source.sizes:
        with source.open("DICOMDIR") as file:
            file_set_id = read_directory(file, source.sizes["DICOMDIR"]).file_set_id
        if file_set_id != source.volume.volume_identifier:
            yield Fault(path.name, f"the volume identifier {source.volume.volume_identifier!r} is not the File-set ID {file_set_id!r}")


def _verify_file_set(source: Source) -> list[Fault]:
    if "DICOMDIR" not in source.sizes:
        return [Fault("DICOMDIR", "there is no file of this name in the root")]
    with source.open("DICOMDIR") as file:
        directory = read_directory(file, source.sizes["DICOMDIR"])
    faults = [Fault("DICOMDIR", defect) for defect in directory.defects]
    if not _FILE_SET_ID.fullmatch(directory.file_set_id):
        faults.append(Fault("DICOMDIR", f"the File-set ID {directory.file_set_id!r} is not made of A-Z, 0-9 and _ (PS3.10 8.5)"))
    check = _FileSetCheck(source)
    for root in directory.roots:
        check.check_record(root, ())
    return [*faults, *check.faults, *check.check_once_only(), *check.check_unreferenced()]


@frozen
class _Record:
    """A directory record while it and what is below it are checked."""

    record_type: str
    offset: int
    values: Mapping[int, bytes]

    @property
    def file_id(self) -> tuple[str, ...]:
        return split_file_id(self.values)

    def find_value(self, tag: int) -> bytes:
        """The value of a text element without padding; b"" where it is absent."""
        return self.values.get(tag, b"").strip(b" \0")


class _FileSetCheck:
    """Collects what the records say while they are checked one by one."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._headers = HeaderReader()
        self.faults: list[Fault] = []
        self._uids: dict[str, Counter[str]] = defaultdict(Counter)
        self._unreferenced = set(source.sizes)
        self._folders: set[str] = set()  # of the root, in which something is referenced
        self._again: Counter[str] = Counter()  # how often files were referenced that had been before

    def check_record(self, found: ReadRecord, above: tuple[_Record, ...]) -> ValuesBelow:
        """Checks a record and all below it. Returns what the files below say of their patient, study and series."""
        record = _Record(found.record_type, found.offset, found.read_values())
        where = self._name(record)
        parent = above[-1].record_type if above else ""
        if record.record_type not in KEYS:
            self._add(where, f"{record.record_type!r} is not a type of directory record")
        elif record.record_type not in _BELOW.get(parent, set(KEYS)):
            self._add(where, f"a {record.record_type} record does not belong below {parent or 'the root'}")
        for key in KEYS.get(record.record_type, ()):
            if key.type == "1C":
                continue
            if key.tag not in record.values:
                self._add(where, f"the key {key.keyword} is missing (type {key.type})")
            elif key.type == "1" and not record.find_value(key.tag):
                self._add(where, f"the key {key.keyword} is empty (type 1)")
        for level, keyword in (("PATIENT", "PatientID"), *_LEVEL_UIDS.items()):
            if record.record_type == level:
                self._uids[keyword][record.find_value(TAGS[keyword]).decode("latin-1")] += 1
        below: ValuesBelow = defaultdict(set)
        for lower in found.lower:
            for keyword, values in self.check_record(lower, (*above, record)).items():
                below[keyword] |= values
        if record.file_id:
            header = self._check_file(record, above)
            if header is not None:
                self._check_keys(record, {key.keyword: {header.find_value(key.keyword)} for key in KEYS.get(record.record_type, ())})
                for keyword in _UPPER_KEYWORDS:
                    below[keyword].add(header.find_value(keyword))
        elif record.record_type in KEYS and record.record_type not in _UPPER:
            self._add(where, "it references no file")
        if record.record_type in _UPPER:
            if not found.lower:
                self._add(where, "there is nothing below it")
            self._check_keys(record, below)
        return below

    def _check_file(self, record: _Record, above: tuple[_Record, ...]) -> Header | None:
        where = self._name(record)
        if len(record.file_id) > 8 or not all(_COMPONENT.fullmatch(component) for component in record.file_id):
            self._add(where, "the File ID is not at most 8 components of at most 8 characters A-Z, 0-9 and _ (PS3.10 8.2, 8.5)")
        path = "/".join(record.file_id)
        if path not in self._source.sizes:
            self._add(where, "there is no such file")
            return None
        if path not in self._unreferenced:
            self._again[path] += 1
        self._unreferenced.discard(path)
        if "/" in path:
            self._folders.add(path.partition("/")[0])
        size = self._source.sizes[path]
        try:
            with self._source.open(path) as file:
                header = self._headers.read_from(file, Path(path), size)
        except Permanent as defect:
            self._add(where, defect.message)
            return None
        expected = (
            (0x00041510, "SOP Class UID", header.media_sop_class_uid, header.find_text("SOPClassUID")),
            (0x00041511, "SOP Instance UID", header.media_sop_instance_uid, header.find_text("SOPInstanceUID")),
            (0x00041512, "Transfer Syntax UID", header.transfer_syntax_uid, header.transfer_syntax_uid),
        )
        for tag, name, in_meta, in_data_set in expected:
            if record.find_value(tag).decode("latin-1") != in_meta:
                self._add(where, f"the record says another {name} than the file")
            if in_meta != in_data_set:
                self._add(where, f"the file has one {name} in its file meta information and another in its data set")
        self._uids["SOPInstanceUID"][header.media_sop_instance_uid] += 1
        if (wanted := find_record_type(header.media_sop_class_uid)) != record.record_type and wanted != "PRIVATE":
            self._add(where, f"a file of this SOP class belongs to a {wanted} record, not to a {record.record_type} record")
        for upper in above:
            self._check_place(upper, header, where)
        return header

    def _check_place(self, upper: _Record, header: Header, where: str) -> None:
        """The file is below the patient, the study and the series that it names itself."""
        if keyword := _LEVEL_UIDS.get(upper.record_type):
            if upper.find_value(TAGS[keyword]) != header.find_value(keyword):
                self._add(where, f"the file has another {keyword} than the {upper.record_type} record above it")
        elif upper.record_type == "PATIENT":
            own = header.find_value("PatientID")
            if own != upper.find_value(TAGS["PatientID"]) and PatientIdentity(own.decode("latin-1")).has_usable_id:
                self._add(where, "the file has another PatientID than the PATIENT record above it")

    def _check_keys(self, record: _Record, below: ValuesBelow) -> None:
        """What a record says, one of the files below it says too; what none of them has, a file-set creator may have supplied."""
        for key in KEYS.get(record.record_type, ()):
            value = record.find_value(key.tag)
            own = below.get(key.keyword, set()) - {b""}
            if key.vr in TEXT_VRS and value and own and value not in own and key.keyword not in _MADE_BY_CREATOR:
                self._add(self._name(record), f"the key {key.keyword} has a value that no file below has")

    def check_once_only(self) -> Iterator[Fault]:
        for keyword, counts in self._uids.items():
            for value, count in counts.items():
                if count > 1:
                    shown = "one PatientID" if keyword == "PatientID" else f"{keyword} {value}"
                    yield Fault("DICOMDIR", f"{count} records have {shown}; each may stand once")
        for path, more in self._again.items():
            yield Fault(path, f"{more + 1} records reference it; one may")

    def check_unreferenced(self) -> Iterator[Fault]:
        """Every DICOM file is referenced, and a folder that holds referenced files holds nothing else."""
        for path in sorted(self._unreferenced - {"DICOMDIR"}):
            if path.split("/")[0] in self._folders:
                yield Fault(path, "no record references it")
                continue
            with self._source.open(path) as file:
                if file.read(132)[128:] == b"DICM":
                    yield Fault(path, "it is a DICOM file that no record references")

    def _name(self, record: _Record) -> str:
        return "\\".join(record.file_id) or f"{record.record_type} record at byte {record.offset}"

    def _add(self, where: str, message: str) -> None:
        self.faults.append(Fault(where, message))
