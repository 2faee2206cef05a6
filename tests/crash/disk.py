"""A disk that remembers every step, and can tell what a death at any of them would have left.

The spool works on a real directory; each change of it is also written down as a `Step`. Three numbers describe a death: how many steps had
been taken, how many of the changes of directories are kept, and what became of content that nobody had synced. `kill` keeps everything;
`power cuts` keep a prefix of the changes of directories, as a journalled file system does, but at least up to the last one that was
followed by a sync of every directory concerned. What the receiver and the media room write without the seam is noticed, and unsynced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar

from attrs import define, field, frozen

from mkisod.spool.durable import Disk

ROOT = 0

W = TypeVar("W")


class Death(BaseException):
    """The process ends here, without a word: nothing may catch it."""


# --- What a step changes: names in directories, or the content of a file. Files and directories are numbers, as inodes are. ----------


@frozen
class Name:
    parent: int
    name: str
    child: int
    is_directory: bool = False

    @property
    def concerned(self) -> frozenset[int]:
        return frozenset({self.parent})


@frozen
class Unname:
    parent: int
    name: str

    @property
    def concerned(self) -> frozenset[int]:
        return frozenset({self.parent})


@frozen
class Move:
    source: int
    old: str
    target: int
    new: str

    @property
    def concerned(self) -> frozenset[int]:
        return frozenset({self.source, self.target})


@frozen
class Fill:
    file: int
    data: bytes


@frozen
class Flush:
    node: int


Change = Name | Unname | Move | Fill | Flush


@frozen
class Step(Generic[W]):
    """One change, and the world (the clock, the client) after it. What the client does is no place for the daemon to die at."""

    change: Change
    world: W
    of_client: bool = False


class Content(StrEnum):
    """What became of content that was not synced."""

    FULL = "full"
    EMPTY = "empty"
    TORN = "torn"  # the first half
    ZEROS = "zeros"  # of the right size, but the second half never came to the disk
    OLD = "old"  # what had been synced before
    MIXED = "mixed"  # of each file something else


@frozen
class Power:
    """A power cut: the changes of directories below `kept` are kept."""

    kept: int
    content: Content


@define
class Tree:
    """Directories and files in memory."""

    directories: dict[int, dict[str, int]] = field(factory=lambda: {ROOT: {}})
    contents: dict[int, bytes] = field(factory=dict)
    synced: dict[int, bytes] = field(factory=dict)

    def apply(self, change: Change) -> None:
        match change:
            case Fill(file, data):
                self.contents[file] = data
            case Flush(node):
                if node in self.contents:
                    self.synced[node] = self.contents[node]
            case Name(parent, name, child, is_directory):
                self.directories[parent][name] = child
                if is_directory:
                    self.directories.setdefault(child, {})
            case Unname(parent, name):
                del self.directories[parent][name]
            case Move(source, old, target, new):
                self.directories[target][new] = self.directories[source].pop(old)

    def find(self, path: str) -> int:
        """Raises FileNotFoundError. The path is relative to the root, which is `.`."""
        node = ROOT
        try:
            for part in path.split("/") if path != "." else ():
                node = self.directories[node][part]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        return node

    def list(self, node: int = ROOT, path: str = "") -> Iterator[tuple[str, int]]:
        for name, child in sorted(self.directories[node].items()):
            yield path + name, child
            if child in self.directories:
                yield from self.list(child, f"{path}{name}/")

    def files(self, top: str = "") -> dict[str, bytes]:
        """The content of each file by its path; of a directory, which ends in a slash, nothing."""
        return {
            path + "/" * (node in self.directories): self.contents.get(node, b"")
            for path, node in self.list()
            if path.startswith(top)
        }

    def write(self, root: Path) -> None:
        """Make it real. Names of one file are links."""
        written: dict[int, Path] = {}
        for path, node in self.list():
            if node in self.directories:
                (root / path).mkdir()
            elif node in written:
                os.link(written[node], root / path)
            else:
                written[node] = root / path
                (root / path).write_bytes(self.contents.get(node, b""))


# --- What a death leaves -----------------------------------------------------------------------------------------------------------


def find_kept(steps: list[Step[W]], base: int) -> list[int]:
    """For a power cut after so many steps: how many of them are safe, as far as directories go. What lies before `base` is."""
    safe, kept, waiting = base, [base] * (base + 1), dict[int, set[int]]()
    for index, step in enumerate(steps[base:], base):
        change = step.change
        if isinstance(change, Flush):
            for changed in [changed for changed, left in waiting.items() if left <= {change.node}]:
                safe = max(safe, changed + 1)
                del waiting[changed]
            for left in waiting.values():
                left.discard(change.node)
        elif not isinstance(change, Fill):
            waiting[index] = set(change.concerned)
        kept.append(safe)
    return kept


def list_powers(steps: list[Step[W]], safe: list[int], taken: int, contents: tuple[Content, ...]) -> Iterator[Power]:
    """Every power cut after `taken` steps."""
    changes = [index for index in range(safe[taken], taken) if not isinstance(steps[index].change, Fill | Flush)]
    for kept in (safe[taken], *(index + 1 for index in changes)):
        for content in contents:
            yield Power(kept, content)


def leave(steps: list[Step[W]], taken: int, power: Power | None, seed: int = 0) -> Tree:
    """The tree after a death. Without `power` it is a kill."""
    tree = Tree()
    for index, step in enumerate(steps[:taken]):
        if power is None or index < power.kept or isinstance(step.change, Fill | Flush):
            tree.apply(step.change)
    if power is not None:
        chance = random.Random(f"{seed}/{taken}/{power}")  # noqa: S311 - replayable
        for file in sorted(tree.contents):
            tree.contents[file] = _spoil(tree.contents[file], tree.synced.get(file), power.content, chance)
        tree.synced = dict(tree.contents)
    return tree


_LOSSES = (Content.FULL, Content.EMPTY, Content.TORN, Content.ZEROS, Content.OLD)


def _spoil(data: bytes, synced: bytes | None, content: Content, chance: random.Random) -> bytes:
    if data == synced:
        return data
    half = len(data) // 2
    match chance.choice(_LOSSES) if content is Content.MIXED else content:
        case Content.FULL:
            return data
        case Content.TORN:
            return data[:half]
        case Content.ZEROS:
            return data[:half] + bytes(len(data) - half)
        case Content.OLD:
            return synced or b""
        case _:
            return b""


def begin_anew(tree: Tree, world: W) -> list[Step[W]]:
    """The tree as steps that are all durable: what a boot finds."""
    steps: list[Step[W]] = []
    named: set[int] = set()
    for path, node in tree.list():
        above, _, name = path.rpartition("/")
        steps.append(Step(Name(tree.find(above or "."), name, node, node in tree.directories), world))
        if node in tree.contents and node not in named:
            named.add(node)
            steps += [Step(Fill(node, tree.contents[node]), world), Step(Flush(node), world)]
    return steps


# --- The disk ----------------------------------------------------------------------------------------------------------------------


class CrashDisk(Disk, Generic[W]):
    """Works in `root`, which it makes of the `steps` so far and adds to. `dies_at`: so many steps, and the process is dead."""

    def __init__(self, root: Path, steps: list[Step[W]], look_at_world: Callable[[], W], *, dies_at: int | None = None) -> None:
        self.root = root
        self.steps = list(steps)
        self.dies_at = dies_at
        self.fails_at: int | None = None  # this step fails, once
        self.sees_directories = True  # False: a sync of a directory does nothing
        self.tree = Tree()
        for step in steps:
            self.tree.apply(step.change)
        root.mkdir()
        self.tree.write(root)
        self._look_at_world = look_at_world
        self._next = 1 + max((step.change.child for step in steps if isinstance(step.change, Name)), default=ROOT)
        self._of_client = False
        self._cut = len(str(root)) + 1
        self._nodes = {(root / path).stat().st_ino: node for path, node in self.tree.list()}

    @contextlib.contextmanager
    def client(self) -> Iterator[None]:
        """What is done now is done by the client, who does not die."""
        self._of_client = True
        yield
        self._of_client = False

    def _find(self, path: Path) -> int:
        return self.tree.find(str(path)[self._cut :] or ".")

    def _find_parent(self, path: Path) -> int:
        return self._find(path.parent)

    def _knows(self, path: Path) -> bool:
        return path.name in self.tree.directories[self._find_parent(path)]

    def _take(self, change: Change, act: Callable[[], object] = lambda: None) -> None:
        """A death comes before a step; so does a failure, which is none."""
        if self.dies_at is not None and len(self.steps) >= self.dies_at:
            raise Death
        if self.fails_at == len(self.steps):
            self.fails_at = None
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        act()
        self.tree.apply(change)
        self.steps.append(Step(change, self._look_at_world(), self._of_client))

    def notice(self, path: Path) -> None:
        """Take down what has been written at `path` and below without the seam."""
        status = os.lstat(path)
        parent, name, is_directory = self._find_parent(path), path.name, path.is_dir()
        if name not in self.tree.directories[parent]:
            node = self._nodes.get(status.st_ino)
            if node is None:
                node = self._nodes[status.st_ino] = self._new()
            self._take(Name(parent, name, node, is_directory))
        node = self.tree.directories[parent][name]
        if is_directory:
            for child in sorted(path.iterdir()):
                self.notice(child)
        elif self.tree.contents.get(node, b"") != (data := path.read_bytes()):
            self._take(Fill(node, data))

    def _new(self) -> int:
        self._next += 1
        return self._next - 1

    def write(self, path: Path, data: bytes) -> None:
        parent = self._find_parent(path)
        node = self.tree.directories[parent].get(path.name)
        if node is None:
            node = self._new()
            self._take(Name(parent, path.name, node), lambda: super(CrashDisk, self).write(path, b""))
            self._nodes[path.stat().st_ino] = node
        for part in (b"", data[: len(data) // 2], data):  # a death in the middle leaves a part
            if self.tree.contents.get(node, b"") != part:
                self._take(Fill(node, part), lambda part=part: super(CrashDisk, self).write(path, part))  # type: ignore[misc]

    def append(self, path: Path, data: bytes) -> None:
        if not self._knows(path):
            self.write(path, b"")
        node = self._find(path)
        before = self.tree.contents.get(node, b"")
        for part in (data[: len(data) // 2], data):  # a death in the middle leaves a part
            self._take(Fill(node, before + part), lambda part=part: super(CrashDisk, self).write(path, before + part))  # type: ignore[misc]

    def sync(self, path: Path) -> None:
        if not self._knows(path):
            self.notice(path)
        node = self._find(path)
        if node in self.tree.directories:
            for child in sorted(path.iterdir()):
                if not self._knows(child):
                    self.notice(child)
            if not self.sees_directories:
                return
        self._take(Flush(node))

    def rename(self, source: Path, target: Path) -> None:
        if not self._knows(source):
            self.notice(source)
        change = Move(self._find_parent(source), source.name, self._find_parent(target), target.name)
        self._take(change, lambda: super(CrashDisk, self).rename(source, target))

    def make_directory(self, path: Path) -> None:
        node = self._new()
        self._take(Name(self._find_parent(path), path.name, node, is_directory=True), lambda: super(CrashDisk, self).make_directory(path))
        self._nodes[path.stat().st_ino] = node

    def remove(self, path: Path) -> None:
        if not self._knows(path):
            self.notice(path)
        self._take(Unname(self._find_parent(path), path.name), lambda: super(CrashDisk, self).remove(path))

    def remove_tree(self, path: Path) -> None:
        """Entry by entry, since a death can fall between any two."""
        if not os.path.lexists(path):
            return
        if path.is_dir() and not path.is_symlink():
            for child in sorted(path.iterdir()):
                self.remove_tree(child)
            self._take(Unname(self._find_parent(path), path.name), path.rmdir)
        else:
            self.remove(path)
