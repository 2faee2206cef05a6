"""What is accepted: pure choices."""

from __future__ import annotations

import pytest
from pydicom._uid_dict import UID_dictionary
from pynetdicom.sop_class import _QR_CLASSES, _STORAGE_CLASSES

from mkisod.pacs.negotiation import choose_transfer_syntax, is_address_allowed, is_storage_sop_class, is_uid

EXPLICIT, IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
JPEG, JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE = (f"1.2.840.10008.1.2.{end}" for end in ("4.50", "4.70", "4.80", "4.91", "5"))
PRIVATE, JPIP, SMPTE = "1.2.840.113619.5.2", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.7.1"


def test_every_storage_class_that_pynetdicom_knows_is_one() -> None:
    assert len(_STORAGE_CLASSES) > 150
    assert [uid for uid in _STORAGE_CLASSES.values() if not is_storage_sop_class(uid)] == []


def test_of_the_registry_those_with_storage_in_their_name_are() -> None:
    names = {uid: entry[0] for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class"}
    stored = {uid for uid in names if is_storage_sop_class(uid)}
    assert {"1.2.840.10008.5.1.1.27", "1.2.840.10008.5.1.4.1.1.3", "1.2.840.10008.5.1.4.1.1.9.1", "1.2.840.10008.5.1.4.38.1"} <= stored
    assert not stored & set(_QR_CLASSES.values())
    assert {names[uid] for uid in names if "Storage" in names[uid] and uid not in stored} == {
        "Storage Commitment Push Model SOP Class",
        "Storage Commitment Pull Model SOP Class",
        "Media Storage Directory Storage",
    } | {name for name in names.values() if name.startswith("Storage Management")}


@pytest.mark.parametrize("uid", ["1.2.840.10008.5.1.4.1.1.12345.6", "1.2.826.0.1.3680043.2.1", "1.3.46.670589.2.5.1.1"])
def test_new_and_private_ones_are_too(uid: str) -> None:
    assert is_storage_sop_class(uid)


@pytest.mark.parametrize("uid", ["", "x", "1.2.840.10008.1.1", "1.2.840.10008.1.2", "1.2.840.10008.99.1", "../x", "1.2." + "3" * 64])
def test_others_are_none(uid: str) -> None:
    assert not is_storage_sop_class(uid)


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([IMPLICIT, EXPLICIT, JPEG_LOSSLESS], EXPLICIT),
        ([JPEG, IMPLICIT, RLE, JPEG_LOSSLESS], RLE),
        ([BIG_ENDIAN, IMPLICIT], IMPLICIT),
        ([JPEG, BIG_ENDIAN], BIG_ENDIAN),
        ([JPEG, PRIVATE], PRIVATE),
        ([JPEG_2000, JPEG], JPEG_2000),
        (["1.2.840.10008.1.2.4.999"], "1.2.840.10008.1.2.4.999"),
        ([JPIP, JPEG], JPEG),
        ([JPIP, SMPTE], None),
        (["nonsense"], None),
        ([], None),
    ],
)
def test_transfer_syntaxes_in_the_order_of_preference(proposed: list[str], chosen: str | None) -> None:
    assert choose_transfer_syntax(proposed) == chosen


LOSSY = ["4.50", "4.51", "4.81", "4.91", "4.93", "4.100", "4.102.1", "4.107", "4.203"]
LOSSLESS = ["1.98", "1.99", "4.57", "4.70", "4.80", "4.90", "4.92", "4.201", "4.202", "5"]


@pytest.mark.parametrize("lossy", LOSSY)
@pytest.mark.parametrize("better", [*LOSSLESS, "", "2"])
def test_lossy_only_where_nothing_else_is_proposed(lossy: str, better: str) -> None:
    other = f"1.2.840.10008.1.2.{better}".rstrip(".")
    assert choose_transfer_syntax([f"1.2.840.10008.1.2.{lossy}", other]) == other


def test_uncompressed_only() -> None:
    assert choose_transfer_syntax([RLE, BIG_ENDIAN], uncompressed=True) == BIG_ENDIAN
    assert choose_transfer_syntax([RLE, JPEG], uncompressed=True) is None


@pytest.mark.parametrize("uid", ["1.2", "1.02.3", "2.25." + "9" * 59])
def test_uids(uid: str) -> None:
    assert is_uid(uid)


@pytest.mark.parametrize("uid", ["", "1", ".", "..", "1..2", "1.2.", ".1", "1.a", "1/2.3", "1.2\n", "1.٣", "2.25." + "9" * 60])
def test_no_uids(uid: str) -> None:
    assert not is_uid(uid)


@pytest.mark.parametrize(
    ("address", "allowed", "expected"),
    [
        ("10.1.2.3", (), True),
        ("10.1.2.3", ("10.1.2.3",), True),
        ("10.1.2.3", ("10.0.0.0/8",), True),
        ("10.1.2.3", ("10.1.2.4/24",), True),
        ("10.1.2.3", ("pacs",), True),
        ("10.1.2.3", ("10.1.2.4", "unknown"), False),
        ("2001:db8::1", ("10.0.0.0/8", "2001:db8::/32"), True),
        ("2001:db8::1", ("0.0.0.0/0",), False),
    ],
)
def test_addresses(address: str, allowed: tuple[str, ...], expected: bool) -> None:
    names = {"pacs": ["2001:db8::7", "10.1.2.3"]}
    assert is_address_allowed(address, allowed, lambda name: names.get(name, [])) is expected
