"""From the last instance to `done`, for a disc that is a folder with its DICOMDIR, by what it goes into.

The same daemon runs twice, once with every fsync turned into nothing by libeatmydata: the difference is what fsync costs, on the same file
system. The listing is what of it was answered after the last instance: dcmqrscp lists a study only when it has moved it. The last look is
the C-FIND that tells what came late, with two records made durable. The last check is done once more by the
bench, alone, over the same files: in the daemon it runs beside digests and fsync. The rest is what is left of the run without fsync.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path

from bench.measuring import OURS, Measurement, make_study, print_machine, print_shares, print_table, take_turns
from bench.ours import AE_TITLE, Journey, Ours, serving
from mkisod.media.verify import verify_path
from tests.peers import dcmqrscp, require
from tests.processes import HOST, free_port

INSTANCES = 1000
WITHOUT_FSYNC = "mkisod, fsync turned off"
LISTING, LAST_LOOK, CHECK = "listing", "last look", "the check, done once more"


def run(ours: Ours, copy: Path) -> Measurement:
    checks_s: list[float] = []
    (journey,) = ours.run(["BENCH"], look=lambda result: checks_s.append(check(result, copy)))
    return Measurement(journey.done_s - journey.last_instance_s, {**split(journey), CHECK: checks_s[0]})


def check(result: Path, copy: Path) -> float:
    """How long the check of the tree takes, in seconds; of the tree alone: beside SHA256SUMS it computes all digests, too."""
    (tree,) = (path for path in result.iterdir() if path.is_dir())
    shutil.copytree(tree, copy, copy_function=os.link)
    began_s = time.perf_counter()
    faults = verify_path(copy)
    check_s = time.perf_counter() - began_s
    shutil.rmtree(copy)
    if faults:
        raise SystemExit(str(faults[0]))
    return check_s


def split(journey: Journey) -> dict[str, float]:
    events = journey.events
    listed_s = max(journey.last_instance_s, events["studies_found"])
    moments = (journey.last_instance_s, listed_s, events["move_finished"], events["job_retrieved"], events["job_assembled"], journey.done_s)
    names = (LISTING, "end of the C-MOVE", LAST_LOOK, "assembly and check", "publication")
    return {name: end - begin for name, (begin, end) in zip(names, pairwise(moments), strict=True)}


def print_goal(measured: Mapping[str, list[Measurement]]) -> None:
    with_fsync_s, without_s = (statistics.median(one.wall_s for one in measured[row]) for row in (OURS, WITHOUT_FSYNC))
    asked_s = statistics.median(one.shares[LISTING] + one.shares[LAST_LOOK] for one in measured[WITHOUT_FSYNC])
    check_s = statistics.median(one.shares[CHECK] for one in measured[WITHOUT_FSYNC])
    print(
        f"\nC-FIND {asked_s:.2f} s, fsync {with_fsync_s - without_s:.2f} s, last check {check_s:.2f} s, "
        f"the rest {without_s - asked_s - check_s:.2f} s; without C-FIND and fsync {without_s - asked_s:.2f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.finish", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    require("eatmydata")
    print_machine()
    for edge in (512, 64):
        with tempfile.TemporaryDirectory(prefix="mkisod-bench-") as name, ExitStack() as stack:
            directory = Path(name)
            files = make_study(directory / "source", INSTANCES, edge)
            runs = {}
            for row, env in ((OURS, {}), (WITHOUT_FSYNC, {"LD_PRELOAD": "libeatmydata.so"})):
                port, folder = free_port(), directory / str(len(runs))
                archive = stack.enter_context(dcmqrscp(folder / "pacs", files, destinations={AE_TITLE: (HOST, port)}))
                ours = stack.enter_context(serving(folder / "daemon", archive, port, output=["dir"], env=env))
                runs[row] = partial(run, ours, directory / "copy")
            measured = take_turns(runs, arguments.rounds)
            print_table(f"Last instance to done, {INSTANCES} CT of {edge}x{edge}, DICOMDIR only", measured)
            print_shares(measured)
            print_goal(measured)


if __name__ == "__main__":
    main()
