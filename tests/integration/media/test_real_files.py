"""Every Part 10 file that pydicom ships with a place in a hierarchy: alone and together, each transfer syntax, and names in many scripts."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pydicom.data
import pytest
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet

from mkisod.errors import Code, Permanent
from mkisod.media.disc import Disc
from mkisod.media.header import read_header
from mkisod.media.records import describe_instance
from mkisod.media.verify import verify_path
from tests.media.directories import build_with_dcmmkdir, compare_records, list_records
from tests.media.discs import make_disc
from tests.media.objects import make_object, write_object
from tests.oracles import check_directory, check_entities, check_image, find_differences
from tests.peers import require

DATA = Path(pydicom.data.__file__).parent


def is_part_10(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


FILES = sorted(path for path in DATA.rglob("*") if path.is_file() and not path.name.startswith("DICOMDIR") and is_part_10(path))

# What makes these no objects of a disc, and who agrees.
REFUSED = {
    "JPEGLSNearLossless_08.dcm": "no Study Instance UID",
    "JPEGLSNearLossless_16.dcm": "no Study Instance UID",
    "MR_truncated.dcm": "damaged",
    "SC_rgb_jls_lossy_line.dcm": "no Study Instance UID",
    "SC_rgb_jls_lossy_sample.dcm": "no Study Instance UID",
    "SC_rgb_jpeg.dcm": "damaged",
    "chrJapMulti.dcm": "another SOP instance",
    "chrJapMultiExplicitIR6.dcm": "another SOP instance",
    "chrSQEncoding.dcm": "no Study Instance UID",
    "chrSQEncoding1.dcm": "no Study Instance UID",
}


@pytest.fixture(params=FILES, ids=lambda path: str(path.relative_to(DATA)))
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path
