"""Receivers over a directory of their own, stopped after each test."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pydicom
import pytest
from attrs import frozen
from pydicom.data import get_testdata_file

from mkisod.pacs.receiver import Receiver, ReceiverSettings
from mkisod.pacs.reception import Reception
from tests.receiver.client import Client, read_data_set
from tests.receiver.directory import DirectoryReception
from tests.receiver.journal import Journal


@frozen
class Instance:
    """One to send: its data set as bytes, and what a C-STORE-RQ says of it."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    data_set: bytes


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def reception(tmp_path: Path) -> DirectoryReception:
    directory = tmp_path / "objects"
    directory.mkdir()
    return DirectoryReception(directory)


@pytest.fixture
def run_receiver(reception: DirectoryReception, journal: Journal) -> Iterator[Callable[..., Receiver]]:
    """Starts a receiver with the settings given, on a free port."""
    with ExitStack() as stack:

        def run(to: Reception = reception, listener: socket.socket | None = None, **settings: Any) -> Receiver:
            receiver = Receiver(ReceiverSettings(**{"host": "127.0.0.1", "port": 0, **settings}), to, log=journal.log, listener=listener)
            receiver.bind()
            receiver.start()
            stack.callback(receiver.stop, 0)
            return receiver

        yield run


@pytest.fixture
def receiver(run_receiver: Callable[..., Receiver]) -> Receiver:
    return run_receiver()


@pytest.fixture
def client(receiver: Receiver) -> Iterator[Client]:
    """Connected, not associated."""
    with Client(receiver.address) as connected:
        yield connected


@pytest.fixture(scope="session")
def ct() -> Instance:
    """A CT of 39 KB, Explicit VR Little Endian."""
    path = Path(str(get_testdata_file("CT_small.dcm")))
    data_set = pydicom.dcmread(path)
    return Instance(path, data_set.SOPClassUID, data_set.SOPInstanceUID, read_data_set(path))
