"""A short run of tests/fuzz/receiver.py; the long one is `make soak`."""

from __future__ import annotations

import pytest

from tests.fuzz.receiver import fuzz

# pydicom's encoder, which makes the inputs, warns about what is wrong with them.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_a_thousand_inputs() -> None:
    assert fuzz(1000, seed=1) > 200


@pytest.mark.soak
def test_a_hundred_thousand_inputs() -> None:
    assert fuzz(100_000, seed=2) > 20_000
