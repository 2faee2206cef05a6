"""The command line against a running daemon, and against mistakes: data on standard output, words to a person on standard error, exit codes
as documented, and never a traceback (`run_command` holds that of every call here)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mkisod.demo.pacs import DemoPacs
from mkisod.demo.phantom import CT_ACCESSION, MR_ACCESSION, write_phantom
from mkisod.demo.series import write_series
from tests.integration.journey.site import AE_TITLE, Site, command_environment, make_config, run_command, running_site
from tests.oracles import check_directory, check_sums, read_objects
from tests.peers import dicomdirtests
from tests.processes import HOST, free_port, session_members, started, wait_for

CT_INSTANCES, MR_INSTANCES = 6, 4  # with the report and the letter
OF_THE_PATIENT = ("Phant", "Zo", "19700401")


@dataclass(frozen=True)
class Ward:
    site: Site
    pacs: DemoPacs

    @property
    def config(self) -> tuple[str, Path]:
        return "--config", self.site.config_path


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    folder, port = tmp_path_factory.mktemp("ward"), free_port()
    write_phantom(folder / "archive", seed=1, ct_slices=CT_INSTANCES - 1, mr_slices=MR_INSTANCES - 1, rows=16, columns=16)
    with (
        DemoPacs(folder / "archive", destinations={AE_TITLE: (HOST, port)}) as pacs,
        running_site(folder, {"ABPACS": pacs.address}, port=port) as site,
    ):
        yield Ward(site, pacs)


def one_sentence(messages: str) -> str:
    """What a user's mistake is answered with: one line that begins with the name of the program and says what to do."""
    (line,) = messages.splitlines()
    assert line.startswith("mkisod: ")
    return line


# --- check -------------------------------------------------------------------------------------------------------------------------


def test_check_beside_a_running_daemon(ward: Ward) -> None:
    said = run_command("check", *ward.config)
    assert (said.exit_code, said.messages) == (0, "")
    assert [line.split()[0] for line in said.output.splitlines() if line[0] != " "] == ["ok"] * 4 + ["open"]
    assert "the daemon is running" in said.output
    findings = json.loads(run_command("check", "--json", *ward.config).output)
    assert [(finding["subject"], finding["ok"]) for finding in findings] == [
        ("configuration", True),
        ("spool", True),
        ("receiver", True),
        ("PACS ABPACS", True),
        ("return path from ABPACS", None),
    ]


def test_check_before_the_first_start(tmp_path: Path) -> None:
    """The spool is not there yet, nobody has the port, and the archive does not run: only the last is wrong."""
    config = tmp_path / "mkisod.toml"
    config.write_text(make_config(tmp_path / "spool", free_port(), {"ABPACS": (HOST, free_port())}), encoding="utf-8")
    said = run_command("check", "--json", "--config", config)
    assert said.exit_code == 1
    findings = {finding["subject"]: finding for finding in json.loads(said.output)}
    assert {subject for subject, finding in findings.items() if finding["ok"] is False} == {"PACS ABPACS"}
    assert "cannot be reached" in findings["PACS ABPACS"]["found"]
    assert findings["PACS ABPACS"]["advice"]
    one_sentence(said.messages.splitlines()[-1])
    assert not (tmp_path / "spool").exists(), "a check changes nothing"


def test_check_where_another_program_has_the_port(tmp_path: Path, ward: Ward) -> None:
    config = tmp_path / "mkisod.toml"
    config.write_text(make_config(tmp_path / "spool", ward.pacs.address[1], {"ABPACS": ward.pacs.address}), encoding="utf-8")
    said = run_command("check", "--config", config)
    assert said.exit_code == 1
    assert "FAIL  receiver: Port" in said.output


# --- find --------------------------------------------------------------------------------------------------------------------------


def test_find_shows_what_would_come_and_moves_nothing(ward: Ward) -> None:
    moved = len(ward.pacs.moves)
    said = run_command("find", CT_ACCESSION, *ward.config)
    assert (said.exit_code, said.messages) == (0, "")
    assert f"2 series, {CT_INSTANCES} instances" in said.output
    (study,) = json.loads(run_command("find", "--json", MR_ACCESSION, *ward.config).output)
    assert (study["accession"], study["instances"]) == (MR_ACCESSION, MR_INSTANCES)
    assert sorted((series["modality"], series["instances"]) for series in study["series"]) == [("DOC", 1), ("MR", MR_INSTANCES - 1)]
    assert len(ward.pacs.moves) == moved
    assert not [name for name in OF_THE_PATIENT if name in said.output]


@pytest.mark.parametrize(
    ("accession", "code"), [("NOWHERE", "accession_not_found"), ("PHANTOM*", "accession_invalid"), ("", "accession_invalid")]
)
def test_find_without_success(ward: Ward, accession: str, code: str) -> None:
    said = run_command("find", accession, *ward.config)
    assert (said.exit_code, said.output) == (1, "")
    assert one_sentence(said.messages).endswith(f"[{code}]")


# --- submit and status -------------------------------------------------------------------------------------------------------------


def test_submit_and_wait(ward: Ward) -> None:
    said = run_command("submit", CT_ACCESSION, MR_ACCESSION, "--wait", "--ticket", "waited", "--label", "WARD", *ward.config)
    assert said.exit_code == 0
    assert said.output.startswith("waited: done\n")
    assert "The request is dropped as waited." in said.messages
    status = ward.site.daemon.wait_status("waited", "done")
    tree, image = ward.site.result(status) / "WARD", ward.site.result(status) / "WARD.ISO"
    assert str(tree) in said.output, "it says where the disc is"
    assert str(image) in said.output
    assert len(read_objects(tree)) == CT_INSTANCES + MR_INSTANCES
    assert not [name for name in OF_THE_PATIENT if name in said.output + said.messages]


def test_submit_prints_the_final_status_last(ward: Ward) -> None:
    said = run_command("submit", CT_ACCESSION, "--wait", "--json", "--ticket", "as-json", "--patient", "PHANTOM1", *ward.config)
    assert said.exit_code == 0
    assert json.loads(said.output.splitlines()[-1]) == ward.site.daemon.status("as-json")


def test_submit_ends_with_one_unless_it_is_done(ward: Ward) -> None:
    said = run_command("submit", CT_ACCESSION, "--wait", "--json", "--ticket", "not-done", "--patient", "SOMEBODY", *ward.config)
    assert said.exit_code == 1
    status = json.loads(said.output.splitlines()[-1])
    assert (status["state"], status["error"]["code"]) == ("failed", "patient_mismatch")
    assert status == ward.site.daemon.status("not-done")


def test_submit_alone_says_the_ticket_and_status_follows_it(ward: Ward) -> None:
    said = run_command("submit", MR_ACCESSION, *ward.config)
    assert said.exit_code == 0
    ticket = said.output.strip()
    ward.site.daemon.wait_status(ticket, "done")
    shown = run_command("status", ticket, *ward.config)
    assert (shown.exit_code, shown.messages) == (0, "")
    assert shown.output.startswith(f"{ticket}: done\n")
    assert json.loads(run_command("status", ticket, "--json", *ward.config).output) == ward.site.daemon.status(ticket)
    assert json.loads(run_command("submit", MR_ACCESSION, "--json", "--ticket", "alone", *ward.config).output) == {"ticket": "alone"}
    ward.site.daemon.wait_status("alone", "done")


def test_a_mistake_is_said_before_anything_is_dropped(ward: Ward) -> None:
    said = run_command("submit", CT_ACCESSION, "*", "12345678901234567", "--ticket", "mistaken", *ward.config)
    assert (said.exit_code, said.output) == (1, "")
    line = one_sentence(said.messages)
    assert "'*'" in line
    assert "17" in line
    assert line.endswith("[accession_invalid]")
    assert ward.site.daemon.status("mistaken") is None
    assert list(ward.site.daemon.inbox.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [[], ["burn"], ["submit"], ["find"], ["status", "no such ticket"], ["status", "unknown"], ["submit", "X", "--ticket", "../escape"]],
    ids=" ".join,
)
def test_wrong_usage(ward: Ward, arguments: list[str]) -> None:
    config = ward.config if arguments and arguments[0] != "burn" else ()
    said = run_command(*arguments, *config)
    assert (said.exit_code, said.output) == (2, "")
    assert said.messages


@pytest.mark.parametrize("command", ["serve", "check", "find", "submit", "status", "demo"])
def test_every_command_explains_itself(command: str) -> None:
    said = run_command(command, "--help")
    assert (said.exit_code, said.messages) == (0, "")
    assert "Example: mkisod " + command in said.output


def test_an_interruption_from_the_keyboard_is_no_accident(ward: Ward, tmp_path: Path) -> None:
    """The request goes on without whoever waited for it."""
    log = tmp_path / "submit.log"
    command = [sys.executable, "-m", "mkisod", "submit", "NOWHERE", "--wait", "--ticket", "left", *map(str, ward.config)]
    with started("submit", command, log, env=command_environment(), end_signal=signal.SIGINT) as process:
        process.wait_ready(lambda: "dropped as left" in process.output)
        process.end()
        assert process.popen.returncode == 130
        assert "Traceback" not in process.output


# --- serve, where it cannot --------------------------------------------------------------------------------------------------------


def test_serve_names_all_mistakes_of_its_configuration(tmp_path: Path) -> None:
    config = tmp_path / "mkisod.toml"
    config.write_text(
        '[spool]\ndir = "relative"\nsettle = 3\n[receiver]\nport = "10104"\nae_title = "MUCH TOO LONG A TITLE"\n'
        '[pacs.A]\nhost = ""\nquery = "some"\n[pacs.B]\nport = 0\n[jobs]\nworkers = 0\n[burner]\nspeed = 4\n',
        encoding="utf-8",
    )
    said = run_command("serve", "--config", config)
    assert (said.exit_code, said.output) == (78, "")
    keys = ["spool.dir", "spool.settle", "receiver.port", "receiver.ae_title", "pacs.A.host", "pacs.A.query", "pacs.B.port", "jobs.workers"]
    keys.append("burner")
    lines = said.messages.splitlines()
    assert [key for key in keys if not any(line.strip().startswith(f"{key}: ") for line in lines)] == []
    assert len([line for line in lines if line.startswith("  ")]) == len(keys), "each mistake once, and no other line"


@pytest.mark.parametrize("text", [None, "this is no TOML", "[spool\n"], ids=["missing", "prose", "broken"])
def test_serve_without_a_configuration_that_can_be_read(text: str | None, tmp_path: Path) -> None:
    config = tmp_path / "mkisod.toml"
    if text is not None:
        config.write_text(text, encoding="utf-8")
    said = run_command("serve", "--config", config)
    assert (said.exit_code, said.output) == (78, "")
    assert str(config) in said.messages


def last_words(messages: str) -> str:
    """The journal of the daemon comes first, one JSON object a line; then one sentence."""
    *journal, last = messages.splitlines()
    assert all(json.loads(line) for line in journal)
    return one_sentence(last)


def test_serve_on_a_port_in_use(ward: Ward, tmp_path: Path) -> None:
    config = tmp_path / "mkisod.toml"
    config.write_text(make_config(tmp_path / "spool", ward.site.port, {"ABPACS": ward.pacs.address}), encoding="utf-8")
    said = run_command("serve", "--config", config)
    assert (said.exit_code, said.output) == (78, "")
    line = last_words(said.messages)
    assert str(ward.site.port) in line
    assert line.endswith("[port_unavailable]")


def test_serve_of_an_instance_that_is_served_already(ward: Ward, tmp_path: Path) -> None:
    config = tmp_path / "mkisod.toml"
    config.write_text(make_config(ward.site.spool, free_port(), {"ABPACS": ward.pacs.address}), encoding="utf-8")
    said = run_command("serve", "--config", config)
    assert (said.exit_code, said.output) == (78, "")
    assert last_words(said.messages).endswith("[instance_in_use]")
    # The first one was not disturbed.
    ward.site.request("after-the-second-daemon", CT_ACCESSION)


def test_serve_where_the_spool_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="ascii")
    config = tmp_path / "mkisod.toml"
    config.write_text(make_config(tmp_path / "file" / "spool", free_port(), {"ABPACS": (HOST, free_port())}), encoding="utf-8")
    said = run_command("serve", "--config", config)
    assert (said.exit_code, said.output) == (78, "")
    assert last_words(said.messages).endswith("[spool_unusable]")


def test_the_journal_is_one_json_object_a_line_and_names_nobody(ward: Ward) -> None:
    lines = [json.loads(line) for line in ward.site.daemon.process.output.splitlines()]
    assert {"daemon_ready", "job_claimed", "job_published"} <= {line["event"] for line in lines}
    assert not [name for name in OF_THE_PATIENT if name in ward.site.daemon.process.output]


# --- demo --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A temporary folder for a command. Not below pytest's: the address of a Unix socket holds no more than 107 characters."""
    with tempfile.TemporaryDirectory(prefix="mkisod-") as folder:
        yield Path(folder)


def test_demo(tmp_path: Path, temporary: Path) -> None:
    """Everything it makes is below one temporary folder, and gone at the end, except what it was told to keep."""
    said = run_command("demo", "--keep", tmp_path / "kept", env={"TMPDIR": str(temporary)})
    assert said.exit_code == 0
    assert said.output.startswith("demo: done\n")
    assert "DICOMDIR" in said.output
    assert ".ISO" in said.output
    assert "The daemon is ready" in said.messages
    assert list(temporary.iterdir()) == []
    (result,) = (path for path in (tmp_path / "kept" / "demo").iterdir() if path.is_dir())
    (tree,) = (path for path in result.iterdir() if path.is_dir())
    check_directory(tree)
    check_sums(result)
    # 40 CT and a report, 24 MR and a letter
    assert len(read_objects(tree)) == 66


def test_demo_from_anybodys_files() -> None:
    folder = dicomdirtests()[0].parents[2]
    said = run_command("demo", "--from", folder, "--json", "134", "428")
    assert said.exit_code == 0
    status = json.loads(said.output)
    assert (status["state"], status["progress"]["instances_received"]) == ("done", 6)


def test_demo_chooses_accessions_of_one_patient(tmp_path: Path) -> None:
    for number, seed in enumerate([1, 2, 2]):
        write_series(tmp_path / str(number), accession=f"ACC{number}", count=2, rows=8, columns=8, seed=seed)
    said = run_command("demo", "--from", tmp_path, "--json")
    assert said.exit_code == 0
    assert [accession["accession"] for accession in json.loads(said.output)["accessions"]] == ["ACC1", "ACC2"]


def test_demo_without_anything_to_show(tmp_path: Path) -> None:
    for arguments in (["--from", tmp_path], ["--from", tmp_path / "nowhere"], ["--keep", tmp_path]):
        said = run_command("demo", *arguments)
        assert (said.exit_code, said.output) == (2, "")
        assert one_sentence(said.messages).endswith("[usage]")


def test_demo_interrupted_leaves_nothing_running(tmp_path: Path, temporary: Path) -> None:
    log = tmp_path / "demo.log"
    environment = {**command_environment(), "TMPDIR": str(temporary)}
    with started("demo", [sys.executable, "-m", "mkisod", "demo"], log, env=environment, end_signal=signal.SIGINT) as process:
        process.wait_ready(lambda: "The daemon is ready" in process.output)
        assert len(session_members(process.popen.pid)) > 1, "the daemon is a process of its own"
        left = process.end()
        assert (process.popen.returncode, left) == (130, [])
        assert "Traceback" not in process.output
    wait_for(lambda: not list(temporary.iterdir()), 5, "the temporary folder to go")


def test_output_into_a_pipe_that_is_closed(ward: Ward) -> None:
    command = [sys.executable, "-m", "mkisod", "check", *map(str, ward.config)]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command, check=False, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, env=command_environment())
    finally:
        os.close(writer)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
