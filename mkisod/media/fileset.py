"""Makes one volume: the tree with its DICOMDIR and pages, the image and the archive of the same tree, and checks all of it.

The tree is made of hard links to the objects. It is what the image and the archive are made of, so where it was not asked for it is
there all the same, and goes at the end.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from attrs import frozen

from mkisod.errors import Code, Permanent
from mkisod.job.status import Volume
from mkisod.media.archive import write_archive
from mkisod.media.convert import Conversion
from mkisod.media.dicomdir import encode_dicomdir
from mkisod.media.hierarchy import Hierarchy
from mkisod.media.iso import is_iso_name
from mkisod.media.iso_layout import SECTOR_BYTES
from mkisod.media.iso_writer import write_image
from mkisod.media.pages import PageFacts, render_index, render_readme
from mkisod.media.sums import Sums
from mkisod.media.verify import Fault, compare_trees, verify_path

# Names that the tree has itself, or that a reader would start by itself (PS3.15, and the advice against it in IHE PDI).
_TAKEN_NAMES = frozenset({"DICOMDIR", "DICOM", "README.TXT", "INDEX.HTM", "AUTORUN.INF"})


@frozen
class FileSetOrder:
    """One volume as it is to be made."""

    file_set_id: str
    file_set_uid: str
    created: datetime
    output: frozenset[str]
    capacity_bytes: int | None
    extras: Path | None
    institution: str
    contact: str
    disclaimer: str
    creator: str
    missing: tuple[str, ...]
    missing_unnamed: int | None
    volume_names: tuple[str, ...]
    profile: str | None
    conversions: tuple[Conversion, ...]


def make_file_set(
    order: FileSetOrder, hierarchy: Hierarchy, directory: Path, sums: Sums, report_progress: Callable[[int, int], None]
) -> Volume:
    """Makes one volume in `directory`. Its files are given to `sums`, and its `sha256` is left out.

    Raises `Permanent(INTERNAL)` where it does not stand its own check, OSError.
    """
    tree = directory / order.file_set_id
    files = _make_tree(order, hierarchy, tree)
    if "dir" in order.output:
        sums.add(f"{tree.name}/{name}" for name in files)
    _refuse_faults(verify_path(tree))
    image = archive = None
    if "iso" in order.output:
        image = directory / f"{order.file_set_id}.ISO"
        report = _report_part(report_progress, 0, "zip" in order.output)
        write_image(image, order.file_set_id, tree, files, order.created, report_progress=report)
        sums.add([image.name])
        _refuse_faults(compare_trees(image, tree))
        if order.capacity_bytes is not None and image.stat().st_size > order.capacity_bytes:
            raise Permanent(Code.INTERNAL, f"The image has {image.stat().st_size} bytes; the medium takes {order.capacity_bytes}.")
    if "zip" in order.output:
        archive = directory / f"{order.file_set_id}.ZIP"
        write_archive(archive, tree, files, order.created, _report_part(report_progress, 1, "iso" in order.output))
        sums.add([archive.name])
        _refuse_faults(compare_trees(archive, tree))
    if "dir" not in order.output:
        shutil.rmtree(tree)
    packed = image or archive
    return Volume(
        file_set_id=order.file_set_id,
        directory=tree.name if "dir" in order.output else None,
        image=image.name if image else None,
        archive=archive.name if archive else None,
        sha256=None,
        size_bytes=packed.stat().st_size if packed else None,
        instances=hierarchy.number_of_files,
        profile=order.profile,
    )


def _report_part(report: Callable[[int, int], None], number: int, there_is_another: bool) -> Callable[[int, int], None]:
    """Image and archive of the same files count as halves of one whole."""
    if not there_is_another:
        return report
    return lambda done, total: report(number * total + done, 2 * total)


def _make_tree(order: FileSetOrder, hierarchy: Hierarchy, tree: Path) -> list[str]:
    """The files of the tree, as paths in it, in the order of the disc."""
    tree.mkdir()
    own = {placed.instance.sop_instance_uid for placed in hierarchy.files} if order.conversions else set()
    facts = PageFacts(
        file_set_id=order.file_set_id,
        created=order.created,
        institution=order.institution,
        contact=order.contact,
        disclaimer=order.disclaimer,
        creator=order.creator,
        missing=order.missing,
        missing_unnamed=order.missing_unnamed,
        volume_names=order.volume_names,
        extras=tuple(sorted(path.name for path in order.extras.iterdir())) if order.extras else (),
        hierarchy=hierarchy,
        profile=order.profile,
        conversions=tuple(conversion for conversion in order.conversions if conversion.sop_instance_uid in own),
    )
    files = ["DICOMDIR", "INDEX.HTM", "README.TXT"]
    (tree / "DICOMDIR").write_bytes(encode_dicomdir(order.file_set_id, order.file_set_uid, hierarchy.roots))
    (tree / "INDEX.HTM").write_bytes(render_index(facts))
    (tree / "README.TXT").write_bytes(render_readme(facts))
    folder = ""
    for placed in hierarchy.files:
        name = placed.file_id.replace("\\", "/")
        if name.rpartition("/")[0] != folder:
            folder = name.rpartition("/")[0]
            (tree / folder).mkdir(parents=True, exist_ok=True)
        os.link(placed.instance.path, f"{tree}/{name}")
        files.append(name)
    if order.extras is not None:
        for source in list_extras(order.extras):
            name = source.relative_to(order.extras).as_posix()
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, tree / name)
            files.append(name)
    return files


def list_extras(extras: Path) -> list[Path]:
    """The files of a folder of extras, links left out.

    Raises `Permanent(CONFIGURATION_INVALID)` where one has a name that the disc needs itself, or that ISO 9660 level 1 does not have.
    """
    files = sorted(path for path in extras.rglob("*") if path.is_file() and not path.is_symlink())
    taken = sorted({name for file in files if (name := file.relative_to(extras).parts[0]).upper() in _TAKEN_NAMES})
    if taken:
        raise Permanent(Code.CONFIGURATION_INVALID, f"The folder of extras may not hold {', '.join(taken)}: the disc has it itself.")
    illegal = [name for file in files if not is_iso_name(name := file.relative_to(extras).as_posix())]
    if illegal:
        raise Permanent(
            Code.CONFIGURATION_INVALID,
            f"The folder of extras holds {illegal[0]}; names on a disc have 8 characters A-Z, 0-9, _ and an extension of 3 (PS3.12 F).",
        )
    return files


def measure_extras(extras: Path | None) -> int:
    """Bytes that the extras take on a volume, in whole sectors, with a directory entry each."""
    if extras is None:
        return 0
    return sum((path.stat().st_size // SECTOR_BYTES + 2) * SECTOR_BYTES for path in list_extras(extras))


def _refuse_faults(faults: tuple[Fault, ...]) -> None:
    """A disc that does not stand its own check is a defect of ours, and is never published."""
    if faults:
        shown = "; ".join(str(fault) for fault in faults[:5])
        raise Permanent(Code.INTERNAL, f"The finished disc did not pass its check, with {len(faults)} faults: {shown}.")
