"""The linters are tests: ruff, mypy --strict, and the import contracts of pyproject.toml. `make check` runs the same three by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("command", ["ruff check", "mypy", "lint-imports"])
def test_linter_finds_nothing(command: str) -> None:
    program, *arguments = command.split()
    # The one beside this interpreter, so the pinned one.
    path = Path(sys.executable).parent / program
    completed = subprocess.run([path, *arguments], cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)
    assert completed.returncode == 0, completed.stdout + completed.stderr
