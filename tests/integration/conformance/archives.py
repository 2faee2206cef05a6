"""The archives of the table, each as its own users start it; how a case gets into one, and what it then says of itself.

What is stored goes by `dcmsend`, as it is; what is there is asked by `findscu`. Neither is mkisod.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pynetdicom.apps.qrscp.db import add_instance, create
from sqlalchemy.orm import Session

from mkisod.demo.pacs import DemoPacs
from tests.integration.conformance.cases import PRIVATE_SOP_CLASS_UID, Instance
from tests.integration.journey.site import Address
from tests.peers import dcmqrscp, echo, orthanc, require
from tests.processes import HOST, free_port, started

TITLE = "ABPACS"
_MANY_TO_STORE = 100

# In the words of DCMTK's association configuration file: the SOP classes that dcmqrscp is to take, and to propose, in a case, each with its
# transfer syntax. It sends everything of one SOP class by one presentation context, so each has one only.
_PROFILES = {
    "JPEG": {"SecondaryCaptureImageStorage": "JPEGBaseline", "UltrasoundImageStorage": "JPEGLossless:Non-hierarchical-1stOrderPrediction"},
    "JPEG-LS": {"MRImageStorage": "JPEGLSLossless"},
    "JPEG 2000": {"MRImageStorage": "JPEG2000LosslessOnly", "CTImageStorage": "JPEG2000"},
    "RLE": {"MRImageStorage": "RLELossless"},
    "private SOP class": {PRIVATE_SOP_CLASS_UID: "LittleEndianExplicit"},
}
_QUERY_RETRIEVE = ("VerificationSOPClass", "FINDStudyRootQueryRetrieveInformationModel", "MOVEStudyRootQueryRetrieveInformationModel")


@dataclass(frozen=True)
class Archive:
    """Running. `store` gives it files, and returns what it said; `pacs` is the name that the daemon knows it by."""

    pacs: str
    address: Address
    store: Callable[[Sequence[Path]], str]

    @staticmethod
    def says_refused(said: str) -> bool:
        """Whether `store` was refused all of it, in the words of dcmsend: no presentation context, or a DIMSE status of refusal."""
        return bool(re.search(r"(with status REFUSED|no acceptable pres\.) +: [1-9]", said)) and "with status SUCCESS" not in said

    def list_instances(self, instances: Iterable[Instance]) -> set[str]:
        """The SOP Instance UIDs that it lists for the series of these instances."""
        series = {(instance.study_instance_uid, instance.series_instance_uid) for instance in instances}
        return {uid for study_uid, series_uid in series for uid in self._list_series(study_uid, series_uid)}

    def _list_series(self, study_uid: str, series_uid: str) -> set[str]:
        keys = ["QueryRetrieveLevel=IMAGE", f"StudyInstanceUID={study_uid}", f"SeriesInstanceUID={series_uid}", "SOPInstanceUID"]
        command = [require("findscu"), "-v", "-S", "-aec", TITLE, *(word for key in keys for word in ("-k", key))]
        done = subprocess.run([*command, self.address[0], str(self.address[1])], check=False, capture_output=True, text=True, timeout=60)
        said = done.stdout + done.stderr
        return set(re.findall(r"\(0008,0018\) UI \[([0-9.]+)", said))


# Which of the archives that a fixture runs holds a case.
Choose = Callable[[str], Archive]


def _send(address: Address, files: Sequence[Path], folder: Path) -> str:
    """Store by `dcmsend`, which proposes what the files are in and converts nothing. Returns what it said."""
    listed = folder / "to-send"
    shutil.rmtree(listed, ignore_errors=True)
    listed.mkdir()
    for number, path in enumerate(files):
        (listed / f"{number:06}.dcm").symlink_to(path)
    options = ["--verbose", "--decompress-never", "--no-uid-checks", "--no-halt", "--scan-directories"]
    command = [require("dcmsend"), *options, "-aec", TITLE, address[0], str(address[1]), str(listed)]
    # Without it every small message waits for a delayed acknowledgement.
    environment = {**os.environ, "TCP_NODELAY": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=environment)
    return done.stdout + done.stderr


def _started_empty(pacs: str, address: Address, folder: Path) -> Archive:
    return Archive(pacs, address, lambda files: _send(address, files, folder))


@contextmanager
def run_dcmqrscp(folder: Path, destinations: dict[str, Address], options: Sequence[str] = ()) -> Iterator[Choose]:
    """One with its own defaults, and one for each case that needs an association profile (`--assoc-config-file`)."""
    with ExitStack() as stack:

        def start(pacs: str, *more: str) -> Archive:
            peer = stack.enter_context(dcmqrscp(folder / pacs, ae_title=TITLE, destinations=destinations, options=[*options, *more]))
            return _started_empty(pacs, (peer.host, peer.port), folder / pacs)

        default = start("DEFAULT")
        special: dict[str, Archive] = {}
        for number, (case, classes) in enumerate(_PROFILES.items()):
            path = folder / f"profile-{number}.cfg"
            path.write_text(_make_profile(classes), encoding="ascii")
            special[case] = start(f"PROFILE_{number}", "--assoc-config-file", str(path), "Incoming", "Outgoing")
        yield lambda case: special.get(case, default)


def _make_profile(classes: dict[str, str]) -> str:
    syntaxes = "".join(f"[Syntax{n}]\nTransferSyntax1 = {syntax}\n" for n, syntax in enumerate(classes.values()))
    storage = [f"{sop_class}\\Syntax{n}" for n, sop_class in enumerate(classes)]

    def make_contexts(name: str, contexts: Sequence[str]) -> str:
        return f"[{name}]\n" + "".join(f"PresentationContext{n} = {context}\n" for n, context in enumerate(contexts, 1))

    own = [f"{sop_class}\\Plain" for sop_class in _QUERY_RETRIEVE]
    return (
        "[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1 = LittleEndianExplicit\nTransferSyntax2 = LittleEndianImplicit\n"
        f"{syntaxes}[[PresentationContexts]]\n{make_contexts('Incoming', [*own, *storage])}{make_contexts('Outgoing', storage)}"
        "[[Profiles]]\n[Incoming]\nPresentationContexts = Incoming\n[Outgoing]\nPresentationContexts = Outgoing\n"
    )


@contextmanager
def run_orthanc(folder: Path, destinations: dict[str, Address], *, synchronous_move: bool) -> Iterator[Choose]:
    with orthanc(folder / "peer", ae_title=TITLE, destinations=destinations, synchronous_move=synchronous_move) as peer:
        archive = _started_empty("DEFAULT", (peer.host, peer.port), folder)
        yield lambda _case: archive


@contextmanager
def run_qrscp(folder: Path, destinations: dict[str, Address]) -> Iterator[Choose]:
    """pynetdicom's own, `python -m pynetdicom qrscp`.

    Once in some thousand C-STOREs one of its threads takes the response from the one that waits for it. Then it waits for `dimse_timeout`,
    and the rest of the move fails: what is left is moved one by one, since it answers a list of UIDs with A801H.
    """
    port = free_port()
    settings = {"ae_title": TITLE, "port": port, "max_pdu": 16382, "acse_timeout": 30, "dimse_timeout": 20, "network_timeout": 60}
    settings |= {"bind_address": HOST, "instance_location": folder / "instances", "database_location": folder / "instances.sqlite"}
    tables = {"DEFAULT": settings} | {title: {"address": host, "port": number} for title, (host, number) in destinations.items()}
    path = folder / "qrscp.ini"
    lines = (f"[{name}]\n" + "".join(f"{key}: {value}\n" for key, value in table.items()) for name, table in tables.items())
    path.write_text("\n".join(lines), encoding="ascii")
    with started("qrscp", [sys.executable, "-m", "pynetdicom", "qrscp", "-c", path], folder / "qrscp.log", cwd=folder) as process:
        process.wait_ready(lambda: echo(TITLE, port))
        archive = Archive("DEFAULT", (HOST, port), lambda files: _store_in_qrscp((HOST, port), files, folder))
        yield lambda _case: archive


def _store_in_qrscp(address: Address, files: Sequence[Path], folder: Path) -> str:
    """By `dcmsend`, where it is few. A store costs it a quarter of a second: the many are entered by its own database module."""
    if len(files) < _MANY_TO_STORE:
        return _send(address, files, folder)
    engine = create(f"sqlite:///{folder / 'instances.sqlite'}")  # type: ignore[no-untyped-call]
    with _OneTransaction(engine) as session:
        for path in files:
            add_instance(dcmread(path), session, str(path))  # type: ignore[no-untyped-call]
        Session.commit(session)
    engine.dispose()
    return "entered"


class _OneTransaction(Session):
    """`add_instance` commits each instance, so that each waits for the disk."""

    def commit(self) -> None:
        self.flush()


@contextmanager
def run_demo(folder: Path, destinations: dict[str, Address]) -> Iterator[Choose]:
    """It is no Storage SCP: what it holds is put into its folder."""
    held, numbers = folder / "held", itertools.count()
    held.mkdir()
    with DemoPacs(held, ae_title=TITLE, destinations=destinations) as pacs:

        def store(files: Sequence[Path]) -> str:
            folder = held / str(next(numbers))
            folder.mkdir()
            for number, path in enumerate(files):
                shutil.copyfile(path, folder / f"{number:06}.dcm")
            pacs.refresh()
            return "copied"

        archive = Archive("DEFAULT", pacs.address, store)
        yield lambda _case: archive


ARCHIVES: dict[str, Callable[[Path, dict[str, Address]], AbstractContextManager[Choose]]] = {
    "dcmqrscp": run_dcmqrscp,
    "dcmqrscp -XM": lambda folder, destinations: run_dcmqrscp(folder, destinations, ["-XM"]),
    "Orthanc": lambda folder, destinations: run_orthanc(folder, destinations, synchronous_move=True),
    "Orthanc, asynchronous": lambda folder, destinations: run_orthanc(folder, destinations, synchronous_move=False),
    "qrscp": run_qrscp,
    "demo PACS": run_demo,
}
