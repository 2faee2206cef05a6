"""The documents as data: their code blocks, and who runs each command that they show.

Every line of a `sh` or `console` block is a command that somebody can copy, so somebody has to run it: a test of
tests/integration/journey/test_documented_commands.py does (`RUN`), or another test that is named here, or it needs a booted systemd.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt

from tests.daemon import ROOT

COMMAND_LINE: Final = "tests/integration/journey/test_command_line.py"

# What is run as it stands, and the state of the ticket web-4711 that it needs.
RUN: Final = {
    "mkisod check": "",
    "mkisod check --accession MR.180505.026": "",
    "mkisod find MR.180505.026": "",
    "mkisod submit MR.180505.026 --wait": "",
    "mkisod submit MR.180505.026 CT.180505.027 --wait": "",
    "mkisod status web-4711": "done",
    "mkisod verify /media/cdrom": "done",
    "mkisod send /media/cdrom WORKSTATION": "done",
    "mkisod queue": "failed",
    "mkisod queue --all": "deferred",
    "mkisod release web-4711": "failed",
    "mkisod release --instance ct": "",
    "mkisod retry": "deferred",
    "mkisod retry web-4711": "deferred",
    "mkisod drop web-4711": "failed",
}

# What another test runs.
ELSEWHERE: Final = {
    "make demo": f"{COMMAND_LINE}::test_demo",
    "mkisod demo": f"{COMMAND_LINE}::test_demo",
    "mkisod serve --config /etc/mkisod/mkisod.toml": f"{COMMAND_LINE}::test_the_journal_is_one_json_object_a_line_and_names_nobody",
    "mkisod queue --watch": "tests/integration/journey/test_terminal.py::test_queue_watch_follows_a_job_and_ends_by_ctrl_c",
    "make check": "tests/test_linters.py::test_linter_finds_nothing",
    "make docs": "tests/test_documents.py::test_what_is_drawn_is_in_step",
}

# What sets the others up, or is all of them.
THE_TESTS: Final = ("make test", "make venv")

# What needs a booted systemd, an installed package, or both, in this order, and something that it prints. tests/system runs it.
SYSTEM: Final = {
    "apt install ./mkisod_0.1.0_all.deb": "",
    "adduser www-data mkisod-drop": "",
    "systemctl reload mkisod": "",
    "systemctl status mkisod": "active (running)",
    "journalctl -u mkisod": "CDRECORD listens on port 10104",
    "journalctl -u mkisod -p warning": "accession_not_found",
    "journalctl -u mkisod -p warning --since today": "accession_not_found",
    "journalctl -u mkisod MKISOD_TICKET=web-4711": "web-4711: Published",
    "journalctl -u mkisod MKISOD_ACCESSION=MR.180505.026": "web-4711: Published",
    "journalctl -u mkisod MKISOD_AUDIT=1 -o json --all": '"MKISOD_STUDY_INSTANCE_UID"',
    "systemctl enable --now mkisod@ct": "",
    "journalctl -u mkisod@ct": "CTDISC listens on port 10105",
    "ln -s /run/mkisod/mkisod.prom /var/lib/prometheus/node-exporter/mkisod.prom": "",
    "chgrp mkisod /var/lib/prometheus/node-exporter": "",
    "chmod g+w /var/lib/prometheus/node-exporter": "",
    "systemctl daemon-reload": "",
    "systemctl restart mkisod": "",
}
SYSTEM_TEST: Final = "tests/system/test_documented_commands.py::test_the_documented_commands_of_a_system"


@dataclass(frozen=True)
class Block:
    """A piece of code in a document. `language` is empty for an indented one."""

    path: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT).as_posix()}:{self.line}"


def documents() -> list[Path]:
    folders = [ROOT, ROOT / "docs", ROOT / "clients" / "php"]
    return sorted(path for folder in folders for path in folder.glob("*.md"))


def blocks(path: Path) -> Iterator[Block]:
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            line = token.map[0] + 1 if token.map else 0
            yield Block(path, line, token.info.strip().split(" ")[0] if token.type == "fence" else "", token.content)


def all_blocks(*languages: str) -> list[Block]:
    return [block for path in documents() for block in blocks(path) if block.language in languages]


def read_commands(block: Block) -> list[str]:
    """The commands of a shell block, without comments, prompts, and what a console shows besides."""
    found = []
    for line in block.text.splitlines():
        if block.language == "console" and not line.startswith(("$ ", "# ")):
            continue
        command = line.removeprefix("$ ").removeprefix("# ") if block.language == "console" else line
        command = command.split(" #")[0].split("\t#")[0].strip()
        if command and not command.startswith("#"):
            found.append(command)
    return found
