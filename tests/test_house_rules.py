"""The rules of the house that no linter knows. Each check is a function over text, shown here to see what it is for."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from tests.peers import PACKAGES

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "mkisod").rglob("*.py"))
REQUIREMENTS = ["requirements-build.txt", "requirements.txt", "requirements-dev.txt"]

MOST_LINES = 300
VAGUE_NAMES = re.compile(r"helper|util|manager|handler|common|misc")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_modules_are_short_and_named_by_what_they_own() -> None:
    assert MODULES
    long = {relative(path): lines for path in MODULES if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES}
    assert not long, f"more than {MOST_LINES} lines: split by responsibility"
    vague = [relative(path) for path in MODULES if VAGUE_NAMES.search(path.stem)]
    assert not vague, "name a module by what it owns"


# --- The directory names of the spool appear in mkisod/spool alone -----------------------------------------------------------------

SPOOL_DIRECTORIES = "inbox|queued|active|deferred|held|outbox"
PATH_OF_SPOOL = re.compile(rf"(?:\S*/)?(?:{SPOOL_DIRECTORIES})(?:/\S*)?")


def find_spool_paths(source: str, *, names_are_states: bool) -> list[str]:
    """The string literals of a module that name a directory of the spool, alone or as part of a path.

    Prose is free to speak of the inbox: docstrings, and literals with a space in them, do not count. In `job`, `queued` or `held` alone is
    a state of a job (`names_are_states`), but joined into a path by `/` it is a directory there too.
    """
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    divisions = [node for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)]
    joined = {id(side) for division in divisions for side in (division.left, division.right)}
    found = []
    for node in nodes:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in docstrings:
            continue
        state = names_are_states and "/" not in node.value and id(node) not in joined
        if PATH_OF_SPOOL.fullmatch(node.value) and not state:
            found.append(f"line {node.lineno}: {node.value!r}")
    return found


@pytest.mark.parametrize("source", ["spool / 'held'", "f'{spool}/outbox/{ticket}'", "open('work/active/main')", "glob('*/deferred/*')"])
@pytest.mark.parametrize("names_are_states", [False, True], ids=["elsewhere", "in_job"])
def test_spool_paths_are_found(source: str, names_are_states: bool) -> None:
    assert find_spool_paths(source, names_are_states=names_are_states)


@pytest.mark.parametrize("source", ["'the inbox is full'", "def f():\n    'inbox'", "'interactive'", "'inactive/x'", "layout.outbox"])
def test_what_is_no_spool_path_is_left_alone(source: str) -> None:
    assert not find_spool_paths(source, names_are_states=False)


def test_a_name_alone_is_a_state_in_job_and_a_directory_elsewhere() -> None:
    assert not find_spool_paths("QUEUED = 'queued'", names_are_states=True)
    assert find_spool_paths("Path(spool, 'queued')", names_are_states=False)


def test_only_spool_knows_its_directories() -> None:
    found = {
        relative(path): paths
        for path in MODULES
        if not path.is_relative_to(ROOT / "mkisod" / "spool")
        and (paths := find_spool_paths(path.read_text(encoding="utf-8"), names_are_states=path.is_relative_to(ROOT / "mkisod" / "job")))
    }
    assert not found, "ask mkisod/spool for the path"


# --- job is pure (what the import contract cannot see) -----------------------------------------------------------------------------

IMPURE_CALLS = {"now", "utcnow", "today", "open", "print", "input", "exec", "eval", "__import__"}


def find_impure_calls(source: str) -> list[str]:
    """The calls of a module that read the clock or do I/O without an import that shows it."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = [(call.lineno, call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")) for call in calls]
    return [f"line {line}: {name}()" for line, name in names if name in IMPURE_CALLS]


@pytest.mark.parametrize("source", ["datetime.now(UTC)", "datetime.datetime.now()", "date.today()", "open('x')"])
def test_impure_calls_are_found(source: str) -> None:
    assert find_impure_calls(source)


def test_job_reads_no_clock_and_opens_nothing() -> None:
    found = {
        relative(path): calls
        for path in MODULES
        if path.is_relative_to(ROOT / "mkisod" / "job") and (calls := find_impure_calls(path.read_text(encoding="utf-8")))
    }
    assert not found, "take time and content as arguments"


# --- Nothing of the machine it was written on --------------------------------------------------------------------------------------

# Put together from parts, so that this file does not hold what it looks for. A path begins where no other path goes on.
REGISTRY_HOSTS = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("deb", "debian", "org"), ("npmjs", "org"))]
HOMES = [f"/{name}/" for name in ("root", "home", "work", "Users", "tmp/venv")]
OF_A_MACHINE = re.compile("|".join([*map(re.escape, REGISTRY_HOSTS), rf"(?<![\w.~>)}}*/$-])(?:{'|'.join(HOMES)})"]))


def find_traces(text: str) -> list[str]:
    """The registry hosts and the absolute paths of somebody's machine that a text names, each with its line."""
    lines = text.splitlines()
    return [f"line {number}: {line.strip()[:120]}" for number, line in enumerate(lines, 1) if OF_A_MACHINE.search(line)]


def tracked_files() -> Iterator[Path]:
    """What is, or would be, committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    yield from (path for name in listing.split("\0") if name and (path := ROOT / name).is_file())


@pytest.mark.parametrize("host", REGISTRY_HOSTS)
@pytest.mark.parametrize("home", HOMES)
def test_traces_are_found(host: str, home: str) -> None:
    for text in (f"deb http://{host}/x", f"path = '{home}main'", f"{home}main", f"cd {home}"):
        assert find_traces(text), text


@pytest.mark.parametrize("text", ["<spool>" + HOMES[2] + "queued", "$SPOOL" + HOMES[2] + "active", "spool" + HOMES[2] + "x", "homework/"])
def test_paths_inside_the_spool_are_no_traces(text: str) -> None:
    assert not find_traces(text)


def test_no_file_names_a_registry_or_a_path_of_this_machine() -> None:
    texts = {relative(path): path.read_text(encoding="utf-8", errors="replace") for path in tracked_files()}
    found = {name: traces for name, text in texts.items() if (traces := find_traces(text))}
    assert not found


def test_no_file_names_the_place_of_this_checkout() -> None:
    place = str(ROOT)
    assert len(ROOT.parts) > 2, "checked out too close to the root to tell its name from other words"
    found = [relative(path) for path in tracked_files() if place in path.read_text(encoding="utf-8", errors="replace")]
    assert not found


# --- What it stands on -------------------------------------------------------------------------------------------------------------

PIN = re.compile(r"(?P<name>[a-z0-9-]+)==\S+ \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+")


def pinned(file_name: str) -> list[str]:
    return [pin["name"] for pin in PIN.finditer((ROOT / file_name).read_text(encoding="utf-8"))]


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~\[; ]", name)[0]).lower()


@pytest.mark.parametrize("file_name", REQUIREMENTS)
def test_every_requirement_is_pinned_by_hash_and_nothing_else_is_said(file_name: str) -> None:
    text = (ROOT / file_name).read_text(encoding="utf-8")
    rest = [line for line in PIN.sub("", text).splitlines() if line and not line.lstrip().startswith("#")]
    assert pinned(file_name)
    assert not rest, "neither an option, nor a URL, nor a version without a hash"


def test_pins_cover_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {normalize(name) for name in project["dependencies"]} <= set(pinned("requirements.txt"))
    assert {normalize(name) for name in project["optional-dependencies"]["dev"]} <= set(pinned("requirements-dev.txt"))


def test_run_time_dependencies_are_pure_python() -> None:
    files = [file for name in pinned("requirements.txt") for file in metadata.files(name) or []]
    assert files
    assert not [str(file) for file in files if file.suffix in {".so", ".pyd"}], "one package has to serve every machine"


def test_every_program_of_the_tests_comes_from_a_listed_package() -> None:
    lines = (ROOT / "tests" / "debian-packages.txt").read_text(encoding="utf-8").splitlines()
    listed = {words[0] for line in lines if (words := line.split("#")[0].split())}
    assert listed == set(PACKAGES.values())
