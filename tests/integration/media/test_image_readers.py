"""Images of generated trees, read by programs that are not ours: xorriso and isoinfo. The reader of mkisod has to agree with them."""

from __future__ import annotations

import filecmp
import random
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mkisod.media.iso import list_files, read_volume
from mkisod.media.iso_writer import write_image
from tests.peers import require

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"


def make_tree(tree: Path, seed: int) -> list[str]:
    """Folders eight levels deep, a folder of several sectors, names of all lengths with and without extension, empty files."""
    chance = random.Random(seed)  # noqa: S311 - the same tree in each run

    def name(longest: int) -> str:
        return "".join(chance.choice(LETTERS) for _ in range(chance.randint(1, longest)))

    folders = ["", "A/B/C/D/E/F/G/"]
    for _ in range(12):
        folder = chance.choice(folders)
        if folder.count("/") < 7:
            folders.append(f"{folder}{name(8)}/")
    crowd = chance.choice(folders)
    wanted = {chance.choice(folders) + name(8) + chance.choice(("", f".{name(3)}")) for _ in range(60)}
    wanted |= {f"{crowd}IN{number:06d}" for number in range(200)}
    files = []
    for path in sorted(wanted):
        target = tree / path
        if target.is_dir() or any(parent.is_file() for parent in target.parents if parent != tree):
            continue  # the name of a folder by chance
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(chance.randbytes(chance.choice((0, 1, 2047, 2048, 2049, chance.randint(0, 10_000)))))
        files.append(path)
    chance.shuffle(files)  # contents lie in another order than records
    return files


def run(*command: object) -> bytes:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=120).stdout


@pytest.mark.parametrize("seed", range(6))
def test_everybody_reads_the_same_files(tmp_path: Path, seed: int) -> None:
    tree, image, out = tmp_path / "tree", tmp_path / "image", tmp_path / "out"
    tree.mkdir()
    files = make_tree(tree, seed)
    write_image(image, "LABEL_1", tree, files, MOMENT)
    again = tmp_path / "again"
    write_image(again, "LABEL_1", tree, files, MOMENT)
    assert filecmp.cmp(image, again, shallow=False)

    run(require("xorriso"), "-osirrox", "on", "-indev", image, "-extract", "/", out)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == sorted(files)
    assert all(filecmp.cmp(tree / path, out / path, shallow=False) for path in files)

    listed = run(require("isoinfo"), "-f", "-i", image).decode()
    in_image = {path: f"/{path}{'' if '.' in path.rpartition('/')[2] else '.'};1" for path in files}
    assert set(in_image.values()) == {line for line in listed.splitlines() if line.endswith(";1")}
    for path in files[:: len(files) // 8]:
        assert run(require("isoinfo"), "-i", image, "-x", in_image[path]) == (tree / path).read_bytes()

    with image.open("rb") as file:
        found = {one.path: one.size_bytes for one in list_files(file)}
        volume = read_volume(file)
    assert found == {path: (tree / path).stat().st_size for path in files}
    assert volume.size_bytes == image.stat().st_size
    about = run(require("isoinfo"), "-d", "-i", image).decode()
    assert re.search(r"(?m)^System id: *$", about)
    assert re.search(r"(?m)^Volume id: LABEL_1 *$", about)
    assert f"Volume size is: {image.stat().st_size // 2048}\n" in about
    assert "NO Joliet present" in about
    assert "NO Rock Ridge present" in about


def test_extents_of_a_large_file_are_joined_by_others(tmp_path: Path) -> None:
    """What xorriso makes of a file of more than 4 GiB: one file, whose extents follow each other. Its content: test_limits.py."""
    tree, image = tmp_path / "tree", tmp_path / "image"
    tree.mkdir()
    size = (1 << 32) + 5000
    with (tree / "LARGE").open("wb") as file:
        file.truncate(size)
    (tree / "SMALL").write_bytes(b"behind it")
    write_image(image, "LABEL_1", tree, ["LARGE", "SMALL"], MOMENT)
    report = run(require("xorriso"), "-indev", image, "-find", "/", "-type", "f", "-exec", "report_lba").decode()
    image.unlink()  # pytest keeps what tests leave
    found = re.findall(r"(?m)^File data lba: *(\d+) *, *(\d+) *, *(\d+) *, *(\d+) *, *'/(\w+)'", report)
    (zero, first, blocks, whole, _), (one, second, more, _, _), (_, behind, _, small, name) = found
    assert (zero, one, int(whole), int(small), name) == ("0", "1", size, len(b"behind it"), "SMALL")
    assert int(first) + int(blocks) == int(second)
    assert int(second) + int(more) == int(behind)
    assert (int(blocks) + int(more)) * 2048 - size in range(2048)
