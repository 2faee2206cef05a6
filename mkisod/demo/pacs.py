"""A small PACS over a folder of DICOM files: Verification, Study Root C-FIND and C-MOVE, for `mkisod demo` and as a peer in tests.

It holds whatever lies in the folder, of every SOP class and in every transfer syntax, and sends it as it is stored. It is a plain
archive that keeps to the standard until `faults` tell it otherwise. One thread serves each association.
`python -m mkisod.demo.pacs` runs it as a process of its own.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

import cattrs
import structlog

from mkisod.demo.faults import Faults
from mkisod.demo.identifiers import TRANSFER_SYNTAX_UIDS
from mkisod.demo.index import Archive, read_folder
from mkisod.demo.negotiate import accept_association
from mkisod.demo.serve import SERVED, serve
from mkisod.demo.state import MoveRecord, QueryRecord, State
from mkisod.demo.wire import AssociationEnded, close_connection

_log = structlog.get_logger(__name__)


class DemoPacs:
    """The PACS. `with DemoPacs(folder, destinations={...}) as pacs:` runs it; `pacs.address` is where it listens.

    A move destination is an AE title with host and port. With `accession_moves` a C-MOVE at STUDY level by accession number alone is taken,
    as some archives do.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ae_title: str = "ABPACS",
        host: str = "127.0.0.1",
        port: int = 0,
        destinations: Mapping[str, tuple[str, int]] | None = None,
        faults: Faults | None = None,
        accession_moves: bool = False,
    ) -> None:
        self.folder = folder
        self.ae_title = ae_title
        self._bind = (host, port)
        self._state = State(ae_title, destinations or {}, faults or Faults(), accession_moves)
        self._listener: socket.socket | None = None
        self._accepting: Thread | None = None

    def start(self) -> None:
        """Read the folder, bind, and serve. Raises NotADirectoryError for the folder, OSError for the address."""
        self.refresh()
        self._listener = socket.create_server(self._bind, backlog=64)
        self._accepting = self._state.spawn(partial(self._accept, self._listener), "demo-accept")

    def stop(self) -> None:
        """Close every association and end, for good. May be called twice."""
        if self._listener is not None and self._accepting is not None:
            close_connection(self._listener)
            self._accepting.join()  # then no further connection comes
            self._listener = self._accepting = None
            self._state.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on. Raises RuntimeError before `start`."""
        if self._listener is None:
            raise RuntimeError("the demo PACS does not run")
        host, port = self._listener.getsockname()[:2]
        return host, port

    @property
    def archive(self) -> Archive:
        """What it holds."""
        return self._state.archive

    @property
    def faults(self) -> Faults:
        """What it does wrong; may be replaced while it runs."""
        return self._state.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._state.change_faults(faults)

    @property
    def queries(self) -> list[QueryRecord]:
        """Every C-FIND so far, in the order of their ends."""
        return [record for record in list(self._state.history) if isinstance(record, QueryRecord)]

    @property
    def moves(self) -> list[MoveRecord]:
        """Every C-MOVE so far, in the order of their ends."""
        return [record for record in list(self._state.history) if isinstance(record, MoveRecord)]

    def add_destination(self, ae_title: str, host: str, port: int) -> None:
        """Make a move destination known, or move it elsewhere."""
        self._state.destinations[ae_title] = (host, port)

    def refresh(self) -> None:
        """Read the folder again: files may have come or gone."""
        self._state.archive = read_folder(self.folder)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, peer = listener.accept()
            except OSError:
                return  # closed by `stop`
            self._state.spawn(partial(self._serve_connection, connection), f"demo-{peer[1]}")

    def _serve_connection(self, connection: socket.socket) -> None:
        try:
            with self._state.watch(connection):
                association = accept_association(connection, self.ae_title, SERVED.values(), TRANSFER_SYNTAX_UIDS)
                serve(self._state, association)
        except AssociationEnded as ended:
            _log.debug("association ended", reason=str(ended))
        finally:
            close_connection(connection)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the PACS until SIGINT or SIGTERM. Prints one line, `listening on HOST PORT`, once it does."""
    parser = argparse.ArgumentParser(prog="python -m mkisod.demo.pacs", description="A small PACS over a folder of DICOM files.")
    parser.add_argument("--from", dest="folder", type=Path, required=True, metavar="DIR", help="the folder it holds")
    parser.add_argument("--ae-title", default="ABPACS")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--destination", type=_read_destination, action="append", default=[], metavar="AE=HOST:PORT")
    parser.add_argument("--accession-moves", action="store_true", help="take a C-MOVE by accession number alone")
    parser.add_argument("--faults", type=_read_faults, default=Faults(), metavar="JSON", help="fields of mkisod.demo.faults.Faults")
    options = parser.parse_args(arguments)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO), logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )
    ending = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # before the first thread, so that none but `sigwait` takes them
    pacs = DemoPacs(
        options.folder,
        ae_title=options.ae_title,
        host=options.host,
        port=options.port,
        destinations=dict(options.destination),
        faults=options.faults,
        accession_moves=options.accession_moves,
    )
    try:
        pacs.start()
    except OSError as error:
        sys.stderr.write(f"The demo PACS cannot start: {error}\n")
        return 1
    host, port = pacs.address
    sys.stdout.write(f"listening on {host} {port}\n")
    sys.stdout.flush()
    signal.sigwait(ending)
    pacs.stop()
    return 0


def _read_destination(text: str) -> tuple[str, tuple[str, int]]:
    ae_title, _, address = text.partition("=")
    host, _, port = address.rpartition(":")
    if not (ae_title and host and port.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not AE=HOST:PORT")
    return ae_title, (host, int(port))


def _read_faults(text: str) -> Faults:
    try:
        return cattrs.Converter(forbid_extra_keys=True).structure(json.loads(text), Faults)
    except (ValueError, cattrs.BaseValidationError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no set of faults: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
