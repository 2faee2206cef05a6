"""The receivers written in Python, each as a process: `python -m bench.receive.server {mkisod,pynetdicom} DIRECTORY PORT`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import structlog

from mkisod.pacs.receiver import Receiver, ReceiverSettings
from tests.receiver.directory import DirectoryReception


def serve_mkisod(directory: Path, port: int) -> None:
    receiver = Receiver(ReceiverSettings(ae_title="MKISOD", port=port), DirectoryReception(directory), log=structlog.get_logger())
    receiver.bind()
    receiver.start()
    signal.sigwait({signal.SIGTERM})
    receiver.stop(0)


def serve_pynetdicom(directory: Path, port: int) -> None:
    """As pynetdicom's own documentation has it, with the fastest way of writing that it offers."""
    from pynetdicom import AE, AllStoragePresentationContexts, evt  # noqa: PLC0415 - not part of what is measured in the other case
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # noqa: PLC0415

    def store(event: Any) -> int:
        (directory / f"{event.request.AffectedSOPInstanceUID}.dcm").write_bytes(event.encoded_dataset())
        return 0

    entity = AE("PYNETDICOM")
    entity.maximum_pdu_size = 131072
    entity.supported_contexts = AllStoragePresentationContexts
    entity.add_supported_context(Verification)
    server = entity.start_server(("", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    signal.sigwait({signal.SIGTERM})
    if server is not None:
        server.shutdown()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    {"mkisod": serve_mkisod, "pynetdicom": serve_pynetdicom}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
