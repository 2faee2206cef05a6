"""What is said right before a process ends, and how a defect is told without what it may quote."""

from __future__ import annotations

import os
import sys
import threading
import traceback

from mkisod.errors import MkisodError
from mkisod.system.journald import is_connected


def write_last_words(text: str) -> None:
    """What is said right before the process ends goes to standard error, also under systemd.

    What is sent by the journal's own protocol at that moment may be read after the process has gone, and then belongs to no unit.
    """
    prefix = "<2>" if is_connected(sys.stderr, os.environ) else ""  # critical (sd-daemon(3))
    sys.stderr.write("".join(f"{prefix}{line}\n" for line in text.splitlines()))
    sys.stderr.flush()


def catch_last_words() -> None:
    """Have what ends a thread, or the process, told by `write_last_words`, and told without what it may quote."""

    def tell(_: type[BaseException], error: BaseException, __: object) -> None:
        write_last_words("mkisod: a defect ends the process. Please report it with these lines.\n" + tell_exception(error))

    def tell_of_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None and not isinstance(arguments.exc_value, SystemExit):
            name = arguments.thread.name if arguments.thread else "unknown"
            write_last_words(f"mkisod: a defect ends the thread {name}.\n" + tell_exception(arguments.exc_value))

    sys.excepthook = tell
    threading.excepthook = tell_of_thread


def tell_exception(error: BaseException) -> str:
    """The calls, the last one at the end, as Python shows them; but what exceptions say that may quote a data set is withheld."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    told = ["".join([*traceback.format_tb(e.__traceback__), _name(e)]) for e in reversed(chain)]
    return "\n\nwhich led to:\n\n".join(told)


def _name(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, OSError | MkisodError) or kind.__module__.startswith("mkisod."):
        return f"{name}: {error}"
    return f"{name} (what it says is withheld: it may quote a data set)"
