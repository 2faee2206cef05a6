"""One view of a file-set, wherever it lies: in a folder, in an ISO 9660 image, in a ZIP archive. Read only.

A file is named by its path from the root of the file-set, with slashes. `open` gives a seekable binary file. What is damaged raises
`SourceDefect`; OSError passes through.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from mkisod.media.elements import HEAD_BYTES
from mkisod.media.iso import ImageDefect, ImageFile, ImageVolume, is_image, list_files, read_volume


class SourceDefect(ValueError):
    """An image or an archive that cannot be read."""


class Source(Protocol):
    """Where a file-set is read from."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Size in bytes of every file."""

    def open(self, path: str) -> BinaryIO:
        """The caller closes it."""


class FolderSource:
    def __init__(self, root: Path) -> None:
        self._root = root
        found = dict(_measure_files(root, ""))
        # Linux shows a disc of ISO 9660 without extensions under names in lower case (mount(8), map=normal).
        is_mapped = "dicomdir" in found and all(name == name.lower() for name in found)
        self._names = {name.upper(): name for name in found} if is_mapped else {}
        self.sizes: Mapping[str, int] = {name.upper(): size for name, size in found.items()} if is_mapped else found

    def open(self, path: str) -> BinaryIO:
        return (self._root / self._names.get(path, path)).open("rb", buffering=HEAD_BYTES)


def _measure_files(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    """A symbolic link is no file of a file-set: following one could leave the disc."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _measure_files(folder / entry.name, f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                yield prefix + entry.name, entry.stat(follow_symlinks=False).st_size


class ImageSource:
    def __init__(self, image: io.BufferedReader) -> None:
        self._image = image
        self.size_bytes = image.seek(0, io.SEEK_END)  # of a drive too
        self.volume: ImageVolume = read_volume(image)
        self._files: Mapping[str, ImageFile] = {file.path: file for file in list_files(image)}
        self.sizes: Mapping[str, int] = {path: file.size_bytes for path, file in self._files.items()}

    def open(self, path: str) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_ExtentReader(self._image, self._files[path])))


class _ExtentReader(io.RawIOBase):
    """The bytes of one file of an image."""

    def __init__(self, image: io.BufferedReader, file: ImageFile) -> None:
        self._image, self._file, self._at = image, file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._file.size_bytes)[whence])
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        start = self._at
        for offset, size in self._file.extents:
            if start < size:
                self._image.seek(offset + start)
                count = self._image.readinto(memoryview(buffer)[: size - start])
                self._at += count
                return count
            start -= size
        return 0


class ArchiveSource:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.sizes: Mapping[str, int] = {info.filename: info.file_size for info in archive.infolist() if not info.is_dir()}

    def open(self, path: str) -> BinaryIO:
        return cast(BinaryIO, self._archive.open(path))

    def find_damaged(self) -> str | None:
        """The first file whose content does not have the checksum that the archive holds."""
        return self._archive.testzip()


@contextmanager
def open_source(path: Path) -> Iterator[FolderSource | ImageSource | ArchiveSource]:
    """By what `path` is, not by its name. Raises `SourceDefect` or OSError."""
    if path.is_dir():
        yield FolderSource(path)
        return
    if not (path.is_file() or path.is_block_device()):
        path.stat()
        raise SourceDefect(f"{path.name} is neither a folder nor a file")  # to open a pipe would wait for a writer
    with path.open("rb") as file:
        try:
            # A ZIP archive is told by its end, which may be the end of any file on an image: so an image is looked for first.
            if not is_image(file) and zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    yield ArchiveSource(archive)
            else:
                yield ImageSource(file)
        except (ImageDefect, zipfile.BadZipFile) as error:
            raise SourceDefect(f"{path.name} cannot be read: {error}") from error
