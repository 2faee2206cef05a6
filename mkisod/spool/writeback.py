"""Makes instances durable while their disc is being made: the one waits for the disk, the other for the processor.

Nothing may be published before the context is left, for then alone is it known that every instance is on the disk. An error is kept and
raised there: the kernel reports a failed write to one fsync, so whoever is told of it must not forget it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def sync_meanwhile(paths: Sequence[Path], sync: Callable[[Path], None]) -> Iterator[None]:
    """`sync` is called for each path, in a thread of its own. Raises on leaving what it raised; left by an exception, it stops early."""
    given_up = threading.Event()
    errors: list[Exception] = []

    def run() -> None:
        try:
            for path in paths:
                if given_up.is_set():
                    return
                sync(path)
        except Exception as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run, name="writeback", daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        given_up.set()
        raise
    finally:
        thread.join()
    if errors:
        raise errors[0]
