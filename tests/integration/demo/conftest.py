"""The folder that the demo PACS holds in these tests, and the PACS over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mkisod.demo.pacs import DemoPacs
from mkisod.demo.phantom import write_phantom
from mkisod.demo.series import write_series


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom in few slices; one study of two series (4 CT, 3 MR), and one whose accession number begins with that of the first."""
    folder = tmp_path_factory.mktemp("archive")
    write_phantom(folder / "phantom", seed=1, ct_slices=4, mr_slices=2, rows=16, columns=16)
    write_series(folder / "a", accession="ACC1", count=4, rows=8, columns=8, seed=2)
    write_series(folder / "b", accession="ACC1", count=3, rows=8, columns=8, seed=2, modality="MR", series_number=2)
    write_series(folder / "c", accession="ACC10", count=2, rows=8, columns=8, seed=3)
    (folder / "README").write_text("no instance", encoding="ascii")
    return folder


@pytest.fixture
def pacs(folder: Path) -> Iterator[DemoPacs]:
    with DemoPacs(folder) as running:
        yield running


@pytest.fixture
def study_uid(pacs: DemoPacs) -> str:
    """The study of accession ACC1: 7 instances in 2 series."""
    return next(uid for uid, study in pacs.archive.studies.items() if study.attributes["AccessionNumber"].strip() == b"ACC1")


@pytest.fixture
def other_uid(pacs: DemoPacs) -> str:
    """The study of accession ACC10: 2 instances."""
    return next(uid for uid, study in pacs.archive.studies.items() if study.attributes["AccessionNumber"].strip() == b"ACC10")


@pytest.fixture
def uids(pacs: DemoPacs, study_uid: str) -> list[str]:
    """The SOP Instance UIDs of ACC1, in the order in which they are sent."""
    return [instance.sop_instance_uid for instance in pacs.archive.studies[study_uid].instances()]
