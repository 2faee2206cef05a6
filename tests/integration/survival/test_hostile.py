"""What may lie in an inbox that others write to: nothing is followed, nothing blocks, each gets a status or a line in the journal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mkisod.demo.pacs import DemoPacs
from tests.daemon import Daemon
from tests.integration.survival.conftest import NOBODY, SOMEBODY, as_user
from tests.integration.survival.site import Site, check_disc_of, lines, make_site, read_events, wait_logged, write_archive
from tests.processes import wait_for

FORBIDDEN = "FORBIDDEN"  # an accession number


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_archive(folder, "ACC1", "ACC2", "ACC3", count=2)
    return folder


@pytest.fixture
def victim(open_folder: Path, public_python: Path, pacs: DemoPacs, port: int) -> Iterator[tuple[Site, Daemon]]:
    """A daemon that is not root, in whose inbox somebody else drops things; its patience with a file being written is short."""
    os.chown(open_folder, NOBODY, NOBODY)
    site = make_site(open_folder, {"ABPACS": pacs.address}, port=port, spool={"settle_s": 0.5}, python=public_python)
    with site.started(prefix=as_user(NOBODY)) as daemon:
        yield site, daemon
        daemon.process.check_alive()
        daemon.drop("afterwards", lines("ACC1"))
        daemon.wait_status("afterwards", "done")
        assert all(FORBIDDEN not in str(query.keys) for query in pacs.queries), "something was followed"
        daemon.stop()


def place(site: Site, name: str | bytes, make: Callable[[Path], None]) -> None:
    """Make it under a name that is left alone, give it to somebody, and rename it."""
    made = site.inbox / ".made"
    make(made)
    os.chown(made, SOMEBODY, NOBODY, follow_symlinks=False)
    made.rename(site.inbox / os.fsdecode(name))


def make_link(path: Path) -> None:
    secret = path.parent.parent / "secret"
    secret.write_text(f"{FORBIDDEN}\n", encoding="ascii")
    path.symlink_to(secret)


def make_hard_link(path: Path) -> None:
    other = path.parent.parent / "other"
    other.write_text(f"{FORBIDDEN}\n@end\n", encoding="ascii")
    os.link(other, path)


def make_unreadable(path: Path) -> None:
    path.write_text(f"{FORBIDDEN}\n@end\n", encoding="ascii")
    path.chmod(0)


def make_million_lines(path: Path) -> None:
    path.write_bytes(b"\n" * 1_000_000 + b"@end\n")


def make_million_bad_lines(path: Path) -> None:
    path.write_bytes(b"*\n" * 500_000)


def make_endless(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def make_device(path: Path) -> None:
    os.mknod(path, 0o020666, os.makedev(1, 5))  # /dev/zero


FILES = [make_link, make_hard_link, os.mkfifo, make_unreadable, make_million_lines, make_million_bad_lines, make_endless, make_device]


def test_what_is_no_honest_file_is_refused(victim: tuple[Site, Daemon]) -> None:
    site, daemon = victim
    for number, make in enumerate(FILES):
        place(site, f"hostile-{number}.req", make)
    for number, make in enumerate(FILES):
        status = daemon.wait_status(f"hostile-{number}", "failed")
        assert status["error"]["code"] in {"request_malformed", "accession_invalid"}, make
        assert status["error"]["advice"], make
        assert len(status["error"]["message"]) < 20_000
        assert status["owner_uid"] == SOMEBODY or make is make_hard_link
    assert len(site.jobs("held")) == len(FILES)


@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_a_directory_is_named_and_left_alone(victim: tuple[Site, Daemon], mode: int) -> None:
    site, daemon = victim

    def make(path: Path) -> None:
        (path / "within").mkdir(parents=True)
        (path / "within" / "x.req").write_text(f"{FORBIDDEN}\n", encoding="ascii")
        path.chmod(mode)

    place(site, "folder.req", make)
    assert '"folder.req"' in wait_logged(daemon.process, "inbox_file_ignored")
    assert daemon.status("folder") is None


def test_names_that_are_no_tickets_are_warned_about_once(victim: tuple[Site, Daemon]) -> None:
    site, daemon = victim
    names = [
        b"..req",
        b"...req",
        b"a b.req",
        b"new\nline.req",
        b"-x.req",
        b"\xff\xfe.req",
        b"\xe2\x80\xae.req",
        b"x" * 65 + b".req",
        b"y" * 251 + b".req",
        b"t.req.bak",
        b"t.CANCEL",
        b"x" * 65 + b".cancel",
    ]

    def make(path: Path) -> None:
        path.write_text(f"{FORBIDDEN}\n@end\n", encoding="ascii")

    for name in names:
        place(site, name, make)
    visible = [name for name in names if not name.startswith(b".")]
    wait_for(lambda: len(site.events("inbox_file_ignored")) >= len(visible), 30, "the warnings")
    daemon.drop("between", lines("ACC1"))
    daemon.wait_status("between", "done")
    said = [event["name"] for event in site.events("inbox_file_ignored")]
    assert len(said) == len(visible), "once each"
    assert all(name.isascii() for name in said)
    assert {os.fsencode(path.name) for path in site.inbox.iterdir()} == set(names), "left alone"
    assert {path.name for path in daemon.outbox.iterdir()} == {"between"}
    assert not (site.spool / "req").exists()


@pytest.mark.parametrize("ticket", ["a..b", "a.", "0", "x" * 64, "a.req", "status.json"])
def test_odd_tickets_are_tickets(victim: tuple[Site, Daemon], archive: Path, ticket: str) -> None:
    site, daemon = victim
    daemon.drop(ticket, lines("ACC1"))
    check_disc_of(site, daemon.wait_status(ticket, "done"), archive, ["ACC1"])


def test_a_file_that_is_still_being_written_is_waited_for(archive: Path, pacs: DemoPacs, port: int, tmp_path: Path) -> None:
    """Under its own name, line by line: nothing says that it is whole before the last line does."""
    site = make_site(tmp_path, {"ABPACS": pacs.address}, port=port, spool={"settle_s": 600})
    with site.daemon() as daemon:
        with (site.inbox / "slow.req").open("w", encoding="ascii", buffering=1) as file:
            file.write("ACC1\n")
            daemon.drop("meanwhile", lines("ACC2"))
            daemon.wait_status("meanwhile", "done")
            assert daemon.status("slow") is None
            file.write("ACC3\n@end\n")
        check_disc_of(site, daemon.wait_status("slow", "done"), archive, ["ACC1", "ACC3"])


def test_a_file_that_stands_still_is_taken(victim: tuple[Site, Daemon], archive: Path) -> None:
    site, daemon = victim
    (site.inbox / "still.req").write_text("ACC1\nACC3", encoding="ascii")
    check_disc_of(site, daemon.wait_status("still", "done"), archive, ["ACC1", "ACC3"])


def test_what_is_written_after_the_claim_does_not_count(victim: tuple[Site, Daemon], archive: Path) -> None:
    """The client still has the file open: the copy is what was validated, and what is carried out."""
    site, daemon = victim
    made = site.inbox / ".made"
    with made.open("w+", encoding="ascii", buffering=1) as file:
        file.write(lines("ACC1"))
        made.rename(site.inbox / "changing.req")
        wait_for(lambda: read_events(site.journal(), "job_claimed"), 30, "the claim")
        file.seek(0)
        file.write(lines(FORBIDDEN))
        check_disc_of(site, daemon.wait_status("changing", "done"), archive, ["ACC1"])
