"""The threads of the daemon: each has a name, gives signs of life, and takes the daemon down when it dies.

A thread gives a sign of life by `beat` wherever it looks up from its work, and has a patience: how long it may be silent. It says nothing
itself while it hangs, so another thread has to ask for those that are silent. A failure in a thread ends the daemon, loudly: what is half
alive would only look well.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial

from structlog.typing import FilteringBoundLogger

_JOIN_INTERVAL_S = 1.0


class Supervision:
    """`report_death` is called in the thread that dies, with its name. `is_forgiven` says whether an exception is no death."""

    def __init__(
        self,
        clock_s: Callable[[], float],
        log: FilteringBoundLogger,
        *,
        report_death: Callable[[str], None],
        is_forgiven: Callable[[BaseException], bool],
    ) -> None:
        self._clock_s = clock_s
        self._log = log
        self._report_death = report_death
        self._is_forgiven = is_forgiven
        self._threads: list[threading.Thread] = []
        self._patience_s: dict[str, float] = {}
        self._beats_s: dict[str, float] = {}
        self._reported: set[str] = set()
        self.died = False

    def start(self, name: str, serve: Callable[[], None], *, patience_s: float) -> None:
        """A thread that `join` waits for."""
        self.expect(name, patience_s=patience_s)
        thread = threading.Thread(target=partial(self.guard, name, serve), name=name)
        self._threads.append(thread)
        thread.start()

    def expect(self, name: str, *, patience_s: float) -> None:
        """From now on signs of life of a thread of this name, whoever starts it."""
        self._beats_s[name] = self._clock_s()
        self._patience_s[name] = patience_s

    def guard(self, name: str, serve: Callable[[], None]) -> None:
        """Run `serve` in this thread; its failure is the thread's death."""
        try:
            serve()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the daemon goes down with it, loudly
            if self._is_forgiven(error):
                return
            self._log.critical("thread_died", thread=name, exc_info=True)
            self.died = True
            self._report_death(name)

    def beat(self) -> None:
        """The thread that calls this lives."""
        name = threading.current_thread().name
        if name in self._beats_s:
            self._beats_s[name] = self._clock_s()

    def find_silent(self) -> list[str]:
        """The threads that have been silent for too long. Each is reported once, with where it hangs."""
        now_s = self._clock_s()
        silent = [name for name, beat_s in self._beats_s.items() if now_s - beat_s > self._patience_s[name]]
        for name in silent:
            if name not in self._reported:
                self._log.critical("thread_silent", thread=name, seconds=round(now_s - self._beats_s[name]), stack=_describe_stack(name))
        self._reported = set(silent)
        return silent

    def join(self, while_waiting: Callable[[], None]) -> None:
        """Wait for the end of all threads. `while_waiting` is called about once a second, unless one of them hangs."""
        for thread in self._threads:
            while thread.is_alive():
                if thread.name not in self.find_silent():
                    while_waiting()
                thread.join(_JOIN_INTERVAL_S)


def _describe_stack(name: str) -> str:
    """Files and lines, no values."""
    frames = sys._current_frames()  # noqa: SLF001 - documented; there is no other way
    for thread in threading.enumerate():
        if thread.name == name and thread.ident in frames:
            return "".join(traceback.format_stack(frames[thread.ident]))
    return "the thread is gone"
