"""Draws what the documents take from the code, and the manual pages from the documents. `make docs` writes it; a test holds it in step.

- lifecycle, events, commands: between `<!-- generated: NAME -->` and `<!-- end -->` in docs/*.md
- man/*.5, man/*.8: from docs/command.md, docs/mkisod.toml.md, docs/contract.md
- packaging/completion/mkisod: for bash, from the parser of the command line
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from roff import make_page  # noqa: E402 - both are found only now

from mkisod import __version__  # noqa: E402
from mkisod.cli import make_parser  # noqa: E402
from mkisod.job.lifecycle import draw_diagram  # noqa: E402
from mkisod.system.events import draw_table  # noqa: E402

DATE = "2026-11-22"  # of the manual pages: when their text was last read as a whole

# Where the text comes from, the page, its section, and what stands behind its name.
PAGES = (
    ("docs/command.md", "mkisod", 8, "put studies from a PACS onto discs, by accession number"),
    ("docs/mkisod.toml.md", "mkisod.toml", 5, "configuration of mkisod"),
    ("docs/contract.md", "mkisod-spool", 5, "requests, statuses and results of mkisod"),
)
_MEANINGS = {"ACCESSION": "an accession number", "TICKET": "the name of a request"}  # of arguments that need no help on the terminal
_TICKETS = ("release", "retry", "drop", "status")  # commands that are given a ticket


def list_commands() -> dict[str, argparse.ArgumentParser]:
    subparsers = next(a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))  # noqa: SLF001 - there is no other way in
    return dict(subparsers.choices)


def list_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if "--help" not in action.option_strings]  # noqa: SLF001 - there is no other way in


def name_values(action: argparse.Action) -> str:
    """What follows an option, or stands in its own place: `NAME`, `NAME ...`, nothing for a switch."""
    if action.nargs == 0:
        return ""
    name = action.metavar if isinstance(action.metavar, str) else ",".join(map(str, action.choices or ())) or action.dest.upper()
    return {"+": f"{name} ...", "*": f"[{name} ...]", "?": f"[{name}]"}.get(str(action.nargs), name)


def draw_commands() -> str:
    """The commands, their arguments and their options, in Markdown."""
    return "\n".join(line for name, parser in list_commands().items() for line in _draw_command(name, parser))


def _draw_command(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from (f"### mkisod {name}", "", parser.description or "", "", "```sh")
    yield from (re.sub("^Example: ", "", parser.epilog or ""), "```", "")
    yield from ("| argument | meaning |", "|---|---|")
    for action in sorted(list_actions(parser), key=lambda action: bool(action.option_strings)):
        argument = " ".join([*action.option_strings[:1], name_values(action)]).strip()
        yield f"| `{argument}` | {action.help or _MEANINGS[str(action.metavar)]} |"
    yield ""


def draw_completion() -> str:
    """A completion for bash: commands, options, choices, files, and the tickets of jobs that wait."""
    commands = list_commands()
    tickets = """mkisod queue --all --json 2>/dev/null | sed -n 's/.*"ticket": "\\([^"]*\\)".*/\\1/p'"""
    cases = "\n".join(f"        {name}) options='{' '.join(_list_options(parser))}' ;;" for name, parser in commands.items())
    choices: dict[str, str] = {}
    for parser in commands.values():
        for action in list_actions(parser):
            if action.choices and action.option_strings:
                choices["|".join(action.option_strings)] = " ".join(map(str, action.choices))
    offer = "mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\"); return ;;"
    values = "\n".join(f"        {option}) {offer.format(words)}" for option, words in choices.items())
    return f"""\
# bash completion for mkisod. Drawn from its command line by docs/draw.py (make docs).

_mkisod() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} command=${{COMP_WORDS[1]}} options
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W '{" ".join(commands)} --help' -- "$word")
        return
    fi
    case $previous in
{values}
        --config) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        --from | --keep) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    esac
    case $command in
{cases}
        *) return ;;
    esac
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options --help" -- "$word")
        return
    fi
    case $command in
        verify | send) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
        {" | ".join(_TICKETS)})
            # Only who may look into the spool is told; anybody else has nothing to choose from.
            mapfile -t COMPREPLY < <(compgen -W "$({tickets})" -- "$word")
            ;;
    esac
}}

complete -F _mkisod mkisod
"""


def _list_options(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in list_actions(parser) for option in action.option_strings]


DRAWN: dict[str, tuple[str, Callable[[], str]]] = {
    "lifecycle": ("docs/architecture.md", lambda: f"```mermaid\n{draw_diagram()}```\n"),
    "events": ("docs/journal.md", draw_table),
    "commands": ("docs/command.md", draw_commands),
}


def draw_all() -> dict[str, str]:
    """Path, relative to the project, and text of everything that is drawn."""
    drawn = {}
    for name, (path, draw) in DRAWN.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        begin, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
        head, _, rest = text.partition(begin)
        if not rest or end not in rest:
            raise ValueError(f"{path} has no place for {name}")
        drawn[path] = head + begin + draw() + end + rest.partition(end)[2]
    for path, page, section, summary in PAGES:
        text = drawn.get(path) or (ROOT / path).read_text(encoding="utf-8")
        drawn[f"man/{page}.{section}"] = make_page(text, page, section, summary, version=__version__, date=DATE)
    drawn["packaging/completion/mkisod"] = draw_completion()
    return drawn


if __name__ == "__main__":
    for path, text in draw_all().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
