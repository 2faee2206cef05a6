"""README.TXT and INDEX.HTM: what a person reads who holds the disc, knows nothing, and has no viewer at hand. Pure.

README.TXT is ASCII with CRLF, INDEX.HTM is UTF-8, without script and without anything from outside the disc (IHE PDI, RAD-47); it is
readable on a telephone and on paper. Every value from an object is hostile text: it is decoded, stripped of control characters,
escaped, and cut where it is absurdly long.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterator
from datetime import datetime

from attrs import frozen

from mkisod.media.convert import Conversion
from mkisod.media.dicomdir import DirectoryRecord
from mkisod.media.header import decode_text
from mkisod.media.hierarchy import Hierarchy
from mkisod.media.keys import NO_DATE, TAGS

_LONGEST_TEXT = 200
_MOST_MISSING = 100
_LINE_END = "\r\n"

_STYLE = (
    "body{font:16px/1.45 Arial,Helvetica,sans-serif;margin:0 auto;max-width:50em;padding:1em;color:#1a1a1a;background:#fff}"
    "h1{font-size:1.5em;line-height:1.2;margin:.3em 0}h2{font-size:1.25em;line-height:1.25;margin:1.6em 0 .2em;padding-top:.6em;"
    "border-top:3px solid #2a5d84}h3{font-size:1em;margin:1.2em 0 0}p{margin:.4em 0}.about{color:#555;margin:0 0 .4em}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.25em .75em .25em 0;"
    "border-bottom:1px solid #ddd}th{font-weight:600;white-space:nowrap}td{overflow-wrap:anywhere}code{overflow-wrap:anywhere}"
    "thead th{color:#555;font-size:.85em}tbody th{width:1%}.series :last-child{text-align:right;padding-right:0}"
    ".series th:nth-child(-n+2){width:1%}.note{background:#fff4e0;border-left:4px solid #c60;padding:.5em .7em;margin:1em 0}"
    ".note ul{margin:.4em 0 0;padding-left:1.2em}h1,h2,h3,p{overflow-wrap:anywhere}"
    "@media(max-width:30em){th,td{padding-right:.5em}.series{font-size:.9em}}"
    "@media print{body{max-width:none;font-size:11pt;padding:0}a{color:inherit}h2,h3{break-after:avoid}tr{break-inside:avoid}}"
)


@frozen
class PageFacts:
    """What the pages of one volume say."""

    file_set_id: str
    created: datetime
    institution: str
    contact: str
    disclaimer: str
    creator: str
    missing: tuple[str, ...]
    volume_names: tuple[str, ...]
    extras: tuple[str, ...]  # names in the root that the configuration added
    hierarchy: Hierarchy
    profile: str | None
    conversions: tuple[Conversion, ...]
    missing_unnamed: int | None = 0  # as in disc.py


def render_readme(facts: PageFacts) -> bytes:
    """ASCII: accents are taken off, what has no ASCII form becomes a question mark. INDEX.HTM has it in full."""
    lines = [f"DICOM disc {facts.file_set_id}", ""]
    lines += [f"{name + ':':<13}{value}" for name, value in _describe_volume(facts)]
    lines += [
        "",
        "How to open this disc",
        "  Most hospitals and practices can read it: give them the disc, or let their",
        "  software import the file DICOMDIR in the root of the disc. On a computer",
        "  with a DICOM viewer, open DICOMDIR with it. INDEX.HTM opens in any browser",
        "  and lists what is on the disc.",
        "",
        "What is on it",
        "  DICOMDIR     the directory of the DICOM files (PS3.10)",
        "  DICOM        the DICOM files",
        "  INDEX.HTM    the contents, for a browser",
        "  README.TXT   this text",
        *(f"  {name}" for name in facts.extras),
    ]
    for patient in _list_people(facts.hierarchy):
        lines += ["", f"Patient {', '.join(filter(None, _describe_person(patient)))}"]
        for study in patient.lower:
            lines.append(f"  {', '.join(filter(None, _describe_study(study)))}")
            lines += [f"    {' '.join(filter(None, cells[:3]))}: {cells[3]} {_objects(cells[3])}" for cells in _list_series(study)]
    for note, uids in _list_notes(facts):
        lines += ["", f"Note: {note}", *(f"  {uid}" for uid in uids)]
    if facts.disclaimer:
        lines += ["", facts.disclaimer]
    text = unicodedata.normalize("NFKD", _LINE_END.join(lines) + _LINE_END)
    return "".join(c for c in text if not unicodedata.combining(c)).encode("ascii", "replace")


def render_index(facts: PageFacts) -> bytes:
    """HTML 5 in UTF-8."""
    escape = html.escape
    title = escape(f"DICOM disc {facts.file_set_id}")
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>",
    ]
    number, count = _find_place(facts)
    if about := ", ".join(filter(None, (facts.institution, f"volume {number} of {count}" if count > 1 else ""))):
        parts.append(f'<p class="about">{escape(about)}</p>')
    for note, uids in _list_notes(facts):
        items = "".join(f"<li><code>{escape(uid)}</code></li>" for uid in uids)
        parts.append(f'<div class="note">{escape(note)}{items and f"<ul>{items}</ul>"}</div>')
    for patient in _list_people(facts.hierarchy):
        parts.append(_render_heading("h2", *_describe_person(patient)))
        for study in patient.lower:
            rows = "".join(
                f"<tr><td>{escape(number)}</td><td>{escape(modality)}</td><td>{escape(description)}</td><td>{count}</td></tr>"
                for number, modality, description, count in _list_series(study)
            )
            parts += [
                _render_heading("h3", *_describe_study(study)),
                '<table class="series"><thead><tr><th>Series</th><th>Modality</th><th>Description</th><th>Objects</th></tr></thead>',
                f"<tbody>{rows}</tbody></table>",
            ]
    parts.append(
        "<h2>How to open this disc</h2>\n<p>Most hospitals and practices can read it: give them the disc, or let their software import"
        " the file <code>DICOMDIR</code> in the root of the disc. On a computer with a DICOM viewer, open <code>DICOMDIR</code> with it."
        ' More is in <a href="README.TXT">README.TXT</a>.</p>'
    )
    if facts.extras:
        links = ", ".join(f'<a href="{escape(name)}">{escape(name)}</a>' for name in facts.extras)
        parts.append(f"<p>Also on this disc: {links}.</p>")
    parts += [
        "<h2>About this disc</h2>\n<table><tbody>",
        *(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in _describe_volume(facts)),
        "</tbody></table>",
    ]
    if facts.disclaimer:
        parts.append(f"<h2>Notice</h2>\n<p>{escape(facts.disclaimer)}</p>")
    parts.append("</body>\n</html>\n")
    return "\n".join(parts).encode()


def _render_heading(tag: str, text: str, about: str) -> str:
    return f"<{tag}>{html.escape(text)}</{tag}>" + (about and f'\n<p class="about">{html.escape(about)}</p>')


def _find_place(facts: PageFacts) -> tuple[int, int]:
    """Which volume this is, of how many."""
    return facts.volume_names.index(facts.file_set_id) + 1, len(facts.volume_names)


def _describe_volume(facts: PageFacts) -> list[tuple[str, str]]:
    number, count = _find_place(facts)
    objects = facts.hierarchy.number_of_files
    rows = [
        ("Institution", facts.institution or "not stated"),
        ("Contact", facts.contact or "not stated"),
        ("Created", f"{facts.created:%Y-%m-%d %H:%M} UTC by {facts.creator}"),
        ("Content", f"{objects} DICOM {_objects(objects)}" + (f", profile {facts.profile}" if facts.profile else "")),
    ]
    if count > 1:
        others = ", ".join(name for name in facts.volume_names if name != facts.file_set_id)
        rows.append(("Volume", f"{number} of {count}; the others are {others}"))
    return rows


def _list_notes(facts: PageFacts) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What the reader has to know, each with the SOP Instance UIDs that it names."""
    if facts.missing or facts.missing_unnamed != 0:
        yield _describe_missing(facts.missing, facts.missing_unnamed), facts.missing[:_MOST_MISSING]
    if facts.conversions:
        lossy = sum(conversion.was_lossy for conversion in facts.conversions)
        more = f" Of these, {lossy} had been compressed with loss before, and say so." if lossy else ""
        count = len(facts.conversions)
        were = "object was" if count == 1 else "objects were"
        yield f"{count} {were} converted without loss to uncompressed pixel data or plain encoding for this disc.{more}", ()
    if facts.hierarchy.substitutions:
        count = len(facts.hierarchy.substitutions)
        were = "value that the objects lack was" if count == 1 else "values that the objects lack were"
        yield f"{count} {were} supplied in the DICOMDIR. The objects themselves were not changed for that.", ()


def _describe_missing(missing: tuple[str, ...], unnamed: int | None) -> str:
    """`unnamed`: how many more are missing that the archive did not name; None: nobody knows."""
    if unnamed is None and not missing:
        return "It is not known whether this disc is complete: the archive did not say how many objects there are."
    count = len(missing) + (unnamed or 0)
    named = min(len(missing), _MOST_MISSING)
    which = "" if named == count else f"; {'the first ' if named == _MOST_MISSING else ''}{named} of them are named here"
    least = "At least " if unnamed is None else ""
    end = f"{which}:" if named else "."
    return f"This disc is not complete. {least}{count} {_objects(count)} could not be retrieved{end}"


def _list_people(hierarchy: Hierarchy) -> list[DirectoryRecord]:
    return [record for record in hierarchy.roots if record.record_type == "PATIENT"]


def _describe_person(patient: DirectoryRecord) -> tuple[str, str]:
    """Name, and what else tells a person from others."""
    alphabetic, *other = _find_text(patient, "PatientName").split("=")
    groups = [", ".join(part for part in group.split("^") if part.strip()) for group in (alphabetic, *other)]
    name = groups[0] + "".join(f" ({group})" for group in groups[1:] if group)
    birth = _format_date(_find_text(patient, "PatientBirthDate"))
    patient_id = _find_text(patient, "PatientID")
    if any(_find_text(study, "StudyInstanceUID") == patient_id for study in patient.lower):
        patient_id = ""  # stands in for one that nobody gave
    return name.strip() or "no name", ", ".join(filter(None, (birth and f"born {birth}", patient_id and f"Patient ID {patient_id}")))


def _describe_study(study: DirectoryRecord) -> tuple[str, str]:
    """Date and description, and the accession number."""
    accession, description = _find_text(study, "AccessionNumber"), _find_text(study, "StudyDescription")
    date = _find_text(study, "StudyDate")
    shown = "date unknown" if date == NO_DATE else _format_date(date)
    return ", ".join(filter(None, (shown, description))), accession and f"accession number {accession}"


def _list_series(study: DirectoryRecord) -> Iterator[tuple[str, str, str, int]]:
    for series in study.lower:
        yield (
            _find_text(series, "SeriesNumber"),
            _find_text(series, "Modality"),
            _find_text(series, "SeriesDescription"),
            len(series.lower),
        )


def _find_text(record: DirectoryRecord, keyword: str) -> str:
    character_set = record.elements.get(TAGS["SpecificCharacterSet"], b"")
    text = decode_text(record.elements.get(TAGS[keyword], b""), character_set, keyword)
    return "".join(c if c.isprintable() else " " for c in text).strip()[:_LONGEST_TEXT]


def _format_date(date: str) -> str:
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == len("YYYYMMDD") and date.isdigit() else date


def _objects(count: int) -> str:
    return "object" if count == 1 else "objects"
