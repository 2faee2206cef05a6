"""What the documents show to be typed on a system with the package, run there as it stands (tests/documents.py)."""

from __future__ import annotations

from pathlib import Path

from mkisod.demo.series import write_series
from tests.documents import SYSTEM
from tests.processes import wait_for
from tests.system.box import Box
from tests.system.conftest import Package
from tests.system.site import QUICK, configure, drop, pacs_in, wait_state

COLLECTOR = "/var/lib/prometheus/node-exporter"
PLACE = "/srv"
# What the documents speak of.
INSTALLED = (
    *(f"/usr/share/man/man{name[-1]}/{name}.gz" for name in ("mkisod.8", "mkisod.toml.5", "mkisod-spool.5")),
    "/usr/share/bash-completion/completions/mkisod",
    *(f"/usr/share/doc/mkisod/examples/{name}" for name in ("mkisod.socket", "mkisod.rules.yml", "restrict-addresses.conf")),
    "/usr/lib/tmpfiles.d/mkisod.conf",
)
DROP_IN = f"[Service]\nReadWritePaths={COLLECTOR}\n"


def test_the_documented_commands_of_a_system(box: Box, package: Package, tmp_path: Path) -> None:
    write_series(tmp_path / "archive", accession="MR.180505.026", modality="MR", count=3)
    box.copy(package.deb, f"{PLACE}/mkisod_0.1.0_all.deb")
    box.run("mkdir", "-p", COLLECTOR)
    for number, (command, shown) in enumerate(SYSTEM.items()):
        prepare(box, command, tmp_path)
        said = box.run("sh", "-euc", f"cd {PLACE}; {command}")
        assert shown in said, f"{command} does not say {shown!r} but:\n{said}"
        if command.startswith("ln "):
            told = box.run("cat", f"{COLLECTOR}/mkisod.prom")
            assert 'mkisod_jobs_finished_total{daemon="main",outcome="done"} 1.0' in told
        assert number or box.run("systemctl", "is-active", "mkisod").strip() == "active"
    assert not [path for path in INSTALLED if not box.path(path).exists()]
    # The last of them have opened the collector's own directory to the daemon.
    wait_for(lambda: not box.path(f"{COLLECTOR}/mkisod.prom").is_symlink(), 30, "the file beside its target")
    assert "mkisod_build_info" in box.run("cat", f"{COLLECTOR}/mkisod.prom")


def prepare(box: Box, command: str, folder: Path) -> None:
    """What the documents have the reader do before."""
    if command == "systemctl reload mkisod":
        configure(box, f'{QUICK}\n[metrics]\ntextfile = "/run/mkisod/mkisod.prom"\n')
        box.run("systemctl", "restart", "mkisod")
        with pacs_in(box, folder / "archive", folder / "pacs.log"):
            drop(box, "web-4711", "MR.180505.026")
            wait_state(box, "web-4711", "done")
            drop(box, "web-4712", "NOWHERE")
            wait_state(box, "web-4712", "failed")
    elif command == "systemctl enable --now mkisod@ct":
        configure(box, '[spool]\ninstance = "ct"\n[receiver]\nport = 10105\nae_title = "CTDISC"\n', "/etc/mkisod/mkisod@ct.toml")
    elif command == "systemctl daemon-reload":
        box.run("mkdir", "-p", "/etc/systemd/system/mkisod.service.d")
        box.path("/etc/systemd/system/mkisod.service.d/metrics.conf").write_text(DROP_IN, encoding="utf-8")
        configure(box, f'{QUICK}\n[metrics]\ntextfile = "{COLLECTOR}/mkisod.prom"\n')
