"""The grammar of a request: what is taken, what is refused, and that no bytes at all do anything else."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mkisod.errors import Code, Permanent
from mkisod.job.request import (
    MAX_ACCESSIONS,
    MAX_REQUEST_BYTES,
    Request,
    RequestRefused,
    check_names,
    check_supported,
    ends_whole,
    find_accession_fault,
    is_ticket,
    parse_request,
)


def refuse(data: bytes, *, require_end: bool = False) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        parse_request(data, require_end=require_end)
    return refused.value


@pytest.mark.parametrize(
    "data",
    [
        b"A1",
        b"A1\n",
        b"\xef\xbb\xbfA1\r\n",
        b"# a comment\n\n   A1\t\n@end\n",
        b"A1\nA1\n A1 \n",
        b"A1\r\n@end\r\n\r\n# nothing\r\n",
    ],
)
def test_what_surrounds_an_accession_does_not_count(data: bytes) -> None:
    assert parse_request(data) == Request(("A1",))


def test_accessions_keep_their_order_and_their_characters() -> None:
    assert parse_request("MR.180505.026\nB 2\nÄ#@3".encode()).accessions == ("MR.180505.026", "B 2", "Ä#@3")


DIRECTIVES: list[tuple[str, dict[str, object]]] = [
    ("@pacs ABPACS", {"pacs": "ABPACS"}),
    ("@modality CT MR CT", {"modalities": ("CT", "MR")}),
    ("@output zip dir", {"output": ("zip", "dir")}),
    ("@patient 123", {"patient_id": "123"}),
    ("@patient  Doe 12/3 ", {"patient_id": "Doe 12/3"}),
    ("@patient " + 64 * "x", {"patient_id": 64 * "x"}),
    ("@birthdate 19700131", {"birth_date": "19700131"}),
    ("@media cd", {"medium": "cd"}),
    ("@media dvd-dl", {"medium": "dvd-dl"}),
    ("@media 4700", {"medium": "4700"}),
    ("@profile STD-GEN-CD", {"profile": "STD-GEN-CD"}),
    ("@label KNEE_2026", {"label": "KNEE_2026"}),
    ("@forward WS1 WS2", {"forward": ("WS1", "WS2")}),
    ("@priority high", {"priority": "high"}),
    ("@allow partial several-patients", {"allow": frozenset({"partial", "several-patients"})}),
    ("@allow\tpartial", {"allow": frozenset({"partial"})}),
]


@pytest.mark.parametrize(("line", "values"), DIRECTIVES, ids=[line[:30] for line, _ in DIRECTIVES])
def test_a_directive_says_one_thing(line: str, values: dict[str, object]) -> None:
    assert parse_request(f"{line}\nA1\n".encode()) == Request(("A1",), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line",
    [
        *("@pacs", "@pacs A B", "@pacs ../x", "@pacs ä", "@pacs a\x0bb"),
        *("@modality", "@modality ct", "@modality CT*", "@modality " + 17 * "A"),
        *("@output", "@output tar", "@output dir,iso"),
        *("@patient", "@patient " + 65 * "x", "@patient a\\b", "@patient a\x1cb", "@patient a\x7fb", "@patient a\x85b"),
        *("@birthdate", "@birthdate 1970-01-31", "@birthdate 19701301", "@birthdate 19700132", "@birthdate 19700100", "@birthdate 1970013"),
        *("@birthdate 19700131 19700131", "@birthdate ١٩٧٠0131", "@birthdate 197001311"),
        *("@media", "@media CD", "@media 0", "@media 00700", "@media 700MiB", "@media 12345678", "@media 7٣"),
        *("@profile", "@profile a b", "@profile -x"),
        *("@label", "@label knee", "@label " + 17 * "A", "@label A-B", "@label A B"),
        *("@forward", "@forward a/b"),
        *("@priority", "@priority urgent", "@priority high high"),
        *("@allow", "@allow all", "@allow partial, several-patients"),
        *("@end now", "@END", "@", "@ pacs", "@unknown", "@pacsX", "@@pacs x"),
    ],
    ids=ascii,
)
def test_a_wrong_directive_is_named_and_refused(line: str) -> None:
    refused = refuse(f"A1\n{line}\nA2\n".encode())
    assert [bad.number for bad in refused.bad_lines] == [2]
    assert refused.code is Code.REQUEST_MALFORMED
    assert "line 2: " in refused.message


@pytest.mark.parametrize(
    "accession",
    ["*", "MR*", "MR?1", 17 * "1", "a\\b", "a\x00", "a\tb", "a\x7f", "a\x85", "a\rb", "a\x1b[2J", "\xa0", "\u3000A1"],
    ids=ascii,
)
def test_what_is_no_accession_number_is_named_and_refused(accession: str) -> None:
    refused = refuse(f"A1\n{accession}\n".encode())
    assert refused.code is Code.ACCESSION_INVALID
    assert [bad.number for bad in refused.bad_lines] == [2]
    assert refused.message.isascii()
    assert refused.message.isprintable()


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\n\n", b"# A1\n", b"@end", b"@pacs ABPACS\n@end\n", b"\xef\xbb\xbf"),
        *(b"\xff\xfe", bytes(range(256)), b"A1\n\xc3(", b"A1\n\xed\xa0\x80\n"),
    ],
    ids=ascii,
)
def test_what_holds_no_list_is_refused(data: bytes) -> None:
    assert refuse(data).code is Code.REQUEST_MALFORMED


def test_every_bad_line_is_named_at_once_under_the_code_they_share() -> None:
    refused = refuse(b"@pacs\n*\nA1\n@nothing\n" + 17 * b"x")
    assert [bad.number for bad in refused.bad_lines] == [1, 2, 4, 5]
    assert refused.code is Code.REQUEST_MALFORMED
    assert all(f"line {number}: " in refused.message for number in (1, 2, 4, 5))


def test_the_message_stays_small_however_many_lines_are_bad() -> None:
    refused = refuse(b"*\n" * (MAX_REQUEST_BYTES // 2))
    assert len(refused.message) < 20_000
    assert f"51-{MAX_REQUEST_BYTES // 2}" in refused.message


def test_a_directive_counts_once() -> None:
    assert [bad.number for bad in refuse(b"@pacs A\nA1\n@pacs B\n").bad_lines] == [3]


def test_nothing_but_comments_may_follow_the_end() -> None:
    assert [bad.number for bad in refuse(b"A1\n@end\n#\n\nA2\n@end\n").bad_lines] == [5, 6]


@pytest.mark.parametrize(("data", "is_whole"), [(b"A1\n@end\n", True), (b"A1\n", False), (b"A1\n@en", False), (b"A1\n#@end\n", False)])
def test_a_list_without_an_end_is_refused_where_one_is_required(data: bytes, is_whole: bool) -> None:
    if is_whole:
        assert parse_request(data, require_end=True).accessions == ("A1",)
    else:
        assert refuse(data, require_end=True).code is Code.REQUEST_MALFORMED


def test_limits_hold_to_the_byte_and_to_the_line() -> None:
    filler = b"#" * (MAX_REQUEST_BYTES - 3) + b"\nA1"
    assert parse_request(filler).accessions == ("A1",)
    assert refuse(b"#" + filler).code is Code.REQUEST_MALFORMED
    most = [str(number) for number in range(MAX_ACCESSIONS)]
    assert parse_request("\n".join([*most, *most]).encode()).accessions == tuple(most)
    assert refuse("\n".join([*most, "x"]).encode()).code is Code.REQUEST_MALFORMED


def test_no_birth_date_and_no_patient_id_is_quoted_back() -> None:
    message = refuse(b"A1\n@birthdate 1970-01-31\n@patient a\\4711\n").message
    assert "1970" not in message
    assert "4711" not in message


known = st.sampled_from([line for line, _ in DIRECTIVES] + ["@end", "@", "#", "", "A1", "\ufeff", "@birthdate 0", "@media"])
texts = st.text() | st.lists(known | st.text(max_size=20)).map("\n".join)


@given(st.binary() | texts.map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"@patient \xc2\xa0")
def test_whatever_the_bytes_there_is_a_request_or_a_refusal(data: bytes) -> None:
    try:
        request = parse_request(data)
    except RequestRefused as refusal:
        refused = refusal
    else:
        assert request.accessions
        assert not any(find_accession_fault(accession) for accession in request.accessions)
        return
    assert refused.bad_lines
    assert refused.message.isascii()
    assert refused.message.isprintable()


@given(st.binary(max_size=200), st.integers(min_value=64, max_value=200))
@example(b"A1\n@end \r\n\n", 64)
def test_the_tail_of_a_drop_tells_whether_it_is_whole(data: bytes, tail_bytes: int) -> None:
    lines = [line for raw in data.split(b"\n") if (line := raw.strip(b" \t\r"))]
    if ends_whole(data[-tail_bytes:]):
        assert lines[-1].endswith(b"@end")
    if len(data) <= tail_bytes:
        assert ends_whole(data) == bool(lines and lines[-1] == b"@end")


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("web-4711", True),
        ("A", True),
        ("0.._-", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("", False),
        (".a", False),
        ("-a", False),
        ("a/b", False),
        ("a b", False),
        ("a\n", False),
        ("ä", False),
        ("٣", False),
    ],
)
def test_tickets(name: str, good: bool) -> None:
    assert is_ticket(name) is good


def test_a_pacs_nobody_configured_is_named() -> None:
    check_names(Request(("A1",)), pacs_names=("P",))
    check_names(Request(("A1",), pacs="P"), pacs_names=("P",))
    with pytest.raises(Permanent, match="no PACS called Q") as raised:
        check_names(Request(("A1",), pacs="Q"), pacs_names=("P",))
    assert raised.value.code is Code.PACS_UNKNOWN


def test_what_the_archive_cannot_do_is_refused() -> None:
    """Nothing that the grammar knows may be ignored."""
    by_modality = Request(("A1",), modalities=("CT",))
    check_supported(by_modality, can_query=True)
    check_supported(Request(("A1",), allow=frozenset({"several-patients"})), can_query=False)
    with pytest.raises(Permanent, match="@modality") as raised:
        check_supported(by_modality, can_query=False)
    assert raised.value.code is Code.NOT_SUPPORTED
