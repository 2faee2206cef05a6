"""Archives times cases: each cell is one request through the daemon, from the file in the inbox to the disc.

What is on the disc is compared with the files that the archive was given, not with what mkisod says of them. What each cell ends with is
in docs/conformance.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread, uid

from mkisod.media.verify import verify_path
from tests.daemon import Daemon, Status, running_daemon
from tests.integration.conformance.archives import ARCHIVES, TITLE, Archive, Choose
from tests.integration.conformance.cases import CASES, Case, Instance
from tests.integration.conformance.document import Table
from tests.integration.journey.site import AE_TITLE, make_config
from tests.oracles import check_sums, find_differences, read_objects
from tests.peers import StorescpPeer, storescp
from tests.processes import HOST, free_port
from tests.receiver.client import read_data_set

REFUSED = "archive refuses it"
TABLE = Table("archives", [case.name for case in CASES], ["case", *ARCHIVES])
# qrscp has what is uncompressed stored in Implicit VR, and sends it so. On the disc it is in Explicit VR again.
_STORED_AS = {"qrscp": f"transfer syntax: ('{uid.ImplicitVRLittleEndian}', '{uid.ExplicitVRLittleEndian}')"}
# qrscp waits up to half a second before it sends the next instance, if its threads meet at the wrong moment: ten seconds or ten minutes.
_DEADLINE_S = 1200


@dataclass(frozen=True)
class Running:
    """An archive, the daemon in front of it, and where it forwards to."""

    name: str
    choose: Choose
    daemon: Daemon
    destination: StorescpPeer

    def list_result(self, status: Status) -> dict[str, Path]:
        """The objects of the disc by SOP Instance UID. The sums are right, and the disc verifies."""
        result = self.daemon.outbox / status["ticket"] / status["result"]["path"]
        check_sums(result)
        objects: dict[str, Path] = {}
        for volume in status["result"]["volumes"]:
            for name in (volume["directory"], volume["image"]):
                assert verify_path(result / name) == ()
            objects |= read_objects(result / volume["directory"])
        return objects


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Instance, ...]]:
    """The files of each case: the same for every archive."""
    folder = tmp_path_factory.mktemp("cases")
    return {case.name: case.make(folder / case.id) for case in CASES}


@pytest.fixture(scope="module", params=ARCHIVES)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("archive")
    port = free_port()
    with ExitStack() as stack:
        choose = stack.enter_context(ARCHIVES[request.param](folder, {AE_TITLE: (HOST, port)}))
        destination = stack.enter_context(storescp(folder / "workstation"))
        archives = {archive.pacs: archive.address for archive in (choose(case.name) for case in CASES)}
        config = make_config(folder / "spool", port, archives, pacs_keys={"grace_s": 5})
        for name in archives:
            config = config.replace(f'ae_title = "{name}"', f'ae_title = "{TITLE}"')
        config += f'\n[forward.WORKSTATION]\nhost = "{HOST}"\nport = {destination.port}\nae_title = "{destination.ae_title}"\n'
        yield Running(request.param, choose, stack.enter_context(running_daemon(folder, config)), destination)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_archive(running: Running, case: Case, instances: Mapping[str, tuple[Instance, ...]]) -> None:
    given = {instance.sop_instance_uid: instance for instance in instances[case.name]}
    archive = running.choose(case.name)
    said = archive.store([instance.path for instance in given.values()])
    listed = archive.list_instances(given.values())
    running.daemon.drop(case.id, "".join(f"{line}\n" for line in (f"@pacs {archive.pacs}", *case.lines, "@end")))
    if listed:
        assert listed == given.keys(), f"the archive holds a part of it only:\n{said}"
        found = _check_disc(running, case, given)
    else:
        found = _check_refused(running, case, archive, said)
    TABLE.check_cell(case.name, running.name, found)


def _check_disc(running: Running, case: Case, given: Mapping[str, Instance]) -> str:
    """Every instance that was asked for is on the disc, and no other, as the archive was given it. Returns what the cell says."""
    status = running.daemon.wait_status(case.id, "done", _DEADLINE_S)
    wanted = {of: instance.path for of, instance in given.items() if case.modality in ("", instance.modality)}
    objects = running.list_result(status)
    assert objects.keys() == wanted.keys()
    for of, path in wanted.items():
        _check_same(objects[of], path)
    assert status["progress"]["instances_expected"] == status["progress"]["instances_received"] == len(wanted)
    if case.forwarded:
        (forward,) = status["forward"]
        assert (forward["sent"], forward["failed"]) == (len(wanted), [])
        received = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in running.destination.files()}
        assert received.keys() == wanted.keys()
        for of, path in wanted.items():
            _check_same(received[of], path, stored_as=_STORED_AS.get(running.name, ""))
    (evidence,) = {study["evidence"] for accession in status["accessions"] for study in accession["studies"]}
    return f"{evidence}, {len(wanted)}"


def _check_same(found: Path, given: Path, *, stored_as: str = "") -> None:
    """The same bytes, or else the same elements: an archive may write lengths, and what is uncompressed, in another way."""
    if read_data_set(found) != read_data_set(given):
        differences = [difference for difference in find_differences(found, given) if not stored_as or stored_as not in difference]
        assert not differences, given.name


def _check_refused(running: Running, case: Case, archive: Archive, said: str) -> str:
    """The archive has not taken it: it says so when it is stored, and again when the daemon asks for it."""
    assert running.name != "demo PACS", "it holds everything"
    assert archive.says_refused(said), said
    status = running.daemon.wait_status(case.id, "deferred")
    assert status["error"]["code"] == "accession_not_found"
    (running.daemon.inbox / f"{case.id}.cancel").touch()
    running.daemon.wait_status(case.id, "cancelled")
    return REFUSED


def test_the_table_has_every_case_and_every_archive() -> None:
    TABLE.check_shape()
