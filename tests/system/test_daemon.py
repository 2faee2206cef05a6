"""The service at work: requests, its journal, reload, watchdog, crashes, restarts, its port, its configuration."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.uid import UID

from mkisod.demo.series import write_series
from tests.daemon import ROOT
from tests.processes import started
from tests.system.box import Box
from tests.system.site import PORT, QUICK, SPOOL, configure, drop, load_on, pacs_in, read_journal, read_status, wait_state

# Each wants another converter: dcmdrle, gdcmconv, dcmconv, dcmdjpls.
COMPRESSED = ("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_bigendian.dcm", "MR_small_jpeg_ls_lossless.dcm")
PATIENT_NAME = "Secret^Grace"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ACC1 and ACC2 of one kind, COMPRESSED of four."""
    folder = tmp_path_factory.mktemp("archive")
    for accession in ("ACC1", "ACC2"):
        write_series(folder / accession, accession=accession, count=4)
    (folder / "compressed").mkdir()
    for number, name in enumerate(COMPRESSED):
        data_set = dcmread(Path(pydicom.data.__file__).parent / "test_files" / name)
        data_set.AccessionNumber, data_set.PatientName = "COMPRESSED", PATIENT_NAME
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.4711{number}")
        data_set.StudyInstanceUID, data_set.SeriesInstanceUID, data_set.InstanceNumber = "2.25.1", "2.25.2", number + 1
        data_set.save_as(folder / "compressed" / name)
    return folder


@pytest.fixture(scope="module")
def service(service: Box) -> Box:
    service.run("adduser", "--quiet", "www-data", "mkisod-drop")
    return service


@pytest.fixture(autouse=True)
def _running(service: Box) -> None:
    """Every test finds it as it is after a start, with its own configuration."""
    configure(service)
    service.run("rm", "-rf", "/etc/systemd/system/mkisod.service.d")
    service.run("systemctl", "daemon-reload")
    service.run("systemctl", "reset-failed", "mkisod")
    service.run("systemctl", "restart", "mkisod")


def add(box: Box, *lines: str) -> None:
    """A drop-in for the unit."""
    folder = box.path("/etc/systemd/system/mkisod.service.d")
    folder.mkdir(exist_ok=True)
    (folder / "test.conf").write_text("[Service]\n" + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    box.run("systemctl", "daemon-reload")


def read_pid(box: Box) -> str:
    return box.show("mkisod.service", "MainPID")["MainPID"]


def is_open(box: Box, port: int) -> bool:
    return f":{port} " in box.run("ss", "--tcp", "--listening", "--numeric")


def echoes(box: Box, port: int, *more: str) -> bool:
    return box.try_("echoscu", "-to", "2", "-aec", "CDRECORD", *more, "127.0.0.1", port).code == 0


# --- Requests ---


def test_php_of_the_web_server_gets_a_disc(service: Box, archive: Path, tmp_path: Path) -> None:
    """By the client that the package brings; the objects need every converter, in the sandbox."""
    code = """
        require 'Mkisod.php';
        $mkisod = new Mkisod\\Client($argv[1]);
        $ticket = $mkisod->submit((new Mkisod\\Request(['COMPRESSED']))->output('dir', 'iso')->profile('STD-GEN-CD'));
        $mkisod->wait($ticket, 60);
        echo $ticket;
    """
    with pacs_in(service, archive, tmp_path / "pacs.log"):
        ticket = service.run("php", "-r", code, "--", SPOOL, user="www-data").strip()
    status = read_status(service, ticket)
    assert status is not None
    (volume,) = status["result"]["volumes"]
    assert volume["profile"] == "STD-GEN-CD"
    assert len(status["result"]["conversions"]) == len(COMPRESSED)
    assert status["owner_uid"] == int(service.run("id", "-u", "www-data"))
    image = f"{SPOOL}/outbox/{ticket}/{status['result']['path']}/{volume['image']}"
    assert service.run("sha256sum", image, user="www-data").split()[0] == volume["sha256"]
    service.run("mkisod", "verify", image, user="www-data")
    assert service.run("stat", "--format=%U %G %a", image).split() == ["mkisod", "mkisod-drop", "640"]


def test_the_journal_tells_a_request_s_story(service: Box, archive: Path, tmp_path: Path) -> None:
    with pacs_in(service, archive, tmp_path / "pacs.log"):
        drop(service, "web-4711", "COMPRESSED")
        status = wait_state(service, "web-4711", "done")
        drop(service, "web-4712", "NOWHERE")
        wait_state(service, "web-4712", "failed")
    story = read_journal(service, "-u", "mkisod", "MKISOD_TICKET=web-4711")
    events = [entry["MKISOD_EVENT"] for entry in story]
    assert events[0] == "job_claimed"
    assert events[-1] == "job_published"
    assert len(events) <= 12
    assert {entry["MKISOD_JOB"] for entry in story} == {status["job"]}
    of_job = read_journal(service, "-u", "mkisod", "MKISOD_JOB=" + status["job"])
    assert [entry["MESSAGE"] for entry in of_job] == [entry["MESSAGE"] for entry in story]
    assert "web-4711" in {entry["MKISOD_TICKET"] for entry in read_journal(service, "MKISOD_ACCESSION=COMPRESSED")}
    trouble = read_journal(service, "-u", "mkisod", "-p", "warning", "_PID=" + read_pid(service))
    assert {entry.get("MKISOD_TICKET") for entry in trouble} == {"web-4712"}
    audited = read_journal(service, "-u", "mkisod", "MKISOD_AUDIT=1", "MKISOD_TICKET=web-4711")
    assert {"job_retrieved", "job_published"} <= {entry["MKISOD_EVENT"] for entry in audited}
    whole = json.dumps(read_journal(service, "-u", "mkisod"))
    assert "Secret" not in whole
    assert "Grace" not in whole


def test_the_status_line_counts(service: Box, archive: Path, tmp_path: Path) -> None:
    drop(service, "later", "ACC1")
    wait_state(service, "later", "deferred")  # there is no PACS yet
    with pacs_in(service, archive, tmp_path / "pacs.log"):
        wait_state(service, "later", "done")
        service.wait_unit("mkisod.service", "StatusText", "0 jobs running, 0 deferred, 4 instances today")


# --- Reload ---


def test_reload(service: Box, archive: Path, tmp_path: Path) -> None:
    pid = read_pid(service)
    configure(service, QUICK.replace("[pacs.ABPACS]", "[pacs.ABPACS]\nport = 4"))
    service.run("systemctl", "restart", "mkisod")
    pid = read_pid(service)
    with pacs_in(service, archive, tmp_path / "pacs.log"):
        drop(service, "reloaded", "ACC1")
        wait_state(service, "reloaded", "deferred")
        configure(service, "[receiver]\nport = 'x'\n")
        service.run("systemctl", "reload", "mkisod")
        service.wait("sh", "-c", f"journalctl _PID={pid} MKISOD_EVENT=configuration_not_reloaded -o cat", what="the refusal")
        configure(service, QUICK.replace("[jobs]", "[jobs]\nworkers = 3"))
        service.run("systemctl", "reload", "mkisod")
        wait_state(service, "reloaded", "done")
    assert read_pid(service) == pid
    told = service.wait("sh", "-c", f"journalctl _PID={pid} MKISOD_EVENT=configuration_reloaded -o cat", what="the reload")
    assert "pacs.ABPACS.port" in told
    assert "jobs.workers" in told, "what needs a restart is named"
    assert "needs a restart" in service.show("mkisod.service", "StatusText")["StatusText"]


# --- Watchdog, crashes, restarts ---


@contextmanager
def in_hand(box: Box, archive: Path, folder: Path, ticket: str) -> Iterator[None]:
    """A job that takes its time; it is done in the end."""
    with pacs_in(box, archive, folder / "pacs.log", faults='{"pause_s": 1}'):
        drop(box, ticket, "ACC2")
        wait_state(box, ticket, "retrieving")
        yield
        wait_state(box, ticket, "done")


def test_the_watchdog_ends_one_that_hangs(service: Box, archive: Path, tmp_path: Path) -> None:
    add(service, "WatchdogSec=3s", "RestartSec=100ms")
    service.run("systemctl", "restart", "mkisod")
    pid = read_pid(service)
    with in_hand(service, archive, tmp_path, "hung"):
        service.run("kill", "-STOP", pid)
        service.wait_unit("mkisod.service", "NRestarts", "1")
        service.wait_unit("mkisod.service", "ActiveState", "active")
    assert read_pid(service) != pid
    assert "watchdog" in service.run("journalctl", "-u", "mkisod", "_PID=1", "-n", "20", "-o", "cat").lower()
    # One that lives is left alone: it has been fed since.
    assert service.show("mkisod.service", "NRestarts")["NRestarts"] == "1"


def test_a_restart_under_load_loses_nobody(service: Box, archive: Path, tmp_path: Path) -> None:
    file = next((archive / "ACC1").iterdir())
    with in_hand(service, archive, tmp_path, "restarted"), load_on(service, file, tmp_path / "load.log") as load:
        for _ in range(3):
            load.wait_more()
            service.run("systemctl", "restart", "mkisod")
        load.wait_more()
        report = load.finish()
    assert (report["refused"], report["lost"]) == (0, 0), report


def test_a_slow_start_makes_clients_wait(service: Box, archive: Path, tmp_path: Path) -> None:
    add(service, "ExecStartPre=/bin/sleep 3")
    with load_on(service, next((archive / "ACC1").iterdir()), tmp_path / "load.log") as load:
        load.wait_more()
        service.run("systemctl", "restart", "mkisod")
        load.wait_more()
        report = load.finish()
    assert (report["refused"], report["lost"]) == (0, 0), report
    assert report["slowest_s"] >= 3, "somebody came meanwhile"


def test_a_crash_under_load_refuses_nobody(service: Box, archive: Path, tmp_path: Path) -> None:
    add(service, "RestartSec=500ms")
    file = next((archive / "ACC1").iterdir())
    with in_hand(service, archive, tmp_path, "crashed"), load_on(service, file, tmp_path / "load.log") as load:
        load.wait_more()
        service.run("systemctl", "kill", "--signal=KILL", "mkisod")
        service.wait_unit("mkisod.service", "NRestarts", "1")
        load.wait_more()
        report = load.finish()
    assert report["refused"] == 0, report
    assert report["lost"] <= 2, "only what was in flight, one association of each client"


def test_a_stop_waits_for_associations_and_closes_the_port(service: Box, tmp_path: Path) -> None:
    """An association that never ends gets its grace, which is longer than the time that the unit allows; the daemon asks for more."""
    add(service, "TimeoutStopSec=1s")
    client = (
        "import sys; from tests.receiver.client import Client; client = Client(('127.0.0.1', int(sys.argv[1])), 60); "
        "client.associate(); print('associated', flush=True); client.abort(); print('aborted', flush=True)"
    )
    command = [*service.network, sys.executable, "-c", client, PORT]
    with started("client", command, tmp_path / "client.log", env={"PYTHONPATH": str(ROOT)}) as process:
        process.wait_ready(lambda: "associated" in process.output)
        service.run("systemctl", "stop", "mkisod")
        assert "aborted" in process.output, "it was told"
        process.end(signal.SIGKILL)
    assert service.show("mkisod.service", "Result", "ActiveState") == {"Result": "success", "ActiveState": "inactive"}
    assert not is_open(service, PORT)
    assert not echoes(service, PORT)


# --- The port ---


def test_a_new_port_closes_the_old_one(service: Box) -> None:
    configure(service, QUICK + "[receiver]\nport = 10199\n")
    service.run("systemctl", "restart", "mkisod")
    assert echoes(service, 10199)
    assert not is_open(service, PORT)
    assert service.show("mkisod.service", "NFileDescriptorStore")["NFileDescriptorStore"] == "1"


def test_port_104_by_a_socket_unit(service: Box) -> None:
    """By the example that the package brings. It survives restarts of the service."""
    service.run("cp", "/usr/share/doc/mkisod/examples/mkisod.socket", "/etc/systemd/system/mkisod.socket")
    service.run("systemctl", "daemon-reload")
    try:
        service.run("systemctl", "stop", "mkisod")
        service.run("systemctl", "start", "mkisod.socket")
        service.run("systemctl", "start", "mkisod")
        for _ in range(2):
            assert echoes(service, 104)
            assert not is_open(service, PORT)
            service.run("systemctl", "restart", "mkisod")
    finally:
        service.run("systemctl", "stop", "mkisod.socket", "mkisod")
        service.run("rm", "/etc/systemd/system/mkisod.socket")
        service.run("systemctl", "daemon-reload")


def test_addresses_can_be_restricted(service: Box) -> None:
    """By the example that the package brings: who is not named gets no answer."""
    service.run("ip", "address", "replace", "198.51.100.7/32", "dev", "lo")
    assert echoes(service, PORT)
    stranger = ["echoscu", "-to", "2", "-aec", "CDRECORD", "198.51.100.7", PORT]
    assert service.try_(*stranger).code == 0
    service.run("mkdir", "-p", "/etc/systemd/system/mkisod.service.d")
    service.run("cp", "/usr/share/doc/mkisod/examples/restrict-addresses.conf", "/etc/systemd/system/mkisod.service.d")
    service.run("systemctl", "daemon-reload")
    service.run("systemctl", "stop", "mkisod")
    service.run("systemctl", "start", "mkisod")
    for _ in range(2):
        assert echoes(service, PORT)
        assert service.try_(*stranger).code != 0
        service.run("systemctl", "restart", "mkisod")


# --- Configuration ---


def test_a_broken_configuration_is_said_once_and_not_tried_again(service: Box) -> None:
    configure(service, "[receiver]\nport = 'x'\nporrt = 1\n")
    service.try_("systemctl", "restart", "mkisod")
    service.wait_unit("mkisod.service", "ActiveState", "failed")
    shown = service.show("mkisod.service", "ExecMainStatus", "NRestarts", "Result")
    assert shown == {"ExecMainStatus": "78", "NRestarts": "0", "Result": "exit-code"}
    said = service.try_("systemctl", "status", "mkisod").out
    assert "receiver.port: write a whole number" in said
    assert "receiver.porrt: there is no such key" in said
    assert "Traceback" not in said
    assert not is_open(service, PORT), "who cannot be served is refused"
    configure(service)
    service.run("systemctl", "start", "mkisod")
    assert echoes(service, PORT)
