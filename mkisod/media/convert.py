"""Converts objects to Explicit VR Little Endian without loss, and believes no converter (comparison.py).

What is deflated is inflated here; everything else goes through DCMTK, JPEG 2000 through GDCM, each conversion as a process of its own
with limits on time and memory, several at once. What does not work out raises `ConversionFailed` with the reason.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attrs import frozen
from pydicom import dcmread, uid
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_file_meta_info

from mkisod.media.comparison import compare_conversion
from mkisod.media.elements import Encoding, StructureDefect, read_elements
from mkisod.media.records import Instance

_TIME_LIMIT_S = 600
_MEMORY_LIMIT_BYTES = 4 << 30
_LARGEST_INFLATED_BYTES = 8 << 30
_BLOCK_BYTES = 1 << 20
_SHOWN_CHARACTERS = 300
_FULL_BYTES = 1 << 20  # with less left, a failed conversion is put down to the disk
_META_END = 0x00030000

_DEFLATED = str(uid.DeflatedExplicitVRLittleEndian)
# The command for each transfer syntax; input and output follow.
_COMMANDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys((uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian), ("dcmconv", "+te")),
    **dict.fromkeys((uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1), ("dcmdjpeg", "+te")),
    **dict.fromkeys((uid.JPEGLSLossless, uid.JPEGLSNearLossless), ("dcmdjpls", "+te")),
    **dict.fromkeys((uid.JPEG2000Lossless, uid.JPEG2000), ("gdcmconv", "--raw")),
    uid.RLELossless: ("dcmdrle", "+te"),
}


class ConversionFailed(Exception):
    """The object stays as it was received; the message says why."""


@frozen
class Conversion:
    """One object that is on the disc in another encoding than it was received in."""

    sop_instance_uid: str
    from_transfer_syntax_uid: str
    to_transfer_syntax_uid: str
    was_lossy: bool  # its pixel data had been compressed with loss before


def find_convertible() -> frozenset[str]:
    """The transfer syntaxes from which objects can be converted: those whose converter is installed."""
    return frozenset({_DEFLATED, *(str(syntax) for syntax, command in _COMMANDS.items() if shutil.which(command[0]))})


def find_missing_converters() -> tuple[str, ...]:
    """The programs that are not installed. Objects that need one of them stay as they were received."""
    return tuple(sorted({command[0] for command in _COMMANDS.values() if not shutil.which(command[0])}))


def convert_instances(
    instances: Sequence[Instance], folder: Path, at_once: int, report: Callable[[], None]
) -> list[tuple[Path, Conversion]]:
    """Converts each into `folder`, which exists, `at_once` at a time; `report` is called after each, in this thread.

    Raises `ConversionFailed` for the first that does not work out, OSError, and what `report` raises; what runs is waited for.
    """
    with ThreadPoolExecutor(at_once) as pool:
        pending = [pool.submit(_convert, instance, folder / str(number)) for number, instance in enumerate(instances)]
        try:
            converted = []
            for future in pending:
                converted.append(future.result())
                report()
        finally:
            for future in pending:
                future.cancel()
    return converted


def convert_object(source: Path, from_transfer_syntax_uid: str, to_transfer_syntax_uid: str, target: Path) -> None:
    """One object to Explicit or Implicit VR Little Endian, at `target`. What came out of a lossy compression says so.

    Raises `ConversionFailed` where there is no converter or it did not work out, and OSError.
    """
    is_explicit = from_transfer_syntax_uid == uid.ExplicitVRLittleEndian
    if to_transfer_syntax_uid == uid.ExplicitVRLittleEndian:
        _make_explicit(source, from_transfer_syntax_uid, target)
    elif is_explicit:
        _make_implicit(source, target)
    else:
        explicit = target.with_suffix(".explicit")
        try:
            _make_explicit(source, from_transfer_syntax_uid, explicit)
            _make_implicit(explicit, target)
        finally:
            explicit.unlink(missing_ok=True)


def _convert(instance: Instance, target: Path) -> tuple[Path, Conversion]:
    was_lossy = _make_explicit(Path(instance.path), instance.transfer_syntax_uid, target, instance.sop_instance_uid)
    return target, Conversion(instance.sop_instance_uid, instance.transfer_syntax_uid, str(uid.ExplicitVRLittleEndian), was_lossy)


def _make_explicit(source: Path, from_transfer_syntax_uid: str, target: Path, sop_instance_uid: str = "") -> bool:
    """Whether it had been compressed with loss."""
    try:
        if from_transfer_syntax_uid not in find_convertible():
            raise ConversionFailed(f"there is no converter from {from_transfer_syntax_uid}")
        if from_transfer_syntax_uid == _DEFLATED:
            _inflate(source, target)
            was_lossy = bool(dcmread(target, stop_before_pixels=True).get("LossyImageCompression") == "01")
        else:
            _run([*_COMMANDS[from_transfer_syntax_uid], str(source), str(target)])
            was_lossy = _compare(source, target)
        if was_lossy:
            _mark_lossy(target)
    except (ConversionFailed, zlib.error) as failure:
        _blame_full_disk(target.parent)
        named = f"SOP instance {sop_instance_uid}" if sop_instance_uid else "it"
        raise ConversionFailed(f"{named} could not be converted: {failure}") from failure
    return was_lossy


def _make_implicit(source: Path, target: Path) -> None:
    """The comparison is of what says the same in Implicit and in Explicit VR, whichever was made of which."""
    try:
        _run(["dcmconv", "+ti", str(source), str(target)])
        _compare(target, source)
    except ConversionFailed as failure:
        _blame_full_disk(target.parent)
        raise ConversionFailed(f"it could not be converted: {failure}") from failure


def _blame_full_disk(folder: Path) -> None:
    """A converter that finds no room says so in words of its own, or not at all. That is no fault of the object. Raises OSError."""
    status = os.statvfs(folder)
    if status.f_bavail * status.f_frsize < _FULL_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _compare(source: Path, target: Path) -> bool:
    try:
        return compare_conversion(source, target)
    except FileNotFoundError as error:  # as source or as target
        raise ConversionFailed("the converter wrote nothing") from error
    except OSError:
        raise
    except StructureDefect as defect:
        raise ConversionFailed(str(defect)) from defect
    except Exception as error:
        # What a parser can raise for what a converter may write has no end; all of it means the same.
        raise ConversionFailed(f"what the converter wrote cannot be read: {error}") from error


def _run(command: Sequence[str]) -> None:
    """One converter, with nothing to read and nowhere to go. Raises `ConversionFailed` with its last words."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        # Set from outside: code between fork and exec is not safe in a process of many threads.
        resource.prlimit(process.pid, resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
        try:
            said, _ = process.communicate(timeout=_TIME_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise ConversionFailed(f"{command[0]} took longer than {_TIME_LIMIT_S} s") from error
    if process.returncode != 0:
        words = said.decode("ascii", "replace")[-_SHOWN_CHARACTERS:].strip()
        raise ConversionFailed(f"{command[0]} ended with {process.returncode}: {words}")


def _inflate(source: Path, target: Path) -> None:
    """A deflated data set is one in Explicit VR Little Endian, deflated (PS3.5 A.5): what comes out needs no comparison."""
    meta = dcmread(source, specific_tags=[]).file_meta
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    with source.open("rb") as reader, target.open("wb") as writer:
        writer.write(bytes(128) + b"DICM")
        write_file_meta_info(DicomFileLike(writer), meta)
        reader.seek(132)
        read_elements(reader, source.stat().st_size, Encoding(), (), stop_at=_META_END)
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        while not inflater.eof:
            block = inflater.unconsumed_tail or reader.read(_BLOCK_BYTES)
            if not block:
                raise ConversionFailed("its deflated data set ends early")
            writer.write(inflater.decompress(block, _BLOCK_BYTES))
            if writer.tell() > _LARGEST_INFLATED_BYTES:
                raise ConversionFailed(f"its data set is larger than {_LARGEST_INFLATED_BYTES} bytes")


def _mark_lossy(target: Path) -> None:
    """Lossy Image Compression (0028,2110) says for good that something was lost (PS3.3 C.7.6.1.1.5)."""
    head = dcmread(target, stop_before_pixels=True)
    if head.get("LossyImageCompression") == "01":
        return
    data_set = dcmread(target)
    data_set.LossyImageCompression = "01"
    data_set.save_as(target)
