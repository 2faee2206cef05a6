"""What the daemon tells systemd: ready, status, stopping.

Uses the sdnotify package, which drops a message that is not Latin-1: so the text is made ASCII first. Without systemd, calls do nothing.
"""

from __future__ import annotations

from sdnotify import SystemdNotifier


class Notify:
    def __init__(self) -> None:
        self._notifier = SystemdNotifier()

    def ready(self, status: str) -> None:
        self._send("READY=1", status)

    def status(self, status: str) -> None:
        self._send(None, status)

    def stopping(self) -> None:
        self._send("STOPPING=1", "stopping")

    def _send(self, state: str | None, status: str) -> None:
        lines = [state] if state else []
        lines.append("STATUS=" + status.encode("ascii", "replace").decode().replace("\n", " "))
        self._notifier.notify("\n".join(lines))
