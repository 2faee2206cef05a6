"""Attribute matching of PS3.4 C.2.2.2: single value, list of UIDs, universal, wildcard and range. Pure functions on text."""

from __future__ import annotations

import re

_WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})  # C.2.2.2.4
_RANGE_VRS = frozenset({"DA", "DT", "TM"})  # C.2.2.2.5


def matches(vr: str, key: str, value: str) -> bool:
    """Whether `value`, of which any of several values suffices, matches `key`, both as decoded text of that VR.

    Person names are compared without regard to case, which C.2.2.2.1 leaves to the archive.
    """
    key = key.strip(" \0")
    if not key or (set(key) == {"*"} and vr in _WILDCARD_VRS):
        return True
    stored = [part.strip(" \0") for part in value.split("\\")]
    if vr == "UI":
        return any(wanted.strip(" \0") in stored for wanted in key.split("\\"))
    if vr in _RANGE_VRS:
        return any(_in_range(key, part) for part in stored if part)
    if vr == "PN":
        key, stored = key.casefold().rstrip("^"), [part.casefold().rstrip("^") for part in stored]
    if vr in _WILDCARD_VRS and ("*" in key or "?" in key):
        pattern = re.compile("".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in key), re.DOTALL)
        return any(pattern.fullmatch(part) for part in stored)
    return key in stored


def _in_range(key: str, value: str) -> bool:
    if "-" not in key:
        return key == value
    first, last = (bound.strip() for bound in key.split("-", 1))
    # A bound of less precision includes what it begins: 1015 as the last minute takes 101559 in.
    return (not first or value >= first) and (not last or value[: len(last)] <= last)
