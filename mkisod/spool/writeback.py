"""Makes instances durable while something else is done: the one waits for the disk, the other for the processor.

Nothing may be published before the context is left, for then alone is it known that every instance is on the disk. An error is kept and
raised there: the kernel reports a failed write to one fsync, so whoever is told of it must not forget it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

# The disk takes what several ask of it at once in one go: a thousand files take a tenth of the time (docs/decisions.md).
_THREADS = 16


@contextmanager
def sync_meanwhile(paths: Iterable[Path], sync: Callable[[Path], None]) -> Iterator[None]:
    """`sync` is called once for each path, by several threads. Raises on leaving what one raised; left by an exception, it stops early."""
    rest, lock = iter(paths), threading.Lock()
    given_up = threading.Event()
    errors: list[BaseException] = []

    def take() -> Path | None:
        with lock:
            return None if given_up.is_set() else next(rest, None)

    def run() -> None:
        try:
            while (path := take()) is not None:
                sync(path)
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)
            given_up.set()

    threads = [threading.Thread(target=run, name=f"writeback-{number}", daemon=True) for number in range(_THREADS)]
    try:
        for thread in threads:
            thread.start()
        yield
    except BaseException:
        given_up.set()
        raise
    finally:
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    if errors:
        raise errors[0]
