"""The one attribute that is read of an answer at IMAGE level, beside what pydicom reads of it."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from mkisod.pacs.identifier import InvalidIdentifier, encode_identifier, find_uid
from mkisod.pacs.pdu import ContextResult

SOP_INSTANCE_UID = 0x00080018
CONTEXTS = [ContextResult(1, 0, "1.2", uid) for uid in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)]


def make_answer(**elements: object) -> Dataset:
    answer = Dataset()
    answer.QueryRetrieveLevel = "IMAGE"
    answer.Rows = 512
    for keyword, value in elements.items():
        setattr(answer, keyword, value)
    return answer


@pytest.fixture(params=CONTEXTS, ids=["explicit", "implicit"])
def context(request: pytest.FixtureRequest) -> ContextResult:
    assert isinstance(request.param, ContextResult)
    return request.param


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34", ""])
@pytest.mark.parametrize("with_sequence", [False, True])
def test_a_uid_is_found(context: ContextResult, uid: str, with_sequence: bool) -> None:
    answer = make_answer(SOPInstanceUID=uid, StudyInstanceUID="9.9")
    if with_sequence:
        answer.ReferencedStudySequence = [make_answer(SOPInstanceUID="7.7")]
        answer["ReferencedStudySequence"].is_undefined_length = True
    assert find_uid(encode_identifier(answer, context), context, SOP_INSTANCE_UID) == uid


@pytest.mark.parametrize("with_sequence", [False, True])
def test_several_are_told_as_they_stand_there(context: ContextResult, with_sequence: bool) -> None:
    answer = make_answer(SOPInstanceUID=["1.2", "1.3"])
    if with_sequence:
        answer.ReferencedStudySequence = []
    assert find_uid(encode_identifier(answer, context), context, SOP_INSTANCE_UID) == "1.2\\1.3"


def test_none_is_nothing(context: ContextResult) -> None:
    assert not find_uid(encode_identifier(make_answer(), context), context, SOP_INSTANCE_UID)
    assert not find_uid(b"", context, SOP_INSTANCE_UID)


def test_what_is_no_data_set_is_refused() -> None:
    """A number of three bytes; without the sequence behind it nobody would look at it."""
    number, sequence = b"\x28\0\x10\0US\3\0abc", b"\x40\0\x75\2SQ\0\0\0\0\0\0"
    uid = encode_identifier(make_answer(SOPInstanceUID="1.2.3"), CONTEXTS[0])
    assert find_uid(uid + number, CONTEXTS[0], SOP_INSTANCE_UID) == "1.2.3"
    with pytest.raises(InvalidIdentifier):
        find_uid(uid + number + sequence, CONTEXTS[0], SOP_INSTANCE_UID)


@pytest.mark.parametrize("left_out", range(1, 12))
def test_one_that_is_cut_short_names_nobody_else(context: ContextResult, left_out: int) -> None:
    answer = Dataset()
    answer.SOPInstanceUID = "1.2.34"
    try:
        uid = find_uid(encode_identifier(answer, context)[:-left_out], context, SOP_INSTANCE_UID)
    except InvalidIdentifier:
        return
    assert (uid, left_out > len("1.2.34")) == ("", True)


@pytest.mark.parametrize("padding", [b"\0", bytes(7)])
def test_a_few_bytes_behind_it_do_no_harm(context: ContextResult, padding: bytes) -> None:
    assert find_uid(encode_identifier(make_answer(SOPInstanceUID="1.2.3"), context) + padding, context, SOP_INSTANCE_UID) == "1.2.3"


def test_one_in_the_other_syntax_is_understood(context: ContextResult) -> None:
    """As pydicom does, and so at the levels above."""
    other = CONTEXTS[context == CONTEXTS[0]]
    assert find_uid(encode_identifier(make_answer(SOPInstanceUID="1.2.3"), other), context, SOP_INSTANCE_UID) == "1.2.3"


@pytest.mark.parametrize(
    ("vr", "value", "found"), [(b"US", b"\1\0", "1"), (b"PN", b"A^B ", "A^B"), (b"LO", b" 1.2", "1.2"), (b"FL", bytes(4), "0.0")]
)
def test_another_vr_is_no_defect_of_ours(vr: bytes, value: bytes, found: str) -> None:
    """Whoever wants a UID can say that this is none."""
    raw = b"\x08\0\x18\0" + vr + bytes([len(value), 0]) + value
    sequence = b"\x40\0\x75\2SQ\0\0\0\0\0\0"
    assert find_uid(raw + sequence, CONTEXTS[0], SOP_INSTANCE_UID) == found
