"""What goes wrong while an instance is read ahead ends the retrieval: nobody else would see it."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from mkisod.errors import Code
from mkisod.job.manifest import Manifest, ReceivedInstance
from mkisod.job.patient import PatientIdentity
from mkisod.media.disc import ObjectReader
from mkisod.pacs.expectation import Expectation
from mkisod.reading import Reading
from mkisod.spool.durable import Disk
from mkisod.spool.objects import Objects
from tests.processes import wait_for


def follow(folder: Path) -> Expectation:
    """One instance has come, of which there is no file. The expectation with its fault."""
    received = ReceivedInstance("1.1.1", "1", "1.1", PatientIdentity("X"), 1, "")
    expectation = Expectation("job", "ticket", Manifest(), Objects(folder / "objects", Disk()), [received])
    with Reading(structlog.get_logger()) as reading, reading.follow(expectation):
        wait_for(lambda: expectation.fault, 30, "a fault")
    return expectation


def test_an_instance_that_cannot_be_read(tmp_path: Path) -> None:
    fault = follow(tmp_path).fault
    assert fault is not None
    assert (fault.code, fault.message) == (Code.INTERNAL, "An instance that had come could not be read: No such file or directory.")


def test_a_defect_is_told_with_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_reader: ObjectReader, _path: Path) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(ObjectReader, "read", fail)
    with capture_logs() as events:
        fault = follow(tmp_path).fault
    assert fault is not None
    assert (fault.code, fault.message) == (Code.INTERNAL, "Reading an instance that had come ended in ValueError.")
    assert [(event["event"], event["exc_info"]) for event in events] == [("job_hit_defect", True)]
