"""The door of the room: received objects in, a finished and checked disc out.

`build_disc` reads the head of each object, sorts out what belongs where, hard-links the objects into the tree of the file-set, writes
DICOMDIR, README.TXT and INDEX.HTM beside them, makes the image and the archive of the same tree, and reads all of it back as a
stranger would before it returns. Objects are never copied or altered. What it raises: `Permanent` for objects that make no conformant
disc or several patients' disc, `Transient(DISK_FULL)` for a full disk, OSError for anything else of the file system. What it wrote
before it failed lies in `directory`, which the caller discards.
"""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from attrs import frozen

from mkisod.errors import Code, Permanent, Transient
from mkisod.media.consistency import Content, sort_out
from mkisod.media.dicomdir import encode_dicomdir
from mkisod.media.header import read_header
from mkisod.media.hierarchy import Hierarchy, build_hierarchy
from mkisod.media.iso import write_image
from mkisod.media.pages import PageFacts, render_index, render_readme
from mkisod.media.records import Instance, Substitution, describe_instance
from mkisod.media.sums import compute_digest, write_sums
from mkisod.media.verify import Fault, compare_image, verify_path


@frozen
class DiscOrder:
    """What is to be made of the objects. `created` is UTC; `output` is any of "dir", "iso", "zip"."""

    file_set_id: str
    file_set_uid: str
    created: datetime
    output: frozenset[str] = frozenset({"dir", "iso"})
    medium: str = "cd"
    institution: str = ""
    contact: str = ""
    disclaimer: str = ""
    missing: tuple[str, ...] = ()  # SOP Instance UIDs that never came
    allow_several_patients: bool = False


@frozen
class Volume:
    """One file-set as published. Names are relative to the directory of the result; those not asked for are None."""

    file_set_id: str
    directory: str | None
    image: str | None
    archive: str | None
    sha256: str | None
    size_bytes: int | None
    instances: int
    profile: str | None


@frozen
class Disc:
    """What `build_disc` made. Nothing in it names a patient."""

    volumes: tuple[Volume, ...]
    substitutions: tuple[Substitution, ...]
    warnings: tuple[str, ...]


def describe_file(path: Path) -> Instance:
    """What the records over the object at `path` hold. Raises `Permanent(NONCONFORMANT)` or OSError."""
    return describe_instance(read_header(path))


def build_disc(
    order: DiscOrder,
    objects: Iterable[Path],
    directory: Path,
    *,
    report_progress: Callable[[int, int], None],
    describe: Callable[[Path], Instance] = describe_file,
) -> Disc:
    """Makes the disc in `directory`, which exists, is empty, and lies on the file system of the objects.

    `report_progress` gets bytes done and bytes in all. `describe` may know objects from before (index.py).
    """
    instances = [describe(path) for path in objects]
    if not instances:
        raise Permanent(Code.INTERNAL, "There is no object to make a disc of.")
    contents = sort_out(instances, allow_several_patients=order.allow_several_patients, have_same_content=_have_same_content)
    try:
        volumes, hierarchies = [], []
        for content in contents:
            volume, hierarchy = _build_volume(order, order.file_set_id, content, directory, report_progress)
            volumes.append(volume)
            hierarchies.append(hierarchy)
        write_sums(directory, {directory / volume.image: volume.sha256 for volume in volumes if volume.image and volume.sha256})
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Transient(Code.DISK_FULL, "The disk is full; the disc could not be written.") from error
        raise
    return Disc(
        tuple(volumes),
        tuple(substitution for hierarchy in hierarchies for substitution in hierarchy.substitutions),
        tuple(warning for hierarchy in hierarchies for warning in hierarchy.warnings),
    )


def _build_volume(
    order: DiscOrder, file_set_id: str, content: Content, directory: Path, report_progress: Callable[[int, int], None]
) -> tuple[Volume, Hierarchy]:
    hierarchy = build_hierarchy(content.patients, content.rootless)
    tree = directory / file_set_id
    tree.mkdir()
    (tree / "DICOMDIR").write_bytes(encode_dicomdir(file_set_id, order.file_set_uid, hierarchy.roots))
    facts = PageFacts(file_set_id, order.created, order.institution, order.contact, order.disclaimer, order.missing, hierarchy)
    (tree / "README.TXT").write_bytes(render_readme(facts))
    (tree / "INDEX.HTM").write_bytes(render_index(facts))
    files = [(name, tree / name) for name in ("DICOMDIR", "INDEX.HTM", "README.TXT")]
    folders: set[Path] = set()
    for placed in hierarchy.files:
        name = placed.file_id.replace("\\", "/")
        target = tree / name
        if target.parent not in folders:
            target.parent.mkdir(parents=True, exist_ok=True)
            folders.add(target.parent)
        os.link(placed.instance.path, target)
        files.append((name, target))
    _refuse_faults(verify_path(tree))
    image = None
    if "iso" in order.output:
        image = directory / f"{file_set_id}.ISO"
        write_image(image, file_set_id, files, order.created, report_progress)
        _refuse_faults(compare_image(image, tree))
    sha256 = compute_digest(image) if image else None
    size_bytes = image.stat().st_size if image else None
    if "dir" not in order.output:
        shutil.rmtree(tree)
    return (
        Volume(
            file_set_id,
            file_set_id if "dir" in order.output else None,
            image.name if image else None,
            None,
            sha256,
            size_bytes,
            len(hierarchy.files),
            None,
        ),
        hierarchy,
    )


def _refuse_faults(faults: tuple[Fault, ...]) -> None:
    """A disc that does not stand its own check is a defect of ours, and is never published."""
    if faults:
        shown = "; ".join(str(fault) for fault in faults[:5])
        raise Permanent(Code.INTERNAL, f"The finished disc did not pass its check, with {len(faults)} faults: {shown}.")


def _have_same_content(first: Path, second: Path) -> bool:
    return filecmp.cmp(first, second, shallow=False)
