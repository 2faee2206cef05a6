"""README.TXT and INDEX.HTM: what a person reads who holds the disc, knows nothing, and has no viewer at hand. Pure.

README.TXT is ASCII with CRLF, INDEX.HTM is UTF-8 without script and without anything from outside the disc (IHE PDI, RAD-47). Every
value from an object is hostile text: it is decoded, stripped of control characters, and escaped.
"""

from __future__ import annotations

import html
from datetime import datetime

from attrs import frozen

from mkisod.media.hierarchy import Hierarchy


@frozen
class PageFacts:
    """What the pages of one volume say."""

    file_set_id: str
    created: datetime
    institution: str
    contact: str
    disclaimer: str
    missing: tuple[str, ...]
    hierarchy: Hierarchy


def render_readme(facts: PageFacts) -> bytes:
    lines = [
        f"DICOM disc {facts.file_set_id}",
        "",
        f"Institution: {facts.institution or 'not stated'}",
        f"Contact: {facts.contact or 'not stated'}",
        f"Created: {facts.created:%Y-%m-%d %H:%M} UTC by mkisod",
        f"SOP instances: {len(facts.hierarchy.files)}",
        "",
        "Open the file DICOMDIR with a DICOM viewer. INDEX.HTM says more.",
    ]
    return ("\r\n".join(lines) + "\r\n").encode("ascii", "replace")


def render_index(facts: PageFacts) -> bytes:
    title = html.escape(f"DICOM disc {facts.file_set_id}")
    institution = html.escape(facts.institution or "not stated")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n<body><h1>{title}</h1>\n'
        f"<p>Institution: {institution}</p>\n"
        f'<p>{len(facts.hierarchy.files)} SOP instances. <a href="README.TXT">README.TXT</a></p>\n</body></html>\n'
    ).encode()
