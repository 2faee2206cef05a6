"""The table of events: held to every log call of the product, and to docs/journal.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from mkisod.job.lifecycle import Event
from mkisod.system.events import EVENTS, describe, draw_table
from tests.daemon import ROOT

LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "log"}
PRODUCT = [path for path in sorted((ROOT / "mkisod").rglob("*.py")) if "demo" not in path.parts]
LOGS = re.compile(r"(.*\.)?_?log")


def find_events(source: str) -> Iterator[tuple[str, str]]:
    """The name and the level of each event that a module logs; the level is empty where it is chosen when it runs.

    `job_{event}` is every event of the lifecycle.
    """
    tree = ast.parse(source)
    chosen = {ast.unparse(node.value) for node in ast.walk(tree) if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "log"}
    varies = {level for text in chosen for level in LEVELS if text.endswith(f"log.{level}")}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        function, first = node.func, node.args[0]
        if isinstance(function, ast.Attribute) and function.attr in LEVELS and LOGS.fullmatch(ast.unparse(function.value)):
            level = {"exception": "error", "log": ""}.get(function.attr, function.attr)
            first = node.args[1] if function.attr == "log" else first
        elif isinstance(function, ast.Name) and function.id == "log" and varies:
            level = ""
        else:
            continue
        for name in names_of(first):
            yield name, level


def names_of(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return names_of(node.body) + names_of(node.orelse)
    assert ast.unparse(node) in ("f'job_{event}'", 'f"job_{event}"'), f"the name of an event has to stand in the code: {ast.unparse(node)}"
    return [f"job_{event}" for event in Event]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("self._log.info('a', x=1)", [("a", "info")]),
        ("log.exception('a')", [("a", "error")]),
        ("log.info('a' if x else 'b')", [("a", "info"), ("b", "info")]),
        ("attempt.log.warning('a')", [("a", "warning")]),
        ("log = self.log.error if x else self.log.info\nlog('a')", [("a", "")]),
        ("self._log.log(level, 'a')", [("a", "")]),
        ("print('a'); math.log(2)", []),
    ],
)
def test_events_are_found(source: str, found: list[tuple[str, str]]) -> None:
    assert list(find_events(source)) == found


def test_every_event_is_in_the_table_and_every_row_is_logged() -> None:
    logged = {name for path in PRODUCT for name, _ in find_events(path.read_text(encoding="utf-8"))}
    assert logged == set(EVENTS)


def test_every_event_has_the_level_of_the_table() -> None:
    """An event whose level is chosen when it runs may have any; one of the lifecycle is logged in several places."""
    wrong = {
        f"{path.name}: {name} is logged as {level}, not as {EVENTS[name].level}"
        for path in PRODUCT
        for name, level in find_events(path.read_text(encoding="utf-8"))
        if level and name in EVENTS and level != EVENTS[name].level and not name.startswith("job_")
    }
    assert not wrong


def test_the_table_of_the_document_is_drawn_from_the_code() -> None:
    text = (ROOT / "docs" / "journal.md").read_text(encoding="utf-8")
    drawn = re.search(r"<!-- generated: events -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert drawn is not None
    assert drawn.group(1) == draw_table(), "write draw_table() of mkisod/system/events.py there"


def test_what_nobody_knows_is_said_to_be_unknown() -> None:
    for name in EVENTS:
        assert describe(name, {}).isprintable()
    assert describe("job_taken", {}) == "Attempt unknown begins."


def test_an_event_that_is_not_in_the_table_is_told_by_its_name() -> None:
    assert describe("something_new", {"ticket": "t", "message": "No.", "advice": "Ask.", "error": "internal"}) == (
        "t: something new. No. Ask. [internal]"
    )


def test_lists_are_cut_short_and_sizes_are_for_people() -> None:
    said = describe("job_retrieved", {"accessions": list("ABCDEFG"), "size_bytes": 181_000_000, "duration_s": 14.23, "instances": 812})
    assert "instances 812 (181.0 MB) of A, B, C, D, E and 2 more" in said
    assert "14.2 s" in said
