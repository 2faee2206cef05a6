"""Every fault of the demo PACS, and what a request ends in: state, code, evidence, and how many instances came of how many.

One request a fault, with time-outs of seconds where a hospital has minutes. The table is in docs/conformance.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest
from attrs import evolve, fields

from mkisod.demo.faults import LEVELS, Faults
from mkisod.demo.pacs import DemoPacs
from mkisod.demo.series import WrittenSeries, write_series
from tests.daemon import Status, running_daemon
from tests.integration.conformance.document import Table
from tests.integration.journey.site import AE_TITLE, Site, make_config
from tests.oracles import read_objects
from tests.processes import HOST, free_port

TIMEOUTS_S: Final = {"connect_timeout_s": 5, "response_timeout_s": 2, "idle_timeout_s": 2, "first_arrival_s": 0.3, "grace_s": 0.2}
RETRIES: Final = "retry_first_s = 3600\nretry_max_s = 3600"  # not while this runs
ALL: Final = 9
SETTLED: Final = ("done", "partial", "failed", "deferred")

# What only shapes another fault.
SHAPES: Final = {"availability_answers", "late_until_moves", "move_status_after", "moves", "pause_s"}

FIND: Final = {
    "none": Faults(),
    "C-FIND fails with C001H": Faults(find_status=0xC001),
    "C-FIND is never answered": Faults(silent_levels=LEVELS),
    "C-FIND at IMAGE level is never answered": Faults(silent_levels=frozenset({"IMAGE"})),
    "C-FIND at IMAGE level is refused": Faults(refused_levels=frozenset({"IMAGE"})),
    "C-FIND at SERIES and IMAGE level is refused": Faults(refused_levels=frozenset({"SERIES", "IMAGE"})),
    "a listing is cut short with FE00H": Faults(listing_limit=5),
    "a listing is cut short, and nothing is counted": Faults(listing_limit=5, without_counts=True),
    "accession numbers are matched by prefix": Faults(prefix_match=True),
    "a study has a second accession number": Faults(also_accession="ACC9"),
    "answers have another accession number only": Faults(other_accession="ACC9"),
    "it counts one too many": Faults(count_error=1),
    "it counts one too few": Faults(count_error=-1),
    "it counts nothing": Faults(without_counts=True),
    "a study is listed with no instances": Faults(empty_study=True),
    "a study is near line": Faults(availability="NEARLINE"),
    "a study is off line": Faults(availability="OFFLINE"),
    "a study is unavailable": Faults(availability="UNAVAILABLE"),
    "four instances come late to the archive": Faults(late_instances=4, late_until_moves=1),
    "two instances are moved, but never listed": Faults(hidden_instances=2),
}
MOVE: Final = {
    **{f"C-MOVE fails with {status:04X}H": Faults(move_status=status) for status in (0xA701, 0xA702, 0xA801, 0xA900, 0xC000, 0x0122)},
    "C-MOVE fails with C000H after three instances": Faults(move_status=0xC000, move_status_after=3),
    "the second instance is dropped": Faults(drop_instance=2),
    "the second instance fails": Faults(fail_instance=2),
    "one instance ends every move with C000H": Faults(ends_at_uids=frozenset({"second"})),
    "it stops after three instances, and takes no lists": Faults(move_status=0xC000, move_status_after=3, moves=1, refuse_lists=True),
    "one instance is never sent": Faults(never_sent_uids=frozenset({"second"})),
    "nothing is sent, and all is counted": Faults(send_nothing=True),
    "every instance is sent twice": Faults(send_twice=True),
    "it answers Success before it sends": Faults(after_final=True),
    "no pending responses": Faults(no_pending=True),
    "no counters": Faults(without_counters=True),
    "every C-MOVE moves the whole study": Faults(whole_study=True, never_sent_uids=frozenset({"second"})),
    "no Move Originator": Faults(omit_move_originator=True),
    "the Study Instance UID is coerced": Faults(coerce_study_uid=True),
    "somebody else's study is sent in between": Faults(foreign_study_uid="foreign"),
    "a C-MOVE by accession number moves everything": Faults(ignore_accession=True),
    "it stalls": Faults(stall_after=0),
    "it aborts the C-MOVE after three instances": Faults(abort_after=3),
    "it aborts the C-STORE after three instances": Faults(abort_store_after=3),
}
ROWS: Final = FIND | MOVE
TABLE: Final = Table("faults", list(ROWS), ["the demo PACS", "state", "code", "evidence", "received"])


@dataclass(frozen=True)
class Told:
    site: Site
    pacs: DemoPacs
    series: WrittenSeries
    foreign: WrittenSeries
    uids: frozenset[str]

    def name(self, fault: Faults) -> Faults:
        """With the UIDs of this site in the place of the words for them."""
        second = frozenset({self.series.sop_instance_uids[1]})
        return evolve(
            fault,
            ends_at_uids=second if fault.ends_at_uids else frozenset(),
            never_sent_uids=second if fault.never_sent_uids else frozenset(),
            foreign_study_uid=self.foreign.study_instance_uid if fault.foreign_study_uid else "",
            moves=None if fault.moves is None else self.pacs._state.tally.all_moves + fault.moves,
            late_until_moves=self.pacs._state.tally.moves(self.series.study_instance_uid) + fault.late_until_moves,
        )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("told")
    first = write_series(folder / "archive" / "1", accession="ACC1", count=6, rows=8, columns=8)
    second = write_series(folder / "archive" / "2", accession="ACC1", count=3, rows=8, columns=8, modality="MR", series_number=2)
    foreign = write_series(folder / "archive" / "3", accession="ACC10", count=2, rows=8, columns=8, seed=7)
    port = free_port()
    with DemoPacs(folder / "archive", destinations={AE_TITLE: (HOST, port)}, accession_moves=True) as pacs:
        known = {"ABPACS": pacs.address, "BLIND": pacs.address}
        config = make_config(folder / "spool", port, known, pacs_keys={**TIMEOUTS_S, "further_moves": 2})
        config = config.replace('ae_title = "BLIND"', 'ae_title = "ABPACS"\nquery = "none"').replace("[jobs]", f"[jobs]\n{RETRIES}")
        with running_daemon(folder, config) as daemon:
            site = Site(daemon, folder / "spool", folder / "mkisod.toml", port)
            yield Told(site, pacs, first, foreign, frozenset({*first.sop_instance_uids, *second.sop_instance_uids}))


@pytest.mark.parametrize("row", ROWS)
def test_fault(told: Told, row: str) -> None:
    ticket = f"fault-{list(ROWS).index(row)}"
    fault = told.name(ROWS[row])
    told.pacs.faults = fault
    try:
        pacs = "BLIND" if fault.ignore_accession else "ABPACS"
        status = told.site.request(ticket, f"@pacs {pacs}", "ACC1", states=SETTLED)
    finally:
        told.pacs.faults = Faults()
    _check_honest(told, status)
    for column, found in describe(status).items():
        TABLE.check_cell(row, column, found)


def describe(status: Status) -> dict[str, str]:
    studies = [study for accession in status["accessions"] for study in accession["studies"]]
    progress = status["progress"]
    return {
        "state": status["state"],
        "code": status["error"]["code"] if status["error"] else "",
        "evidence": ", ".join(study["evidence"] or "" for study in studies) if status["state"] == "done" else "",
        "received": f"{progress['instances_received']} of {progress['instances_expected'] or '?'}",
    }


def _check_honest(told: Told, status: Status) -> None:
    """Whatever the archive did: done is all of it and nothing else, and what is not done has no disc."""
    if status["state"] == "done":
        (volume,) = status["result"]["volumes"]
        assert read_objects(told.site.result(status) / volume["directory"]).keys() == told.uids
    else:
        assert status["result"] is None


def test_the_table_has_every_fault() -> None:
    default, names = Faults(), {field.name for field in fields(Faults)}
    covered = {name for name in names for fault in ROWS.values() if getattr(fault, name) != getattr(default, name)}
    assert covered | SHAPES == names
    TABLE.check_shape()
