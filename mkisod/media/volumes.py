"""Cuts what does not fit on one medium into volumes: at studies, then at series, then at instances. Pure.

Each volume is a file-set of its own, with a DICOMDIR that speaks of its own files only: PS3.11 knows no set over several media. The
estimate counts sectors as ISO 9660 uses them, directories and the DICOMDIR with them, and errs to the safe side by a few kilobytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from attrs import frozen

from mkisod.errors import Code, Permanent
from mkisod.media.consistency import Content
from mkisod.media.iso_layout import LARGEST_EXTENT_BYTES, SECTOR_BYTES
from mkisod.media.keys import TAGS
from mkisod.media.records import Instance, parse_number

# Sectors of 2,048 bytes: a 700 MB CD-R, a single layer and a dual layer DVD.
_MEDIA_SECTORS = {"cd": 359_844, "dvd": 2_295_104, "dvd-dl": 4_171_712}
_SECTORS_PER_MIB = 512

# The system area, the volume descriptors, the root directory and the pages.
_FIXED_BYTES = 64 * SECTOR_BYTES
# Of each patient, study and series: a directory, its entry, its place in the path tables, and its record.
_FOLDER_BYTES = SECTOR_BYTES + 1024
# Of each instance beside its content: its entry in a directory, and what a record holds beside its keys.
_ENTRY_BYTES = 48
_RECORD_BYTES = 144
# An entry never crosses a sector, so some of each sector of a directory stays empty.
_DIRECTORY_WASTE = 1.03

_FILE_SET_ID_LENGTH = 16


def find_capacity(medium: str) -> int | None:
    """Bytes that fit on `medium`: cd, dvd, dvd-dl or a size in MiB; None for usb, which has no limit. Raises ValueError."""
    if medium == "usb":
        return None
    sectors = _MEDIA_SECTORS.get(medium)
    return (int(medium) * _SECTORS_PER_MIB if sectors is None else sectors) * SECTOR_BYTES


def cut_volumes(contents: Iterable[Content], medium: str, reserved_bytes: int = 0) -> tuple[Content, ...]:
    """The contents of the volumes, in order. `reserved_bytes` are taken on every volume by other files.

    Raises `Permanent(OBJECT_TOO_LARGE)` for an instance that fits on no volume.
    """
    contents, capacity = tuple(contents), find_capacity(medium)
    if not medium.startswith("dvd"):  # ISO 9660 level 1 of a CD, and FAT, know no file of 4 GiB (PS3.12 F, R)
        for content in contents:
            for instance in (*chain(*content.patients), *content.rootless):
                if instance.size_bytes > LARGEST_EXTENT_BYTES:
                    raise _refuse(instance, medium)
    if capacity is None:
        return contents
    volumes: list[Content] = []
    for content in contents:
        cutter = _Cutter(capacity - _FIXED_BYTES - reserved_bytes, medium)
        for person, instances in enumerate(content.patients):
            for study in _cut(instances, _STUDY):
                cutter.place(person, study, (_SERIES, _INSTANCE))
        for instance in content.rootless:
            cutter.place(_NOBODY, [instance], ())
        volumes.extend(cutter.contents())
    return tuple(volumes)


@frozen
class _Level:
    """A level of the hierarchy to cut at: what holds its instances together, and what orders its parts on the disc."""

    uid_of: Callable[[Instance], str]
    order_of: Callable[[Instance], Any]


_STUDY = _Level(lambda i: i.study_instance_uid, lambda i: (i.study.get(TAGS["StudyDate"], b""), i.study.get(TAGS["StudyTime"], b"")))
_SERIES = _Level(lambda i: i.series_instance_uid, lambda i: parse_number(i.series.get(TAGS["SeriesNumber"])))
_INSTANCE = _Level(lambda i: i.sop_instance_uid, lambda i: parse_number(i.leaf.get(TAGS["InstanceNumber"])))
_NOBODY = -1


class _Cutter:
    """Fills one volume after the other. A part that fits on an empty volume is never cut."""

    def __init__(self, capacity: int, medium: str) -> None:
        self._capacity, self._medium = capacity, medium
        self._volumes: list[dict[int, list[Instance]]] = [{}]
        self._used = 0

    def place(self, person: int, instances: list[Instance], levels: Sequence[_Level]) -> None:
        size = _estimate_bytes(instances)
        if self._used and self._used + size > self._capacity and (size <= self._capacity or not levels):
            self._volumes.append({})
            self._used = 0
        if self._used + size <= self._capacity:
            self._volumes[-1].setdefault(person, []).extend(instances)
            self._used += size
        elif levels:
            for part in _cut(instances, levels[0]):
                self.place(person, part, levels[1:])
        else:
            raise _refuse(instances[0], self._medium)

    def contents(self) -> Iterator[Content]:
        for volume in self._volumes:
            rootless = tuple(volume.pop(_NOBODY, ()))
            yield Content(tuple(tuple(instances) for instances in volume.values()), rootless)


def _refuse(instance: Instance, medium: str) -> Permanent:
    name = f"the medium {medium}" if medium in (*_MEDIA_SECTORS, "usb") else f"a medium of {medium} MiB"
    return Permanent(
        Code.OBJECT_TOO_LARGE, f"SOP instance {instance.sop_instance_uid} of {instance.size_bytes} bytes does not fit on {name}."
    )


def _cut(instances: Iterable[Instance], level: _Level) -> list[list[Instance]]:
    parts: dict[str, list[Instance]] = {}
    for instance in instances:
        parts.setdefault(level.uid_of(instance), []).append(instance)
    return [parts[uid] for uid in sorted(parts, key=lambda uid: (level.order_of(parts[uid][0]), uid))]


def _estimate_bytes(instances: Sequence[Instance]) -> int:
    content = sum(-(-instance.size_bytes // SECTOR_BYTES) * SECTOR_BYTES for instance in instances)
    entries = len(instances) * _ENTRY_BYTES * _DIRECTORY_WASTE
    records = sum(_RECORD_BYTES + len(instance.leaf.encoded) for instance in instances)
    folders = 2 + len({instance.series_instance_uid for instance in instances})
    return int(content + entries + records + folders * _FOLDER_BYTES) + SECTOR_BYTES


def name_volume(file_set_id: str, number: int, count: int) -> str:
    """The File-set ID of one of several volumes: `<label cut to fit>_<i>OF<n>` (PS3.3 F.3.2: at most 16 characters)."""
    if count == 1:
        return file_set_id
    suffix = f"_{number}OF{count}"
    return file_set_id[: _FILE_SET_ID_LENGTH - len(suffix)] + suffix


def make_volume_uid(file_set_uid: str, number: int) -> str:
    """The File-set UID of a volume: the first has the one given, each further one a UID derived from it (PS3.5 B.2)."""
    return file_set_uid if number == 1 else f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{file_set_uid}.{number}').int}"
