"""The figures of the Conformance Statement are those of the code."""

from __future__ import annotations

import re

from pydicom.datadict import dictionary_description

from mkisod import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from mkisod.config.settings import PacsSettings
from mkisod.media.profile import NAMES
from mkisod.pacs import association, find, incoming, reception
from mkisod.pacs.settings import ReceiverSettings
from tests.integration.conformance.document import PATH


def _rows(first_cell: str) -> list[list[str]]:
    lines = [line for line in PATH.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {first_cell} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in lines]


def test_what_is_told_in_an_association() -> None:
    assert [row[0] for row in _rows("Implementation Class UID")] == [IMPLEMENTATION_CLASS_UID]
    assert [row[0] for row in _rows("Implementation Version Name")] == [IMPLEMENTATION_VERSION_NAME]
    ((received, requested),) = _rows("Maximum Length Received")
    assert received == f"{association.MAX_LENGTH_BYTES:,}"
    assert requested.startswith(f"{incoming.MAX_LENGTH_BYTES:,};")


def test_time_outs() -> None:
    receiver, pacs = ReceiverSettings(), PacsSettings(host="localhost")
    assert _rows("ARTIM")[0][0] == f"{receiver.artim_s:g} s"
    assert _rows("idle association")[0][0] == f"{receiver.idle_timeout_s:g} s"
    for name in ("connect_timeout_s", "response_timeout_s", "idle_timeout_s", "first_arrival_s", "grace_s"):
        assert _rows(f"`{name}`")[0][0] == f"{getattr(pacs, name):g} s", name


def test_keys_of_a_query() -> None:
    for level, keys in (("STUDY", find._STUDY_KEYS), ("SERIES", find._SERIES_KEYS), ("IMAGE", find._INSTANCE_KEYS)):
        ((_, returned),) = _rows(level)
        assert returned == ", ".join(map(dictionary_description, keys)), level


def test_dimse_statuses_that_the_receiver_answers() -> None:
    section = PATH.read_text(encoding="utf-8").partition("### 2.3")[2].partition("### 2.4")[0]
    shown = {int(status, 16) for status in re.findall(r"^\| ([0-9A-F]{4})H \|", section, re.MULTILINE)}
    used = {value for value in vars(reception).values() if isinstance(value, int)}
    assert used <= shown


def test_profiles() -> None:
    text = PATH.read_text(encoding="utf-8").partition("## 2 ")[0]
    assert set(re.findall(r"STD-GEN-[A-Z0-9-]+", text)) == NAMES
