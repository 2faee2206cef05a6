"""Which drops are requests, and when one is whole: the scan with a clock in the test's hand, and the doorbell with real inotify."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.events import FileSystemEvent
from watchdog.observers.inotify_c import InotifyFD

from mkisod.spool.controls import ControlFile
from mkisod.spool.doorbell import Doorbell, Watch
from mkisod.spool.inbox import Found, Inbox, Leave
from mkisod.spool.layout import Control, Layout, make_directories
from tests.processes import wait_for
from tests.unit.spool.conftest import make_log

SETTLE_S = 2.0


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "spool", "main")
    make_directories(layout)
    return layout


class Scanner:
    """The inbox, with what is remembered from scan to scan."""

    def __init__(self, layout: Layout) -> None:
        self.path = layout.inbox
        self.inbox = Inbox(layout, settle_s=SETTLE_S)
        self.leave = Leave.CLAIM

    def scan(self, now_s: float, *moved: str) -> Found:
        return self.inbox.scan(now_s, set(moved), lambda *_: self.leave)


@pytest.fixture
def scanner(layout: Layout) -> Scanner:
    return Scanner(layout)


@pytest.mark.parametrize("text", ["A1\n@end\n", "A1\n@end", "A1\r\n@end\r\n\n", "@end\n"])
def test_a_drop_that_ends_whole_is_ready_at_once(scanner: Scanner, text: str) -> None:
    (scanner.path / "t.req").write_text(text)
    assert scanner.scan(0).ready == ("t",)


@pytest.mark.parametrize("text", ["", "A1\n", "A1\n@en", "A1\n@end\nA2", "A1 @end"])
def test_any_other_drop_is_ready_when_it_has_stood_still(scanner: Scanner, text: str) -> None:
    (scanner.path / "t.req").write_text(text)
    assert scanner.scan(10) == Found((), (), (), SETTLE_S)
    assert scanner.scan(10.5) == Found((), (), (), SETTLE_S - 0.5)
    assert scanner.scan(10 + SETTLE_S).ready == ("t",)


def test_every_change_begins_the_wait_anew(scanner: Scanner) -> None:
    path = scanner.path / "t.req"
    path.write_text("A1\n")
    scanner.scan(0)
    os.utime(path, ns=(0, 0))
    assert scanner.scan(SETTLE_S).ready == ()
    with path.open("a", encoding="ascii") as file:
        file.write("A2\n")
    assert scanner.scan(2 * SETTLE_S).ready == ()
    (scanner.path / "other").write_text("A1\nA2\n")
    (scanner.path / "other").replace(path)  # another file of the same size
    assert scanner.scan(3 * SETTLE_S).ready == ()
    path.chmod(0o600)
    assert scanner.scan(4 * SETTLE_S).ready == ()
    assert scanner.scan(5 * SETTLE_S).ready == ("t",)


def test_a_drop_moved_into_place_is_ready_at_once_and_only_that_one(scanner: Scanner) -> None:
    (scanner.path / "t.req").write_text("A1\n")
    assert scanner.scan(0, "t.req", "u.req").ready == ("t",)
    (scanner.path / "t.req").unlink()
    (scanner.path / "t.req").write_text("A2")
    (scanner.path / "u.req").write_text("A2")
    assert scanner.scan(0).ready == (), "what is now there by that name is being written"


def test_a_drop_moved_into_place_stays_so_while_its_ticket_is_busy(scanner: Scanner) -> None:
    (scanner.path / "t.req").write_text("A1\n")
    scanner.leave = Leave.WAIT
    assert scanner.scan(0, "t.req") == Found((), (), (), None)
    scanner.leave = Leave.CLAIM
    assert scanner.scan(0).ready == ("t",)


@pytest.mark.parametrize("name", [".t.req", "t.req.tmp", ".t.req.tmp", "t.tmp"])
def test_what_is_being_written_under_another_name_is_left_alone(scanner: Scanner, name: str) -> None:
    (scanner.path / name).write_text("A1\n@end\n")
    assert scanner.scan(99) == Found((), (), (), None)


@pytest.mark.parametrize("name", [b"t", b"t.txt", b"-t.req", b"t.REQ", b"\xff.req", b"a b.req", b".req".rjust(70, b"x"), b"t.req\n"])
def test_a_strange_file_is_named_once_while_it_lies_there(scanner: Scanner, name: bytes) -> None:
    path = os.fsencode(scanner.path) + b"/" + name
    os.close(os.open(path, os.O_CREAT))
    assert scanner.scan(0) == Found((), (), (os.fsdecode(name),), None)
    assert scanner.scan(1) == Found((), (), (), None)
    os.unlink(path)  # noqa: PTH108 - the name is no text
    assert scanner.scan(2) == Found((), (), (), None)
    os.close(os.open(path, os.O_CREAT))
    assert scanner.scan(3).strange == (os.fsdecode(name),)


def test_a_directory_is_strange_whatever_its_name(scanner: Scanner) -> None:
    (scanner.path / "t.req").mkdir()
    assert scanner.scan(0, "t.req") == Found((), (), ("t.req",), None)


def test_somebody_elses_ticket_is_strange(scanner: Scanner) -> None:
    (scanner.path / "t.req").write_text("A1\n@end\n")
    scanner.leave = Leave.FOREIGN
    assert scanner.scan(0) == Found((), (), ("t.req",), None)


@pytest.mark.parametrize("kind", ["fifo", "link", "socket"])
def test_nothing_is_followed_or_waited_for(scanner: Scanner, kind: str) -> None:
    path = scanner.path / "t.req"
    (scanner.path / ".whole").write_text("A1\n@end\n")
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "socket":
            os.mknod(path, 0o140600)
        case _:
            path.symlink_to(".whole")
    assert scanner.scan(0).ready == ()
    assert scanner.scan(SETTLE_S).ready == ("t",), "the claim says what is wrong with it"


def test_control_files_are_told_from_requests(scanner: Scanner) -> None:
    for name in ("t.cancel", "t.publish", "t.discard", ".t.cancel", "a b.cancel"):
        (scanner.path / name).touch()
    found = scanner.scan(0)
    assert set(found.controls) == {ControlFile("t", control) for control in Control}
    assert found.strange == ("a b.cancel",)


def test_the_soonest_wait_counts(scanner: Scanner) -> None:
    (scanner.path / "t.req").write_text("A1")
    scanner.scan(0)
    (scanner.path / "u.req").write_text("A1")
    assert scanner.scan(1.5).next_look_s == 0.5


@pytest.fixture
def doorbell(layout: Layout) -> Iterator[Doorbell]:
    doorbell = Doorbell()
    with Watch(layout, doorbell, make_log()) as watch:
        assert watch.is_alive()
        yield doorbell


def hear(doorbell: Doorbell) -> set[str]:
    """Wait for a ring, at most 10 seconds, and return what was moved into place since."""
    doorbell.wait(10)
    return doorbell.take_moved()


def test_the_doorbell_rings_for_a_rename_and_names_it(layout: Layout, doorbell: Doorbell) -> None:
    temporary = layout.inbox / ".t.req.tmp"
    temporary.write_text("A1\n")
    temporary.rename(layout.inbox / "t.req")
    assert wait_for(lambda: hear(doorbell), 20, "the rename to be heard") == {"t.req"}
    assert doorbell.take_moved() == set()


def test_the_doorbell_rings_for_a_file_written_in_place_and_does_not_call_it_moved(layout: Layout, doorbell: Doorbell) -> None:
    scanner = Scanner(layout)
    (layout.inbox / "t.req").write_text("A1\n@end\n")
    assert wait_for(lambda: scanner.scan(0, *hear(doorbell)).ready, 20, "the file to be seen") == ("t",)
    assert doorbell.take_moved() == set()


class NotingDoorbell(Doorbell):
    """Notes what it rang for."""

    def __init__(self) -> None:
        super().__init__()
        self.rang_for: list[str] = []

    def dispatch(self, event: FileSystemEvent) -> None:
        self._rung.clear()
        super().dispatch(event)
        if self._rung.is_set():
            self.rang_for.append(Path(os.fsdecode(event.dest_path or event.src_path)).name)


def test_looking_at_a_drop_does_not_ring(layout: Layout) -> None:
    (layout.inbox / "t.req").write_text("A1\n")
    doorbell = NotingDoorbell()
    with Watch(layout, doorbell, make_log()):
        Scanner(layout).scan(0)
        (layout.inbox / "x").touch()
        (layout.inbox / "x").rename(layout.inbox / "y")  # what was there to be heard has been heard by then
        wait_for(lambda: "y" in doorbell.rang_for, 20, "the last event")
    assert "t.req" not in doorbell.rang_for


def test_what_leaves_the_inbox_holds_nothing_back(layout: Layout) -> None:
    """A claim renames a drop away, and watchdog would wait half a second for where it went before it told of the next drop."""
    doorbell = NotingDoorbell()
    with Watch(layout, doorbell, make_log()):
        (layout.inbox / "first.req").touch()
        (layout.inbox / "first.req").rename(layout.root / "claimed")
        (layout.inbox / ".second").touch()
        (layout.inbox / ".second").rename(layout.inbox / "second.req")
        wait_for(lambda: "second.req" in doorbell.rang_for, 20, "the second drop")
    assert "claimed" not in doorbell.rang_for
    assert set(doorbell.take_moved()) == {"second.req"}


def test_without_inotify_the_timer_is_left(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user has so many inotify instances (fs.inotify.max_user_instances); the daemon may come last."""

    def refuse(_: type[InotifyFD]) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(InotifyFD, "_create_inotify_fd", classmethod(refuse))
    with Watch(layout, Doorbell(), make_log()) as watch:
        assert watch.is_alive()


def test_a_ring_between_two_waits_is_not_lost() -> None:
    doorbell = Doorbell()
    doorbell.ring()
    doorbell.wait(1e6)


# --- Many at once -----------------------------------------------------------------------------------------------------------------


def test_of_many_a_scan_looks_at_a_hundred_and_each_has_its_turn(scanner: Scanner) -> None:
    for number in range(250):
        (scanner.path / f"t{number:03}.req").write_text("A1\n@end\n")
    looked = list[str]()

    def note(ticket: str, _: int) -> Leave:
        looked.append(ticket)
        return Leave.CLAIM

    found = [scanner.inbox.scan(0, set(), note) for _ in range(3)]
    assert [(each.ready[0], each.ready[-1], each.has_more) for each in found] == [
        ("t000", "t099", True),
        ("t100", "t199", True),
        ("t200", "t049", True),
    ], "nobody claims them, and none is passed over"
    assert len(looked) == 300


def test_what_was_not_looked_at_is_remembered(scanner: Scanner) -> None:
    """Since when it stands still, and that it was told of."""
    (scanner.path / "z.req").write_text("A1\n")
    (scanner.path / "zz.req").mkdir()
    assert scanner.scan(0) == Found((), (), ("zz.req",), SETTLE_S)
    for number in range(101):
        (scanner.path / f"t{number:03}.req").write_text("A1\n@end\n")
    found = scanner.scan(1)
    assert (len(found.ready), found.strange, found.has_more) == (100, (), True)
    for ticket in found.ready:
        (scanner.path / f"{ticket}.req").unlink()
    assert scanner.scan(SETTLE_S) == Found(("t100", "z"), (), (), None)


def test_control_files_are_found_behind_many_drops(scanner: Scanner) -> None:
    for number in range(101):
        (scanner.path / f"t{number:03}.req").write_text("A1\n@end\n")
    (scanner.path / "z.cancel").touch()
    assert scanner.scan(0).controls == (ControlFile("z", Control.CANCEL),)


def test_a_control_file_waits_for_the_request_beside_it(scanner: Scanner) -> None:
    """A request that nobody has looked at yet is the one that is meant, not the one of its ticket before it."""
    for number in range(101):
        (scanner.path / f"t{number:03}.req").write_text("A1\n@end\n")
    (scanner.path / "t100.cancel").touch()
    found = scanner.scan(0)
    assert (found.has_more, found.controls) == (True, ())
    for ticket in found.ready:
        (scanner.path / f"{ticket}.req").unlink()
    assert scanner.scan(0).controls == (ControlFile("t100", Control.CANCEL),)


def test_nobody_is_passed_over_for_ever(scanner: Scanner) -> None:
    """Whatever the others are called that keep coming."""
    (scanner.path / "zzz.req").write_text("A1\n@end\n")
    for number in range(4):
        for other in range(101):
            (scanner.path / f"t{number}{other:03}.req").write_text("A1\n@end\n")
        ready = scanner.scan(0).ready
        for ticket in ready:
            (scanner.path / f"{ticket}.req").unlink()
        if "zzz" in ready:
            return
    pytest.fail("it has had no turn")
