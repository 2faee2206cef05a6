"""The package in a Debian: installed, upgraded under load, changed by its administrator, removed, purged. One story, in this order."""

from __future__ import annotations

from pathlib import Path

import pytest

from mkisod.demo.series import write_series
from tests.processes import wait_for
from tests.system.box import Box
from tests.system.site import CONFIG, QUICK, SPOOL, configure, drop, load_on, pacs_in, read_journal, wait_state
from tests.system.test_package import MOST_EXPOSED

OLD = "0.0.1~"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_series(folder / "ACC1", accession="ACC1", count=4)
    return folder


def read_version(box: Box) -> str:
    return box.run("dpkg-query", "--show", "--showformat=${Version}", "mkisod")


def test_installed_it_runs(box: Box) -> None:
    """With nothing but Debian's own packages, and without a PACS."""
    box.run("dpkg", "--install", "/opt/older.deb")
    box.wait_unit("mkisod.service", "ActiveState", "active")
    assert read_version(box).startswith(OLD)
    assert "Active: active (running)" in box.run("systemctl", "status", "mkisod.service")
    shown = box.show("mkisod.service", "StatusText", "User", "UnitFileState", "NRestarts", "NFileDescriptorStore")
    assert shown["StatusText"] in ("CDRECORD listens on port 10104", "0 jobs running, 0 deferred, 0 instances today")  # then the counts
    assert (shown["User"], shown["UnitFileState"], shown["NRestarts"]) == ("mkisod", "enabled", "0")
    assert shown["NFileDescriptorStore"] == "1"
    assert box.run("systemctl", "is-system-running").strip() == "running"
    # node_exporter, which is somebody else, reads the metrics.
    wait_for(lambda: "mkisod_" in box.try_("cat", "/run/mkisod/mkisod.prom", user="www-data").out, 30, "metrics")
    # From nothing else than what is in it: not even Debian's own modules for Python are there to be found.
    assert box.try_("/usr/bin/python3", "-c", "import pydicom").code


def test_it_is_confined(box: Box) -> None:
    box.run("systemd-analyze", "verify", "--man=no", "mkisod.service", "mkisod@ct.service")
    box.run("systemd-analyze", "security", f"--threshold={MOST_EXPOSED}", "mkisod.service")
    pid = box.show("mkisod.service", "MainPID")["MainPID"]
    status = dict(line.split(":\t", 1) for line in box.run("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line)
    assert status["CapEff"].strip("0") == ""
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    mounts = box.run("cat", f"/proc/{pid}/mountinfo").splitlines()
    writable = {words[4] for line in mounts if "rw" in (words := line.split())[5].split(",")}
    expected = (SPOOL, "/dev", "/proc", "/tmp", "/var/tmp", "/run", "/sys/fs/cgroup/")
    assert not [path for path in writable if not path.startswith(expected)]


def test_debians_own_test_of_it(box: Box) -> None:
    """Its autopkgtest, in this box instead of one of its own."""
    box.run("mkdir", "-p", "/opt/source/debian/tests")
    for name in ("control", "tests/control", "tests/smoke", "changelog"):
        box.copy(Path(__file__).parents[2] / "packaging" / "debian" / name, f"/opt/source/debian/{name}")
    box.run("sed", "-i", "s/, isolation-container//", "/opt/source/debian/tests/control")
    box.run("chmod", "755", "/opt/source/debian/tests/smoke")
    box.run("autopkgtest", "--no-built-binaries", "--ignore-restrictions=isolation-container", "/opt/source", "--", "null")


def test_an_upgrade_under_load_refuses_nobody(box: Box, archive: Path, tmp_path: Path) -> None:
    """And a job that is in hand is done after it. The configuration that was edited stays."""
    configure(box, QUICK + "\n# edited\n")
    box.run("systemctl", "restart", "mkisod")
    box.run("adduser", "--quiet", "www-data", "mkisod-drop")
    file = next((archive / "ACC1").iterdir())
    with pacs_in(box, archive, tmp_path / "pacs.log", faults='{"pause_s": 2}'), load_on(box, file, tmp_path / "load.log") as load:
        drop(box, "t", "ACC1")
        wait_state(box, "t", "retrieving")
        load.wait_more()
        box.run("dpkg", "--install", "--force-confold", "/opt/mkisod.deb")
        load.wait_more()
        assert load.finish() | {"served": 0, "slowest_s": 0} == {"served": 0, "refused": 0, "lost": 0, "slowest_s": 0}
        wait_state(box, "t", "done")
    assert not read_version(box).startswith(OLD)
    assert box.path(CONFIG).read_text(encoding="utf-8").endswith("# edited\n")
    assert box.show("mkisod.service", "NRestarts", "ActiveState") == {"NRestarts": "0", "ActiveState": "active"}
    assert read_journal(box, "-u", "mkisod", "MKISOD_EVENT=listener_handed_over")


def test_a_further_instance_is_upgraded_too(box: Box) -> None:
    text = '[spool]\ninstance = "ct"\nmin_free_mib = 0\n[receiver]\nport = 10105\nae_title = "CTDISC"\n'
    configure(box, text, "/etc/mkisod/mkisod@ct.toml")
    box.run("systemctl", "start", "mkisod@ct")
    before = box.show("mkisod@ct.service", "MainPID")
    assert "10105" in box.run("ss", "--tcp", "--listening", "--numeric")
    assert box.run("stat", "--format=%a %U", "/run/mkisod@ct").split() == ["755", "mkisod"]
    box.run("dpkg", "--install", "--force-confold", "/opt/mkisod.deb")
    after = box.show("mkisod@ct.service", "MainPID", "ActiveState")
    assert after["ActiveState"] == "active"
    assert after["MainPID"] != before["MainPID"]


def test_removed_it_leaves_the_spool_and_the_configuration(box: Box) -> None:
    box.run("dpkg", "--remove", "mkisod")
    assert box.show("mkisod@ct.service", "ActiveState")["ActiveState"] == "inactive"
    assert "10104" not in (listening := box.run("ss", "--tcp", "--listening", "--numeric")), listening
    assert "10105" not in listening
    assert box.path(CONFIG).exists()
    assert box.path(f"{SPOOL}/outbox/t/status.json").exists()
    assert not box.path("/usr/lib/mkisod").exists()


def test_purged_it_leaves_the_discs_that_nobody_has_fetched(box: Box) -> None:
    box.run("dpkg", "--purge", "mkisod")
    left = box.run("find", SPOOL, "-maxdepth", "2").split()
    assert left == [SPOOL, f"{SPOOL}/outbox", f"{SPOOL}/outbox/t"]
    assert not box.path(CONFIG).exists()
    assert box.path("/etc/mkisod/mkisod@ct.toml").exists(), "not the package's"
    box.run("rm", "-r", f"{SPOOL}/outbox/t")
    box.run("dpkg", "--install", "/opt/mkisod.deb")
    box.run("dpkg", "--purge", "mkisod")
    assert not box.path(SPOOL).exists()
