"""What a disc costs by its size: CPU time for each instance, and peak memory, of build_disc alone, without the image.

Each case runs in a process of its own. Linear cost is the same time for each instance, whatever their number and however many series.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from mkisod.demo.series import write_series
from mkisod.media.disc import DiscOrder, build_disc

CASES = ((5_000, 1), (20_000, 1), (20_000, 100))
SIDE = 16


def run_case(count: int, series: int) -> None:
    """Prints CPU seconds and peak memory in KiB."""
    with tempfile.TemporaryDirectory(prefix="mkisod-bench-", dir=os.environ.get("TMPDIR")) as name:
        archive, result = Path(name, "archive"), Path(name, "result")
        result.mkdir()
        for number in range(1, series + 1):
            folder = archive / f"{number}"
            folder.mkdir(parents=True)
            size = {"rows": SIDE, "columns": SIDE, "count": count // series}
            write_series(folder, accession="BENCH", series_number=number, series=str(number), **size)
        paths = sorted(path for path in archive.rglob("*") if path.is_file())
        order = DiscOrder("BENCH", "1.2.826.0.1.3680043.8.498.1", datetime.now(UTC), output=frozenset({"dir"}), medium="dvd")
        began_s = time.process_time()
        build_disc(order, paths, result, report_progress=lambda _done, _total: None)
        print(time.process_time() - began_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    first = 0.0
    for count, series in CASES:
        command = [sys.executable, "-m", "bench.disc", str(count), str(series)]
        cpu_s, peak_kib = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        each_ms = cpu_s / count * 1000
        first = first or each_ms
        print(
            f"{count:>6} instances in {series:>3} series: CPU {each_ms:.3f} ms each, {each_ms / first:.2f} of the first case; "
            f"peak {peak_kib / 1024:.0f} MiB"
        )


if __name__ == "__main__":
    run_case(int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 1 else main()
