"""Reads what has come for the disc while more of it comes, so that a finished retrieval leaves a sort, a join and a check to do.

Owns what is known of the objects of one job, their digests, and the threads that find both out: the job's own thread waits for answers of
the archive meanwhile. An object that no disc can hold ends the retrieval at once: it is the expectation's fault from then on. What was not
read when the retrieval ended is read when the disc is made.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from structlog.typing import FilteringBoundLogger

from mkisod.errors import Code, MkisodError, Permanent
from mkisod.media.disc import Digests, ObjectIndex, ObjectReader
from mkisod.pacs.expectation import Expectation


class Reading:
    """For one attempt at one job, as a context manager: when it is left, its threads have ended."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self.index = ObjectIndex()
        self.digests = Digests()

    def __enter__(self) -> Self:
        self.digests.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.digests.__exit__(kind, error, trace)

    @contextmanager
    def follow(self, expectation: Expectation) -> Iterator[None]:
        """Read what comes until the expectation is closed, which it is when this is left."""
        thread = threading.Thread(target=self._read, args=(expectation,), name=f"reading-{expectation.job}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            expectation.close()
            thread.join()

    def _read(self, expectation: Expectation) -> None:
        reader = ObjectReader(self.index, self.digests, lambda: expectation.closed)
        try:
            while (uids := expectation.wait_untold()) is not None:
                for uid in uids:
                    if expectation.closed:
                        break
                    reader.read(expectation.objects.path(uid))
        except MkisodError as error:
            expectation.fail(error)
        except OSError as error:
            expectation.fail(Permanent(Code.INTERNAL, f"An instance that had come could not be read: {error.strerror}."))
        except Exception as error:  # noqa: BLE001 - a defect, and nobody above this frame would see it
            self._log.exception("job_hit_defect")
            expectation.fail(Permanent(Code.INTERNAL, f"Reading an instance that had come ended in {type(error).__name__}."))
