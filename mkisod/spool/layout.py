"""Where things are: the only module that knows the names of the spool's directories.

    inbox/<ticket>.req                      dropped by a client
    work/active/<instance>/<job>/           in the hands of one daemon
    work/queued/<job>/                      waiting for a worker
    work/deferred/<job>/                    failed; to be tried again at its time
    work/held/<job>/                        failed; kept for the operator
    work/trash/                             on its way out; whatever is here may be removed
    work/.witness-<instance>                who came to the port; only while a check asks
    outbox/<ticket>/status.json             what the client reads
    outbox/<ticket>/<job>/                  the result

In a job's directory: `drop` (the client's file, while it is taken over), `request` (our copy), `job.json`, `objects/` (received instances),
`result/` (while it is assembled; later what is converted to be forwarded), `forward.jsonl` (what has been forwarded).
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

from attrs import frozen

from mkisod.errors import Code, Permanent

REQUEST_SUFFIX = ".req"


class Control(StrEnum):
    """Suffixes of the client's further words about a request."""

    CANCEL = ".cancel"
    PUBLISH = ".publish"
    DISCARD = ".discard"


# setgid throughout, so that what is renamed into the outbox keeps the clients' group; the inbox is sticky and cannot be listed by clients.
_MODES = {"inbox": 0o3730, "work": 0o2700, "outbox": 0o2710}


@frozen
class Layout:
    root: Path
    instance: str

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    @property
    def outbox(self) -> Path:
        return self.root / "outbox"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def queued(self) -> Path:
        return self.work / "queued"

    @property
    def deferred(self) -> Path:
        return self.work / "deferred"

    @property
    def trash(self) -> Path:
        return self.work / "trash"

    @property
    def held(self) -> Path:
        return self.work / "held"

    @property
    def active(self) -> Path:
        return self.work / "active" / self.instance

    @property
    def waiting_places(self) -> tuple[Path, ...]:
        """Where jobs stand that nobody has in hand."""
        return (self.queued, self.deferred, self.held)

    @property
    def witness(self) -> Path:
        return self.work / f".witness-{self.instance}"

    def list_active(self) -> list[Path]:
        """What every instance has in hand."""
        return sorted(path for path in (self.work / "active").iterdir() if path.is_dir())

    def list_places(self) -> list[tuple[str, Path]]:
        """Every directory of jobs, by the name that a person knows it by; those in hand first."""
        return [(f"active/{path.name}", path) for path in self.list_active()] + [(path.name, path) for path in self.waiting_places]

    @staticmethod
    def job(place: Path, job: str) -> JobDirectory:
        return JobDirectory(place / job)

    def drop(self, ticket: str) -> Path:
        return self.inbox / (ticket + REQUEST_SUFFIX)

    def ticket(self, ticket: str) -> Path:
        return self.outbox / ticket

    def status(self, ticket: str) -> Path:
        return self.outbox / ticket / "status.json"

    def result(self, ticket: str, job: str) -> Path:
        return self.outbox / ticket / job


@frozen
class JobDirectory:
    """The names inside one job's directory, wherever that is."""

    path: Path

    @property
    def drop(self) -> Path:
        return self.path / "drop"

    @property
    def request(self) -> Path:
        return self.path / "request"

    @property
    def record(self) -> Path:
        return self.path / "job.json"

    @property
    def objects(self) -> Path:
        return self.path / "objects"

    @property
    def result(self) -> Path:
        return self.path / "result"

    @property
    def forwarded(self) -> Path:
        return self.path / "forward.jsonl"


RESULT_RECORD = "result.json"  # in a result: its final status, so that the status can be written again


def make_directories(layout: Layout) -> None:
    """Make what is missing. Raises `Permanent` (`spool_unusable`) where that fails, or where the spool spans more than one file system."""
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
        for path, mode in ((layout.inbox, _MODES["inbox"]), (layout.work, _MODES["work"]), (layout.outbox, _MODES["outbox"])):
            if not path.is_dir():
                path.mkdir()
                path.chmod(mode)
        for path in (layout.queued, layout.deferred, layout.held, layout.trash, layout.active):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Permanent(Code.SPOOL_UNUSABLE, f"The spool {layout.root} cannot be set up: {error.strerror} ({error.filename}).") from error
    check_one_file_system(layout)


def check_one_file_system(layout: Layout) -> None:
    """A rename is the only transition there is; between two file systems, or two mounts of one, it fails. Raises `Permanent`."""
    for path in (layout.inbox, layout.queued, layout.deferred, layout.held, layout.trash, layout.active, layout.outbox):
        if os.stat(path).st_dev != os.stat(layout.root).st_dev:
            message = f"{path} lies on another file system than {layout.root}, so nothing can be renamed between them."
            raise Permanent(Code.SPOOL_UNUSABLE, message)
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise Permanent(Code.SPOOL_UNUSABLE, f"{path} cannot be read and written by this user.")
