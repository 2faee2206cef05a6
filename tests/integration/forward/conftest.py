"""Instances to send, and a sender towards any peer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from mkisod.forwarding import make_convert
from mkisod.pacs.forward import Sender, Sent
from mkisod.pacs.peer import Peer
from mkisod.pacs.stored import StoredInstance, read_stored
from tests.processes import HOST

Send = Callable[..., list[Sent]]


def find(name: str) -> Path:
    """One of pydicom's own test files."""
    path = get_testdata_file(name, download=False)
    assert path is not None
    return Path(str(path))


@pytest.fixture
def make_sender(tmp_path: Path) -> Callable[..., Sender]:
    def make(port: int, ae_title: str = "STORESCP", **settings: object) -> Sender:
        peer = Peer("DESTINATION", HOST, port, ae_title, **{"response_timeout_s": 20.0, **settings})  # type: ignore[arg-type]
        return Sender(peer, "CDRECORD", make_convert(tmp_path / "converted"))

    return make


@pytest.fixture
def send(make_sender: Callable[..., Sender]) -> Send:
    """Everything to one peer, and what became of each."""

    def run(files: Iterable[Path], port: int, ae_title: str = "STORESCP", **settings: object) -> list[Sent]:
        return list(make_sender(port, ae_title, **settings).send(map(read_stored, files)))

    return run


@pytest.fixture
def series(tmp_path: Path) -> Callable[[int], list[StoredInstance]]:
    """So many small CT instances, in files of their own."""

    def make(count: int) -> list[StoredInstance]:
        folder = tmp_path / "series"
        folder.mkdir()
        template = dcmread(find("CT_small.dcm"))
        del template[0x7FE00010:]
        stored = []
        for number in range(count):
            template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.{number + 1}")
            template.save_as(folder / f"{number:04}.dcm")
            stored.append(read_stored(folder / f"{number:04}.dcm"))
        return stored

    return make


def make_distinct(names: Iterable[str], folder: Path) -> list[Path]:
    """Copies under the same names, each an instance of its own: several of pydicom's files share a SOP Instance UID."""
    folder.mkdir()
    for number, name in enumerate(names, 1):
        data_set = dcmread(find(name))
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.{1000 + number}")
        data_set.save_as(folder / name)
    return [folder / name for name in names]
