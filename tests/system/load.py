"""Clients that come to a port again and again, and count what becomes of them: python -m tests.system.load PORT FILE.

One thread sends C-ECHO, one C-STORE, an association for each. A dot for each association that was served; at SIGTERM the counts as JSON.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from pydicom import dcmread

from tests.receiver.client import Client, encode_echo_rq, encode_message, read_data_set


class Count:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: Counter[str] = Counter()
        self._slowest_s = 0.0

    def note(self, outcome: str, took_s: float) -> None:
        with self._lock:
            self._outcomes[outcome] += 1
            self._slowest_s = max(self._slowest_s, took_s)
        if outcome == "served":
            sys.stdout.write(".")
            sys.stdout.flush()

    def report(self) -> str:
        counted = {outcome: self._outcomes[outcome] for outcome in ("served", "refused", "lost")}
        return json.dumps({**counted, "slowest_s": round(self._slowest_s, 2)})


def come(port: int, file: Path | None) -> str:
    """One association; what became of it. Any DIMSE status is an answer: nobody expects the instance."""
    try:
        with Client(("127.0.0.1", port), timeout_s=60) as client:
            if file is None:
                client.associate()
                client.send(encode_message(3, encode_echo_rq()))
                client.response()
            else:
                meta = dcmread(file, stop_before_pixels=True).file_meta
                client.associate([(meta.MediaStorageSOPClassUID, [meta.TransferSyntaxUID])])
                client.store(meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, read_data_set(file))
            client.release()
    except ConnectionRefusedError:
        return "refused"
    except (OSError, AssertionError):
        return "lost"
    return "served"


def main() -> None:
    port, file = int(sys.argv[1]), Path(sys.argv[2])
    count, end = Count(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: end.set())

    def keep_coming(what: Path | None) -> None:
        while not end.is_set():
            began_s = time.monotonic()
            count.note(come(port, what), time.monotonic() - began_s)

    threads = [threading.Thread(target=keep_coming, args=(what,)) for what in (None, file)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(f"\n{count.report()}\n")


if __name__ == "__main__":
    main()
