"""`mkisod serve`: the daemon in the foreground, as systemd wants it."""

from __future__ import annotations

import argparse
import faulthandler
import sys
import time

from mkisod import __version__
from mkisod.cli.options import add_config
from mkisod.configuration import load_config
from mkisod.daemon import Daemon
from mkisod.system.journal import make_log
from mkisod.system.last_words import catch_last_words, write_last_words
from mkisod.system.metrics import Metrics
from mkisod.system.notify import Notify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    faulthandler.enable()  # where every thread is, when the watchdog ends the daemon by SIGABRT; files and lines, no values
    catch_last_words()
    metrics = Metrics(config.spool.instance, __version__, config.pacs, now_s=time.time)
    log = make_log(sys.stderr, observe=metrics.observe)
    exit_code = Daemon(config, arguments.config, log, Notify(), metrics).run()
    if exit_code:
        write_last_words("mkisod: a thread died, and the daemon with it. What it died of was said before.")
    return exit_code
