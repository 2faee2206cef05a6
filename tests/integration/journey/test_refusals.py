"""What a client may get wrong: the status says what, all bad lines at once, the archive is not even asked, and the file is kept.

The inbox is open to whoever may drop, so what lies in it is hostile.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import write_series
from tests.integration.journey.site import AE_TITLE, Site, running_site
from tests.processes import HOST, free_port, wait_for

MIB = 1 << 20


@dataclass(frozen=True)
class Watched:
    """A site, and its archive, which keeps a record of what it is asked."""

    site: Site
    pacs: DemoPacs


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("refusals")
    write_series(folder / "archive", accession="ACC1", count=3, rows=8, columns=8)
    port = free_port()
    with (
        DemoPacs(folder / "archive", destinations={AE_TITLE: (HOST, port)}) as pacs,
        running_site(folder, {"ABPACS": pacs.address}, port=port) as site,
    ):
        yield Watched(site, pacs)


MALFORMED, ACCESSION = "request_malformed", "accession_invalid"

REFUSED: dict[str, tuple[str | bytes, str, list[str]]] = {
    # name: what is dropped, the code, and what the message has to name
    "nothing": ("", MALFORMED, ["no accession number"]),
    "no_accession": ("# only a comment\n\n@end\n", MALFORMED, ["no accession number"]),
    "all": ("*\n", ACCESSION, ["line 1", "'*'"]),
    "wildcard": ("ACC1\nMR*\n", ACCESSION, ["line 2", "'MR*'"]),
    "question_mark": ("ACC?\n", ACCESSION, ["line 1"]),
    "seventeen_characters": ("12345678901234567\n", ACCESSION, ["line 1", "17"]),
    "backslash": ("ACC1\\ACC2\n", ACCESSION, ["line 1", "backslash"]),
    "control_character": ("ACC1\x07\n", ACCESSION, ["line 1", "control"]),
    "unknown_directive": ("@burn now\nACC1\n", MALFORMED, ["line 1", "'@burn'"]),
    "after_the_end": ("ACC1\n@end\nACC2\n", MALFORMED, ["line 3", "@end"]),
    "unknown_pacs": ("@pacs ELSEWHERE\nACC1\n", "pacs_unknown", ["ELSEWHERE", "ABPACS"]),
    "unknown_destination": ("@forward WORKSTATION\nACC1\n", "destination_unknown", ["WORKSTATION"]),
    "unknown_profile": ("@profile STD-GEN-BLU\nACC1\n", MALFORMED, ["STD-GEN-BLU", "auto", "as-received", "STD-GEN-CD"]),
    "profile_of_another_medium": ("@media dvd\n@profile STD-GEN-CD\nACC1\n", MALFORMED, ["STD-GEN-CD", "dvd", "STD-GEN-DVD-J2K"]),
    "profile_of_another_size": ("@media 100\n@profile STD-GEN-USB-JPEG\nACC1\n", MALFORMED, ["STD-GEN-USB-JPEG", "100", "STD-GEN-CD"]),
    "image_for_usb": ("@media usb\n@output dir iso\nACC1\n", MALFORMED, ["usb", "FAT", "dir or zip"]),
    "permission": ("@allow everything\nACC1\n", MALFORMED, ["line 1", "'everything'"]),
    "too_large": ("ACC1\n" + "# padding\n" * (2 * MIB // 10), MALFORMED, ["1 MiB"]),
    "too_many": ("".join(f"{number}\n" for number in range(1001)), MALFORMED, ["1001", "1000"]),
    "binary": (bytes(range(256)) * 16, MALFORMED, ["not UTF-8"]),
    "random": (b"\x89PNG\r\n\x1a\n" + os.urandom(4096), MALFORMED, ["not UTF-8"]),
    "zeros": (bytes(4096), ACCESSION, ["line 1"]),
    "every_bad_line": (
        "@nonsense\nACC1\n*\n@media floppy\nMR?\n\n@output tape\n12345678901234567\nA\\B\n@priority soon\n",
        MALFORMED,
        ["line 1:", "line 3:", "line 4:", "line 5:", "line 7:", "line 8:", "line 9:", "line 10:"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_request_is_refused_with_every_bad_line_and_kept(watched: Watched, name: str) -> None:
    text, code, named = REFUSED[name]
    data = text.encode() if isinstance(text, str) else text
    asked = len(watched.pacs.queries), len(watched.pacs.moves)
    watched.site.daemon.drop(f"refused-{name}", data)
    status = watched.site.daemon.wait_status(f"refused-{name}", "failed")

    error = status["error"]
    assert (error["code"], error["transient"]) == (code, False)
    assert [words for words in named if words not in error["message"]] == []
    assert error["advice"]
    assert "ACC1" not in re.sub(r"'.*?'", "", error["message"]), "a good line is named as a bad one"
    assert (status["result"], status["accessions"], status["progress"]["instances_expected"]) == (None, [], 0)
    assert (len(watched.pacs.queries), len(watched.pacs.moves)) == asked
    kept = watched.site.held(status) / "drop"  # the status comes first, then the job goes there
    wait_for(kept.exists, 10, "the job to be held")
    assert kept.read_bytes() == data, "the file is kept as it came"
    assert not (watched.site.daemon.inbox / f"refused-{name}.req").exists()


def test_good_lines_are_never_named(watched: Watched) -> None:
    watched.site.daemon.drop("good-lines", "ACC1\n*\n# comment\n\nACC2\n")
    message = watched.site.daemon.wait_status("good-lines", "failed")["error"]["message"]
    assert re.findall(r"line (\d+)", message) == ["2"]


def test_thousands_of_bad_lines_make_a_short_status(watched: Watched) -> None:
    watched.site.daemon.drop("bad-lines", "*\n" * 100_000)
    message = watched.site.daemon.wait_status("bad-lines", "failed")["error"]["message"]
    assert len(message) < 20_000
    assert "100000" in message, "the last bad line is named, if only as part of a range"


@pytest.mark.parametrize("kind", ["link", "second_name", "pipe"])
def test_what_is_no_plain_file_is_refused_and_never_read(watched: Watched, kind: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("ACC1\n", encoding="ascii")
    ticket, made = f"no-file-{kind}", watched.site.daemon.inbox / f"{kind}.tmp"
    if kind == "link":
        made.symlink_to(secret)
    elif kind == "second_name":
        os.link(secret, made)
    else:
        os.mkfifo(made)
    made.rename(watched.site.daemon.inbox / f"{ticket}.req")
    status = watched.site.daemon.wait_status(ticket, "failed")
    assert status["error"]["code"] == MALFORMED
    assert secret.read_text(encoding="ascii") == "ACC1\n"


def test_other_files_are_left_alone_and_said_once(watched: Watched) -> None:
    inbox = watched.site.daemon.inbox
    names = ["notes.txt", ".hidden.req", "writing.req.tmp", "spaced name.req", "umlaut-ä.req", "x" * 65 + ".req"]
    for name in names:
        (inbox / name).write_text("ACC1\n", encoding="ascii")
    (inbox / "folder.req").mkdir()
    strange = [name for name in (*names, "folder.req") if not name.startswith(".") and not name.endswith(".tmp")]
    # Two more looks at the inbox, at which nothing more is said.
    for ticket in ("after-strange-files", "after-strange-files-again"):
        watched.site.request(ticket, "ACC1")
    events = [json.loads(line) for line in watched.site.daemon.process.output.splitlines()]
    said = [event["name"] for event in events if event["event"] == "inbox_file_ignored"]
    assert sorted(said) == sorted(name.encode("ascii", "backslashreplace").decode() for name in strange)
    assert all((inbox / name).exists() for name in (*names, "folder.req"))


def test_after_all_of_it_a_right_request_is_served(watched: Watched) -> None:
    """A byte order mark, CRLF, no last newline, a comment and a repeat are no mistakes."""
    moved = len(watched.pacs.moves)
    watched.site.daemon.drop("right", "\ufeff# for the ward\r\n@label WARD_7\r\nACC1\r\n  ACC1  \r\n@end")
    status = watched.site.daemon.wait_status("right", "done")
    assert [volume["file_set_id"] for volume in status["result"]["volumes"]] == ["WARD_7"]
    assert [accession["accession"] for accession in status["accessions"]] == ["ACC1"]
    assert len(watched.pacs.moves) == moved + 1


def test_a_request_that_is_still_being_written_is_left_until_it_is_whole(watched: Watched) -> None:
    """Clients that write in place: as long as the last line is not @end and the file keeps changing, nothing is taken."""
    path = watched.site.daemon.inbox / "in-place.req"
    with path.open("w", encoding="ascii") as file:
        file.write("ACC")
        file.flush()
        watched.site.request("between", "ACC1")  # the inbox has been looked at since
        assert path.exists()
        file.write("1\n@end\n")
    assert watched.site.daemon.wait_status("in-place", "done")["accessions"][0]["accession"] == "ACC1"
