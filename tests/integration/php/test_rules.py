"""The PHP client refuses what the daemon would refuse, and nothing else: one table and many generated texts, shown to both.

`requests.json` is the table. What PHP lets through is the text of a request, which the daemon's own parser then reads.
"""

from __future__ import annotations

import base64
import json
import random
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from mkisod.job.request import Request, RequestRefused, find_accession_fault, parse_request
from tests.peers import require

FOLDER = Path(__file__).parent
TABLE: dict[str, Any] = json.loads((FOLDER / "requests.json").read_text(encoding="utf-8"))
SEED = 20180505

# What the daemon makes of a directive's words, as a text again.
FIELDS: dict[str, Callable[[Request], str | None]] = {
    "pacs": lambda r: r.pacs,
    "modality": lambda r: " ".join(r.modalities),
    "output": lambda r: " ".join(r.output),
    "patient": lambda r: r.patient_id,
    "birthdate": lambda r: r.birth_date,
    "media": lambda r: r.medium,
    "profile": lambda r: r.profile,
    "label": lambda r: r.label,
    "forward": lambda r: " ".join(r.forward),
    "priority": lambda r: r.priority,
    "allow": lambda r: " ".join(sorted(r.allow, reverse=True)),
}


def ask_daemon(accession: bytes = b"A", **directives: bytes) -> Request | None:
    """What the daemon reads in a request of these lines; None where it refuses it, or where the text is no line (it holds a line feed)."""
    if any(b"\n" in text for text in (accession, *directives.values())):
        return None
    lines = [f"@{name} ".encode() + text for name, text in directives.items()]
    try:
        return parse_request(b"\n".join([b"#", *lines, accession, b"@end"]))
    except RequestRefused:
        return None


def ask_php(wanted: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """What the client makes of these, each {"accessions": [bytes, ...], method: bytes, ...}: {"text"} or {"code", "message"}."""

    def encode(value: bytes | list[bytes]) -> Any:
        return [encode(text) for text in value] if isinstance(value, list) else base64.b64encode(value).decode()

    lines = [json.dumps({key: encode(value) for key, value in one.items()}) for one in wanted]
    command = [require("php"), str(FOLDER / "build.php")]
    done = subprocess.run(command, input="\n".join(lines), check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done
    answers: list[dict[str, str]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(lines)
    return answers


def ask_php_about(accessions: list[bytes]) -> list[dict[str, str]]:
    return ask_php({"accessions": [accession]} for accession in accessions)


# --- The table ---------------------------------------------------------------------------------------------------------------------

GOOD = [(text.encode(), value) for text, value in TABLE["accessions"]["good"]]
BAD = [text.encode() for text in TABLE["accessions"]["bad"]] + [base64.b64decode(text) for text in TABLE["accessions"]["bad_base64"]]


def test_the_daemon_keeps_to_the_table() -> None:
    read = [ask_daemon(text) for text, _ in GOOD]
    assert [request and request.accessions for request in read] == [(value,) for _, value in GOOD]
    assert [text for text in BAD if ask_daemon(text) is not None] == []


def test_the_client_keeps_to_the_table() -> None:
    texts = [answer.get("text", "").encode() for answer in ask_php_about([text for text, _ in GOOD])]
    assert [parse_request(text, require_end=True).accessions for text in texts] == [(value,) for _, value in GOOD]
    assert [(text, answer) for text, answer in zip(BAD, ask_php_about(BAD), strict=True) if answer.get("code") != "accession_invalid"] == []


@pytest.mark.parametrize("directive", FIELDS)
def test_both_keep_to_the_table_of_a_directive(directive: str) -> None:
    cases = TABLE["directives"][directive]
    good = [text.encode() for text, _ in cases["good"]]
    bad = [text.encode() for text in cases["bad"]]
    by_daemon = [ask_daemon(**{directive: text}) for text in good]
    answers = ask_php({"accessions": [b"A"], directive: text} for text in good + bad)
    by_client = [parse_request(answer.get("text", "").encode(), require_end=True) for answer in answers[: len(good)]]
    assert [request and FIELDS[directive](request) for request in by_daemon] == [value for _, value in cases["good"]]
    assert by_client == by_daemon
    assert [text for text in bad if ask_daemon(**{directive: text}) is not None] == []
    refused = [(text, answer) for text, answer in zip(bad, answers[len(good) :], strict=True) if answer.get("code") != "request_malformed"]
    assert refused == []


def test_the_table_has_every_directive() -> None:
    assert set(TABLE["directives"]) == set(FIELDS)


# --- Beyond the table --------------------------------------------------------------------------------------------------------------

# Characters at the edges of the rules, more often than others.
EDGES = [*" \t\r\n\\*?@#\x00\x1f\x7f\x80\x85\x9f\xa0\xad\u1680\u180e\u2000\u200a\u200b\u2028\u202f\u205f\u3000\ufeff\U0010ffffA1.-_/<ä日"]


def make_text(rng: random.Random) -> bytes:
    text = "".join(rng.choice(EDGES) if rng.random() < 0.4 else rng.choice("ABC123") for _ in range(rng.randrange(20))).encode()
    if rng.random() < 0.1 and text:  # a byte that is no UTF-8
        at = rng.randrange(len(text))
        text = text[:at] + bytes([rng.randrange(0x80, 0x100)]) + text[at + 1 :]
    return text


def test_client_and_daemon_agree_on_generated_accessions() -> None:
    rng = random.Random(SEED)  # noqa: S311 - to be replayed
    texts = [make_text(rng) for _ in range(4000)]
    by_daemon = [ask_daemon(text) for text in texts]
    assert 500 < sum(request is not None for request in by_daemon) < 3500
    for text, request, answer in zip(texts, by_daemon, ask_php_about(texts), strict=True):
        by_client = parse_request(answer["text"].encode(), require_end=True) if "text" in answer else None
        assert by_client == request, (text, answer)


def test_client_and_daemon_agree_on_generated_directives() -> None:
    rng = random.Random(SEED + 1)  # noqa: S311 - to be replayed
    cases = []
    for _ in range(4000):
        directive = rng.choice([*FIELDS, "patient", "patient"])
        words = [case for case, _ in TABLE["directives"][directive]["good"]]
        cases.append((directive, make_text(rng) if rng.random() < 0.5 else (rng.choice(words) + rng.choice(EDGES)).encode()))
    answers = ask_php({"accessions": [b"A"], directive: text} for directive, text in cases)
    for (directive, text), answer in zip(cases, answers, strict=True):
        by_client = parse_request(answer["text"].encode(), require_end=True) if "text" in answer else None
        assert by_client == ask_daemon(**{directive: text}), (directive, text, answer)


def test_both_give_the_same_reasons() -> None:
    """But for @ and #, of which the daemon never says that they are no accession number."""
    decoded = [text.decode().strip(" \t\r") for text in BAD if not text.strip().startswith((b"@", b"#")) and is_utf_8(text)]
    answers = ask_php_about([text.encode() for text in decoded])
    reasons = [answer["message"].rpartition("': ")[2] for answer in answers]
    assert reasons == [f"{find_accession_fault(text)}." for text in decoded]


def is_utf_8(text: bytes) -> bool:
    return text.decode(errors="ignore").encode() == text


# --- The list as a whole -----------------------------------------------------------------------------------------------------------


def test_repeats_collapse_and_blanks_go() -> None:
    (answer,) = ask_php([{"accessions": [b"B", b" A", b"B ", b"1", b"01", b"1e0"]}])
    assert parse_request(answer["text"].encode()).accessions == ("B", "A", "1", "01", "1e0")


def test_a_thousand_and_no_more() -> None:
    accessions = [b"%d" % number for number in range(1001)]
    enough, too_many, none = ask_php([{"accessions": accessions[:1000]}, {"accessions": accessions}, {"accessions": []}])
    assert len(parse_request(enough["text"].encode(), require_end=True).accessions) == 1000
    assert (too_many["code"], none["code"]) == ("request_malformed", "request_malformed")


def test_what_is_said_twice_is_written_once() -> None:
    """The daemon refuses a directive that stands in the request twice; here the last word counts."""
    script = "require $argv[1]; echo (new Mkisod\\Request(['1']))->pacs('A')->pacs('B')->text();"
    command = [require("php"), "-r", script, str(FOLDER.parents[2] / "clients/php/Mkisod.php")]
    text = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    assert parse_request(text).pacs == "B"


def test_a_wrong_birth_date_is_not_repeated() -> None:
    (answer,) = ask_php([{"accessions": [b"1"], "birthdate": b"1970-04-01"}])
    assert "1970" not in answer["message"]
