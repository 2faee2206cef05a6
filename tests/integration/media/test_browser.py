"""INDEX.HTM in a real browser, from an image that another program extracted: readable on a telephone, silent, and at home on the disc."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from pydicom import uid

from tests.media.discs import make_disc
from tests.media.objects import ROOT, make_object, make_object_with_all_keys, write_object
from tests.peers import require
from tests.processes import HOST

HOSTILE = '"><script>console.error("x")</script><img src="http://example.org/x.png">'
LONG = "Donaudampfschifffahrtsgesellschaft" * 5
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-default-apps", "--hide-scrollbars", "--enable-logging=stderr"),
)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    objects = [make_object(number=n, series=s, study_uid=f"{ROOT}.{u}") for u in (1, 2) for s in (1, 2, 3) for n in (1, 2)]
    for ds in objects:
        ds.StudyDescription, ds.SeriesDescription, ds.PatientName = HOSTILE[:64], LONG[:64], f"{LONG[:20]}^{HOSTILE[:40]}"
    objects.append(make_object_with_all_keys(uid.ComprehensiveSRStorage, 7))
    objects[-1].PatientName = objects[0].PatientName
    (folder / "extras/VIEWER").mkdir(parents=True)
    (folder / "extras/VIEWER/VIEW.EXE").write_bytes(b"x")
    make_disc(
        [write_object(ds, folder / str(number)) for number, ds in enumerate(objects)],
        folder / "result",
        profile="auto",
        institution=LONG,
        contact="+49 30 1",
        disclaimer=HOSTILE,
        missing=(f"{ROOT}.7.{'1' * 30}",),
        extras=folder / "extras",
    )
    target = folder / "extracted"
    command: list[str | Path] = [require("xorriso"), "-osirrox", "on", "-indev", folder / "result/TEST_1.ISO", "-extract", "/", target]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return target


def browse(page: Path, profile: Path, *flags: str) -> tuple[str, str]:
    """What a browser that has never run before writes to standard output and standard error."""
    command = [require("chromium"), *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(command, check=False, capture_output=True, timeout=120, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


# Measures the page in a frame of the width of a telephone and writes the figures into its own title.
MEASURE = """<!DOCTYPE html><title>-</title><iframe id="f" src="{page}" style="width:{width}px;height:2000px;border:0"></iframe>
<script>document.getElementById("f").onload=function(e){{var d=e.target.contentDocument;
document.title=[d.documentElement.scrollWidth,d.images.length,d.scripts.length,d.querySelectorAll("h2,h3").length].join(" ");}};</script>"""


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen_and_nothing_of_an_object_became_markup(extracted: Path, tmp_path: Path, width: int) -> None:
    (tmp_path / "measure.htm").write_text(MEASURE.format(page=(extracted / "INDEX.HTM").as_uri(), width=width), encoding="utf-8")
    page, said = browse(tmp_path / "measure.htm", tmp_path / "profile", "--dump-dom", "--allow-file-access-from-files")
    title = re.search(r"<title>(.*?)</title>", page)
    assert title is not None
    scroll_width, images, scripts, headings = map(int, title[1].split())
    assert scroll_width <= width
    assert (images, scripts) == (0, 0)
    assert headings == 1 + 2 + 3  # a patient, two studies; how to open it, about it, the notice
    assert "CONSOLE" not in said


# What a browser asks of its own maker, whatever it is told.
_OWN_SERVICES = re.compile(r"[/ .](google|googleapis|gstatic|gvt1)\.com[:/]")


class Gate:
    """A proxy on the way out of the browser that lets nothing through, and knows what wanted to pass."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def flags(self) -> tuple[str, ...]:
        return f"--proxy-server=http://{HOST}:{self._listener.getsockname()[1]}", "--proxy-bypass-list=<-loopback>"

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if not (line := connection.recv(4096).split(b"\r\n")[0].decode("latin-1")):
                    return  # from `close`
                if not _OWN_SERVICES.search(line):
                    self.asked.append(line)

    def close(self) -> None:
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join()
        self._listener.close()


def find_requests(page: Path, profile: Path) -> tuple[list[str], str]:
    """What the browser asked of the world when it opened a page, and what it said."""
    gate = Gate()
    try:
        shown, said = browse(page, profile, "--dump-dom", "--virtual-time-budget=3000", *gate.flags)
    finally:
        gate.close()
    assert "</html>" in shown
    return gate.asked, said


def test_the_page_says_nothing_to_the_console_and_asks_nobody(extracted: Path, tmp_path: Path) -> None:
    asked, said = find_requests(extracted / "INDEX.HTM", tmp_path / "profile")
    assert asked == []
    assert "CONSOLE" not in said


def test_a_page_that_does_is_caught(tmp_path: Path) -> None:
    """That the test above can fail."""
    page = f'<!DOCTYPE html><html lang="en"><title>x</title>{HOSTILE.removeprefix(chr(34) + ">")}</html>'
    (tmp_path / "page.htm").write_text(page, encoding="utf-8")
    asked, said = find_requests(tmp_path / "page.htm", tmp_path / "profile")
    assert asked == ["GET http://example.org/x.png HTTP/1.1"]
    assert "CONSOLE" in said


def test_the_links_lead_to_what_is_on_the_disc(extracted: Path) -> None:
    page = (extracted / "INDEX.HTM").read_text(encoding="utf-8")
    links = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert links == ["README.TXT", "VIEWER"]
    assert all((extracted / link).exists() for link in links)


def test_it_prints(extracted: Path, tmp_path: Path) -> None:
    browse(extracted / "INDEX.HTM", tmp_path / "profile", f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
