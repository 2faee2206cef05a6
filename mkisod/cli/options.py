"""The options that most commands have."""

from __future__ import annotations

import argparse
from pathlib import Path

from mkisod.config.parsing import DEFAULT_PATH


def add_config(parser: argparse.ArgumentParser) -> None:
    help_ = f"the configuration (default: {DEFAULT_PATH})"
    parser.add_argument("--config", metavar="FILE", type=Path, default=DEFAULT_PATH, help=help_)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
