"""What every comparison here does: take turns, throw the first round away, and compare neighbours.

Machines are shared and noisy, so seconds mean little: ours and theirs take turns, and what counts is the median of the ratios of
neighbours.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from tests.peers import require

OURS = "mkisod"
_PROGRAMS = ("movescu", "Orthanc", "xorriso", "genisoimage")


@dataclass(frozen=True)
class Measurement:
    """`shares` are seconds of `wall_s`, by what they went into."""

    wall_s: float
    shares: Mapping[str, float] = field(default_factory=dict)


Run = Callable[[], Measurement]


def print_machine() -> None:
    """What the figures below are taken on: the machine, the file system of temporary files, the versions."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    file_system = _run("findmnt", "-no", "FSTYPE", "-T", tempfile.gettempdir())
    debian = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    versions = [_run(path := require(program), "--version").splitlines()[0].replace(path, program).strip("$ ") for program in _PROGRAMS]
    print(
        f"\nMachine: {os.cpu_count()} processors, {memory_gib:.0f} GiB, {debian}, Linux {platform.release()}, {file_system}; "
        f"Python {platform.python_version()}; {'; '.join(versions)}. Date: {datetime.now(UTC):%Y-%m-%d}, load {os.getloadavg()[0]:.1f}.",
        flush=True,
    )


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def make_study(directory: Path, instances: int, edge: int, *, study: int = 1, series: int = 1, accession: str = "BENCH") -> list[Path]:
    """CT instances with noise for pixels, Explicit VR Little Endian. `study` numbers the study, of one and the same patient."""
    noise = random.Random(edge)  # noqa: S311 - the same bytes in each run
    template = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    template.StudyInstanceUID, template.AccessionNumber = f"2.25.1.{study}", accession
    template.Rows = template.Columns = edge
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(1, instances + 1):
        template.SeriesInstanceUID = f"2.25.2.{study}.{(number - 1) * series // instances + 1}"
        template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.3.{study}.{edge}.{number}")
        template.InstanceNumber = number
        template.PixelData = noise.randbytes(2 * edge**2)
        paths.append(directory / f"{number:05}.dcm")
        template.save_as(paths[-1])
    return paths


def empty_files(folder: Path) -> None:
    """Gives back the room that the files of a run take, but not their inodes: ext4 passes over each inode that was deleted within the last
    minutes when it looks for a new one, and whoever comes next would pay for that.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)


def take_turns(runs: Mapping[str, Run], rounds: int) -> dict[str, list[Measurement]]:
    """Each run once a round, forwards and backwards by turns; the first round warms up. What one left is on the disk before the next."""
    measured: dict[str, list[Measurement]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name in list(runs)[:: 1 if number % 2 else -1]:
            os.sync()
            measurement = runs[name]()
            if number:
                measured[name].append(measurement)
    return measured


def compare(ours: list[Measurement], theirs: list[Measurement]) -> float:
    """The median of the ratios of neighbours."""
    return statistics.median(mine.wall_s / other.wall_s for mine, other in zip(ours, theirs, strict=True))


def print_table(title: str, measured: Mapping[str, list[Measurement]], *, ours: str = OURS, times: int = 1) -> None:
    """A table in Markdown. `times`: how often theirs has to be done to do what ours did."""
    print(f"\n### {title}\n\n| program | median s | min | max | {ours} / this |\n|---|---|---|---|---|")
    for name, measurements in measured.items():
        wall = [one.wall_s * (1 if name == ours else times) for one in measurements]
        ratio = compare(measured[ours], measurements) / (1 if name == ours else times)
        print(f"| {name} | {statistics.median(wall):.2f} | {min(wall):.2f} | {max(wall):.2f} | {ratio:.2f} |", flush=True)


def print_shares(measured: Mapping[str, list[Measurement]]) -> None:
    """The median of each share."""
    for name, measurements in measured.items():
        shares = {share: statistics.median(one.shares[share] for one in measurements) for share in measurements[0].shares}
        print(f"\n{name}: " + ", ".join(f"{share} {seconds:.2f} s" for share, seconds in shares.items()), flush=True)
