"""The scan of the head of a data set, held against pydicom on every file that comes with it, and against what is malformed."""

from __future__ import annotations

import random
import struct
import warnings
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import python_encoding
from pydicom.data import get_testdata_file

from mkisod.explicit_vr import Walker
from mkisod.job.patient import PatientIdentity
from mkisod.pacs import header as header_module
from mkisod.pacs.header import LIMIT_BYTES, make_walker, scan_header
from mkisod.pacs.negotiation import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from mkisod.pacs.reception import Header
from tests.receiver.client import read_data_set

ENCODINGS = [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]


def read_with_pydicom(path: Path) -> Header | None:
    """None: it is no Part 10 file of a composite instance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data_set = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception:  # noqa: BLE001 - some of them are broken on purpose
            return None
        if "TransferSyntaxUID" not in data_set.file_meta or "SOPInstanceUID" not in data_set:
            return None

        def text(keyword: str) -> str:
            return str(data_set.get(keyword) or "").strip(" \0")

        patient = PatientIdentity(text("PatientID"), text("IssuerOfPatientID"), text("PatientName"), text("PatientBirthDate"))
        uids = [text(keyword) for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")]
        return Header(uids[0], uids[1], uids[2], uids[3], text("AccessionNumber"), text("Modality"), patient)


def explicit(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    long = vr in {b"SQ", b"UN", b"OB", b"UT"}
    size = len(value) if length is None else length
    return struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr) + struct.pack("<2xI" if long else "<H", size) + value


ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
ITEM_END, SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
SERIES = explicit(0x0020000E, b"UI", b"1.2.9\0")


# For all of them: what it remembers of one is to change nothing in another.
WALKER = make_walker()


def scan(data: bytes, transfer_syntax_uid: str = EXPLICIT_VR_LITTLE_ENDIAN) -> Header:
    header = scan_header(data, transfer_syntax_uid, WALKER, whole=True)
    assert header is not None
    return header


# Encoded in another way than their transfer syntax says. No sender gets such a data set across as it is.
CONTRADICTORY = {"SC_rgb_jpeg.dcm"}


def test_every_file_of_pydicom_reads_the_same() -> None:
    compared = set()
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm")):
        if path.read_bytes()[128:132] != b"DICM" or (expected := read_with_pydicom(path)) is None:
            continue
        transfer_syntax_uid = pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
        if path.name in CONTRADICTORY:
            expected = Header()
        assert scan(read_data_set(path), transfer_syntax_uid) == expected, path.name
        compared.add(transfer_syntax_uid)
    assert len(compared) > 10
    assert {IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN} <= compared


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "image_dfl.dcm", "reportsi.dcm"])
def test_what_is_cut_short_asks_for_more_or_knows_already(name: str) -> None:
    path = Path(str(get_testdata_file(name)))
    data, uid = read_data_set(path), pydicom.dcmread(path).file_meta.TransferSyntaxUID
    expected = scan(data, uid)
    decided = False
    for size in range(min(len(data), 6000)):
        header = scan_header(data[:size], uid, WALKER, whole=False)
        assert header in (None, expected), size
        assert not decided or header, f"{size} bytes told less than fewer did"
        decided = header is not None
        scan(data[:size], uid)
    assert decided


@pytest.mark.parametrize("walker", [make_walker(), WALKER])
def test_what_comes_behind_the_series_again_counts_for_nothing(walker: Walker) -> None:
    """However much of it the first fragment holds."""
    first, second = explicit(0x00100020, b"LO", b"FIRST "), explicit(0x00100020, b"LO", b"SECOND") + SERIES.replace(b"1.2.9", b"3.4.5")
    for _ in range(2):
        for data in (first + SERIES, first + SERIES + second, first + SERIES + second * 9):
            header = scan_header(data, EXPLICIT_VR_LITTLE_ENDIAN, walker, whole=False)
            assert header is not None
            assert (header.patient.patient_id, header.series_instance_uid) == ("FIRST", "1.2.9")


NESTED = {
    "item_of_undefined_length": ITEM + explicit(0x0020000E, b"UI", b"9.9\0") + ITEM_END + SEQUENCE_END,
    "item_of_defined_length": struct.pack("<HHI", 0xFFFE, 0xE000, 12) + explicit(0x0020000E, b"UI", b"9.9\0") + SEQUENCE_END,
    "sequence_within": ITEM + explicit(0x00081140, b"SQ", b"", 0xFFFFFFFF) + ITEM + ITEM_END + SEQUENCE_END + ITEM_END + SEQUENCE_END,
    "no_items": SEQUENCE_END,
}


@pytest.mark.parametrize("items", NESTED.values(), ids=NESTED.keys())
def test_sequences_of_undefined_length_are_stepped_over(items: bytes) -> None:
    assert scan(explicit(0x00081140, b"SQ", b"", 0xFFFFFFFF) + items + SERIES).series_instance_uid == "1.2.9"


def test_unknown_of_undefined_length_holds_implicit_vr() -> None:
    """PS3.5 section 6.2.2: there the VR is missing even in Explicit VR."""
    inner = ITEM + struct.pack("<HHI", 0x0008, 0x1150, 4) + b"1.2\0" + ITEM_END + SEQUENCE_END
    assert scan(explicit(0x00091001, b"UN", b"", 0xFFFFFFFF) + inner + SERIES).series_instance_uid == "1.2.9"


def test_a_vr_of_the_future_has_the_long_form() -> None:
    future = struct.pack("<HH2s2xI", 0x0009, 0x1002, b"ZZ", 3) + b"abc"
    assert scan(future + SERIES).series_instance_uid == "1.2.9"


@pytest.mark.parametrize(
    "data",
    [b"", bytes(7), bytes(5000), ITEM_END * 3, SEQUENCE_END, b"\xff" * 5000, explicit(0x00080016, b"UI", b"", 0xFFF0), b"GET / HTTP/1.1"],
    ids=["empty", "short", "zeros", "item_end", "sequence_end", "ones", "beyond_the_end", "http"],
)
@pytest.mark.parametrize("uid", [*ENCODINGS, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "1.2.3"])
def test_garbage_has_no_header(data: bytes, uid: str) -> None:
    assert scan(data, uid) == Header()


@given(st.binary(max_size=300), st.sampled_from(ENCODINGS))
def test_nothing_it_is_given_makes_it_fail(data: bytes, uid: str) -> None:
    scan(data, uid)


def test_mutated_data_sets_do_not_make_it_fail() -> None:
    random_ = random.Random(1)  # noqa: S311 - to be repeated
    original = read_data_set(Path(str(get_testdata_file("CT_small.dcm"))))[:3000]
    for _ in range(3000):
        mutated = bytearray(original)
        for _ in range(random_.randrange(1, 6)):
            mutated[random_.randrange(len(mutated))] = random_.randrange(256)
        scan(bytes(mutated))


def test_a_deflated_bomb_is_not_inflated() -> None:
    deflater = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(200)) + deflater.flush()
    assert len(bomb) < LIMIT_BYTES
    assert scan_header(bomb, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, make_walker(), whole=False) == Header()


NAME = {
    "ISO_IR 100": ("Müller^Jürgen", "latin-1"),
    "ISO_IR 192": ("Nováček^Žofie", "utf-8"),
    "ISO_IR 144": ("Люкceмбypг", "iso8859-5"),
    "GB18030": ("王^小东", "gb18030"),
    "ISO IR 192": ("Nováček^Žofie", "utf-8"),  # misspelled: seen in the wild
    "iso-ir-192": ("Nováček^Žofie", "utf-8"),
    "": ("Yamada^Tarou", "ascii"),
}


@pytest.mark.parametrize("term", NAME, ids=str)
def test_names_are_decoded(term: str) -> None:
    name, encoding = NAME[term]
    data = explicit(0x00080005, b"CS", term.encode()) + explicit(0x00100010, b"PN", name.encode(encoding)) + SERIES
    assert scan(data).patient.name == name


def test_code_extensions_as_in_ps3_5_annex_h() -> None:
    raw = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
    data = explicit(0x00080005, b"CS", b"\\ISO 2022 IR 87") + explicit(0x00100010, b"PN", raw) + SERIES
    assert scan(data).patient.name == "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("term", [*python_encoding, "\\".join(python_encoding), "NONSENSE", "\\\\\\", "\x1b\xff"], ids=ascii)
def test_no_character_set_makes_it_fail(term: str) -> None:
    for raw in (b"\xff\xfe^\x80", b"\x1b$)C\xfb\xf3", b"\x1b", b"\x1b$B\xff", b"\x1b(Z~"):
        data = explicit(0x00080005, b"CS", term.encode("latin-1")) + explicit(0x00100020, b"LO", raw) + SERIES
        assert scan(data).series_instance_uid == "1.2.9"


def test_what_a_peer_sends_is_never_in_a_warning() -> None:
    """Python keeps each text of a warning for ever: a peer could fill the memory with them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scan(explicit(0x00080005, b"CS", b"SECRET") + explicit(0x00100010, b"PN", b"\xff\xfe\x1b$Bxx") + SERIES)
    assert not [warning for warning in caught if "SECRET" in str(warning.message)]


def test_the_cost_of_looking_again_is_bounded() -> None:
    """A walk over elements is linear; who calls it looks again only when twice as much is there (instance.py)."""
    data = explicit(0x00090001, b"UL", b"") * 1000
    found: dict[int, bytes] = {}
    assert header_module._walk(data, found, make_walker(), big_endian=False, implicit=False) is False
    assert not found
