"""What an administrator reads in the journal: the story of each request, trouble apart from the rest, and nobody's name.

A real journald, in a mount namespace of its own, takes what a real daemon sends; `journalctl` is asked as an administrator asks it. Needs
root; where that cannot be had the test is skipped by name, and fails where CI=true.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.objects import Patient
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import write_series
from mkisod.system.journald import encode_entry, make_fields, send_entry
from tests.daemon import Daemon
from tests.integration.survival.conftest import give_up
from tests.integration.survival.site import AE_TITLE, Site, lines, make_site, told
from tests.peers import require, storescp
from tests.processes import HOST, Process, free_port, started, wait_for

# Whoever they are, nothing of them may be seen. Neither part of a name is a word that anything else has in it.
PERSONS = [
    Patient("Quartermain^Allanah", "ID-1", "", "19370211", "F"),
    Patient("Żółkiewski^Gżegżółka", "ID-2", "", "18881224", "M"),
    Patient("Quartermain^Allanah\r\nMKISOD_EVENT=forged", "ID-3", "", "19370211", "O"),
]
PERSONAL = ("Quartermain", "Allanah", "19370211", "1937-02-11", "lkiewski", "egż", "18881224", "ID-1", "ID-2", "ID-3", "forged")

Entry = dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """A journald that runs, as seen from outside of its namespace."""

    process: Process

    @property
    def namespace(self) -> list[object]:
        return [require("nsenter"), "--target", self.process.popen.pid, "--mount"]

    def ask(self, *arguments: str) -> str:
        """What `journalctl` says."""
        return subprocess.run(self.command(*arguments), check=True, capture_output=True, timeout=60).stdout.decode(errors="replace")

    def command(self, *arguments: str) -> list[str]:
        return [*map(str, self.namespace), require("journalctl"), "--directory=/run/log/journal", "--no-pager", "-q", *arguments]

    def entries(self, *arguments: str) -> list[Entry]:
        return [json.loads(line) for line in self.ask("-o", "json", "--all", *arguments).splitlines()]

    def events(self, *arguments: str) -> list[str]:
        return [entry["MKISOD_EVENT"] for entry in self.entries(*arguments)]

    def wait_event(self, name: str, *matches: str) -> Entry:
        return wait_for(lambda: self.entries(f"MKISOD_EVENT={name}", *matches), 30, f"{name} in the journal")[-1]


def find_socket(journald: Process) -> Path:
    """Where it listens, seen through its own root: it has a mount namespace."""
    return Path("/proc", str(journald.popen.pid), "root", "run/systemd/journal/socket")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    if os.geteuid():
        give_up("a journald of its own needs root")
    daemon = next((path for path in ("/usr/lib/systemd/systemd-journald", "/lib/systemd/systemd-journald") if Path(path).exists()), None)
    if daemon is None:
        give_up("systemd-journald is not installed (Debian package systemd)")
    script = f"/bin/mount -t tmpfs none /run && exec {daemon}"
    command = [require("unshare"), "--mount", "--propagation", "private", "/bin/sh", "-c", script]
    with started("journald", command, tmp_path / "journald.log") as process:
        address = find_socket(process)
        process.wait_ready(address.is_socket)
        journal = Journal(process)
        # Its own log is what is shown with a test that fails.
        wait_for(lambda: bool(journal.ask("--list-boots")) or None, 30, "the first file of the journal")
        with started("the journal", journal.command("--follow", "--lines=all", "--identifier=mkisod"), tmp_path / "journal.log"):
            yield journal


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    for number, person in enumerate(PERSONS, 1):
        accession = f"ACC{number}"
        write_series(folder / accession, accession=accession, count=4, rows=16, columns=16, seed=number, patient=PERSONS[0])
        for path in (folder / accession).iterdir():
            dataset = pydicom.dcmread(path)
            dataset.PatientID, dataset.PatientBirthDate = person.patient_id, person.birth_date
            with pydicom.config.disable_value_validation():
                dataset.PatientName = person.name
                dataset.save_as(path)
    return folder


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def pacs(archive: Path, port: int) -> Iterator[DemoPacs]:
    with DemoPacs(archive, destinations={AE_TITLE: (HOST, port)}) as pacs:
        yield pacs


@pytest.fixture
def station_port() -> int:
    return free_port()


@pytest.fixture
def site(tmp_path: Path, port: int, pacs: DemoPacs, station_port: int) -> Site:
    addresses = {"ABPACS": pacs.address, "NOBODY": (HOST, free_port())}
    site = make_site(tmp_path, addresses, port=port, spool={"settle_s": 0.2}, jobs={"not_found_retry_s": [], "give_up_after_h": 0})
    destination = f'[forward.STATION]\nhost = "{HOST}"\nport = {station_port}\nae_title = "STATION"\n'
    return Site(site.folder, site.config + destination, site.port)


@pytest.fixture
def daemon(site: Site, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon whose standard error is, as far as it can tell, connected to the journal."""
    log = site.config_path.with_suffix(".log")
    log.touch()
    monkeypatch.setenv("JOURNAL_STREAM", f"{log.stat().st_dev}:{log.stat().st_ino}")
    with site.started(prefix=[*journal.namespace, f"--wd={site.folder}"], wait_ready=False) as daemon:
        daemon.process.wait_ready(lambda: bool(journal.entries("MKISOD_EVENT=daemon_ready")), 30)
        yield daemon


def test_one_request_is_one_story(daemon: Daemon, journal: Journal) -> None:
    daemon.drop("web-4711", lines("ACC1"))
    status = daemon.wait_status("web-4711", "done")
    journal.wait_event("job_published")
    story = journal.entries("MKISOD_TICKET=web-4711")
    assert [entry["MKISOD_EVENT"] for entry in story] == [
        "job_claimed",
        "job_taken",
        "studies_found",
        "move_finished",
        "job_retrieved",
        "job_assembled",
        "job_published",
    ]
    for entry in story:
        assert (entry["MKISOD_JOB"], entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]) == (status["job"], "6", "mkisod")
        assert entry["CODE_FILE"].endswith(".py")
        assert entry["CODE_LINE"].isdecimal()
        assert re.fullmatch(r"web-4711: [A-Z].*\.", entry["MESSAGE"]), "a sentence"
        assert "unknown" not in entry["MESSAGE"]
    assert journal.entries("MKISOD_ACCESSION=ACC1", "MKISOD_EVENT=job_published")
    assert {entry["MKISOD_PEER"] for entry in story[2:]} == {f"ABPACS@{HOST}:{pacs_port(daemon)}"}


def pacs_port(daemon: Daemon) -> int:
    return int(re.search(r"\[pacs.ABPACS\].*?port = (\d+)", (daemon.inbox.parent.parent / "mkisod.toml").read_text(), re.DOTALL)[1])  # type: ignore[index]


def test_what_leaves_the_pacs_is_an_audit_event(daemon: Daemon, journal: Journal, site: Site) -> None:
    daemon.drop("t", lines("ACC1"))
    status = daemon.wait_status("t", "done")
    site.control("t.discard")
    journal.wait_event("result_deleted")
    audit = journal.entries("MKISOD_AUDIT=1")
    assert [entry["MKISOD_EVENT"] for entry in audit] == ["job_retrieved", "job_published", "result_deleted"]
    assert {entry["MKISOD_OWNER_UID"] for entry in audit} == {str(os.geteuid())}
    study = status["accessions"][0]["studies"][0]["study_instance_uid"]
    for entry in audit[:2]:
        assert (entry["MKISOD_ACCESSION"], entry["MKISOD_STUDY_INSTANCE_UID"], entry["MKISOD_INSTANCES"]) == ("ACC1", study, "4")
    assert audit[1]["MKISOD_DIRECTORY"] == str(daemon.outbox / "t" / status["job"])
    assert audit[2]["MKISOD_RESULTS"] == "1"


def test_what_is_sent_on_is_an_audit_event_too(daemon: Daemon, journal: Journal, station_port: int, tmp_path: Path) -> None:
    with storescp(tmp_path / "station", ae_title="STATION", port=station_port):
        daemon.drop("t", lines("@forward STATION", "ACC1"))
        daemon.wait_status("t", "done")
    journal.wait_event("job_forwarded")
    story = journal.events("MKISOD_TICKET=t")
    assert story[0] == "job_claimed"
    assert story[-3:] == ["job_taken_to_forward", "instances_forwarded", "job_forwarded"]
    assert len(story) <= 12
    assert not journal.entries("MKISOD_TICKET=t", "-p", "warning")
    (entry,) = journal.entries("MKISOD_EVENT=instances_forwarded")
    assert entry["MESSAGE"] == f"t: Sent to STATION for uid {os.geteuid()}: 4, refused for good: 0."
    assert (entry["MKISOD_AUDIT"], entry["MKISOD_DESTINATION"], entry["MKISOD_ACCESSION"]) == ("1", "STATION", "ACC1")


def test_what_came_before_a_failure_is_an_audit_event_too(daemon: Daemon, journal: Journal, pacs: DemoPacs, archive: Path) -> None:
    lost = pydicom.dcmread(min((archive / "ACC1").iterdir()), specific_tags=["SOPInstanceUID"]).SOPInstanceUID
    with told(pacs, Faults(never_sent_uids=frozenset([lost]))):
        daemon.drop("t", lines("ACC1"))
        daemon.wait_status("t", ("failed", "deferred"))
    entry = journal.wait_event("job_left_incomplete")
    assert (entry["MKISOD_AUDIT"], entry["MKISOD_INSTANCES"], entry["PRIORITY"]) == ("1", "3", "4")
    assert "[incomplete]" in entry["MESSAGE"]


def test_a_warning_is_trouble_and_trouble_is_a_warning(daemon: Daemon, journal: Journal, site: Site) -> None:
    daemon.drop("good", lines("ACC1"))
    daemon.wait_status("good", "done")
    daemon.drop("cancelled", lines("@pacs NOBODY", "ACC1"))
    daemon.wait_status("cancelled", ("failed", "deferred"))
    daemon.drop("not-found", lines("NOWHERE"))
    daemon.wait_status("not-found", "failed")
    daemon.drop("refused", lines("@nonsense"))
    daemon.wait_status("refused", "failed")
    (site.inbox / "strange.file").touch()
    journal.wait_event("inbox_file_ignored")
    journal.wait_event("job_refused")
    trouble = journal.entries("-p", "warning", "_TRANSPORT=journal")
    events = {entry["MKISOD_EVENT"] for entry in trouble}
    assert events <= {"job_failed", "job_deferred", "job_refused", "inbox_file_ignored"}
    assert not [entry for entry in trouble if entry.get("MKISOD_TICKET") == "good"]
    codes = {entry["MKISOD_TICKET"]: entry["MKISOD_ERROR"] for entry in trouble if "MKISOD_ERROR" in entry}
    assert codes == {"cancelled": "pacs_unreachable", "not-found": "accession_not_found", "refused": "request_malformed"}
    for entry in trouble:
        if "MKISOD_ERROR" in entry:
            assert entry["MESSAGE"].endswith(f"[{entry['MKISOD_ERROR']}]")


@pytest.mark.usefixtures("daemon")
def test_a_flood_of_instances_that_nobody_asked_for_is_two_lines(journal: Journal, archive: Path, port: int) -> None:
    storescu = require("storescu")
    files = [path for folder in sorted(archive.iterdir()) for path in folder.iterdir()]
    command = [storescu, "--no-halt", "-aec", AE_TITLE, "-aet", "STRANGER", HOST, str(port), *map(str, files)]
    subprocess.run(command, check=False, capture_output=True, timeout=60)
    entry = journal.wait_event("instances_refused")
    assert entry["MKISOD_COUNT"] == str(len(files))
    assert journal.events("MKISOD_CALLING_AE_TITLE=STRANGER") == ["instance_refused", "instances_refused"]


def test_nobodys_name_is_anywhere(daemon: Daemon, journal: Journal, pacs: DemoPacs) -> None:
    """Names that differ, names with line breaks, wrong beliefs about them, instances that contradict: all of it is said without them."""
    for number in (1, 2, 3):
        daemon.drop(f"t{number}", lines(f"ACC{number}"))
        daemon.wait_status(f"t{number}", ("done", "failed"))
    daemon.drop("several", lines("ACC1", "ACC2"))
    daemon.wait_status("several", "failed")
    daemon.drop("believed", lines("@patient ID-2", "@birthdate 18881224", "ACC1"))
    daemon.wait_status("believed", "failed")
    for name, faults in {
        "stranger": Faults(coerce_study_uid=True),
        "aborted": Faults(abort_after=2),
        "cut": Faults(abort_store_after=2),
        "offline": Faults(availability="OFFLINE"),
        "garbage": Faults(find_status=0xC001),
    }.items():
        with told(pacs, faults):
            daemon.drop(name, lines("ACC1"))
            daemon.wait_status(name, ("failed", "deferred", "done"))
    daemon.drop("last", lines("ACC1"))
    daemon.wait_status("last", "done")
    journal.wait_event("job_published", "MKISOD_TICKET=last")
    daemon.stop()
    everything = journal.ask("-o", "export") + journal.ask("-o", "json", "--all") + daemon.process.output
    statuses = "".join(path.read_text(encoding="utf-8") for path in daemon.outbox.glob("*/status.json"))
    assert "ACC1" in everything
    # What a client believes is in its own request, and nowhere else.
    assert not [word for word in PERSONAL if word in everything + statuses]


@pytest.mark.usefixtures("daemon")
def test_last_words_are_on_standard_error(site: Site, journal: Journal) -> None:
    """A second daemon on the same port: what it dies of is said where it is not lost."""
    other = site.folder / "other.toml"
    other.write_text(site.config.replace(str(site.spool), str(site.folder / "other")), encoding="utf-8")
    log = other.with_suffix(".log")
    with log.open("wb") as stream:
        environment = {**os.environ, "JOURNAL_STREAM": f"{log.stat().st_dev}:{log.stat().st_ino}", "PYTHONPATH": str(Path.cwd())}
        command = [*map(str, journal.namespace), f"--wd={Path.cwd()}", str(site.python), "-m", "mkisod", "serve", "--config", str(other)]
        done = subprocess.run(command, check=False, stderr=stream, stdout=subprocess.DEVNULL, timeout=60, env=environment)
    assert done.returncode == 78
    assert re.fullmatch(r"<2>mkisod: Port \d+ is already in use\. .*\[port_unavailable\]\n", log.read_text(encoding="utf-8"))


# --- The protocol, as the journal itself reads it ------------------------------------------------------------------------------------


def send(journal: Journal, *fields: tuple[str, str]) -> Entry:
    """Send an entry to the real journal, and read it back."""
    send_entry(encode_entry([("MKISOD_EVENT", "sent"), *fields]), find_socket(journal.process))
    return journal.wait_event("sent")


@pytest.mark.parametrize("size", [100, 300_000, 5_000_000], ids=["small", "large", "huge"])
def test_the_journal_takes_what_is_long_and_what_has_lines(journal: Journal, size: int) -> None:
    text = "Größe\n=\n" + "ß" * size + "\n"
    assert send(journal, ("MESSAGE", text))["MESSAGE"] == text


def test_the_journal_takes_a_request_for_thousands_of_things(journal: Journal) -> None:
    accessions = [f"A{number}" for number in range(1000)]
    uids = [f"1.2.{number}" for number in range(3000)]
    entry = send(journal, ("MESSAGE", "x"), *make_fields("accessions", accessions), *make_fields("study_instance_uids", uids))
    found = [*as_list(entry["MKISOD_ACCESSION"]), *as_list(entry.get("MKISOD_ACCESSION_MORE", ""))]
    found += [*as_list(entry.get("MKISOD_STUDY_INSTANCE_UID", "")), *as_list(entry["MKISOD_STUDY_INSTANCE_UID_MORE"])]
    assert sorted(word for value in found for word in value.split()) == sorted([*accessions, *uids])
    assert journal.entries("MKISOD_ACCESSION=A17")


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
