from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread

from mkisod.media.verify import verify_path
from tests.integration.conformance.archives import ARCHIVES, Choose
from tests.integration.conformance.cases import CASES, Case
from tests.integration.journey.site import AE_TITLE, Address, make_config
from tests.daemon import Daemon, running_daemon
from tests.oracles import check_sums, find_differences, read_objects
from tests.peers import StorescpPeer, storescp
from tests.processes import HOST, free_port
from tests.receiver.client import read_data_set

REFUSED = "archive refuses it"
PACS_KEYS = {"ae_title": '"ABPACS"', "first_arrival_s": 10, "grace_s": 2}


@dataclass(frozen=True)
class Running:
    name: str
    choose: Choose
    daemon: Daemon
    destination: StorescpPeer


@pytest.fixture(scope="module")
def cells() -> dict:
    return {}


@pytest.fixture(scope="module", params=ARCHIVES)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("archive")
    port = free_port()
    with ExitStack() as stack:
        choose = stack.enter_context(ARCHIVES[request.param](folder, {AE_TITLE: (HOST, port)}))
        destination = stack.enter_context(storescp(folder / "workstation"))
        config = make_config(folder / "spool", port, {a.pacs: a.address for a in map(choose, (case.name for case in CASES))})
        config = config.replace('ae_title = "DEFAULT"', 'ae_title = "ABPACS"')
        import re
        config = re.sub(r'ae_title = "PROFILE_\d"', 'ae_title = "ABPACS"', config)
        config += f'\n[forward.WORKSTATION]\nhost = "{HOST}"\nport = {destination.port}\nae_title = "{destination.ae_title}"\n'
        daemon = stack.enter_context(running_daemon(folder, config))
        yield Running(request.param, choose, daemon, destination)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_cell(running: Running, case: Case, tmp_path: Path) -> None:
    case.write(tmp_path)
    files = {str(dcmread(p, stop_before_pixels=True).SOPInstanceUID): p for p in sorted(tmp_path.rglob("*.dcm"))}
    archive = running.choose(case.name)
    said = archive.store(list(files.values()))
    listed = archive.list_instances(files.values())
    if listed != files.keys():
        print(said[-3000:])
        pytest.fail(f"REFUSED {len(listed)} of {len(files)}")
    running.daemon.drop(case.id, "\n".join([f"@pacs {archive.pacs}", *case.lines, "@end", ""]))
    status = running.daemon.wait_status(case.id, "done", 60)
    result = running.daemon.outbox / case.id / status["result"]["path"]
    check_sums(result)
    objects = {}
    for volume in status["result"]["volumes"]:
        tree = result / volume["directory"]
        assert verify_path(tree) == ()
        objects |= read_objects(tree)
    wanted = {uid for uid, path in files.items() if case.wanted(dcmread(path, stop_before_pixels=True))}
    assert objects.keys() == wanted
    diffs = {}
    for uid in wanted:
        if read_data_set(objects[uid]) != read_data_set(files[uid]):
            diffs[uid] = find_differences(objects[uid], files[uid])
    print(status["result"]["conversions"], status["result"]["warnings"])
    assert not any(diffs.values()), diffs
    ev = {s["evidence"] for a in status["accessions"] for s in a["studies"]}
    print(ev, len(diffs))
