"""`mkisod serve`: the daemon in the foreground, as systemd wants it."""

from __future__ import annotations

import argparse
import sys

from mkisod.config.parsing import read_config
from mkisod.daemon import Daemon, check_config
from mkisod.system.journal import make_log
from mkisod.system.notify import Notify


def run(arguments: argparse.Namespace) -> int:
    config = read_config(arguments.config)
    check_config(config, arguments.config)
    return Daemon(config, make_log(sys.stderr), Notify()).run()
