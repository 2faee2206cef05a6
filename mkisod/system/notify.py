"""What the daemon tells systemd: ready, status, alive, stopping (sd_notify(3)). Without systemd, calls do nothing.

Uses the sdnotify package, which drops a message that is not Latin-1: so the text is made ASCII first.
"""

from __future__ import annotations

import os

from sdnotify import SystemdNotifier

_STATUS_INTERVAL_S = 10.0  # without a watchdog
_BEATS_A_PERIOD = 3  # so that one late beat does not end the daemon


class Notify:
    def __init__(self) -> None:
        self._notifier = SystemdNotifier()
        self._said = ""

    @property
    def interval_s(self) -> float | None:
        """How often to say that all is well; None: nobody listens."""
        if "NOTIFY_SOCKET" not in os.environ:
            return None
        period_us = os.environ.get("WATCHDOG_USEC", "")
        if not period_us.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            return _STATUS_INTERVAL_S
        return min(_STATUS_INTERVAL_S, int(period_us) / 1e6 / _BEATS_A_PERIOD)

    def ready(self, status: str) -> None:
        self._send("READY=1", _status(status))
        if self._notifier.socket is not None:
            # From here on what is said is said again soon: rather lose a word than wait for who does not listen.
            self._notifier.socket.setblocking(False)

    def status(self, status: str) -> None:
        """What `systemctl status` shows. The same again is not sent again."""
        if status != self._said:
            self._said = status
            self._send(_status(status))

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> None:
        """A start or a stop takes so much longer, counted from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}")

    def stopping(self) -> None:
        self._send("STOPPING=1", _status("stopping"))

    def _send(self, *lines: str) -> None:
        self._notifier.notify("\n".join(lines))


def _status(text: str) -> str:
    return "STATUS=" + text.encode("ascii", "replace").decode().replace("\n", " ")
