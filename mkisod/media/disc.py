"""The door of the room: received objects in, a finished and checked disc out.

`build_disc` reads the head of each object, sorts out what belongs where, fits it to the profile, cuts it into volumes, and makes each
(fileset.py). Objects are hard-linked, never copied or altered; where a profile asks for it, converted copies stand for them (fitting.py).
What it raises: `Permanent` for objects that make no conformant disc or several patients' disc, `Transient(DISK_FULL)` for a full disk,
OSError for anything else of the file system. What it wrote before it failed lies in `directory`, which the caller discards.
"""

from __future__ import annotations

import errno
import filecmp
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path

from attrs import evolve, frozen

from mkisod.errors import Code, Permanent, Transient
from mkisod.job.status import Volume
from mkisod.media.ahead import ObjectReader
from mkisod.media.consistency import sort_out
from mkisod.media.convert import Conversion
from mkisod.media.fileset import FileSetOrder, make_file_set, measure_extras
from mkisod.media.fitting import fit_profile
from mkisod.media.hierarchy import build_hierarchy
from mkisod.media.index import ObjectIndex
from mkisod.media.profile import AS_RECEIVED, AUTO
from mkisod.media.records import Substitution
from mkisod.media.sums import Digests, Sums
from mkisod.media.volumes import cut_volumes, find_capacity, make_volume_uid, name_volume

# Where converted objects lie until they are linked; no File-set ID has a dot.
_CONVERTED = ".converted"

__all__ = [
    "AS_RECEIVED",
    "AUTO",
    "Conversion",
    "Digests",
    "Disc",
    "DiscOrder",
    "ObjectIndex",
    "ObjectReader",
    "Substitution",
    "Volume",
    "build_disc",
]


@frozen
class DiscOrder:
    """What is to be made of the objects. `created` is UTC; `output` is any of "dir", "iso", "zip"; `medium` as in volumes.py."""

    file_set_id: str
    file_set_uid: str
    created: datetime
    output: frozenset[str] = frozenset({"dir", "iso"})
    medium: str = "cd"
    institution: str = ""
    contact: str = ""
    disclaimer: str = ""
    missing: tuple[str, ...] = ()  # SOP Instance UIDs that never came
    missing_unnamed: int | None = 0  # how many more never came whose UIDs nobody knows; None: not even that is known
    allow_several_patients: bool = False
    profile: str = AS_RECEIVED  # a name of profile.py, or AUTO
    extras: Path | None = None  # a folder that is copied onto every volume
    creator: str = "mkisod"  # with its version, for the pages


@frozen
class Disc:
    """What `build_disc` made. Nothing in it names a patient."""

    volumes: tuple[Volume, ...]
    substitutions: tuple[Substitution, ...]
    warnings: tuple[str, ...]
    conversions: tuple[Conversion, ...] = ()


def build_disc(
    order: DiscOrder,
    objects: Iterable[Path],
    directory: Path,
    *,
    report_progress: Callable[[int, int], None],
    index: ObjectIndex | None = None,
    digests: Digests | None = None,
) -> Disc:
    """Makes the disc in `directory`, which exists, is empty, and lies on the file system of the objects.

    `report_progress` gets bytes done and bytes in all, and (0, 1) as long as nothing is known yet; what it raises passes through.
    `index` and `digests` may know objects from before.
    """
    describe = (index or ObjectIndex()).describe
    instances = []
    for path in objects:
        instances.append(describe(path))
        report_progress(0, 1)
    if not instances:
        raise Permanent(Code.NOTHING_SELECTED, "There is no object to make a disc of.")
    contents = sort_out(instances, allow_several_patients=order.allow_several_patients, have_same_content=_have_same_content)
    with _naming_a_full_disk(), Digests() if digests is None else nullcontext(digests) as known:
        fitting = fit_profile(contents, order.medium, order.profile, directory / _CONVERTED, lambda: report_progress(0, 1))
        volumes = cut_volumes(fitting.contents, order.medium, measure_extras(order.extras))
        names = tuple(name_volume(order.file_set_id, number, len(volumes)) for number in range(1, len(volumes) + 1))
        sums = Sums(directory, known)
        progress = _Progress(len(volumes), report_progress)
        made: list[Volume] = []
        substitutions: list[Substitution] = []
        warnings: list[str] = [*fitting.warnings]
        for number, content in enumerate(volumes, 1):
            hierarchy = build_hierarchy(content.patients, content.rootless)
            file_set = FileSetOrder(
                file_set_id=names[number - 1],
                file_set_uid=make_volume_uid(order.file_set_uid, number),
                created=order.created,
                output=order.output,
                capacity_bytes=find_capacity(order.medium),
                extras=order.extras,
                institution=order.institution,
                contact=order.contact,
                disclaimer=order.disclaimer,
                creator=order.creator,
                missing=order.missing,
                missing_unnamed=order.missing_unnamed,
                volume_names=names,
                profile=fitting.profile,
                conversions=fitting.conversions,
            )
            made.append(make_file_set(file_set, hierarchy, directory, sums, progress.of_volume(number)))
            substitutions += hierarchy.substitutions
            warnings += hierarchy.warnings
        if (directory / _CONVERTED).exists():
            shutil.rmtree(directory / _CONVERTED)
        sums.write()
        finished = tuple(_add_digest(volume, sums) for volume in made)
    return Disc(finished, tuple(substitutions), tuple(dict.fromkeys(warnings)), fitting.conversions)


def _add_digest(volume: Volume, sums: Sums) -> Volume:
    packed = volume.image or volume.archive
    return evolve(volume, sha256=sums.find(packed)) if packed else volume


@contextmanager
def _naming_a_full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Transient(Code.DISK_FULL, "The disk is full; the disc could not be written.") from error
        raise


class _Progress:
    """Adds the volumes up to one whole, each counted alike."""

    def __init__(self, count: int, report: Callable[[int, int], None]) -> None:
        self._count, self._report = count, report

    def of_volume(self, number: int) -> Callable[[int, int], None]:
        def report(done: int, total: int) -> None:
            self._report((number - 1) * total + done, self._count * total)

        return report


def _have_same_content(first: str, second: str) -> bool:
    return filecmp.cmp(first, second, shallow=False)
