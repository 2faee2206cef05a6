"""Attribute matching of PS3.4 C.2.2.2."""

from __future__ import annotations

import pytest

from mkisod.demo.matching import matches


@pytest.mark.parametrize(
    ("vr", "key", "value", "expected"),
    [
        # single value
        ("SH", "A1", "A1", True),
        ("SH", "A1", "A1 ", True),
        ("SH", "A1", "a1", False),
        ("SH", "A1", "A10", False),
        ("SH", "A1", "", False),
        ("SH", "A1", "B2\\A1", True),
        ("IS", "7", "7 ", True),
        # universal
        ("SH", "", "A1", True),
        ("SH", "", "", True),
        ("SH", "**", "", True),
        ("UI", "", "1.2", True),
        # list of UIDs, which have no wildcards
        ("UI", "1.2\\1.3", "1.3", True),
        ("UI", "1.2\\1.3", "1.2.3", False),
        ("UI", "1.*", "1.2", False),
        # wildcards
        ("SH", "A?", "A1", True),
        ("SH", "A?", "A", False),
        ("SH", "*1*", "A10", True),
        ("SH", "[AB]*", "A1", False),
        ("SH", "A.*", "AB", False),
        ("LO", "*", "anything", True),
        ("CS", "M?", "CT\\MR", True),
        ("IS", "*", "7", False),
        # person names: no regard to case, nor to delimiters that say nothing
        ("PN", "müller^*", "MÜLLER^Zoë", True),
        ("PN", "Müller", "Müller^^^", True),
        ("PN", "Müller", "Müllerin", False),
        # ranges
        ("DA", "20260101", "20260101", True),
        ("DA", "20260101-20260131", "20260131", True),
        ("DA", "20260101-20260131", "20260201", False),
        ("DA", "-20260131", "20251231", True),
        ("DA", "20260101-", "20251231", False),
        ("DA", "20260101-", "", False),
        ("TM", "10-1015", "101530", True),
        ("TM", "10-1015", "101600", False),
        ("DA", "2026*", "20260101", False),
    ],
)
def test_matching(vr: str, key: str, value: str, expected: bool) -> None:
    assert matches(vr, key, value) is expected
