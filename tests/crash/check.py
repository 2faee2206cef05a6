"""What must be so after a death, and when all is over: one checker for every scenario, every kind of death and every guard taken out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import jsonschema
from attrs import frozen

from mkisod.errors import Code
from mkisod.job.record import is_job_id
from mkisod.job.status import State, Status, decode_status
from tests.crash.archive import STUDIES, make_files
from tests.crash.disk import Move, Step, Tree
from tests.crash.life import TICKET, Life, Outcome, Scenario, World

_SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "status.schema.json").read_bytes())
_VALIDATOR = jsonschema.Draft202012Validator(_SCHEMA)
_TOP = f"outbox/{TICKET}/"
_STATUS = _TOP + "status.json"
_RECORD = "result.json"
_BELL = "inbox/.bell-"  # of an operator's command that died; nobody looks at it
_ENDS = (State.DONE, State.PARTIAL, State.CANCELLED)
_EMPTY_AT_REST = ("inbox/", "work/active/main/", "work/queued/", "work/deferred/", "work/trash/")


class Violation(AssertionError):
    """Something was lost, doubled or wrong."""


@frozen
class Story:
    """What the client could read, in order, and the results that could be seen."""

    statuses: tuple[Status, ...] = ()
    results: tuple[str, ...] = ()

    @property
    def signature(self) -> tuple[tuple[str, str], ...]:
        return tuple(dict.fromkeys((status.job, status.state) for status in self.statuses))


def tell(steps: list[Step[World]], earlier: Story) -> Story:
    """The story of these steps, which goes on from an `earlier` boot's."""
    tree, statuses, results = Tree(), list(earlier.statuses), list(earlier.results)
    for step in steps:
        tree.apply(step.change)
        if isinstance(step.change, Move):
            if step.change.new == "status.json":
                statuses.append(_decode(tree.contents.get(tree.directories[step.change.target][step.change.new], b"")))
                if any(forwarding.sent > len(step.world.delivered) for forwarding in statuses[-1].forward):
                    raise Violation("said to be sent, and it was not")
            elif is_job_id(step.change.new) and step.change.target == tree.directories[tree.find("outbox")].get(TICKET):
                results.append(step.change.new)
    return Story(tuple(statuses), tuple(results))


def _decode(data: bytes) -> Status:
    try:
        return decode_status(data)
    except ValueError as error:
        raise Violation(f"a status that nobody can read: {data[:60]!r}") from error


def check_standing(tree: Tree, scenario: Scenario, discs: list[dict[str, bytes]]) -> None:
    """At any moment, and after any death: a status can be read, and what it says of a result is so."""
    files = tree.files(_TOP)
    if _STATUS not in files:
        return
    status = _decode(files[_STATUS])
    if status.result is not None and status.finished:
        _check_disc(files, status, scenario, discs)


def check_end(life: Life, story: Story) -> None:
    """At rest: the request has come to its one end."""
    scenario, files = life.scenario, life.disk.tree.files()
    if _STATUS not in files:
        if story.statuses or not scenario.unsynced:
            raise Violation("the request is lost: nobody speaks of it")
        return
    _VALIDATOR.validate(json.loads(files[_STATUS]))
    status = _decode(files[_STATUS])
    _check_state(status, scenario, story)
    _check_results(files, status, story, scenario, life.discs)
    _check_story(story, status, scenario)
    _check_forwarding(status, life)
    _check_rest(files, status, life)


def _check_state(status: Status, scenario: Scenario, story: Story) -> None:
    outcomes = [scenario.outcome]
    if scenario.unsynced and "queued" not in {s.state for s in story.statuses}:
        # Nobody had accepted it, and a power cut took it or a part of it.
        outcomes.append(Outcome(State.FAILED, code=status.error.code if status.error else None))
    if status.state not in {outcome.state for outcome in outcomes}:
        raise Violation(f"the request ended as {status.state}, not as {scenario.outcome.state}: {status.error}")
    if status.state in (State.FAILED, State.PARTIAL, State.CANCELLED) and (status.error is None or not status.error.message):
        raise Violation(f"{status.state}, and nobody says why")
    if scenario.outcome.code is not None and (status.error is None or status.error.code not in {o.code for o in outcomes}):
        raise Violation(f"failed of {status.error}, not of {scenario.outcome.code}")


def _check_results(
    files: Mapping[str, bytes], status: Status, story: Story, scenario: Scenario, discs: list[dict[str, bytes]]
) -> None:
    names = {path.split("/")[2] for path in files if path.startswith(_TOP)} - {""}
    expected = {"status.json"} | ({status.job} if scenario.outcome.accessions and status.state is scenario.outcome.state else set())
    if scenario.keeps_result:
        expected |= {next(seen.job for seen in story.statuses if seen.result is not None)}
    if names != expected:
        raise Violation(f"the outbox has {sorted(names)}, not {sorted(expected)}")
    if status.job in expected:
        if status.result is None:
            raise Violation(f"{status.state} without a result")
        _check_disc({path: data for path, data in files.items() if path.startswith(_TOP)}, status, scenario, discs)
    if len(set(story.results)) > scenario.drops:
        raise Violation(f"{len(set(story.results))} results of {scenario.drops} requests")


def _check_disc(files: Mapping[str, bytes], status: Status, scenario: Scenario, discs: list[dict[str, bytes]]) -> None:
    """Every byte of it."""
    top = f"{_TOP}{status.job}/"
    found = {path.removeprefix(top): data for path, data in files.items() if path.startswith(top) and path != top}
    record = found.pop(_RECORD, None)
    if record is None or _decode(record).state is not status.state:
        raise Violation(f"{status.state}, but the result does not say so")
    accessions = [accession.accession for accession in status.accessions]
    wanted = {uid: data for accession in accessions for uid, data in STUDIES[accession].items()}
    missing = {uid for accession in status.accessions for study in accession.studies for uid in study.missing}
    if missing != (scenario.outcome.missing if status.state is State.PARTIAL else set()):
        raise Violation(f"{status.state}, and {missing} missing")
    instances = [data for uid, data in wanted.items() if uid not in missing]
    if scenario.real_disc:
        if not any(found == disc for disc in discs):
            raise Violation(f"{status.state}, but the disc is not as it was made")
        on_disc = sorted(data for path, data in found.items() if "/DICOM/" in path and not path.endswith("/"))
        if on_disc != sorted(instances):
            raise Violation(f"{status.state}, but the instances on the disc are not those of the archive")
    elif {path: data for path, data in found.items() if not path.endswith("/")} != make_files(instances):
        raise Violation(f"{status.state}, but the disc is wrong")


def _check_forwarding(status: Status, life: Life) -> None:
    for forwarding in status.forward:
        wanted = {uid for accession in status.accessions for uid in STUDIES[accession.accession]}
        if status.state is State.DONE and (forwarding.sent != len(wanted) or life.world.delivered != wanted):
            raise Violation(f"done, but sent {forwarding.sent}, and not {forwarding.failed}")
        failed = {result.sop_instance_uid for result in forwarding.failed}
        is_told = status.state is State.PARTIAL and life.scenario.outcome.code is Code.FORWARD_FAILED
        if is_told and not life.scenario.destination.refuses & set().union(*STUDIES.values()) <= failed:
            raise Violation(f"what was refused is not named: {failed}")


def _check_story(story: Story, status: Status, scenario: Scenario) -> None:
    jobs = dict.fromkeys(seen.job for seen in story.statuses)
    if len(jobs) > scenario.drops:
        raise Violation(f"{len(jobs)} jobs of {scenario.drops} requests")
    for index, seen in enumerate(story.statuses):
        later = {other.state for other in story.statuses[index:] if other.job == seen.job}
        if seen.state in _ENDS and later != {seen.state}:
            raise Violation(f"{seen.state} was said, and then {sorted(later)}")
        if seen.state is State.FORWARDING and (seen.result is None or not later <= {State.FORWARDING, State.DONE, State.PARTIAL}):
            raise Violation(f"forwarding was said with {seen.result}, and then {sorted(later)}")
        if seen.state is State.FAILED and not scenario.words and later != {State.FAILED}:
            raise Violation(f"failed was said, and then {sorted(later)}")
    for job in jobs:
        sent = [[forwarding.sent for forwarding in seen.forward] for seen in story.statuses if seen.job == job and seen.forward]
        if sent != sorted(sent):
            raise Violation(f"what was said to be sent is taken back: {sent}")
    if story.statuses and story.statuses[-1] != status:
        raise Violation("the last status is not the one that stands there")
    accessions = tuple(accession.accession for accession in status.accessions)
    if status.state is scenario.outcome.state and scenario.outcome.accessions not in ((), accessions):
        raise Violation(f"the disc is of {accessions}")


def _check_rest(files: Mapping[str, bytes], status: Status, life: Life) -> None:
    for directory in _EMPTY_AT_REST:
        if left := [path for path in files if path.startswith(directory) and path != directory and not path.startswith(_BELL)]:
            raise Violation(f"left over: {left}")
    held = sorted({path.split("/")[2] for path in files if path.startswith("work/held/")} - {""})
    expected = 1 if life.scenario.leaves_held or (status.state is State.FAILED and not life.scenario.dropped) else 0
    if len(held) != expected or (status.state is State.FAILED and expected and held != [status.job]):
        raise Violation(f"held: {held}, but {status.state}")
    if left := [path for path in files if path.rpartition("/")[2].startswith(".") and not path.startswith(_BELL)]:
        raise Violation(f"left over: {left}")

