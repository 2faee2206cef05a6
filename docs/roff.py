"""Markdown to a manual page, as far as our documents use it: headings, paragraphs, lists, tables, code. By markdown-it, which rich brings.

A table becomes a list: the first cell is the tag, the others are what is said of it. What is not known here is an error, not a gap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

# What groff would show as a typographer's sign, or take for its own.
_GLYPHS = {"\\": "\\e", "-": "\\-", "^": "\\(ha", "~": "\\(ti", "`": "\\(ga", "'": "\\(aq"}


def make_page(markdown: str, name: str, section: int, summary: str, *, version: str, date: str) -> str:
    """A manual page in man(7) of a document, whose first heading gives way to NAME. `summary` follows the name there."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown)
    lines = [
        r".\" Drawn from the documents by docs/draw.py (make docs). Change those.",
        f'.TH {name.upper()} {section} {date} "mkisod {version}" "mkisod"',
        ".SH NAME",
        f"{name} \\- {_escape(summary)}",
        *([] if _begins_with_heading(tokens) else [".SH DESCRIPTION"]),
        *_render(tokens),
    ]
    # A heading begins a paragraph by itself.
    kept = [line for before, line in pairwise(["", *lines]) if line and not (line == ".PP" and before.startswith((".SH", ".SS")))]
    return "\n".join(kept) + "\n"


def _begins_with_heading(tokens: Sequence[Token]) -> bool:
    """After the first heading, which is the page's name."""
    return [token.tag for token in tokens if token.type.endswith("_open")][1:2] == ["h2"]


def _render(tokens: Sequence[Token]) -> Iterator[str]:
    ordinal: list[int] = []  # of the items of each list that is open; 0: without numbers
    cells: list[str] = []
    row_is_head = tag_is_due = False
    for index, token in enumerate(tokens):
        match token.type:
            case "heading_open" if token.tag == "h1":
                pass
            case "heading_open":
                text = _inline(tokens[index + 1])
                yield f".SH {text.upper()}" if token.tag == "h2" else f'.SS "{text}"'
            case "inline" if tokens[index - 1].type == "heading_open":
                pass
            case "inline" if tokens[index - 1].type in ("td_open", "th_open"):
                cells.append(_inline(token))
            case "inline":
                yield from _inline(token).splitlines()
            case "paragraph_open" if not tag_is_due:
                yield ".PP" if not ordinal else ".IP"
            case "paragraph_open":
                tag_is_due = False
            case "bullet_list_open" | "ordered_list_open":
                if ordinal:
                    yield ".RS"
                ordinal.append(1 if token.type == "ordered_list_open" else 0)
            case "bullet_list_close" | "ordered_list_close":
                ordinal.pop()
                if ordinal:
                    yield ".RE"
            case "list_item_open":
                tag_is_due = True
                yield f".IP {ordinal[-1]}. 4" if ordinal[-1] else ".IP \\(bu 2"
                ordinal[-1] += bool(ordinal[-1])
            case "fence" | "code_block":
                yield from (".PP", ".RS 4", ".EX", *map(_line, token.content.rstrip("\n").split("\n")), ".EE", ".RE")
            case "thead_open":
                row_is_head = True
            case "thead_close":
                row_is_head = False
            case "tr_open":
                cells = []
            case "tr_close" if not row_is_head:
                yield from (".TP 7", _guard(cells[0]), *(_guard(cell) for cell in _join(cells[1:])))
            case "html_block" if token.content.startswith("<!--"):
                pass
            case kind if kind.endswith(("_close", "_open")) or kind == "tr_close":
                if kind.split("_")[0] not in ("heading", "paragraph", "list", "table", "thead", "tbody", "tr", "td", "th"):
                    raise ValueError(f"a manual page has no {kind}")
            case kind:
                raise ValueError(f"a manual page has no {kind}")


def _join(cells: list[str]) -> list[str]:
    """The cells of a row behind its first, as lines of one text."""
    *others, last = [cell for cell in cells if cell] or [""]
    return [*(cell if cell.endswith((".", ":")) else f"{cell}:" for cell in others), last]


def _inline(token: Token) -> str:
    parts = []
    for child in token.children or ():
        match child.type:
            case "text":
                parts.append(_escape(child.content))
            case "code_inline":
                parts.append(f"\\fB{_escape(child.content)}\\fR")
            case "softbreak":
                parts.append("\n")
            case "strong_open" | "em_open":
                parts.append("\\fB" if child.type == "strong_open" else "\\fI")
            case "strong_close" | "em_close":
                parts.append("\\fR")
            case "link_open" | "link_close":
                pass
            case kind:
                raise ValueError(f"a manual page has no {kind} in a line")
    return "\n".join(_guard(line) for line in "".join(parts).split("\n"))


def _line(text: str) -> str:
    """A line of an example; an empty one is still one."""
    return _guard(_escape(text)) or "\\&"


def _guard(line: str) -> str:
    """A line that begins like a request is none."""
    return f"\\&{line}" if line.startswith((".", "'")) else line


def _escape(text: str) -> str:
    text = "".join(_GLYPHS.get(character, character) for character in text)
    return re.sub(r"[^\x00-\x7f]", lambda match: f"\\[u{ord(match[0]):04X}]", text)
