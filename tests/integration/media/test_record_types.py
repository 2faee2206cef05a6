"""An object of every storage SOP class on one disc, judged by dciodvfy and dcdirdmp, and compared with dcmmkdir's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread, uid
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset

from mkisod.media.record_types import find_record_type
from mkisod.media.verify import verify_path
from tests.media.directories import build_with_dcmmkdir, compare_records, list_records
from tests.media.discs import make_disc
from tests.media.objects import make_object_with_all_keys, write_object
from tests.oracles import check_directory, check_image
from tests.peers import require

STORAGE = sorted(
    sop_class_uid
    for sop_class_uid, (name, kind, *_) in UID_dictionary.items()
    if kind == "SOP Class" and "Storage" in name and not re.search("Media Storage Directory|Storage Commitment", name)
)

# SOP classes that DCMTK 3.6.7 does not put into a directory: retired, younger than it, or for which it knows no record.
UNKNOWN_TO_DCMMKDIR = {
    sop_class_uid
    for sop_class_uid in STORAGE
    if find_record_type(sop_class_uid) in ("PRIVATE", "INVENTORY")
    or sop_class_uid
    in {
        uid.PhotoacousticImageStorage,
        uid.General32bitECGWaveformStorage,
        uid.VariableModalityLUTSoftcopyPresentationStateStorage,
        uid.ConfocalMicroscopyImageStorage,
        uid.ConfocalMicroscopyTiledPyramidalImageStorage,
        uid.WaveformAnnotationSRStorage,
        uid.EncapsulatedOBJStorage,
        uid.EncapsulatedMTLStorage,
        uid.EnhancedRTImageStorage,
        uid.EnhancedContinuousRTImageStorage,
        *(u for u in STORAGE if find_record_type(u) == "RADIOTHERAPY"),
    } - {uid.RTPhysicianIntentStorage, uid.RTSegmentAnnotationStorage, uid.RTRadiationSetStorage, uid.CArmPhotonElectronRadiationStorage}
}

# Where our records differ from dcmmkdir's under STD-GEN-DVD-JPEG, for objects that have everything.
DOCUMENTED = {
    "IMAGE SpecificCharacterSet: only in ours": "the items of a sequence of the record may hold text",
    "SPECTROSCOPY SpecificCharacterSet: only in ours": "as IMAGE",
    "SERIES SeriesDescription: only in ours": "viewers and our own pages show it (Type 3)",
    **{
        f"STEREOMETRIC {keyword}: only in ours": "dciodvfy wants them, dcmmkdir does not"
        for keyword in ("InstanceNumber", "ContentLabel", "ContentDescription", "ContentCreatorName", "SpecificCharacterSet")
    },
    "PRESENTATION BlendingSequence: differs": "dcmmkdir leaves a Type 3 element of the items out",
    "SR DOCUMENT VerificationDateTime: '20200107101010' is not '20200106101010'": "we take the latest, dcmmkdir the last",
    "IMPLANT ASSY DirectoryRecordType: 'IMPLANT ASSY' is not 'IMPLANT GROUP'": "dcmmkdir 3.6.7 has the two the wrong way round",
    "IMPLANT GROUP DirectoryRecordType: 'IMPLANT GROUP' is not 'IMPLANT ASSY'": "as above",
    "IMPLANT ASSY Manufacturer: only in ours": "see keys.py",
    "IMPLANT ASSY ImplantAssemblyTemplateIssuer: only in ours": "see keys.py",
}

# dciodvfy of Debian 12 is older than these types.
UNKNOWN_TO_DCIODVFY = {"ANNOTATION", "ASSESSMENT", "INVENTORY", "PLAN", "RADIOTHERAPY", "SURFACE SCAN", "TRACT"}


def make_tree(sop_class_uids: list[str], folder: Path) -> Path:
    paths = [
        write_object(make_object_with_all_keys(sop_class_uid, number), folder / f"object-{number}")
        for number, sop_class_uid in enumerate(sop_class_uids, 1)
    ]
    disc = make_disc(paths, folder / "result")
    assert disc.substitutions == ()
    assert disc.volumes[0].instances == len(sop_class_uids)
    return folder / "result" / "TEST_1"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree([str(sop_class_uid) for sop_class_uid in STORAGE], tmp_path_factory.mktemp("all"))


def test_one_disc_holds_every_storage_sop_class(tree: Path, tmp_path: Path) -> None:
    records = list_records(dcmread(tree / "DICOMDIR"))
    assert {str(records[file_id][-1].ReferencedSOPClassUIDInFile) for file_id in records} == set(STORAGE)
    assert len(STORAGE) > 190
    assert verify_path(tree) == ()
    check_image(tree.with_suffix(".ISO"), tree, tmp_path)


def test_dciodvfy_and_dcdirdmp_find_the_records_good(tmp_path: Path) -> None:
    known = [str(u) for u in STORAGE if find_record_type(u) not in UNKNOWN_TO_DCIODVFY]
    check_directory(make_tree(known, tmp_path))


def test_dciodvfy_complains_of_nothing_but_types_younger_than_it(tree: Path) -> None:
    done = subprocess.run([require("dciodvfy"), tree / "DICOMDIR"], check=False, capture_output=True, timeout=60)
    errors = {line for line in done.stderr.decode("latin-1").splitlines() if line.startswith("Error")}
    assert errors == {
        f"Error - Unrecognized enumerated value <{record_type}> for value 1 of attribute <Directory Record Type>"
        for record_type in UNKNOWN_TO_DCIODVFY
        if record_type != "RADIOTHERAPY"
    }


def test_the_records_are_those_of_dcmmkdir(tmp_path: Path) -> None:
    tree = make_tree([str(u) for u in STORAGE if u not in UNKNOWN_TO_DCMMKDIR], tmp_path)
    theirs = build_with_dcmmkdir(tree, tmp_path / "DICOMDIR", "-Pdv", "-Nxc", "-Nec", "-Nrc")
    differences = compare_records(dcmread(tree / "DICOMDIR"), theirs)
    assert {re.sub(r": <Sequence.*", ": differs", difference) for difference in differences} <= set(DOCUMENTED)


@pytest.mark.parametrize("sop_class_uid", sorted(UNKNOWN_TO_DCMMKDIR))
def test_what_is_said_to_be_unknown_to_dcmmkdir_is(sop_class_uid: str, tmp_path: Path) -> None:
    tree = make_tree([sop_class_uid], tmp_path)
    with pytest.raises(AssertionError, match=r"invalid SOP class|unknown|retired"):
        build_with_dcmmkdir(tree, tmp_path / "DICOMDIR", "-Pdv", "-Nxc", "-Nec", "-Nrc")


def test_private_records_say_whose_they_are(tmp_path: Path) -> None:
    ds: Dataset = make_object_with_all_keys("1.2.840.113619.4.26", 1)
    make_disc([write_object(ds, tmp_path / "object")], tmp_path / "result")
    check_directory(tmp_path / "result" / "TEST_1")
    (record,) = [above[-1] for above in list_records(dcmread(tmp_path / "result" / "TEST_1" / "DICOMDIR")).values()]
    assert record.DirectoryRecordType == "PRIVATE"
    assert record.PrivateRecordUID.startswith("2.25.")
