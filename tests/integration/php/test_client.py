"""clients/php/Mkisod.php against a running daemon and the demo PACS: what it brings, and what it says when it cannot."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.objects import make_uid
from mkisod.demo.phantom import CT_ACCESSION, MR_ACCESSION
from tests.integration.php.site import PHP_FOLDER, Site, run, running_site
from tests.oracles import check_image, check_sums, read_objects
from tests.peers import require
from tests.processes import wait_for

USER, GROUP = 65534, 54321  # of nobody else
SUBMIT = "return $mkisod->submit((new Mkisod\\Request($argv))->output('dir', 'iso', 'zip'));"
WAIT = "return $mkisod->wait($argv[0], 30);"


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("client")) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    yield shared_site
    shared_site.pacs.faults = Faults()


@pytest.fixture(scope="module")
def done(shared_site: Site) -> str:
    """The ticket of a request that is done, with everything published."""
    ticket: str = shared_site.php(SUBMIT, CT_ACCESSION, MR_ACCESSION)
    shared_site.php(WAIT, ticket)
    return ticket


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- Success -----------------------------------------------------------------------------------------------------------------------


def test_the_journey(site: Site, tmp_path: Path) -> None:
    call = """
        $states = [];
        $ticket = $mkisod->submit((new Mkisod\\Request(['PHANTOM.CT.1', ' PHANTOM.MR.1 ']))
            ->patient('PHANTOM1')->birthdate('19700401')->pacs('ABPACS')->output('dir', 'iso', 'zip')->media('cd')->profile('STD-GEN-CD')
            ->label('PHANTOM_1')->priority('high')->allow('partial', 'several-patients'));
        $status = $mkisod->wait($ticket, 30, function (array $status) use (&$states): void { $states[] = $status['state']; });
        $mkisod->copyResult($ticket, $argv[0]);
        return [$ticket, $status, $states, $mkisod->volumes($ticket)];
    """
    ticket, status, states, (volume,) = site.php(call, tmp_path / "copy")
    assert status == site.daemon.status(ticket)
    assert (status["state"], states[-1], status["owner_uid"]) == ("done", "done", os.getuid())
    assert re.fullmatch(r"php-\d{8}T\d{6}-[0-9a-f]{32}", ticket)
    published = site.daemon.outbox / ticket / status["result"]["path"]
    copied = tmp_path / "copy"
    assert contents(copied) == {name: data for name, data in contents(published).items() if name != "result.json"}
    assert volume == status["result"]["volumes"][0] | {
        kind: str(published / status["result"]["volumes"][0][kind]) for kind in ("directory", "image", "archive")
    }
    assert (volume["file_set_id"], volume["profile"]) == ("PHANTOM_1", "STD-GEN-CD")
    assert len(read_objects(copied / "PHANTOM_1")) == status["progress"]["instances_expected"] == 26
    check_image(copied / Path(volume["image"]).name, copied / "PHANTOM_1", tmp_path / "scratch")
    check_sums(copied)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_file_set_alone(site: Site, done: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o700)
    site.php("$mkisod->copyFileSet($argv[0], $argv[1]);", done, f"{empty}/")
    (volume,) = site.php("return $mkisod->volumes($argv[0]);", done)
    assert contents(empty) == contents(Path(volume["directory"]))
    assert "DICOMDIR" in contents(empty)
    assert stat.S_IMODE(empty.stat().st_mode) == 0o700


def test_a_request_is_durable_and_readable_for_the_daemon_whatever_the_umask(tmp_path: Path, site: Site) -> None:
    """Without a daemon it stays where it is: whole, under its own name, mode 0640, synced before it was renamed."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "outbox").mkdir()
    call = "umask((int) octdec($argv[0])); return $mkisod->submit(new Mkisod\\Request(['MR.180505.026']));"
    alone = Site(site.daemon, site.pacs, tmp_path)
    for umask in ("0077", "0000"):
        ticket = alone.php(call, umask)
        drop = tmp_path / "inbox" / f"{ticket}.req"
        assert drop.read_text() == "# written by Mkisod.php\nMR.180505.026\n@end\n"
        assert stat.S_IMODE(drop.stat().st_mode) == 0o640
    assert len(list((tmp_path / "inbox").iterdir())) == 2


def test_order_of_a_submission(tmp_path: Path, site: Site) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "outbox").mkdir()
    trace = tmp_path / "trace"
    alone = Site(site.daemon, site.pacs, tmp_path)
    command = [require("strace"), "-f", "-o", str(trace), "-e", "trace=openat,open,chmod,fchmod,write,fsync,rename,renameat2"]
    ticket = run([*command, *alone.command("return $mkisod->submit(new Mkisod\\Request(['1']));")])["answer"]
    text = trace.read_text()
    of_drop = text[text.index(f"inbox/.{ticket}.req") :]
    steps = ["O_EXCL", "chmod(", "write(", "fsync(", f'/inbox/{ticket}.req")']
    places = [of_drop.find(step) for step in steps]
    assert -1 not in places, (steps, of_drop[:2000])
    assert places == sorted(places), of_drop[:2000]


def test_tickets_are_not_guessed(site: Site) -> None:
    tickets = site.php("return array_map('Mkisod\\Client::makeTicket', range(1, 50));")
    assert len({ticket[-32:] for ticket in tickets}) == 50


def test_a_ticket_of_ones_own_is_taken_once(site: Site) -> None:
    call = "return $mkisod->submit(new Mkisod\\Request(['PHANTOM.CT.1']), $argv[0]);"
    assert site.php(call, "own-1") == "own-1"
    site.php(WAIT, "own-1")
    assert site.php_failure(call, "own-1")["code"] == "request_malformed"


def test_what_is_no_ticket_touches_nothing(site: Site) -> None:
    call = """
        $said = [];
        foreach (['', '.', '..', 'a/b', '../x', '.x', "a\\nb", "a\\n", 'a b', str_repeat('A', 65), 'a/../../etc', '-rf', 'ä'] as $ticket) {
            foreach (['status', 'cancel', 'publish', 'discard', 'volumes'] as $method) {
                try {
                    $mkisod->$method($ticket);
                    $said[] = "$method $ticket went through";
                } catch (Mkisod\\Failure $failure) {
                    $said[] = $failure->getMessage();
                }
            }
        }
        return array_count_values($said);
    """
    assert site.php(call) == {"This is no ticket.": 13 * 5}


def test_no_status_yet(site: Site) -> None:
    assert site.php("return $mkisod->status($argv[0]);", "nobody-knows-it") is None


def test_as_the_user_of_a_web_server() -> None:
    """Neither root nor the daemon's user, but in the group that may drop requests: it can do all of this, and can list nothing."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    umask = os.umask(0o027)  # as in the daemon's unit
    try:
        # Not below tmp_path, which nobody else may enter.
        with tempfile.TemporaryDirectory(prefix="mkisod-php-") as name:
            folder = Path(name)
            folder.chmod(0o755)
            (folder / "spool").mkdir()
            os.chown(folder / "spool", 0, GROUP)
            (folder / "spool").chmod(0o2755)
            (folder / "discs").mkdir()
            os.chown(folder / "discs", USER, USER)
            shutil.copyfile(PHP_FOLDER / "Mkisod.php", folder / "Mkisod.php")
            (folder / "Mkisod.php").chmod(0o644)
            with running_site(folder) as other:
                call = """
                    $ticket = $mkisod->submit((new Mkisod\\Request(['PHANTOM.CT.1']))->output('dir', 'iso'));
                    $status = $mkisod->wait($ticket, 30);
                    $mkisod->copyResult($ticket, $argv[0]);
                    $mkisod->discard($ticket);
                    return [$status['owner_uid'], is_readable($argv[1] . '/inbox'), is_readable($argv[1] . '/outbox'), $ticket];
                """
                command = other.command(call, folder / "discs/one", folder / "spool")
                command[command.index(str(PHP_FOLDER / "Mkisod.php"))] = str(folder / "Mkisod.php")
                become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={GROUP}"]  # of util-linux, which is essential
                uid, inbox, outbox, ticket = run([*become, *command])["answer"]
                assert (uid, inbox, outbox) == (USER, False, False)
                check_sums(folder / "discs/one")
                wait_for(lambda: (status := other.daemon.status(ticket)) and status["result"] is None, 20, "the result to go")
    finally:
        os.umask(umask)


# --- What can go wrong -------------------------------------------------------------------------------------------------------------


def test_not_found(site: Site) -> None:
    ticket = site.php(SUBMIT, "NOT.THERE")
    failure = site.php_failure(WAIT, ticket)
    assert (failure["code"], failure["state"]) == ("accession_not_found", "failed")
    status = site.daemon.status(ticket)
    assert status is not None
    assert {key: failure[key] for key in status["error"]} == status["error"]
    assert site.php_failure("return $mkisod->volumes($argv[0]);", ticket)["code"] == "accession_not_found"


def test_another_patient_than_the_client_believes(site: Site) -> None:
    call = "return $mkisod->wait($mkisod->submit((new Mkisod\\Request(['PHANTOM.CT.1']))->patient('SOMEBODY')), 30);"
    assert site.php_failure(call)["code"] == "patient_mismatch"


def test_the_pacs_is_down_and_comes_back(tmp_path: Path) -> None:
    with running_site(tmp_path, pacs_runs=False) as site:
        ticket = site.php(SUBMIT, CT_ACCESSION)
        site.daemon.wait_status(ticket, "deferred")
        failure = site.php_failure("return $mkisod->wait($argv[0], 0.2);", ticket)
        assert (failure["code"], failure["transient"]) == ("wait_timeout", True)
        assert "[pacs_unreachable]" in failure["message"] or failure["state"] != "deferred"
        site.pacs.start()
        assert site.php(WAIT, ticket)["state"] == "done"


def test_a_timeout_leaves_the_request_alone(site: Site) -> None:
    site.pacs.faults = Faults(stall_after=3)
    ticket = site.php(SUBMIT, MR_ACCESSION)
    failure = site.php_failure("return $mkisod->wait($argv[0], 0.5);", ticket)
    assert (failure["code"], failure["state"]) == ("wait_timeout", "retrieving")
    site.pacs.faults = Faults()
    assert site.php(WAIT, ticket)["state"] == "done"


def test_nobody_accepts_it(tmp_path: Path, site: Site) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "outbox").mkdir()
    alone = Site(site.daemon, site.pacs, tmp_path)
    failure = alone.php_failure("return $mkisod->wait($mkisod->submit(new Mkisod\\Request(['1'])), 0.3);")
    assert (failure["code"], failure["state"]) == ("wait_timeout", None)
    assert "accepted" in failure["message"]


def test_cancel(site: Site) -> None:
    site.pacs.faults = Faults(stall_after=3)
    ticket = site.php(SUBMIT, MR_ACCESSION)
    site.daemon.wait_status(ticket, "retrieving")
    failure = site.php_failure("$mkisod->cancel($argv[0]); return $mkisod->wait($argv[0], 30);", ticket)
    assert (failure["code"], failure["state"]) == ("cancelled", "cancelled")


def test_partial_on_demand(site: Site) -> None:
    """Instances never come; the request fails as incomplete, and is published after all when the client says so."""
    site.pacs.faults = Faults(never_sent_uids=frozenset({make_uid(1, "CT/2")}))
    ticket = site.php(SUBMIT, CT_ACCESSION)
    failure = site.php_failure(WAIT, ticket)
    assert (failure["code"], failure["state"]) == ("incomplete", "failed")
    failure = site.php_failure("$mkisod->publish($argv[0]); return $mkisod->wait($argv[0], 30);", ticket)
    assert (failure["code"], failure["state"]) == ("incomplete", "partial")
    status = site.php("return $mkisod->wait($argv[0], 30, null, true);", ticket)
    (study,) = status["accessions"][0]["studies"]
    assert len(study["missing"]) == 1


def test_partial_allowed_from_the_start(site: Site, tmp_path: Path) -> None:
    site.pacs.faults = Faults(never_sent_uids=frozenset({make_uid(1, "CT/2")}))
    call = "return $mkisod->submit((new Mkisod\\Request(['PHANTOM.CT.1']))->allow('partial')->output('dir'));"
    ticket = site.php(call)
    assert site.php_failure(WAIT, ticket)["code"] == "incomplete"
    site.php("$mkisod->wait($argv[0], 30, null, true); $mkisod->copyFileSet($argv[0], $argv[1]);", ticket, tmp_path / "partial")
    assert "This disc is not complete" in (tmp_path / "partial/README.TXT").read_text()


def test_discard(site: Site) -> None:
    ticket = site.php(SUBMIT, CT_ACCESSION)
    status = site.php(WAIT, ticket)
    result = site.daemon.outbox / ticket / status["result"]["path"]
    assert result.is_dir()
    site.php("$mkisod->discard($argv[0]);", ticket)
    wait_for(lambda: not result.exists(), 20, "the result to go")
    assert site.php_failure("return $mkisod->volumes($argv[0]);", ticket)["code"] == "result_unusable"


@pytest.mark.parametrize("method", ["cancel", "publish", "discard"])
def test_a_word_about_nothing(site: Site, method: str) -> None:
    assert site.php_failure(f"$mkisod->{method}('never-submitted');")["code"] == "request_malformed"


def test_no_spool_and_no_permission(site: Site, tmp_path: Path) -> None:
    alone = Site(site.daemon, site.pacs, tmp_path)
    failure = alone.php_failure("return $mkisod->submit(new Mkisod\\Request(['1']));")
    assert (failure["code"], "No such file" in failure["message"]) == ("spool_unusable", True)
    assert alone.php_failure("return $mkisod->status('x');")["code"] == "spool_unusable"


def test_a_full_inbox_leaves_nothing_behind(site: Site, tmp_path: Path) -> None:
    """A limit on the size of files is to PHP what a full disk is: the write comes back short."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "outbox").mkdir()
    alone = Site(site.daemon, site.pacs, tmp_path)
    limit = "posix_setrlimit(POSIX_RLIMIT_FSIZE, 10, 10); pcntl_signal(SIGXFSZ, SIG_IGN);"
    failure = alone.php_failure(f"{limit} return $mkisod->submit(new Mkisod\\Request(['1']));")
    assert failure["code"] == "spool_unusable"
    assert list((tmp_path / "inbox").iterdir()) == []


# --- Copying -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(site: Site, done: str, tmp_path: Path) -> Site:
    """A spool of our own with a copy of a result, to be damaged."""
    spool = tmp_path / "spool"
    (spool / "inbox").mkdir(parents=True)
    shutil.copytree(site.daemon.outbox / done, spool / "outbox" / done)
    return Site(site.daemon, site.pacs, spool)


def result_of(site: Site) -> Path:
    (sums,) = site.spool.glob("outbox/*/*/SHA256SUMS")
    return sums.parent


COPY = "$mkisod->copyResult($argv[0], $argv[1]);"


def fail_to_copy(site: Site, done: str, target: Path) -> str:
    failure = site.php_failure(COPY, done, target)
    assert not target.exists()
    assert [path.name for path in target.parent.iterdir() if path.name.endswith(".tmp")] == []
    return f"{failure['code']}: {failure['message']}"


def test_a_copy_of_a_sound_result(damaged: Site, done: str, tmp_path: Path) -> None:
    damaged.php(COPY, done, tmp_path / "copy")
    check_sums(tmp_path / "copy")


def test_one_bit_is_noticed(damaged: Site, done: str, tmp_path: Path) -> None:
    (image,) = result_of(damaged).glob("*.ISO")
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)
    assert fail_to_copy(damaged, done, tmp_path / "copy").startswith("result_unusable: The result is damaged")


def test_a_file_that_is_not_there_is_noticed(damaged: Site, done: str, tmp_path: Path) -> None:
    next(result_of(damaged).glob("*/README.TXT")).unlink()
    assert fail_to_copy(damaged, done, tmp_path / "copy").startswith("result_unusable")


@pytest.mark.parametrize("name", ["../../../secret", "/etc/hostname", "./x", "a//b", "LINK"])
def test_no_path_leads_out_of_the_result(damaged: Site, done: str, tmp_path: Path, name: str) -> None:
    secret = damaged.spool / "secret"
    secret.write_text("secret")
    result = result_of(damaged)
    (result / "LINK").symlink_to(secret)
    digest = hashlib.sha256(b"secret").hexdigest()
    with (result / "SHA256SUMS").open("a") as sums:
        sums.write(f"{digest}  {name}\n")
    assert fail_to_copy(damaged, done, tmp_path / "copy").startswith("result_unusable")
    status = result.parent / "status.json"
    (image,) = result.glob("*.ISO")
    status.write_text(status.read_text().replace(image.name, name))
    assert damaged.php_failure("return $mkisod->volumes($argv[0]);", done)["code"] == "result_unusable"


def test_a_status_that_names_another_folder(damaged: Site, done: str, tmp_path: Path) -> None:
    result = result_of(damaged)
    status = result.parent / "status.json"
    status.write_text(status.read_text().replace(f'"path": "{result.name}"', '"path": ".."'))
    assert fail_to_copy(damaged, done, tmp_path / "copy").startswith("result_unusable")


def test_a_folder_with_something_in_it_is_left_alone(site: Site, done: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/other").write_text("another patient")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file", "file/below", "", "."):
        failure = site.php_failure(COPY, done, f"{tmp_path}/{name}" if name else "")
        assert failure["code"] == "target_unusable", name
        assert "not empty" in failure["message"] or name != "full"
    assert contents(tmp_path) == {"full/other": b"another patient", "file": b"x"}


def test_a_copy_that_dies_is_never_found(site: Site, done: str, tmp_path: Path) -> None:
    """Killed between two files: nothing stands under the name."""
    target = tmp_path / "copy"
    (readme,) = (site.daemon.outbox / done).glob("*/*/README.TXT")
    trace = ["-f", "-o", "/dev/null", "-P", str(readme), "-e", "trace=openat", "-e", "inject=openat:signal=SIGKILL"]
    command = [require("strace"), *trace]
    dead = subprocess.run([*command, *site.command(COPY, done, target)], check=False, capture_output=True, timeout=60)
    assert dead.returncode != 0
    assert not target.exists()
    site.php(COPY, done, target)
    check_sums(target)


def test_many_at_once(site: Site) -> None:
    call = "return $mkisod->wait($mkisod->submit(new Mkisod\\Request($argv)), 60)['state'];"
    clients = [
        subprocess.Popen(site.command(call, accession), stdout=subprocess.PIPE, text=True)
        for accession in (CT_ACCESSION, MR_ACCESSION, CT_ACCESSION, MR_ACCESSION)
    ]
    assert [client.communicate(timeout=90)[0] for client in clients] == ['{"answer":"done"}'] * 4
