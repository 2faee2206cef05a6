"""The command line without a daemon: what is typed, what it is answered with, and what its end means to the shell."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from mkisod.cli import main, make_parser
from mkisod.cli.submit import make_request
from mkisod.errors import Code, Problem
from mkisod.job.request import Request, parse_request
from mkisod.job.status import Result, State, Status, Volume
from mkisod.spool.durable import Disk
from mkisod.spool.layout import Layout, make_directories
from mkisod.spool.outbox import Outbox
from tests.processes import HOST, free_port, wait_for

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 22, 8, 15, tzinfo=UTC)
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A command sets the logging of its process up; this process runs on."""
    pynetdicom = logging.getLogger("pynetdicom")
    level = pynetdicom.level
    yield
    structlog.reset_defaults()
    pynetdicom.setLevel(level)


@pytest.fixture(scope="module")
def silent_port() -> int:
    """Nobody listens there."""
    return free_port()


@pytest.fixture
def config(tmp_path: Path, silent_port: int) -> Path:
    path = tmp_path / "mkisod.toml"
    receiver, pacs = f'[receiver]\nhost = "{HOST}"\nport = 0\n', f'[pacs.A]\nhost = "{HOST}"\nport = {silent_port}\n'
    path.write_text(f'[spool]\ndir = "{tmp_path}/spool"\n{receiver}{pacs}', encoding="utf-8")
    return path


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "spool", "main")
    make_directories(layout)
    return layout


def make_status(state: State, job: str = "20261122T081500Z-k3f9ab", code: Code | None = None) -> Status:
    error = Problem(code, "It failed.", "Look.", transient=False) if code else None
    result = Result(job, (Volume("D1", "D1", "D1.ISO", None, "0" * 64, 1, 1, None),)) if state is State.DONE else None
    return Status("t", job, state, NOW, NOW, result=result, error=error)


@pytest.mark.parametrize(
    ("typed", "exit_code"),
    [
        ("unknown", 2),
        ("submit", 2),
        ("submit A1 --output tar", 2),
        ("find", 2),
        ("status", 2),
        ("--help", 0),
        *((f"{name} --help", 0) for name in ("serve", "check", "find", "submit", "status", "queue", "release", "drop", "retry", "demo")),
    ],
)
def test_what_is_typed_wrong_is_answered_with_the_usage(typed: str, exit_code: int, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(typed))
    assert ended.value.code == exit_code
    assert "usage: mkisod" in (capsys.readouterr().out if exit_code == 0 else capsys.readouterr().err)


@pytest.mark.parametrize(
    ("typed", "toml", "exit_code", "said"),
    [
        ("status t", None, 78, "there is no such file"),
        ("serve", "receiver.port = 'x'", 78, "receiver.port: write a whole number"),
        ("serve", "[[", 78, "it is not TOML"),
        ("find '*'", "", 1, "[accession_invalid]"),
        ("find A1 --pacs X", "", 1, "[pacs_unknown]"),
        ("submit '*'", "", 1, "line 1: '*'"),
        ("submit \udcff", "", 1, "not UTF-8"),
        ("find \udcff", "", 1, "[accession_invalid]"),
        ("submit A1 --birthdate x", "", 1, "'@birthdate' takes a date"),
        ("submit A1 --ticket ../x", "", 2, "is no ticket"),
        ("submit A1", "", 78, "The request cannot be written"),
        ("status ../x", "", 2, "is no ticket"),
        ("status t", "", 2, "There is no status for the ticket t."),
        ("queue", "", 78, "There is no spool"),
        ("release x", "", 78, "There is no spool"),
    ],
    ids=ascii,
)
def test_a_mistake_is_one_sentence_and_an_exit_code(  # noqa: PLR0917 - a table's columns, and two fixtures
    typed: str, toml: str | None, exit_code: int, said: str, config: Path, capsys: Capture
) -> None:
    if toml is None:
        config.unlink()
    elif toml:
        config.write_text(toml, encoding="utf-8")
    assert main([*shlex.split(typed), "--config", str(config)]) == exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("mkisod: ")
    assert said in captured.err
    assert "Traceback" not in captured.err


def run_program(*arguments: object, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    """A process of its own: what the libraries leave open ends with it."""
    command = [sys.executable, "-m", "mkisod", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, check=False, stdout=stdout, stderr=subprocess.PIPE, cwd=ROOT, env=environment, timeout=60)


@pytest.mark.parametrize(
    ("typed", "toml", "exit_code", "said"),
    [("serve", "spool.dir = '/proc/x'", 78, b"cannot be set up"), ("find A1", "", 1, b"[pacs_unreachable]")],
)
def test_what_the_host_and_the_network_refuse_is_one_sentence_too(
    typed: str, toml: str, exit_code: int, said: bytes, config: Path
) -> None:
    if toml:
        config.write_text(toml, encoding="utf-8")
    completed = run_program(*shlex.split(typed), "--config", config)
    assert (completed.returncode, completed.stdout) == (exit_code, b"")
    assert completed.stderr.startswith(b"mkisod: ")
    assert said in completed.stderr
    assert b"Traceback" not in completed.stderr


def test_check_says_of_each_thing_whether_it_is_right(config: Path, layout: Layout) -> None:
    completed = run_program("check", "--json", "--config", config)
    assert completed.returncode == 1
    findings = {finding["subject"]: finding for finding in json.loads(completed.stdout)}
    assert {subject: finding["ok"] for subject, finding in findings.items()} == {
        "configuration": True,
        "spool": True,
        "receiver": True,
        "PACS A": False,
        "return path from A": None,
    }
    assert findings["PACS A"]["advice"]
    assert [path.name for path in layout.root.rglob(".probe*")] == []


def test_check_goes_no_further_than_a_wrong_configuration(config: Path, capsys: Capture) -> None:
    config.write_text("x = 1\ny = 2\n", encoding="utf-8")
    assert main(["check", "--config", str(config)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAIL  configuration: ")
    assert "x: there is no such key" in out
    assert "y: there is no such key" in out


@pytest.mark.parametrize(
    ("typed", "request_"),
    [
        ("A1 B2", Request(("A1", "B2"))),
        (
            "A1 --pacs P --patient 'Doe 1' --birthdate 19700101 --output dir iso --label L_1 --several-patients",
            Request(("A1",), "P", (), ("dir", "iso"), "Doe 1", "19700101", label="L_1", allow=frozenset({"several-patients"})),
        ),
    ],
)
def test_submit_drops_what_was_typed(typed: str, request_: Request, config: Path, layout: Layout, capsys: Capture) -> None:
    arguments = make_parser().parse_args(["submit", *shlex.split(typed)])
    assert parse_request(make_request(arguments).encode(), require_end=True) == request_
    assert main(["submit", *shlex.split(typed), "--config", str(config)]) == 0
    (drop,) = layout.inbox.iterdir()
    assert capsys.readouterr().out.strip() == drop.stem
    assert drop.name == f"{drop.stem}.req"
    assert parse_request(drop.read_bytes(), require_end=True) == request_


@pytest.mark.parametrize(("state", "exit_code"), [(State.DONE, 0), (State.FAILED, 1), (State.CANCELLED, 1)])
def test_submit_waits_for_the_end_of_its_own_request(state: State, exit_code: int, config: Path, layout: Layout, capsys: Capture) -> None:
    """An earlier request under the same ticket is not this one, however well it ended."""
    outbox = Outbox(layout, Disk())
    outbox.write_status(make_status(State.DONE))

    def serve() -> None:
        drop = layout.drop("t")
        wait_for(drop.exists, 20, "the drop")
        drop.unlink()
        outbox.write_status(make_status(state, "20261122T081501Z-k3f9ab", Code.INCOMPLETE if state is State.FAILED else None))

    daemon = threading.Thread(target=serve)
    daemon.start()
    assert main(["submit", "A1", "--ticket", "t", "--wait", "--json", "--config", str(config)]) == exit_code
    daemon.join()
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["job"]) == (state, "20261122T081501Z-k3f9ab")


def test_status_shows_what_the_client_reads(config: Path, layout: Layout, capsys: Capture) -> None:
    Outbox(layout, Disk()).write_status(make_status(State.FAILED, code=Code.INCOMPLETE))
    assert main(["status", "t", "--config", str(config)]) == 0
    assert "It failed. [incomplete]" in capsys.readouterr().out
    assert main(["status", "t", "--json", "--config", str(config)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(layout.status("t").read_bytes())


def put_garbage(path: Path) -> None:
    path.write_text("{")


def put_directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("put", [put_garbage, put_directory])
def test_a_status_that_cannot_be_read_is_one_sentence(put: Callable[[Path], None], config: Path, layout: Layout, capsys: Capture) -> None:
    layout.ticket("t").mkdir()
    put(layout.status("t"))
    assert main(["status", "t", "--config", str(config)]) in (1, 78)
    assert capsys.readouterr().err.startswith("mkisod: The status of t cannot be ")


def test_a_reader_that_goes_away_is_no_traceback(config: Path, layout: Layout) -> None:
    Outbox(layout, Disk()).write_status(make_status(State.QUEUED))
    reading, writing = os.pipe()
    os.close(reading)
    completed = run_program("status", "t", "--config", config, stdout=writing)
    os.close(writing)
    assert (completed.returncode, completed.stderr) == (1, b"")


def test_alone_it_shows_the_commands(capsys: Capture) -> None:
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "submit" in said.err


HEAVY = {"structlog", "pynetdicom", "pydicom", "watchdog", "prometheus_client", "rich.progress"}


@pytest.mark.parametrize(
    ("typed", "needed"),
    [
        ("queue", set()),
        ("queue --all --json", set()),
        ("status t", set()),
        ("submit A1", {"rich.progress"}),
        ("retry", {"structlog"}),
        ("--version", set()),
        ("--help", set()),
    ],
)
def test_a_command_imports_what_it_needs(typed: str, needed: set[str], config: Path, layout: Layout) -> None:
    """The start of the interpreter and its imports are most of what a short command takes."""
    Outbox(layout, Disk()).write_status(make_status(State.DONE))
    arguments = [*shlex.split(typed), *(["--config", str(config)] if not typed.startswith("--") else [])]
    program = "import atexit, sys, mkisod.cli; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); mkisod.cli.main(sys.argv[1:])"
    command = [sys.executable, "-c", program, *arguments]
    completed = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)
    imported = set(completed.stderr.splitlines()[-1].split())
    assert "mkisod.cli" in imported
    assert imported & HEAVY == needed


def test_every_command_shown_can_be_called(capsys: Capture) -> None:
    main([])
    shown = re.findall(r"^    ([a-z]+)  ", capsys.readouterr().err, re.MULTILINE)
    assert len(shown) == 12
    for name in shown:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert (ended.value.code, f"usage: mkisod {name}" in capsys.readouterr().out) == (0, True)
