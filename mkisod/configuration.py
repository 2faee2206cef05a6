"""The configuration as the daemon lives by it: read and checked as a whole, what it means to the parts, and what of it can change live.

A reload takes over what a job reads when it begins, and what the receiver asks about each association. The rest is wired into the daemon
at its start; it stays as it is, and is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, frozen

from mkisod.config.parsing import ConfigurationInvalid, read_config
from mkisod.config.settings import Config
from mkisod.errors import Code, Permanent
from mkisod.job.request import Request, check_names, check_supported, choose_output
from mkisod.media.profile import find_choice_fault
from mkisod.pacs.settings import ReceiverSettings, TlsSettings


def load_config(path: Path) -> Config:
    """Raises `ConfigurationInvalid`, also for what no room can say alone."""
    config = read_config(path)
    check_config(config, path)
    return config


def check_config(config: Config, path: Path) -> None:
    """What no room can say alone. Raises `ConfigurationInvalid`."""
    media = config.media
    if fault := find_choice_fault(media.medium, media.profile, media.output):
        raise ConfigurationInvalid(path, [f"media: {fault}"])
    if media.extras and not Path(media.extras).is_dir():
        raise ConfigurationInvalid(path, [f"media.extras: {media.extras} is no folder"])


def check_request(config: Config, request: Request) -> None:
    """Raises `Permanent` for a request that this configuration or this version cannot carry out."""
    check_names(request, pacs_names=tuple(config.pacs), destination_names=tuple(config.forward))
    check_supported(request, can_query=config.pacs[request.pacs or config.default_pacs].query != "none")
    medium = request.medium or config.media.medium
    output = choose_output(request, medium, config.media.output)
    if fault := find_choice_fault(medium, request.profile or config.media.profile, output):
        raise Permanent(Code.REQUEST_MALFORMED, f"The request is refused: {fault}.")


def make_receiver_settings(config: Config) -> ReceiverSettings:
    receiver, tls = config.receiver, config.receiver.tls
    return ReceiverSettings(
        ae_title=receiver.ae_title,
        host=receiver.host,
        port=receiver.port,
        allowed_calling_ae_titles=receiver.allowed_calling_ae_titles,
        allowed_hosts=receiver.allowed_hosts,
        max_associations=receiver.max_associations,
        tls=TlsSettings(tls.certificate, tls.key, tls.ca) if tls else None,
        uncompressed_calling_ae_titles=tuple(p.ae_title for p in config.pacs.values() if p.accept == "uncompressed"),
    )


@frozen
class Reload:
    """`config` is what the daemon goes on with. Keys as they stand in the file, with their tables: `pacs.ABPACS.port`."""

    config: Config
    changed: tuple[str, ...]  # taken over
    needs_restart: tuple[str, ...]  # different in the file, and left as it was


def plan_reload(running: Config, wanted: Config) -> Reload:
    """What of a new configuration a running daemon takes over: archives, destinations, media, the rules of jobs, who may associate."""
    receiver = evolve(
        running.receiver,
        allowed_calling_ae_titles=wanted.receiver.allowed_calling_ae_titles,
        allowed_hosts=wanted.receiver.allowed_hosts,
        max_associations=wanted.receiver.max_associations,
    )
    jobs = evolve(wanted.jobs, workers=running.jobs.workers)
    config = evolve(wanted, spool=running.spool, receiver=receiver, jobs=jobs, metrics=running.metrics)
    return Reload(config, tuple(_list_differences(running, config)), tuple(_list_differences(config, wanted)))


def _list_differences(old: Config, new: Config) -> Iterator[str]:
    before, after = dict(_flatten(asdict(old), "")), dict(_flatten(asdict(new), ""))
    yield from (key for key in {**before, **after} if before.get(key) != after.get(key))
    if old.default_pacs != new.default_pacs and old.pacs == new.pacs:
        yield "pacs"  # only their order, which says which one is the default


def _flatten(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flatten(inner, f"{key}.{name}" if key else name)
    else:
        yield key, value
