"""Fits what was received to the profile that was ordered: decides, converts, and says what it did.

Under `auto` a disc that meets no profile is made of the objects as received, and says why; under a profile asked for by name it is
refused. Converted objects lie in a folder of their own until the trees are linked; received objects are never touched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import evolve, frozen

from mkisod.errors import Code, Permanent
from mkisod.media.consistency import Content
from mkisod.media.convert import Conversion, ConversionFailed, convert_instances, find_convertible
from mkisod.media.header import read_header
from mkisod.media.profile import AS_RECEIVED, AUTO, plan_profile
from mkisod.media.records import Instance, describe_instance


@frozen
class Fitting:
    """The contents as they go on the disc, the profile they meet or None, and the conversions made for it."""

    contents: tuple[Content, ...]
    profile: str | None
    conversions: tuple[Conversion, ...] = ()
    warnings: tuple[str, ...] = ()


def fit_profile(contents: Sequence[Content], medium: str, wanted: str, folder: Path, report: Callable[[], None]) -> Fitting:
    """`folder` is made where something has to be converted. Raises `Permanent(NONCONFORMANT)` under a profile named, OSError."""
    instances = [instance for content in contents for group in (*content.patients, content.rootless) for instance in group]
    plan = plan_profile(instances, medium, wanted, frozenset() if wanted == AS_RECEIVED else find_convertible())
    reason = plan.reason
    if plan.profile is not None:
        try:
            return _convert(contents, plan.profile, plan.converted, folder, report)
        except ConversionFailed as failure:
            reason = str(failure)
    if wanted not in (AUTO, AS_RECEIVED):
        raise Permanent(Code.NONCONFORMANT, f"The profile {wanted} cannot be met: {reason}.", "Ask for another profile, or for auto.")
    warnings = (f"The disc meets no media storage application profile; the objects are as received: {reason}.",) if wanted == AUTO else ()
    return Fitting(tuple(contents), None, (), warnings)


def _convert(
    contents: Sequence[Content], profile: str, converted: Sequence[Instance], folder: Path, report: Callable[[], None]
) -> Fitting:
    if not converted:
        return Fitting(tuple(contents), profile)
    folder.mkdir()
    made = convert_instances(converted, folder, os.cpu_count() or 1, report)
    new = {conversion.sop_instance_uid: describe_instance(read_header(path)) for path, conversion in made}

    def replace(instances: Sequence[Instance]) -> tuple[Instance, ...]:
        return tuple(new.get(instance.sop_instance_uid, instance) for instance in instances)

    fitted = tuple(
        evolve(content, patients=tuple(map(replace, content.patients)), rootless=replace(content.rootless)) for content in contents
    )
    return Fitting(fitted, profile, tuple(conversion for _, conversion in made))
