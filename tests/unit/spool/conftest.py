"""A spool in a real directory, with its clock in the test's hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from attrs import define, field
from structlog.typing import FilteringBoundLogger

from mkisod.config.settings import SpoolSettings
from mkisod.errors import Code, Permanent
from mkisod.job.request import Request
from mkisod.job.status import Status
from mkisod.spool.claim import Claimed, Claims
from mkisod.spool.durable import Disk
from mkisod.spool.layout import Layout, make_directories
from mkisod.spool.spool import Host, Spool, open_spool


@define
class Site:
    """A spool, as one daemon sees it. `now` and `clock_s` stand still until a test moves them."""

    root: Path
    disk: Disk
    instance: str = "main"
    now: datetime = datetime(2026, 11, 22, 8, 15, tzinfo=UTC)
    clock_s: float = 1000.0
    numbers: int = 0
    spool: Spool = field(init=False)
    claims: Claims = field(init=False)

    def __attrs_post_init__(self) -> None:
        layout = Layout(self.root, self.instance)
        make_directories(layout)
        host = Host(lambda: self.now, lambda: self.clock_s, self.make_bytes, "boot-1", make_log())
        self.spool = open_spool(
            layout,
            self.disk,
            SpoolSettings(dir=str(self.root), settle_s=2.0, min_free_mib=0),
            host,
            check_request=check_request,
            cancel_active=lambda _: False,
            report_queued=lambda: None,
            is_stopping=lambda: False,
        )
        self.claims = Claims(layout, self.disk, self.spool.jobs, require_end=False, check=check_request, now=lambda: self.now)

    @property
    def layout(self) -> Layout:
        return self.spool.layout

    def make_bytes(self, count: int) -> bytes:
        """Never the same twice."""
        self.numbers += 1
        return bytes(self.numbers // 31**place % 31 for place in reversed(range(count)))  # 31: the letters of a job id

    def pass_time(self, seconds: float) -> None:
        self.clock_s += seconds
        self.now += timedelta(seconds=seconds)

    def drop(self, ticket: str, text: str | bytes = "A1\n@end\n") -> Path:
        path = self.layout.drop(ticket)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def claim(self, ticket: str) -> Claimed:
        claimed = self.claims.claim(ticket, self.make_bytes(6))
        assert claimed is not None
        return claimed

    def status(self, ticket: str) -> Status:
        status = self.spool.outbox.read_status(ticket)
        assert status is not None
        assert json.loads(self.layout.status(ticket).read_bytes())["state"] == status.state
        return status

    def list_files(self) -> list[str]:
        """Every path below the spool that is no empty directory, but for the statuses."""
        paths = (path for path in self.root.rglob("*") if not path.is_dir() or path.is_symlink())
        return sorted(str(path.relative_to(self.root)) for path in paths if path.name != "status.json")


def make_log() -> FilteringBoundLogger:
    """Its own, not that of the process, which a command under test may have set up."""
    renderer = structlog.dev.ConsoleRenderer(colors=False)
    log: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(), processors=[renderer], wrapper_class=structlog.make_filtering_bound_logger(0)
    )
    return log


def names(folder: Path) -> list[str]:
    """What stands in a folder, in no order."""
    return [path.name for path in folder.iterdir()]


def check_request(request: Request) -> None:
    if request.pacs == "NOBODY":
        raise Permanent(Code.PACS_UNKNOWN, "There is no PACS called NOBODY.")


MakeSite = Callable[..., Site]


@pytest.fixture
def make_site(tmp_path: Path) -> MakeSite:
    """Further daemons on the one spool of the test."""

    def make(disk: Disk | None = None, **changes: object) -> Site:
        return Site(tmp_path / "spool", disk or Disk(), **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site()
