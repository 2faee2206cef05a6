"""What a client asks for: the text of a drop, parsed into a `Request`, or refused with every bad line named.

Pure: bytes in, value out. The grammar is docs/contract.md, "Request". A drop is hostile input: whatever the bytes, `parse_request`
returns a `Request` or raises `RequestRefused`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

from attrs import evolve, frozen

from mkisod.errors import Code, Permanent

MAX_REQUEST_BYTES = 1 << 20
MAX_ACCESSIONS = 1000
MAX_LINES_NAMED = 50  # with their mistake; of further ones only the number, so that a status stays small

PRIORITIES = ("high", "normal", "low")
OUTPUTS = ("dir", "iso", "zip")
MEDIA = ("cd", "dvd", "dvd-dl", "usb")
PERMISSIONS = ("partial", "several-patients")

_TICKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CODE_STRING = re.compile(r"[A-Z0-9_ ]{1,16}")  # VR CS, PS3.5 6.2
_FILE_SET_ID = re.compile(r"[A-Z0-9_]{1,16}")  # PS3.10 8.5, PS3.3 F.3.2.1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # of a PACS, a destination, a profile
_DATE = re.compile(r"[0-9]{8}")  # \d would match the digits of any script
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # and the surrogates that stand for undecodable bytes
_BLANKS = re.compile(r"[ \t]+")  # not str.split(): that takes control characters for white space
_MEDIUM_MIB = re.compile(r"[1-9][0-9]{0,6}")


@frozen
class Request:
    """A valid request. `None` and empty mean: not said, the configuration decides."""

    accessions: tuple[str, ...]
    pacs: str | None = None
    modalities: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    patient_id: str | None = None
    birth_date: str | None = None
    medium: str | None = None
    profile: str | None = None
    label: str | None = None
    forward: tuple[str, ...] = ()
    priority: str = "normal"
    allow: frozenset[str] = frozenset()


@frozen
class BadLine:
    number: int  # from 1; 0 for the file as a whole
    code: Code
    reason: str


class RequestRefused(Permanent):
    """The request is not carried out; `bad_lines` says why, line by line."""

    def __init__(self, bad_lines: Iterable[BadLine]) -> None:
        self.bad_lines = tuple(bad_lines)
        codes = {line.code for line in self.bad_lines}
        code = codes.pop() if len(codes) == 1 else Code.REQUEST_MALFORMED
        super().__init__(code, _describe(self.bad_lines))


def _describe(bad_lines: tuple[BadLine, ...]) -> str:
    named = [f"line {line.number}: {line.reason}" if line.number else line.reason for line in bad_lines[:MAX_LINES_NAMED]]
    if rest := [line.number for line in bad_lines[MAX_LINES_NAMED:]]:
        named.append(f"and {len(rest)} more bad lines: {_ranges(rest)}")
    return "The request is refused: " + "; ".join(named) + "."


def _ranges(numbers: list[int]) -> str:
    """1, 3-7, 9: at most a hundred ranges."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    shown = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges[:100])
    return shown + (", ..." if len(ranges) > 100 else "")


def is_ticket(name: str) -> bool:
    return _TICKET.fullmatch(name) is not None


def find_accession_fault(accession: str) -> str | None:
    """Why a text is no accession number (VR SH, PS3.5 6.2, used as a single-value key), or None. The PHP client has the same rules."""
    if not accession:
        return "an accession number must not be empty"
    if len(accession) > 16:
        return f"an accession number has at most 16 characters, this one has {len(accession)}"
    if _CONTROL.search(accession):
        return "an accession number must not contain control characters"
    if accession != accession.strip():
        return "an accession number must not begin or end with white space, of which a no-break space is one"
    if "\\" in accession:
        return "an accession number must not contain a backslash, which separates values in DICOM"
    if "*" in accession or "?" in accession:
        return "an accession number must not contain * or ?, which would match other patients' studies"
    return None


_ESCAPES = {i: f"\\x{i:02x}" for i in [*range(32), 127]}


def _quote(text: str) -> str:
    """Part of a client's text, fit for a message: printable ASCII, at most 40 characters."""
    shown = text if len(text) <= 40 else text[:37] + "..."
    return "'" + shown.encode("ascii", "backslashreplace").decode().translate(_ESCAPES) + "'"


# One function a directive: (request so far, words) -> request. ValueError says what is wrong with the words.
def _one(words: list[str], what: str) -> str:
    if len(words) != 1:
        raise ValueError(f"takes one {what}")
    return words[0]


def _some(words: list[str], what: str) -> tuple[str, ...]:
    if not words:
        raise ValueError(f"takes at least one {what}")
    return tuple(dict.fromkeys(words))


def _one_of(word: str, allowed: Collection[str]) -> str:
    if word not in allowed:
        raise ValueError(f"takes {', '.join(allowed)}, not {_quote(word)}")
    return word


def _matching(word: str, pattern: re.Pattern[str], what: str) -> str:
    if not pattern.fullmatch(word):
        raise ValueError(f"takes {what}, not {_quote(word)}")
    return word


def _patient(r: Request, words: list[str]) -> Request:
    patient_id = " ".join(words)
    if not 1 <= len(patient_id) <= 64 or "\\" in patient_id or _CONTROL.search(patient_id):
        raise ValueError("takes a Patient ID of 1 to 64 characters without backslash and control characters")
    return evolve(r, patient_id=patient_id)


def _birth_date(r: Request, words: list[str]) -> Request:
    date = _one(words, "date")
    if not (_DATE.fullmatch(date) and "01" <= date[4:6] <= "12" and "01" <= date[6:] <= "31"):
        raise ValueError("takes a date as YYYYMMDD")  # not quoted: no status holds a birth date
    return evolve(r, birth_date=date)


def _medium(r: Request, words: list[str]) -> Request:
    medium = _one(words, "medium")
    if medium not in MEDIA and not _MEDIUM_MIB.fullmatch(medium):
        raise ValueError(f"takes {', '.join(MEDIA)} or a size in MiB, not {_quote(medium)}")
    return evolve(r, medium=medium)


def _modalities(r: Request, words: list[str]) -> Request:
    return evolve(r, modalities=tuple(_matching(word, _CODE_STRING, "modalities such as CT MR") for word in _some(words, "modality")))


_DIRECTIVES: dict[str, Callable[[Request, list[str]], Request]] = {
    "@pacs": lambda r, w: evolve(r, pacs=_matching(_one(w, "PACS name"), _NAME, "a PACS name")),
    "@modality": _modalities,
    "@output": lambda r, w: evolve(r, output=tuple(_one_of(word, OUTPUTS) for word in _some(w, "of dir, iso, zip"))),
    "@patient": _patient,
    "@birthdate": _birth_date,
    "@media": _medium,
    "@profile": lambda r, w: evolve(r, profile=_matching(_one(w, "profile"), _NAME, "a profile name")),
    "@label": lambda r, w: evolve(r, label=_matching(_one(w, "label"), _FILE_SET_ID, "1 to 16 characters out of A-Z 0-9 _")),
    "@forward": lambda r, w: evolve(r, forward=tuple(_matching(word, _NAME, "destination names") for word in _some(w, "destination"))),
    "@priority": lambda r, w: evolve(r, priority=_one_of(_one(w, "priority"), PRIORITIES)),
    "@allow": lambda r, w: evolve(r, allow=frozenset(_one_of(word, PERMISSIONS) for word in _some(w, "permission"))),
}
_END = "@end"


def parse_request(data: bytes, *, require_end: bool = False) -> Request:
    """The request in the bytes of a drop. Raises `RequestRefused` with every bad line."""
    if len(data) > MAX_REQUEST_BYTES:
        raise _refused_whole(f"the file is larger than 1 MiB ({MAX_REQUEST_BYTES} bytes)")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise RequestRefused([BadLine(number, Code.REQUEST_MALFORMED, "not UTF-8 text")]) from None
    request, bad_lines, seen, ended_at = Request(accessions=()), [], set(), 0
    accessions: dict[str, None] = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip(" \t\r")
        if not line or line.startswith("#"):
            continue
        if ended_at:
            bad_lines.append(BadLine(number, Code.REQUEST_MALFORMED, f"nothing may follow {_END} (line {ended_at})"))
        elif line == _END:
            ended_at = number
        elif line.startswith("@"):
            name, *words = _BLANKS.split(line)
            try:
                if name in seen:
                    raise ValueError("stands in the request twice")
                request = _apply(request, name, words)
                seen.add(name)
            except ValueError as error:
                bad_lines.append(BadLine(number, Code.REQUEST_MALFORMED, f"{_quote(name)} {error}"))
        elif fault := find_accession_fault(line):
            bad_lines.append(BadLine(number, Code.ACCESSION_INVALID, f"{_quote(line)}: {fault}"))
        else:
            accessions[line] = None
    if len(accessions) > MAX_ACCESSIONS:
        bad_lines.append(BadLine(0, Code.REQUEST_MALFORMED, f"{len(accessions)} accession numbers, at most {MAX_ACCESSIONS} are allowed"))
    if not accessions and not bad_lines:
        bad_lines.append(BadLine(0, Code.REQUEST_MALFORMED, "there is no accession number in it"))
    if require_end and not ended_at and not bad_lines:
        bad_lines.append(BadLine(0, Code.REQUEST_MALFORMED, f"the last line is not {_END}, so the list may have been cut short"))
    if bad_lines:
        raise RequestRefused(bad_lines)
    return evolve(request, accessions=tuple(accessions))


def _apply(request: Request, name: str, words: list[str]) -> Request:
    if name == _END:
        raise ValueError("takes nothing behind it")
    if name not in _DIRECTIVES:
        raise ValueError(f"is no directive; there are {', '.join([*_DIRECTIVES, _END])}")
    return _DIRECTIVES[name](request, words)


def _refused_whole(reason: str) -> RequestRefused:
    return RequestRefused([BadLine(0, Code.REQUEST_MALFORMED, reason)])


def ends_whole(tail: bytes) -> bool:
    """Whether the last line of a drop is @end, so that nothing of it is still to come. `tail`: its last 64 bytes or more, or all of it."""
    return tail.rstrip(b" \t\r\n").rpartition(b"\n")[2].strip(b" \t\r") == _END.encode()


def choose_output(request: Request, medium: str, default: Collection[str]) -> frozenset[str]:
    """What to publish: what the request says, else the default, without the image where the medium is usb (its profiles are for FAT)."""
    if request.output or medium != "usb":
        return frozenset(request.output or default)
    return frozenset(default) - {"iso"} or frozenset({"dir"})


def check_names(request: Request, *, pacs_names: Collection[str], destination_names: Collection[str] = ()) -> None:
    """Raises `Permanent` (`pacs_unknown`, `destination_unknown`) where the request names what is not configured."""
    if request.pacs is not None and request.pacs not in pacs_names:
        known = ", ".join(pacs_names)
        raise Permanent(Code.PACS_UNKNOWN, f"There is no PACS called {request.pacs} in the configuration, which has {known}.")
    if unknown := [name for name in request.forward if name not in destination_names]:
        known = ", ".join(destination_names) or "none"
        raise Permanent(
            Code.DESTINATION_UNKNOWN, f"There is no destination called {', '.join(unknown)} in the configuration, which has {known}."
        )


def check_supported(request: Request, *, can_query: bool) -> None:
    """Raises `Permanent` (`not_supported`) for what the PACS of the request cannot do: it must not be ignored."""
    if request.modalities and not can_query:
        raise Permanent(
            Code.NOT_SUPPORTED,
            '@modality needs a PACS that answers C-FIND, and this one is configured with query = "none".',
            "Leave @modality out, or name another PACS.",
        )
