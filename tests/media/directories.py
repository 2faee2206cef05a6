"""Another maker of DICOMDIRs, DCMTK's dcmmkdir, and a comparison of its records with ours, element by element."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.peers import require

_DEADLINE_S = 120
_LINKS = {0x00041400, 0x00041420}


def build_with_dcmmkdir(tree: Path, dicomdir: Path, *options: str) -> Dataset:
    """The DICOMDIR that dcmmkdir makes of the files of `tree`, written to `dicomdir`. Fails with its words where it refuses one."""
    # Without -a it leaves out what it refuses and ends with status 0; without +D it takes the DICOMDIR of the tree for its own.
    command = [require("dcmmkdir"), "-a", *options, "+r", "+id", str(tree), "+D", str(dicomdir), "DICOM"]
    done = subprocess.run(command, check=False, timeout=_DEADLINE_S, capture_output=True, encoding="utf-8", errors="replace")
    assert done.returncode == 0, f"dcmmkdir ended with exit status {done.returncode} and said:\n{done.stdout}{done.stderr}"
    return dcmread(dicomdir)


def list_records(dicomdir: Dataset) -> dict[str, tuple[Dataset, ...]]:
    """By File ID: the leaf record and those above it, outermost first, as the links lead to them."""
    by_offset = {item.seq_item_tell: item for item in dicomdir.DirectoryRecordSequence}
    found: dict[str, tuple[Dataset, ...]] = {}

    def follow(offset: int, above: tuple[Dataset, ...]) -> None:
        while offset:
            record = by_offset[offset]
            if "ReferencedFileID" in record:
                found["/".join(record.ReferencedFileID)] = (*above, record)
            follow(record.OffsetOfReferencedLowerLevelDirectoryEntity, (*above, record))
            offset = record.OffsetOfTheNextDirectoryRecord

    follow(dicomdir.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity, ())
    return found


def compare_records(ours: Dataset, theirs: Dataset) -> set[str]:
    """Every difference of the records over the same files, as "IMAGE Rows: only in ours"."""
    our_records, their_records = list_records(ours), list_records(theirs)
    differences = {f"{file_id}: only in ours" for file_id in our_records.keys() - their_records.keys()}
    differences |= {f"{file_id}: only in theirs" for file_id in their_records.keys() - our_records.keys()}
    for file_id in our_records.keys() & their_records.keys():
        for mine, other in zip(our_records[file_id], their_records[file_id], strict=True):
            for tag in sorted({*mine.keys(), *other.keys()} - _LINKS):
                name = f"{mine.DirectoryRecordType} {(mine if tag in mine else other)[tag].keyword}"
                if tag not in other:
                    differences.add(f"{name}: only in ours")
                elif tag not in mine:
                    differences.add(f"{name}: only in theirs")
                elif mine[tag] != other[tag]:
                    differences.add(f"{name}: {mine[tag].value!r} is not {other[tag].value!r}")
    return differences
