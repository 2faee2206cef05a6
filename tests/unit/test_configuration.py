"""What a reload takes over, and what it names as needing a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from mkisod.config.parsing import parse_config
from mkisod.config.settings import Config
from mkisod.configuration import plan_reload

OLD = """
[spool]
dir = "/srv/a"
[receiver]
port = 104
allowed_hosts = ["10.0.0.1"]
[pacs.A]
port = 1
[pacs.B]
port = 2
[jobs]
workers = 2
"""


def read(text: str) -> Config:
    return parse_config(text, Path("mkisod.toml"))


@pytest.mark.parametrize(
    ("old", "new", "changed", "needs_restart"),
    [
        ("", "", [], []),
        ("[pacs.A]\nport = 1", "[pacs.A]\nport = 9", ["pacs.A.port"], []),
        ("[pacs.B]\nport = 2", "", [f"pacs.B.{key}" for key in ("host", "port", "ae_title")], []),
        ("[jobs]", "[forward.W]\nhost = 'w'\n[jobs]", ["forward.W.host", "forward.W.port", "forward.W.ae_title"], []),
        ("[jobs]", "[jobs]\nretry_first_s = 1", ["jobs.retry_first_s"], []),
        ("[jobs]", "[media]\nmedium = 'dvd'\n[jobs]", ["media.medium"], []),
        ("10.0.0.1", "10.0.0.2", ["receiver.allowed_hosts"], []),
        ("workers = 2", "workers = 3", [], ["jobs.workers"]),
        ("/srv/a", "/srv/b", [], ["spool.dir"]),
        ("port = 104", "port = 105\nae_title = 'X'", [], ["receiver.ae_title", "receiver.port"]),
        ("[pacs.A]\nport = 1\n[pacs.B]\nport = 2", "[pacs.B]\nport = 2\n[pacs.A]\nport = 1", ["pacs"], []),
    ],
)
def test_reload(old: str, new: str, changed: list[str], needs_restart: list[str]) -> None:
    running = read(OLD)
    assert old in OLD
    reload = plan_reload(running, read(OLD.replace(old, new) if old else OLD))
    assert [key for key in reload.changed if key in changed or not key.startswith(("pacs.B.", "forward.W."))] == changed
    assert list(reload.needs_restart) == needs_restart
    assert reload.config.spool == running.spool
    assert reload.config.receiver == evolve(running.receiver, allowed_hosts=reload.config.receiver.allowed_hosts)
    assert reload.config.jobs.workers == running.jobs.workers


def test_a_restart_is_needed_until_it_comes() -> None:
    """A second reload compares with what runs, not with what the first one read."""
    running = read(OLD)
    wanted = read(OLD.replace("workers = 2", "workers = 3"))
    once = plan_reload(running, wanted)
    assert plan_reload(once.config, wanted).needs_restart == ("jobs.workers",)
    assert plan_reload(once.config, running).needs_restart == ()
