"""What mkisod can be told: one frozen value a section of `mkisod.toml`, with its defaults and the rule of each key.

Values only. Units stand in the names. docs/mkisod.toml.md explains the keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from attrs import NOTHING, field, frozen

from mkisod.job.request import MEDIA, OUTPUTS

# Rules for one value. A ValueError says what to write instead; the key is put in front of it. They are no attrs validators, since
# those stop at the first mistake of a table.
Rule = Callable[[Any], None]


def _key(default: Any, rule: Rule) -> Any:
    return field(default=default, metadata={"rule": rule})


_MOST = 1e9  # what no clock and no counter stumbles over; TOML has nan and inf


def _at_least(low: float, high: float | None = None) -> Rule:
    def check(value: float | tuple[float, ...]) -> None:
        for number in value if isinstance(value, tuple) else (value,):
            if not low <= number <= (_MOST if high is None else high):
                raise ValueError(f"write a number of at least {low:g}" if high is None else f"write a number from {low:g} to {high:g}")

    return check


def _matching(pattern: str, what: str) -> Rule:
    compiled = re.compile(pattern)

    def check(value: str | tuple[str, ...]) -> None:
        for text in (value,) if isinstance(value, str) else value:
            if not compiled.fullmatch(text):
                raise ValueError(f"write {what}")

    return check


def _one_of(*allowed: str) -> Rule:
    def check(value: str | tuple[str, ...]) -> None:
        for text in (value,) if isinstance(value, str) else value:
            if text not in allowed:
                raise ValueError(f"write {' or '.join(allowed)}")

    return check


# VR AE (PS3.5 6.2): 1 to 16 characters of the default repertoire, no backslash; leading and trailing spaces do not count.
_AE_TITLE = _matching(r"(?! )[\x20-\x5B\x5D-\x7E]{1,16}(?<! )", "an AE title of 1 to 16 ASCII characters, without backslash")
_HOST = _matching(r"[A-Za-z0-9_.:%-]+", "a host name or an address")
_PORT = _at_least(1, 65535)
_MEDIUM = _matching("|".join(MEDIA) + r"|[1-9][0-9]{0,6}", f"{', '.join(MEDIA)} or a size in MiB, as text")


def _absolute(value: str) -> None:
    if value and not value.startswith("/"):
        raise ValueError("write an absolute path")


@frozen
class SpoolSettings:
    dir: str = _key("/var/spool/mkisod", _matching(r"/[^\0]*", "an absolute path"))
    instance: str = _key("main", _matching(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", "1 to 32 letters, digits, - or _"))
    settle_s: float = _key(2.0, _at_least(0))
    scan_interval_s: float = _key(30.0, _at_least(0.1, 86400))
    require_end: bool = False
    retention_days: float = _key(7.0, _at_least(0, 36500))
    status_days: float = _key(30.0, _at_least(0, 36500))
    held_days: float = _key(30.0, _at_least(0, 36500))
    min_free_mib: int = _key(2048, _at_least(0))
    free_finished: bool = True


@frozen
class TlsSettings:
    certificate: str = _key("", _absolute)
    key: str = _key("", _absolute)
    ca: str = _key("", _absolute)


@frozen
class ReceiverSettings:
    ae_title: str = _key("CDRECORD", _AE_TITLE)
    host: str = _key("", _matching(r"[A-Za-z0-9_.:%-]*", "an address, or nothing for all"))
    port: int = _key(10104, _at_least(0, 65535))
    allowed_calling_ae_titles: tuple[str, ...] = _key((), _AE_TITLE)
    allowed_hosts: tuple[str, ...] = _key((), _HOST)
    max_associations: int = _key(32, _at_least(1, 1000))
    tls: TlsSettings | None = None


@frozen
class PacsSettings:
    host: str = _key("localhost", _HOST)
    port: int = _key(11112, _PORT)
    ae_title: str = _key("ABPACS", _AE_TITLE)
    query: str = _key("instances", _one_of("instances", "counts", "none"))
    max_moves: int = _key(1, _at_least(1, 100))
    accept: str = _key("all", _one_of("all", "uncompressed"))
    connect_timeout_s: float = _key(10.0, _at_least(0.1))
    response_timeout_s: float = _key(60.0, _at_least(0.1))
    idle_timeout_s: float = _key(300.0, _at_least(0.1))
    first_arrival_s: float = _key(60.0, _at_least(0))
    grace_s: float = _key(5.0, _at_least(0))
    nearline_timeout_s: float = _key(3600.0, _at_least(0))
    further_moves: int = _key(3, _at_least(0, 100))
    tls: TlsSettings | None = None


@frozen
class DestinationSettings:
    host: str = _key(NOTHING, _HOST)
    port: int = _key(104, _PORT)
    ae_title: str = _key("ANY-SCP", _AE_TITLE)
    connect_timeout_s: float = _key(10.0, _at_least(0.1))
    response_timeout_s: float = _key(60.0, _at_least(0.1))
    tls: TlsSettings | None = None


@frozen
class MediaSettings:
    output: tuple[str, ...] = _key(("dir", "iso"), _one_of(*OUTPUTS))
    medium: str = _key("cd", _MEDIUM)
    profile: str = _key("auto", _matching(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "auto, as-received or the name of a profile"))
    institution: str = ""
    contact: str = ""
    disclaimer: str = ""
    extras: str = _key("", _absolute)


@frozen
class JobSettings:
    workers: int = _key(2, _at_least(1, 64))
    retry_first_s: float = _key(30.0, _at_least(0.1))
    retry_max_s: float = _key(900.0, _at_least(0.1))
    not_found_retry_s: tuple[float, ...] = _key((30.0, 120.0, 600.0), _at_least(0.1))
    give_up_after_h: float = _key(24.0, _at_least(0, 87600))
    incomplete_give_up_h: float = _key(1.0, _at_least(0, 87600))


@frozen
class MetricsSettings:
    textfile: str = _key("", _absolute)


@frozen
class Config:
    spool: SpoolSettings = field(factory=SpoolSettings)
    receiver: ReceiverSettings = field(factory=ReceiverSettings)
    pacs: Mapping[str, PacsSettings] = field(factory=lambda: {"ABPACS": PacsSettings()})
    forward: Mapping[str, DestinationSettings] = field(factory=dict)
    media: MediaSettings = field(factory=MediaSettings)
    jobs: JobSettings = field(factory=JobSettings)
    metrics: MetricsSettings = field(factory=MetricsSettings)

    @property
    def default_pacs(self) -> str:
        return next(iter(self.pacs))
