"""A real browser, driven through its DevTools protocol over a pair of pipes: no library, no port, no thread.

A test opens a page, acts as a person does (keys, not calls), and asks the page what there is. Whatever a page writes to the console, or
violates, is kept in `Page.complaints`.
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.peers import require
from tests.processes import wait_for

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-default-apps", "--hide-scrollbars", "--disable-dev-shm-usage"),
)
_ANSWER_DEADLINE_S = 60.0
_KEYS = {"Tab": 9, "Enter": 13, " ": 32, "Backspace": 8}

Message = dict[str, Any]


class Browser:
    """One process. Ends with the block of `running_browser`."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._numbers = itertools.count(1)
        self._rest = b""
        self._answers: dict[int, Message] = {}
        self._unread: deque[Message] = deque()
        self._listeners: list[Callable[[Message], None]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Message:
        """Send one command and wait for its answer; events that come meanwhile go to the pages."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._write_fd, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + _ANSWER_DEADLINE_S
        while number not in self._answers:
            if not self.receive(end - time.monotonic()):
                pytest.fail(f"the browser does not answer {method}")
        answer = self._answers.pop(number)
        if "error" in answer:
            pytest.fail(f"{method}: {answer['error']}")
        result: Message = answer["result"]
        return result

    def receive(self, timeout_s: float) -> bool:
        """Take what the browser has to say; False where that is nothing."""
        if not select.select([self._read_fd], [], [], max(0, timeout_s))[0]:
            return False
        data = os.read(self._read_fd, 1 << 20)
        if not data:
            pytest.fail("the browser has ended by itself")
        *messages, self._rest = (self._rest + data).split(b"\0")
        for text in messages:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                for listener in self._listeners:
                    listener(message)
        return True

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False, script: bool = True) -> Page:
        """A new page of a new visitor (own cookies). Without `script` as if JavaScript were switched off."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, context)
        self._listeners.append(page.hear)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.resize(width, height)
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        if not script:
            page.call("Emulation.setScriptExecutionDisabled", value=True)
        page.go(url)
        return page


class Page:
    """One tab. `complaints`: what was written to its console, or blocked; `headers`: of its last document."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self._context = context
        self._loads = 0
        self.complaints: list[str] = []
        self.downloads: dict[str, str] = {}
        self.requested: list[str] = []

    def call(self, method: str, **parameters: Any) -> Message:
        return self._browser.call(method, self._session, **parameters)

    def hear(self, message: Message) -> None:
        method, parameters = message["method"], message["params"]
        if method == "Browser.downloadProgress" and parameters["state"] != "inProgress":
            self.downloads[parameters["guid"]] = parameters["state"]
        if message.get("sessionId") != self._session:
            return
        if method == "Page.loadEventFired":
            self._loads += 1
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str([argument.get("value") for argument in parameters["args"]]))
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])

    def go(self, url: str) -> None:
        """Open an address and wait until it is loaded."""
        self.expect_load(lambda: self.call("Page.navigate", url=url))

    def expect_load(self, act: Callable[[], Any]) -> None:
        """Do what makes the page load another document, and wait for that."""
        before = self._loads
        act()

        def loaded() -> bool:
            self._browser.receive(0)
            return self._loads > before

        wait_for(loaded, 30, "the page to load")

    def resize(self, width: int, height: int = 900) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def evaluate(self, expression: str) -> Any:
        """The value of a piece of JavaScript; a promise is waited for. Works although the page's own scripts are switched off."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            pytest.fail(f"{expression[:200]}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str, deadline_s: float = 30) -> Any:
        """Wait until a piece of JavaScript is true."""
        return wait_for(lambda: self.evaluate(expression), deadline_s, f"{expression} on\n{self.text}")

    @property
    def text(self) -> str:
        """What a person reads on it."""
        return str(self.evaluate("document.title + '\\n' + document.body.innerText"))

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, shift: bool = False) -> None:
        """One key: Tab, Enter, the space bar, Backspace."""
        common = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": _KEYS[key], "modifiers": 8 if shift else 0}
        text = {"Enter": "\r", " ": " "}.get(key)
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self, path: Path) -> None:
        """All of the page, not only what the window shows."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def download(self, folder: Path, act: Callable[[], Any]) -> Path:
        """Do what starts a download, and wait for the file."""
        folder.mkdir()
        self._browser.call(
            "Browser.setDownloadBehavior",
            behavior="allowAndName",
            browserContextId=self._context,
            downloadPath=str(folder),
            eventsEnabled=True,
        )
        before = set(self.downloads)
        act()

        def finished() -> set[str]:
            self._browser.receive(0)
            return set(self.downloads) - before

        (guid,) = wait_for(finished, 60, "the download")
        assert self.downloads[guid] == "completed"
        return folder / guid


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Chromium without a window, with a profile of its own."""
    profile = tempfile.mkdtemp(prefix="mkisod-browser-")
    read_end, write_fd = os.pipe()
    read_fd, write_end = os.pipe()
    # It reads from descriptor 3 and writes to 4; bash, since sh knows descriptors of one digit only.
    child_read, child_write = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (read_end, write_end))
    command = ["bash", "-c", f'exec "$@" 3<&{child_read} 4>&{child_write}', "bash", require("chromium"), *FLAGS]
    process = subprocess.Popen(
        [*command, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(child_read, child_write),
        start_new_session=True,
    )
    for fd in (read_end, write_end, child_read, child_write):
        os.close(fd)
    try:
        yield Browser(read_fd, write_fd)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(read_fd)
        os.close(write_fd)
        shutil.rmtree(profile, ignore_errors=True)
