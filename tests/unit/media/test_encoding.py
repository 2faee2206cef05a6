"""Elements encoded once, and looked into: the same as a dict of them, and what pydicom reads."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread

from mkisod.media.encoding import EncodedElements, encode_elements

# Text of odd and even length, numbers, a UID, and sequences, which have a length of 4 bytes.
_SAMPLES = {
    0x00041432: b"1.2.276.0.1",
    0x00080008: b"ORIGINAL\\PRIMARY",
    0x00081140: b"",
    0x00200013: b"7",
    0x00200032: b"1\\2\\3",
    0x00280010: b"\x00\x20",
    0x0040A043: b"\xfe\xff\x00\xe0\x00\x00\x00\x00",
}
subsets = st.sets(st.sampled_from(sorted(_SAMPLES)))


def make(tags: set[int]) -> dict[int, bytes]:
    return {tag: _SAMPLES[tag] for tag in tags}


@given(subsets)
def test_what_is_encoded_is_looked_up_as_it_was(tags: set[int]) -> None:
    encoded = encode_elements(make(tags))
    assert encoded == make(tags)
    assert list(encoded) == sorted(tags)
    assert len(encoded) == len(tags)
    assert encode_elements(encoded) is encoded
    assert encoded.get(0x00080005) is None


@given(subsets, st.sampled_from(sorted(_SAMPLES)))
def test_an_element_that_is_added_stands_in_its_place(tags: set[int], added: int) -> None:
    more = encode_elements(make(tags - {added})).add(added, _SAMPLES[added])
    assert more.encoded == encode_elements(make(tags | {added})).encoded


def test_pydicom_reads_the_same() -> None:
    encoded = encode_elements(_SAMPLES).encoded
    read = dcmread(io.BytesIO(encoded), force=True)
    assert [int(element.tag) for element in read] == sorted(_SAMPLES)
    assert (read.InstanceNumber, read.Rows, len(read.ConceptNameCodeSequence)) == (7, 0x2000, 1)


def test_what_is_not_there_is_said_to_be() -> None:
    with pytest.raises(KeyError):
        EncodedElements(b"")[0x00200013]
