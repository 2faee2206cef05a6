"""Command sets and identifiers, held against pydicom's reading and writing of the same."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import decode

from mkisod.demo.commands import C_FIND_RQ, answer_to, decode_command, encode_command
from mkisod.demo.identifiers import MalformedIdentifier, decode_identifier, encode_identifier

SYNTAXES = [str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)]
COMMAND: dict[str, int | str] = {
    "AffectedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "CommandField": 1,
    "MessageID": 65535,
    "Priority": 0,
    "CommandDataSetType": 1,
    "AffectedSOPInstanceUID": "1.2.3",
    "MoveOriginatorApplicationEntityTitle": "ASKER",
    "MoveOriginatorMessageID": 7,
}


def test_a_command_set_reads_the_same_to_pydicom() -> None:
    encoded = encode_command(COMMAND)
    read = decode(BytesIO(encoded), is_implicit_vr=True, is_little_endian=True)
    assert read.CommandGroupLength == len(encoded) - 12
    assert {keyword: read[keyword].value for keyword in COMMAND} == COMMAND
    assert [element.tag for element in read] == sorted(element.tag for element in read)
    assert decode_command(encoded) == COMMAND


def test_counters_stop_at_what_their_vr_can_say() -> None:
    assert decode_command(encode_command({"NumberOfCompletedSuboperations": 70000})) == {"NumberOfCompletedSuboperations": 65535}


def test_an_element_outside_the_table_is_no_command() -> None:
    with pytest.raises(KeyError):
        encode_command({"PatientName": "x"})


def test_a_response_says_what_it_responds_to() -> None:
    request: dict[str, int | str] = {"AffectedSOPClassUID": "1.2", "CommandField": C_FIND_RQ, "MessageID": 9}
    answer = answer_to(request, 0xFF00, {"ErrorComment": "x"}, data_set=True)
    assert (answer["CommandField"], answer["MessageIDBeingRespondedTo"], answer["CommandDataSetType"]) == (0x8020, 9, 1)
    assert (answer["Status"], answer["ErrorComment"], answer["AffectedSOPClassUID"]) == (0xFF00, "x", "1.2")
    assert answer_to(request, 0)["CommandDataSetType"] == 0x0101


@given(st.binary(max_size=200))
def test_hostile_command_sets_raise_value_error_at_most(encoded: bytes) -> None:
    try:
        decode_command(encoded)
    except ValueError:
        return


@given(st.integers(0, 100), st.integers(0, 255))
def test_a_command_set_with_one_byte_changed_raises_value_error_at_most(place: int, value: int) -> None:
    encoded = bytearray(encode_command(COMMAND))
    encoded[place % len(encoded)] = value
    try:
        decode_command(bytes(encoded))
    except ValueError:
        return


@pytest.mark.parametrize("syntax_uid", SYNTAXES)
def test_an_identifier_reads_the_same_to_pydicom(syntax_uid: str) -> None:
    values = {
        "PatientName": "Zoë".encode(),
        "SpecificCharacterSet": b"ISO_IR 192",
        "StudyInstanceUID": b"1.2.3",
        "NumberOfStudyRelatedInstances": b"7",
        "QueryRetrieveLevel": b"STUDY",
        "AccessionNumber": b"",
    }
    read = decode(BytesIO(encode_identifier(values, syntax_uid)), syntax_uid == ImplicitVRLittleEndian, is_little_endian=True)
    assert (str(read.PatientName), read.StudyInstanceUID, read.NumberOfStudyRelatedInstances) == ("Zoë", "1.2.3", 7)
    assert (read.QueryRetrieveLevel, read.AccessionNumber, len(read)) == ("STUDY", "", 6)


def test_a_list_longer_than_its_vr_can_say() -> None:
    """PS3.5 6.2.2: with explicit VR it is sent as VR UN. pydicom leaves that undecoded."""
    uids = [f"2.25.{10**38 + number}" for number in range(3000)]
    implicit, explicit = (encode_identifier({"FailedSOPInstanceUIDList": "\\".join(uids).encode()}, uid) for uid in reversed(SYNTAXES))
    assert list(decode(BytesIO(implicit), is_implicit_vr=True, is_little_endian=True).FailedSOPInstanceUIDList) == uids
    element = decode(BytesIO(explicit), is_implicit_vr=False, is_little_endian=True)["FailedSOPInstanceUIDList"]
    assert (element.VR, element.value.decode().rstrip("\0").split("\\")) == ("UN", uids)


@pytest.mark.parametrize("syntax_uid", SYNTAXES)
@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 192", "山田^太郎"),
        ("ISO_IR 100", "Müller"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        ("ISO_IR 144", "Люкceмбypг"),
    ],
)
def test_keys_are_read_in_their_character_set(syntax_uid: str, character_set: str | list[str], name: str) -> None:
    data_set = Dataset()
    data_set.SpecificCharacterSet = character_set
    data_set.QueryRetrieveLevel = "STUDY"
    data_set.PatientName = name
    data_set.StudyInstanceUID = ["1.2", "1.3"]
    data_set.RequestAttributesSequence = [Dataset()]
    data_set.add_new(0x00091001, "LO", "private")
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, syntax_uid == ImplicitVRLittleEndian
    write_dataset(buffer, data_set)
    keys = decode_identifier(buffer.getvalue(), syntax_uid)
    assert keys["PatientName"] == name
    assert keys["StudyInstanceUID"] == "1.2\\1.3"
    assert keys["RequestAttributesSequence"] == ""
    assert keys["(0009,1001)"] == "private"


@given(st.binary(max_size=200), st.sampled_from(SYNTAXES))
def test_hostile_identifiers_are_malformed_at_most(encoded: bytes, syntax_uid: str) -> None:
    try:
        decode_identifier(encoded, syntax_uid)
    except MalformedIdentifier:
        return
