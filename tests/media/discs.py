"""Makes discs of files, as a job would order them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import evolve

from mkisod.media.disc import Disc, DiscOrder, build_disc

ORDER = DiscOrder(
    file_set_id="TEST_1",
    file_set_uid="2.25.1234567890",
    created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    output=frozenset({"dir", "iso"}),
    institution="Testklinik",
)


def make_disc(objects: Iterable[Path], directory: Path, **changes: Any) -> Disc:
    """A disc of `objects` in `directory`, which is made; `changes` are fields of the order."""
    directory.mkdir()
    return build_disc(evolve(ORDER, **changes), objects, directory, report_progress=lambda _done, _total: None)
