"""The spool as its users see it: who may drop, read and follow, and what another member of the group can do to somebody's request.

alice and mallory are members of mkisod-drop, eve is not. What they try is what a shell lets them try.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mkisod.demo.series import write_series
from tests.processes import wait_for
from tests.system.box import Box, Said
from tests.system.site import QUICK, SPOOL, configure, drop, pacs_in, read_journal, read_status, wait_state

ACCESSION = "ALICE-HAS-THIS"
INBOX, OUTBOX = f"{SPOOL}/inbox", f"{SPOOL}/outbox"


@pytest.fixture(scope="module")
def spool(service: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with its users, a PACS, and a running service that has put a disc for alice into the outbox as `hers`."""
    for user, group in (("alice", "mkisod-drop"), ("mallory", "mkisod-drop"), ("eve", "")):
        service.run("useradd", "--create-home", *(["--groups", group] if group else []), user)
    folder = tmp_path_factory.mktemp("site")
    write_series(folder / "archive" / "ACC1", accession="ACC1", count=3)
    configure(service)
    service.run("systemctl", "restart", "mkisod")
    with pacs_in(service, folder / "archive", folder / "pacs.log"):
        drop(service, "hers", "ACC1", user="alice")
        wait_state(service, "hers", "done")
        yield service


@pytest.fixture
def pending(spool: Box) -> Iterator[str]:
    """A request of alice's that lies in the inbox: it does not end in @end and was not renamed, so it is left to settle."""
    path = f"{INBOX}/pending.req"
    spool.run("sh", "-c", f"umask 022; echo {ACCESSION} >{path}", user="alice")
    yield path
    assert spool.run("cat", path).strip() == ACCESSION
    assert spool.run("stat", "--format=%U", path).strip() == "alice"
    spool.run("rm", path)


def try_as(box: Box, user: str, script: str) -> Said:
    return box.try_("sh", "-c", script, user=user)


# --- The request that lies in the inbox ---


@pytest.mark.parametrize("user", ["mallory", "eve"])
@pytest.mark.parametrize(
    "attack",
    [
        "cat {path}",
        "echo more >>{path}",
        ": >{path}",
        "rm -f {path} && false || rm {path}",
        "mv {path} {inbox}/.away",
        "mv {path} ~/away",
        "echo mine >{inbox}/.mine && mv -f {inbox}/.mine {path}",
        "chmod 666 {path}",
        "chgrp mkisod-drop {path}",
        "setfacl -m u:{user}:rw {path}",
        "ln {path} {inbox}/stolen.req",
        "cp {path} ~/copy",
        "touch -d 2000-01-01 {path}",
        "truncate -s 0 {path}",
    ],
)
def test_nobody_else_reads_or_changes_it(spool: Box, pending: str, user: str, attack: str) -> None:
    """`pending` finds it as it was."""
    said = try_as(spool, user, attack.format(path=pending, inbox=INBOX, user=user))
    assert said.code != 0
    assert ACCESSION not in said.out
    spool.run("sh", "-c", f"rm -f {INBOX}/.mine")


@pytest.mark.parametrize(("user", "place"), [("alice", INBOX), ("mallory", INBOX), ("eve", INBOX), ("mallory", OUTBOX), ("eve", OUTBOX)])
def test_nobody_lists(spool: Box, user: str, place: str) -> None:
    said = try_as(spool, user, f"ls {place}; echo {place}/*")
    assert f"{place}/*" in said.out, "the shell's own listing found nothing"
    assert "Permission denied" in said.err
    assert "hers" not in said.out


@pytest.mark.parametrize("user", ["alice", "mallory", "eve"])
@pytest.mark.parametrize("attack", ["ls {work}", "ls {work}/queued", "touch {work}/x", "cat {work}/active/main/*/job.json", "cd {work}"])
def test_nobody_enters_the_work(spool: Box, user: str, attack: str) -> None:
    assert try_as(spool, user, attack.format(work=f"{SPOOL}/work")).code != 0


# --- The outbox ---


@pytest.mark.parametrize(
    "attack",
    [
        "touch {outbox}/x",
        "mkdir {outbox}/x",
        "rm -r {outbox}/hers",
        "mv {outbox}/hers {outbox}/mine",
        "touch {outbox}/hers/x",
        "echo '{{}}' >{outbox}/hers/status.json",
        "rm {outbox}/hers/status.json",
        "ln -sf /etc/passwd {outbox}/hers/status.json",
        "echo x >$(ls -d {outbox}/hers/2*)/SHA256SUMS",
        "rm -r $(ls -d {outbox}/hers/2*)",
        "chmod -R 777 {outbox}/hers",
    ],
)
@pytest.mark.parametrize("user", ["alice", "mallory", "eve"])
def test_nobody_writes_to_the_outbox(spool: Box, user: str, attack: str) -> None:
    before = spool.run("ls", "-lR", OUTBOX)
    assert try_as(spool, user, attack.format(outbox=OUTBOX)).code != 0
    assert spool.run("ls", "-lR", OUTBOX) == before


def test_the_group_reads_what_it_knows_the_ticket_of(spool: Box) -> None:
    """And others do not. Whoever knows a ticket may read its result, so a ticket is not to be guessed."""
    everything = f"cd {OUTBOX}/hers && find . -type f -exec cat {{}} + | wc -c"
    whole = spool.run("sh", "-c", everything)
    assert int(whole) > 1000
    assert spool.run("sh", "-c", everything, user="alice") == whole
    assert spool.run("sh", "-c", everything, user="mallory") == whole
    assert try_as(spool, "eve", f"cat {OUTBOX}/hers/status.json").code != 0
    modes = set(spool.run("find", f"{OUTBOX}/hers", "-printf", "%U:%g:%m:%y\n").split())
    mkisod = spool.run("id", "-u", "mkisod").strip()
    assert modes == {f"{mkisod}:mkisod-drop:640:f", f"{mkisod}:mkisod-drop:2750:d"}


# --- Words about somebody else's request ---


def say(box: Box, user: str, name: str) -> None:
    """A control file, and the wait until the daemon has seen to it."""
    box.run("sh", "-c", f": >{INBOX}/{name}", user=user)
    wait_for(lambda: not box.path(f"{INBOX}/{name}").exists(), 30, f"{name} to be taken")


@pytest.mark.parametrize("word", ["cancel", "publish", "discard"])
def test_only_the_owner_may_say_it(spool: Box, word: str) -> None:
    ticket = f"waits-{word}"
    drop(spool, ticket, "@pacs ABPACS", "ACC1" if word == "discard" else "NOWHERE", user="alice")
    before = wait_state(spool, ticket, "done" if word == "discard" else "failed")
    say(spool, "mallory", f"{ticket}.{word}")
    assert read_status(spool, ticket) == before
    (refused,) = read_journal(spool, "-u", "mkisod", "MKISOD_EVENT=control_refused", f"MKISOD_TICKET={ticket}")
    assert refused["PRIORITY"] == "4"
    if word == "discard":
        say(spool, "alice", f"{ticket}.discard")
        wait_for(lambda: (status := read_status(spool, ticket)) is not None and status["result"] is None, 30, "the result to go")


def test_a_job_in_hand_is_cancelled_by_its_owner_alone(spool: Box) -> None:
    configure_unreachable(spool)
    drop(spool, "runs", "@pacs FAR", "ACC1", user="alice")
    wait_state(spool, "runs", "deferred")
    say(spool, "mallory", "runs.cancel")
    status = read_status(spool, "runs")
    assert status is not None
    assert not status["finished"]
    say(spool, "alice", "runs.cancel")
    wait_state(spool, "runs", "cancelled")


def configure_unreachable(box: Box) -> None:
    text = QUICK.replace("retry_first_s = 0.5\nretry_max_s = 1", "retry_first_s = 600")
    configure(box, text.replace("[jobs]\n", "[pacs.FAR]\nport = 4\n[jobs]\n"))
    box.run("systemctl", "reload", "mkisod")
    box.wait("sh", "-c", "journalctl MKISOD_EVENT=configuration_reloaded -o cat", what="the reload")


def test_a_ticket_is_its_owner_s(spool: Box) -> None:
    before = read_status(spool, "hers")
    drop(spool, "hers", "ACC1", user="mallory")
    spool.wait("sh", "-c", "journalctl MKISOD_EVENT=inbox_file_ignored -o cat | grep hers", what="the warning")
    assert read_status(spool, "hers") == before
    spool.run("rm", f"{INBOX}/hers.req")


# --- Drops that are no requests ---


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("link", "ln -s /etc/shadow {path}"),
        ("own", "ln -s ~/.profile {path}"),
        ("fifo", "mkfifo {path}"),
        ("private", "umask 077; echo ACC1 >{temporary}; chmod 600 {temporary}; mv {temporary} {path}"),
        ("two", "echo ACC1 >{temporary}; ln {temporary} {inbox}/.second; mv {temporary} {path}"),
        ("huge", "truncate -s 3G {temporary}; mv {temporary} {path}"),
        ("binary", "head -c 1000 /dev/urandom >{temporary}; mv {temporary} {path}"),
    ],
)
def test_what_is_no_request_is_refused(spool: Box, name: str, make: str) -> None:
    """And named in the status. Nothing of what it points at is shown."""
    path, temporary = f"{INBOX}/bad-{name}.req", f"{INBOX}/.bad-{name}"
    made = f"{INBOX}/.made-{name}"
    script = make.format(path=made, temporary=temporary, inbox=INBOX) + f"; mv {made} {path}"
    spool.run("sh", "-c", script, user="mallory")
    status = wait_state(spool, f"bad-{name}", "failed")
    assert status["error"]["code"] in {"request_malformed", "accession_invalid"}
    assert "root:" not in str(status)
    if name == "private":
        assert "0640" in status["error"]["advice"]


def test_a_drop_under_any_umask_is_read(spool: Box) -> None:
    for mask in ("000", "022", "027", "077"):
        script = f"umask {mask}; printf 'ACC1\\n@end\\n' >{INBOX}/.u; chmod 640 {INBOX}/.u; mv {INBOX}/.u {INBOX}/mask-{mask}.req"
        spool.run("sh", "-c", script, user="alice")
        wait_state(spool, f"mask-{mask}", "done")


def test_a_folder_in_the_inbox_stands_in_nobodys_way(spool: Box) -> None:
    spool.run("sh", "-c", f"mkdir {INBOX}/folder.req {INBOX}/hers.cancel", user="mallory")
    drop(spool, "after", "ACC1", user="alice")
    wait_state(spool, "after", "done")


def test_operators_work_as_root(spool: Box) -> None:
    """What they leave is the daemon's, or it could not go on."""
    drop(spool, "fails", "NOWHERE", user="alice")
    wait_state(spool, "fails", "failed")
    spool.run("mkisod", "queue")
    spool.run("mkisod", "drop", "fails")
    ticket = spool.run("mkisod", "submit", "ACC1", "--wait").splitlines()
    assert ticket
    left = spool.run("find", f"{SPOOL}/work", OUTBOX, "!", "-user", "mkisod", "!", "-name", "drop")  # a refused drop is kept as it was
    assert not left



@pytest.mark.parametrize("user", ["alice", "eve"])
@pytest.mark.parametrize("command", ["check", "queue", "retry"])
def test_a_command_of_who_may_not_look_says_who_may(spool: Box, user: str, command: str) -> None:
    said = spool.try_("mkisod", command, user=user)
    assert said.code
    assert "Run the command as root" in said.out + said.err
    assert "Traceback" not in said.out + said.err
