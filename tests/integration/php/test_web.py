"""The example web page in a real browser, as a person at the desk uses it: by mouse or keyboard, with and without JavaScript."""

from __future__ import annotations

import http.client
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from mkisod.demo.faults import Faults
from mkisod.demo.objects import make_uid
from mkisod.demo.phantom import CT_ACCESSION, MR_ACCESSION
from tests.browser import Browser, Page, running_browser
from tests.integration.journey.site import run_command
from tests.integration.php.contrast import find_faint_text
from tests.integration.php.site import PHP_FOLDER, Site, running_site
from tests.peers import require
from tests.processes import HOST, free_port, started, wait_for

# With ?. since a page that is just being loaded may have neither.
PROGRESS = "document.querySelector('#request progress')?"
STATE = "document.getElementById('request')?.dataset.state"


@contextmanager
def running_pages(site: Site, folder: Path) -> Iterator[str]:
    """PHP's own web server with the pages; the address ends in a slash."""
    port = free_port()
    settings = {"session.save_path": folder, "error_reporting": -1, "display_errors": 1, "log_errors": 1, "error_log": folder / "php.log"}
    command = [require("php"), *(f"-d{key}={value}" for key, value in settings.items()), "-S", f"{HOST}:{port}"]
    environment = {"MKISOD_SPOOL": str(site.spool), "PHP_CLI_SERVER_WORKERS": "3"}
    with started("php", [*command, "-t", PHP_FOLDER / "examples/web"], folder / "server.log", env=environment) as process:
        process.wait_ready(lambda: is_listening(port))
        yield f"http://{HOST}:{port}/"
    said = (folder / "server.log").read_text() + ((folder / "php.log").read_text() if (folder / "php.log").exists() else "")
    assert not re.search(r"PHP (Warning|Notice|Deprecated|Fatal)", said), said


def is_listening(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/disc.svg")
        return connection.getresponse().status == http.client.OK
    except ConnectionRefusedError:
        return False
    finally:
        connection.close()


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("web")) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    yield shared_site
    shared_site.pacs.faults = Faults()


@pytest.fixture(scope="module")
def address(shared_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_pages(shared_site, tmp_path_factory.mktemp("pages")) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


def fill(page: Page, **fields: str) -> None:
    for name, text in fields.items():
        page.evaluate(f"document.getElementById('{name}').focus(), document.getElementById('{name}').select()")
        page.type(text)


def submit(page: Page, **fields: str) -> None:
    fill(page, **fields)
    page.expect_load(lambda: page.evaluate("document.querySelector('form button').click()"))


def ticket_of(page: Page) -> str:
    (ticket,) = urllib.parse.parse_qs(urllib.parse.urlsplit(str(page.evaluate("location.href"))).query)["ticket"]
    return ticket


# --- The journey -------------------------------------------------------------------------------------------------------------------


def test_two_accessions_to_a_verified_disc(site: Site, address: str, browser: Browser, tmp_path: Path) -> None:
    site.pacs.faults = Faults(pause_s=0.15)
    page = browser.open(address)
    submit(page, accessions=f"{CT_ACCESSION}\n\n {MR_ACCESSION} \n", patient="PHANTOM1")
    percents: list[int] = []

    def finished() -> bool:
        percents.append(page.evaluate(f"{PROGRESS}.value ?? 100"))
        return bool(page.evaluate(f"{STATE} === 'done'"))

    wait_for(finished, 60, "the disc")
    assert percents == sorted(percents)
    assert len(set(percents)) >= 4, "the bar moved"
    assert "The disc is ready" in page.text
    assert page.evaluate("document.getElementById('live').textContent") == "The disc is ready"
    status = site.daemon.status(ticket_of(page))
    assert status is not None
    (volume,) = status["result"]["volumes"]
    for kind, text in (("image", "ISO"), ("archive", "ZIP")):
        find = f"[...document.querySelectorAll('.downloads a')].find(link => link.textContent.startsWith('{text}'))"
        file = page.download(tmp_path / kind, lambda find=find: page.evaluate(f"{find}.click()"))  # type: ignore[misc]
        named = file.rename(file.with_name(volume[kind]))
        if kind == "image":
            assert run_command("verify", named).exit_code == 0
        else:
            assert named.read_bytes() == (site.daemon.outbox / status["ticket"] / status["result"]["path"] / volume[kind]).read_bytes()
    assert page.complaints == []
    assert {url for url in page.requested if not url.startswith((address, "data:"))} <= {"about:blank"}


def test_without_javascript(site: Site, address: str, browser: Browser) -> None:
    site.pacs.faults = Faults(stall_after=3)
    page = browser.open(address, script=False)
    submit(page, accessions=CT_ACCESSION)
    site.daemon.wait_status(ticket_of(page), "retrieving")
    assert page.evaluate("document.querySelector('meta[http-equiv=refresh]').content") == "3"
    page.wait("document.querySelector('.state')?.innerText.startsWith('Fetching the images: 3 of 13')")
    site.pacs.faults = Faults()
    page.wait(f"{STATE} === 'done' && document.querySelectorAll('.downloads a').length === 2")
    assert page.evaluate("document.querySelector('meta[http-equiv=refresh]')") is None


def test_by_keyboard_alone(site: Site, address: str, browser: Browser) -> None:
    site.pacs.faults = Faults(stall_after=2)
    page = browser.open(address)
    reach(page, "accessions", "id")
    page.type(MR_ACCESSION)
    reach(page, "patient", "id")
    page.type("PHANTOM1")
    reach(page, "Make disc", "textContent")
    page.expect_load(lambda: page.press("Enter"))
    page.wait(f"{STATE} === 'retrieving'")
    reach(page, "Cancel", "textContent")
    page.expect_load(lambda: page.press(" "))
    page.wait(f"{STATE} === 'cancelled'")
    assert "Cancelled" in page.text
    reach(page, "Make another disc", "textContent")
    page.expect_load(lambda: page.press("Enter"))
    reach(page, f"Disc for {MR_ACCESSION}", "textContent")
    assert page.complaints == []


def reach(page: Page, wanted: str, by: str) -> None:
    """Press Tab until it has the focus; whatever has it on the way can be seen to have it."""
    for _ in range(20):
        page.press("Tab")
        focused, outline = page.evaluate(
            f"[document.activeElement.{by}, getComputedStyle(document.activeElement).outlineStyle + document.activeElement.tagName]"
        )
        assert not outline.startswith("none") or outline.endswith("BODY"), focused
        if focused == wanted:
            return
    pytest.fail(f"Tab does not reach {wanted}")


def test_the_first_tab_goes_to_the_content(address: str, browser: Browser) -> None:
    page = browser.open(address)
    page.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    page.press("Enter")
    page.wait("document.activeElement.id === 'main'")


def test_focus_is_kept_when_the_state_changes(site: Site, address: str, browser: Browser) -> None:
    site.pacs.faults = Faults(stall_after=2)
    page = browser.open(address)
    submit(page, accessions=CT_ACCESSION)
    page.wait(f"{STATE} === 'retrieving'")
    reach(page, "Cancel", "textContent")
    site.pacs.faults = Faults()
    page.wait(f"{STATE} === 'done'")
    assert page.evaluate("document.activeElement.tagName") == "H1"


def test_the_list_follows_too(site: Site, address: str, browser: Browser) -> None:
    site.pacs.faults = Faults(stall_after=2)
    page = browser.open(address)
    submit(page, accessions=CT_ACCESSION)
    page.go(address)
    fill(page, accessions="half typed")
    page.wait("document.querySelector('.requests progress') !== null")
    site.pacs.faults = Faults()
    page.wait("document.querySelector('.requests .state').textContent === 'The disc is ready'")
    assert page.evaluate("document.getElementById('accessions').value") == "half typed"


def test_pressed_twice_it_is_one_disc(site: Site, address: str, browser: Browser) -> None:
    page = browser.open(address)
    fill(page, accessions=MR_ACCESSION)
    before = len(list(site.daemon.outbox.iterdir()))
    form = "document.querySelector('form')"
    post = f"fetch('index.php', {{method: 'POST', body: new FormData({form})}}).then(answer => answer.url)"
    first, second = page.evaluate(f"Promise.all([{post}, {post}])")
    assert "ticket=" in first
    assert first == second
    page.go(first)
    page.wait(f"{STATE} === 'done'")
    assert len(list(site.daemon.outbox.iterdir())) == before + 1


# --- What can go wrong -------------------------------------------------------------------------------------------------------------


def test_not_found(address: str, browser: Browser) -> None:
    page = browser.open(address)
    submit(page, accessions=f"{CT_ACCESSION}\nNOT.THERE")
    page.wait(f"{STATE} === 'failed'")
    text = re.sub("\n+", "\n", page.text)
    assert "The image archive has no examination with this number. Please check it for typing errors.\nNOT.THERE" in text
    assert page.evaluate("document.querySelectorAll('.downloads').length") == 0


def test_another_patient(address: str, browser: Browser) -> None:
    page = browser.open(address)
    fill(page, accessions=CT_ACCESSION)
    page.evaluate("document.getElementById('birthdate').value = '1999-12-31'")
    page.expect_load(lambda: page.evaluate("document.querySelector('form button').click()"))
    page.wait(f"{STATE} === 'failed'")
    assert "not of the patient that was expected" in page.text


HOSTILE = ["<script>alert(1)", "<script>", "../../etc/passwd", "'\"><img src=x>", "%00${7+7}", "\u202e<b>x</b>"]


@pytest.mark.parametrize("accession", HOSTILE)
def test_a_hostile_accession_is_only_text(site: Site, address: str, browser: Browser, accession: str) -> None:
    page = browser.open(address)
    submit(page, accessions=accession)
    page.wait(f"{STATE} === 'failed'")
    assert accession.strip() in page.text
    assert page.evaluate("[document.scripts.length, document.images.length, document.querySelectorAll('b').length]") == [1, 1, 0]
    page.go(address)
    assert accession.strip() in page.text
    assert page.complaints == []
    assert (site.daemon.outbox / ticket_from_list(page) / "status.json").is_file()


def ticket_from_list(page: Page) -> str:
    link: str = page.evaluate("document.querySelector('.requests a').href")
    return urllib.parse.parse_qs(urllib.parse.urlsplit(link).query)["ticket"][0]


@pytest.mark.parametrize("accession", ["@forward X", "#", "MR*", "a\\b", "A" * 17, "\u00a0A", "", "<script>alert('too long')</script>"])
def test_what_is_no_accession_is_never_submitted(site: Site, address: str, browser: Browser, accession: str) -> None:
    before = set(site.daemon.outbox.iterdir())
    page = browser.open(address)
    page.evaluate("document.getElementById('accessions').required = false")
    submit(page, accessions=f"{CT_ACCESSION}\n{accession}" if accession else "", patient="a\\b")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "alert"
    assert page.evaluate("document.activeElement.querySelectorAll('li').length") == 2
    assert "Line 2: " in page.text or not accession
    assert page.evaluate("document.getElementById('accessions').value") == (f"{CT_ACCESSION}\n{accession}" if accession else "")
    assert page.evaluate("document.getElementById('accessions').getAttribute('aria-invalid')") == "true"
    assert page.evaluate("document.scripts.length") == 1
    assert set(site.daemon.outbox.iterdir()) == before


def test_a_partial_disc_only_when_asked_for(site: Site, address: str, browser: Browser) -> None:
    site.pacs.faults = Faults(never_sent_uids=frozenset({make_uid(1, "CT/2")}))
    page = browser.open(address)
    submit(page, accessions=CT_ACCESSION)
    page.wait(f"{STATE} === 'failed'")
    assert "Some images have not come" in page.text
    button = "[...document.querySelectorAll('button')].find(one => one.textContent.startsWith('Make the disc without'))"
    page.expect_load(lambda: page.evaluate(f"{button}.click()"))
    wait_for(lambda: reload_until(page, "partial"), 60, "the partial disc")
    assert "read this first" in page.text
    assert page.evaluate("document.querySelectorAll('.downloads a').length") == 2


def reload_until(page: Page, state: str) -> bool:
    if page.evaluate(STATE) == state:
        return True
    page.go(page.evaluate("location.href"))
    return False


def test_the_daemon_is_away(site: Site, browser: Browser, tmp_path: Path) -> None:
    """Without a spool: said in words, with no path of the server in them."""
    with running_pages(Site(site.daemon, site.pacs, tmp_path / "nowhere"), tmp_path) as address:
        page = browser.open(address)
        submit(page, accessions=CT_ACCESSION)
        assert "The disc service cannot be reached" in page.text
        assert str(tmp_path) not in page.text


# --- Against forgery and curiosity -------------------------------------------------------------------------------------------------


def ask(address: str, path: str, *, body: dict[str, str] | None = None, cookie: str = "") -> tuple[int, dict[str, str], str]:
    parts = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    try:
        headers = {"Cookie": cookie} if cookie else {}
        if body is None:
            connection.request("GET", "/" + path, headers=headers)
        else:
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", "/" + path, body=urllib.parse.urlencode(body), headers=headers | form)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode(errors="replace")
    finally:
        connection.close()


@pytest.fixture(scope="module")
def done(shared_site: Site) -> str:
    """The ticket of a disc that is ready."""
    call = "$t = $mkisod->submit((new Mkisod\\Request(['PHANTOM.CT.1']))->output('iso', 'zip')); $mkisod->wait($t, 30); return $t;"
    ticket: str = shared_site.php(call)
    return ticket


def test_a_forged_form_does_nothing(site: Site, address: str, done: str) -> None:
    before = set(site.daemon.outbox.iterdir())
    status, headers, _ = ask(address, "index.php")
    cookie = headers["set-cookie"].split(";")[0]
    assert status == http.client.OK
    for body in ({"accessions": CT_ACCESSION}, {"accessions": CT_ACCESSION, "token": "x"}, {"accessions": CT_ACCESSION, "token[]": "x"}):
        for sent in (cookie, ""):
            assert ask(address, "index.php", body=body, cookie=sent)[0] == http.client.FORBIDDEN
    assert ask(address, f"request.php?ticket={done}", body={"word": "cancel"}, cookie=cookie)[0] == http.client.FORBIDDEN
    assert set(site.daemon.outbox.iterdir()) == before


def test_the_cookie_and_the_headers(address: str, done: str) -> None:
    for path in ("index.php", f"request.php?ticket={done}", f"status.php?ticket={done}", f"download.php?ticket={done}&volume=1&kind=image"):
        status, headers, _ = ask(address, path)
        assert status == http.client.OK
        assert headers["content-security-policy"].startswith("default-src 'none'; ")
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert (headers["x-frame-options"], headers["cache-control"]) == ("DENY", "no-store")
        assert "x-powered-by" not in headers
    cookie = ask(address, "index.php")[1]["set-cookie"]
    assert {"HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))


@pytest.mark.parametrize(
    "query",
    [
        "volume=1&kind=../status.json", "volume=1&kind=path", "volume=1&kind=file_set_id", "volume=0&kind=image", "volume=2&kind=image",
        "volume=-1&kind=image", "volume=../1&kind=image", "volume[]=1&kind=image", "volume=1&kind[]=image", "kind=image", "volume=1",
        "volume=1&kind=directory", "volume=1e0&kind=image",
    ],
)  # fmt: skip
def test_a_download_is_named_by_number_and_kind_alone(address: str, done: str, query: str) -> None:
    assert ask(address, f"download.php?ticket={done}&{query}")[0] == http.client.NOT_FOUND


@pytest.mark.parametrize("ticket", ["", "..", "../inbox", "%2e%2e%2f", "/etc/passwd", "nobody", "a%00b", "%ff"])
@pytest.mark.parametrize("page", ["request.php", "status.php", "download.php"])
def test_a_ticket_that_is_none(address: str, page: str, ticket: str) -> None:
    for query in (f"ticket={ticket}", f"ticket[]={ticket}"):
        status, _, text = ask(address, f"{page}?{query}&volume=1&kind=image")
        assert (status, "There is no such request" in text) == (http.client.NOT_FOUND, True)


def test_included_files_say_nothing(address: str) -> None:
    for name in ("page.php", "words.php"):
        assert ask(address, name)[2] == ""


# --- For every eye and every screen ------------------------------------------------------------------------------------------------


def pages_to_look_at(site: Site, browser: Browser, address: str, **options: Any) -> Iterator[tuple[str, Page]]:
    """The pages in the states that look different."""
    page = browser.open(address, **options)
    yield "the form", page
    submit(page, accessions=f"@x\n{'A' * 17}", patient="a\\b")
    yield "a form with mistakes", page
    page.go(address)
    submit(page, accessions=f"NOT.THERE\n{'W' * 16}")
    page.wait(f"{STATE} === 'failed'")
    page.evaluate("document.querySelector('details').open = true")
    yield "a request that failed", page
    site.pacs.faults = Faults(stall_after=3)
    page.go(address)
    submit(page, accessions=CT_ACCESSION)
    page.wait(f"{STATE} === 'retrieving' && {PROGRESS}.value > 5")
    yield "a request that moves", page
    site.pacs.faults = Faults()
    page.wait(f"{STATE} === 'done'")
    yield "a disc", page
    page.go(address)
    yield "the list", page
    page.go(f"{address}request.php?ticket=nobody")
    yield "nothing there", page


NAMED_ROLES = {"button", "link", "textbox", "progressbar", "Date", "image", "table", "heading"}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everything_can_be_seen_and_has_a_name(site: Site, address: str, browser: Browser, dark: bool) -> None:
    """WCAG 2.1 AA: 4.5 to 1 for text, 3 to 1 for large text, the edges of fields and the bar. Names as a screen reader is told them."""
    seen = set()
    for name, page in pages_to_look_at(site, browser, address, dark=dark):
        assert find_faint_text(page) == [], name
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
        told = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
        assert [role for role, text in told if role in NAMED_ROLES and not text.strip()] == [], name
        assert page.evaluate("document.querySelectorAll('h1').length") == 1, name
        assert page.evaluate("document.documentElement.lang") == "en"
        seen |= {role for role, _ in told}
    assert {"button", "link", "textbox", "progressbar", "table", "alert", "status"} <= seen


def test_contrast_can_fail(address: str, browser: Browser) -> None:
    page = browser.open(address)
    page.evaluate("document.querySelector('.hint').style.color = '#999'")
    page.evaluate("document.querySelector('textarea').style.borderColor = '#ccc'")
    assert len(find_faint_text(page)) == 2


@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_is_wider_than_the_screen_and_fingers_find_their_target(site: Site, address: str, browser: Browser, width: int) -> None:
    for name, page in pages_to_look_at(site, browser, address, width=width):
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        small = page.evaluate(
            "[...document.querySelectorAll('button, .button, input:not([type=hidden]), textarea')]"
            ".filter(one => one.getBoundingClientRect().height < 44).map(one => one.outerHTML)"
        )
        assert small == [], name


def test_axe(site: Site, address: str, browser: Browser, axe: str) -> None:
    """axe-core finds nothing against WCAG 2.2 AA and its own best practices."""
    for dark in (False, True):
        for name, page in pages_to_look_at(site, browser, address, dark=dark):
            page.evaluate(axe)
            found = page.evaluate(
                "axe.run(document).then(result => result.violations.map(one => one.id + ': ' + one.nodes.map(node => node.html).join(' ')))"
            )
            assert found == [], name


@pytest.fixture
def axe() -> str:
    """The source of axe-core."""
    return (resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
