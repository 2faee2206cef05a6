"""The documents are right: what they show can be run, what they quote can be read, what they take from the code is what the code has."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from attrs import fields
from jsonschema import validate

from mkisod.config.parsing import parse_config
from mkisod.config.settings import Config, DestinationSettings, PacsSettings, TlsSettings
from tests.daemon import ROOT
from tests.documents import ELSEWHERE, RUN, SYSTEM, SYSTEM_TEST, THE_TESTS, Block, all_blocks, blocks, documents, read_commands
from tests.peers import require

KNOWN_LANGUAGES = {"sh", "console", "json", "toml", "ini", "text", "mermaid", "php", "bash", "yaml", ""}
COMMANDS = re.compile(r"\s*[$#]?\s*(mkisod|make|systemctl|journalctl|apt|apt-get|adduser|dpkg|sudo) ")
PAGES = [("mkisod", 8), ("mkisod.toml", 5), ("mkisod-spool", 5)]


def shown() -> list[tuple[Block, str]]:
    return [(block, command) for block in all_blocks("sh", "console", "bash") for command in read_commands(block)]


# --- Commands ----------------------------------------------------------------------------------------------------------------------


def test_every_command_that_is_shown_is_run_by_a_test() -> None:
    known = {*RUN, *ELSEWHERE, *THE_TESTS, *SYSTEM}
    assert not [f"{block}: {command}" for block, command in shown() if command not in known], "say in tests/documents.py who runs it"


def test_every_command_that_is_run_is_shown() -> None:
    commands = {command for _, command in shown()}
    assert {*RUN, *ELSEWHERE, *SYSTEM} <= commands


@pytest.mark.parametrize("test", sorted({*ELSEWHERE.values(), SYSTEM_TEST}))
def test_who_is_said_to_run_a_command_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_no_command_stands_where_nobody_looks_for_it() -> None:
    """In an indented block, or in one without a language."""
    hidden = [f"{block}: {line}" for block in all_blocks("", "text") for line in block.text.splitlines() if COMMANDS.match(line)]
    assert not hidden, "write it into a block of sh"


def test_blocks_are_of_languages_that_are_known() -> None:
    languages = {block.language: str(block) for path in documents() for block in blocks(path)}
    assert set(languages) <= KNOWN_LANGUAGES, languages


# --- What is quoted ----------------------------------------------------------------------------------------------------------------


def test_every_block_of_json_is_json_and_a_status_keeps_its_schema() -> None:
    schema = json.loads((ROOT / "docs" / "status.schema.json").read_text(encoding="utf-8"))
    found = all_blocks("json")
    assert found
    for block in found:
        document = json.loads(block.text)
        if {"ticket", "state", "finished"} <= set(document):
            validate(document, schema)


def test_every_block_of_toml_is_a_configuration() -> None:
    found = all_blocks("toml")
    assert found
    for block in found:
        parse_config(block.text, block.path)


def test_the_configuration_is_documented_key_by_key_with_its_defaults() -> None:
    (block,) = (block for block in all_blocks("toml") if block.path.name == "mkisod.toml.md" and "[spool]" in block.text)
    config = parse_config(block.text, block.path)
    default = Config()
    for section in ("spool", "receiver", "media", "jobs", "metrics"):
        assert getattr(config, section) == getattr(default, section), section
    assert config.pacs == default.pacs
    text = block.path.read_text(encoding="utf-8")
    sections = [type(getattr(default, name)) for name in ("spool", "receiver", "media", "jobs", "metrics")]
    tables = [PacsSettings, DestinationSettings, TlsSettings, *sections]
    names = {field.name for table in tables for field in fields(table)} - {"tls"}
    assert not [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)], "a key that is not documented"
    document = tomllib.loads(block.text)
    assert {field.name for field in fields(PacsSettings)} - {"tls"} == set(document["pacs"]["ABPACS"])


def test_links_lead_somewhere() -> None:
    link = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
    links = [(path, target) for path in documents() for target in link.findall(path.read_text(encoding="utf-8"))]
    assert links
    assert not [f"{path.name}: {target}" for path, target in links if "://" not in target and not (path.parent / target).exists()]


# --- What is drawn -----------------------------------------------------------------------------------------------------------------


def draw_all() -> dict[str, str]:
    specification = importlib.util.spec_from_file_location("draw", ROOT / "docs" / "draw.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    before = sys.path[:]
    try:
        specification.loader.exec_module(module)
    finally:
        sys.path[:] = before
    drawn: dict[str, str] = module.draw_all()
    return drawn


def test_what_is_drawn_is_in_step() -> None:
    drawn = draw_all()
    assert {f"man/{name}.{section}" for name, section in PAGES} < set(drawn)
    stale = [path for path, text in drawn.items() if not (ROOT / path).exists() or (ROOT / path).read_text(encoding="utf-8") != text]
    assert not stale, "make docs"
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "man").iterdir()} <= set(drawn), "a page that nothing draws"


@pytest.mark.parametrize(("name", "section"), PAGES)
def test_manual_pages_are_clean(name: str, section: int) -> None:
    """By mandoc's reading and by groff's."""
    path = ROOT / "man" / f"{name}.{section}"
    linted = subprocess.run([require("mandoc"), "-T", "lint", "-W", "warning", str(path)], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")
    command = [require("groff"), "-man", "-Tutf8", "-ww", "-b", "-z", str(path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""


def test_manual_pages_say_what_the_documents_say() -> None:
    text = render("mkisod-spool", 5)
    for word in ("inbox/<ticket>.req", "@patient ID", "accession_not_found", "[A-Za-z0-9][A-Za-z0-9._-]{0,63}", '"state": "retrieving"'):
        assert word in text
    assert "min_free_mib = 2048" in render("mkisod.toml", 5)
    for word in ("--wait", "mkisod release", "[TICKET ...]", "EXIT STATUS", "78"):
        assert word in render("mkisod", 8)


def render(name: str, section: int) -> str:
    command = [require("mandoc"), "-T", "utf8", "-O", "width=200", str(ROOT / "man" / f"{name}.{section}")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return re.sub(".\b", "", done.stdout)


# --- The completion ----------------------------------------------------------------------------------------------------------------

COMPLETE = """
source "$1"; shift
mkisod() { [ "$1" = queue ] && printf '%s\\n' '{"jobs": [' '  "ticket": "web-4711",' '  "ticket": "web-4712",' ']}'; }
compopt() { :; }
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
_mkisod
printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(*words: str, cwd: Path = ROOT) -> set[str]:
    """What bash offers after these words, the last of which is being typed."""
    command = [require("bash"), "-euc", COMPLETE, "bash", str(ROOT / "packaging" / "completion" / "mkisod"), "mkisod", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes_commands_options_choices_files_and_tickets(tmp_path: Path) -> None:
    (tmp_path / "site.toml").touch()
    (tmp_path / "site").mkdir()
    assert {"serve", "submit", "queue", "verify"} <= complete("")
    assert complete("su") == {"submit"}
    assert complete("submit", "--pri") == {"--priority"}
    assert complete("submit", "--priority", "h") == {"high"}
    assert complete("submit", "--output", "") == {"dir", "iso", "zip"}
    assert complete("check", "--config", "si", cwd=tmp_path) == {"site.toml", "site"}
    assert complete("demo", "--from", "", cwd=tmp_path) == {"site"}
    assert complete("verify", "site.", cwd=tmp_path) == {"site.toml"}
    assert complete("release", "web-") == {"web-4711", "web-4712"}
    assert complete("nonsense", "-") == set()


def test_the_completion_registers_itself() -> None:
    script = f'source "{ROOT}/packaging/completion/mkisod"; complete -p mkisod'
    done = subprocess.run([require("bash"), "-euc", script], capture_output=True, text=True, check=True)
    assert done.stdout == "complete -F _mkisod mkisod\n"
