"""The receiver as a process of its own, to be measured from outside: `python -m tests.receiver.process DIRECTORY PORT`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import structlog

from mkisod.pacs.receiver import Receiver, ReceiverSettings
from tests.receiver.directory import DirectoryReception


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    settings = ReceiverSettings(host="127.0.0.1", port=int(sys.argv[2]))
    receiver = Receiver(settings, DirectoryReception(Path(sys.argv[1])), log=structlog.get_logger())
    receiver.bind()
    receiver.start()
    signal.sigwait({signal.SIGTERM})
    receiver.stop(0)


if __name__ == "__main__":
    main()
