"""The status and the record: their JSON forms, and that every status keeps the promise of docs/status.schema.json."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mkisod.errors import ADVICE, Code, Problem
from mkisod.job.record import JobRecord, decode_record, encode_record, is_job_id, make_job_id, make_status
from mkisod.job.status import (
    AccessionStatus,
    Evidence,
    Forwarding,
    InstanceResult,
    Progress,
    Result,
    State,
    Status,
    StudyStatus,
    Volume,
    decode_status,
    encode_status,
    format_time,
)

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "status.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
NOW = datetime(2026, 11, 22, 8, 15, tzinfo=UTC)
# What only a command can be told: no request and so no status has these.
NOT_OF_A_REQUEST = {Code.CONFIGURATION_INVALID, Code.SPOOL_UNUSABLE, Code.PORT_UNAVAILABLE, Code.INSTANCE_IN_USE, Code.USAGE}

moments = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(lambda m: m.replace(microsecond=0))  # noqa: DTZ001
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
tickets = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
job_ids = st.builds(make_job_id, moments, st.binary(min_size=6, max_size=6))
counts = st.integers(0, 10**9)
uids = st.from_regex(r"[0-9.]{1,64}", fullmatch=True)
problems = st.builds(Problem, st.sampled_from(sorted(set(Code) - NOT_OF_A_REQUEST)), texts, texts, st.booleans())
studies = st.builds(StudyStatus, uids, st.tuples(texts), counts, counts, st.tuples(uids), st.sampled_from([None, *Evidence]))
numbers = st.text("A1.Ä", min_size=1, max_size=16)
accessions = st.builds(AccessionStatus, numbers, st.sampled_from(State), st.none() | problems, st.tuples(studies))
volumes = st.builds(
    Volume,
    *(st.from_regex(r"[A-Z0-9_]{1,16}", fullmatch=True), st.none() | texts, st.none() | texts, st.none() | texts),
    *(st.none() | st.from_regex(r"[0-9a-f]{64}", fullmatch=True), st.none() | counts, st.integers(1, 10**6), st.none() | texts),
)
results = st.builds(Result, job_ids, st.lists(volumes, min_size=1, max_size=2).map(tuple), st.tuples(texts), st.tuples(texts))
instance_results = st.builds(InstanceResult, uids, st.none() | st.from_regex(r"[0-9A-F]{4}", fullmatch=True), texts)
forwardings = st.builds(Forwarding, texts, counts, st.tuples(instance_results), st.tuples(instance_results), st.tuples(texts))


@st.composite
def statuses(draw: st.DrawFn) -> Status:
    state = draw(st.sampled_from(State))
    return Status(
        ticket=draw(tickets),
        job=draw(job_ids),
        state=state,
        created=draw(moments),
        updated=draw(moments),
        attempt=draw(st.integers(1, 1000)),
        retry_at=draw(st.none() | moments),
        progress=draw(st.builds(Progress, counts, counts, counts, st.none() | counts)),
        accessions=draw(st.tuples(accessions)),
        result=draw(results if state in (State.DONE, State.PARTIAL) else st.none()),
        forward=draw(st.tuples(forwardings)),
        error=draw(problems if state is State.FAILED else st.none()),
    )


@given(statuses())
def test_every_status_keeps_the_schema_and_comes_back_as_it_was(status: Status) -> None:
    data = encode_status(status)
    document = json.loads(data)
    VALIDATOR.validate(document)
    assert document["finished"] is status.finished
    assert decode_status(data) == status


def test_the_schema_is_one_and_knows_every_state_and_code() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    definitions = SCHEMA["$defs"]
    assert set(definitions["state"]["enum"]) == set(State)
    assert set(definitions["error"]["properties"]["code"]["enum"]) == set(Code) - NOT_OF_A_REQUEST
    assert set(definitions["accession"]["properties"]["studies"]["items"]["properties"]["evidence"]["enum"]) == {None, *Evidence}
    assert set(ADVICE) == set(Code)


@pytest.mark.parametrize(
    "change",
    [
        {"finished": True},
        {"state": "failed"},
        {"version": 2},
        {"job": "x"},
        {"created": "2026-11-22 08:15"},
        {"attempt": 0},
        {"patient": "Doe^John"},
        {"error": {"code": "usage", "message": "m", "advice": "", "transient": False}},
    ],
    ids=str,
)
def test_the_schema_refuses(change: dict[str, Any]) -> None:
    document = json.loads(encode_status(Status("t", "20261122T081500Z-k3f9ab", State.QUEUED, NOW, NOW)))
    VALIDATOR.validate(document)
    assert not VALIDATOR.is_valid({**document, **change})


def test_time_is_utc_to_the_second() -> None:
    assert format_time(datetime.fromisoformat("2026-11-22T09:15:00.999+01:00")) == "2026-11-22T08:15:00Z"


def test_four_states_are_finished() -> None:
    assert {state for state in State if state.finished} == {State.DONE, State.PARTIAL, State.FAILED, State.CANCELLED}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda values: st.lists(values) | st.dictionaries(st.text(max_size=5), values),
)


@given(st.binary(max_size=50) | json_values.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_status_and_no_record_is_a_value_error(data: bytes) -> None:
    for decode in (decode_status, decode_record):
        with pytest.raises(ValueError, match=r"no (status|job record) of version 1"):
            decode(data)


@given(statuses(), st.sampled_from(["state", "created", "accessions", "progress"]))
def test_a_status_of_another_version_or_with_a_part_missing_is_a_value_error(status: Status, key: str) -> None:
    document = json.loads(encode_status(status))
    without = {name: value for name, value in document.items() if name != "job"}
    for changed in ({**document, "version": 2}, {**document, key: None}, {**document, key: 7}, without):
        with pytest.raises(ValueError, match="no status of version 1"):
            decode_status(json.dumps(changed).encode())


records = st.builds(
    JobRecord,
    job=job_ids,
    ticket=tickets,
    created=moments,
    state=st.sampled_from(State),
    attempt=st.integers(1, 1000),
    priority=st.sampled_from(["high", "normal", "low"]),
    owner_uid=st.none() | st.integers(0, 2**32 - 1),
    problem=st.none() | problems,
)


@given(records)
def test_a_record_comes_back_as_it_was_and_its_status_keeps_the_schema(record: JobRecord) -> None:
    assert decode_record(encode_record(record)) == record
    problem = record.problem or Problem(Code.INTERNAL, "m", "a", transient=False)
    status = make_status(evolve(record, problem=problem if record.state is State.FAILED else None), NOW, ("A1", "A2"))
    VALIDATOR.validate(json.loads(encode_status(status)))
    assert [accession.accession for accession in status.accessions] == ["A1", "A2"]


def test_a_record_of_another_version_is_a_value_error() -> None:
    document = json.loads(encode_record(JobRecord("20261122T081500Z-k3f9ab", "t", NOW)))
    with pytest.raises(ValueError, match="no job record of version 1"):
        decode_record(json.dumps({**document, "version": 2}).encode())


@given(moments, moments, st.binary(min_size=6, max_size=6))
def test_job_ids_sort_by_time_and_are_told_from_other_names(earlier: datetime, later: datetime, random_bytes: bytes) -> None:
    a, b = make_job_id(earlier, random_bytes), make_job_id(later, random_bytes)
    assert is_job_id(a)
    assert (a < b) is (earlier < later)


@pytest.mark.parametrize(
    "name", ["", "status.json", "20261122T081500Z-", "20261122T081500Z-K3F9AB", "20261122T081500Z-k3f9ab\n", "٢0261122T081500Z-k3f9ab"]
)
def test_these_are_no_job_ids(name: str) -> None:
    assert not is_job_id(name)


def test_the_time_of_the_next_attempt_keeps_its_fraction_in_the_record() -> None:
    """Cut to the second, a delay of less than that would be none."""
    moment = datetime(2026, 11, 22, 8, 15, 0, 700_000, tzinfo=UTC)
    record = JobRecord("20261122T081500Z-k3f9ab", "t", moment, retry_at=moment)
    assert decode_record(encode_record(record)).retry_at == moment
