"""What a run of many checkpoints costs: finding the newest, and deciding after each save what may go.

    python benchmarks/store_scale.py [--checkpoints 10000] [--dir .]

The checkpoints hold one number each, so that what is measured is our own work and not the reading of tensors. Making
them skips the flushes; what is measured does not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.plan.retention import KeepBest, KeepEvery, KeepLatest, RetentionPolicy
from paddle_warm_callbacks.progress import Progress

# All that is there stays, so that one run serves for all.
POLICIES: dict[str, RetentionPolicy] = {
    "KeepEvery": KeepEvery(1),
    "KeepEvery | KeepBest": KeepEvery(1) | KeepLatest(3) | KeepBest("acc"),
}


def contents(step: int) -> CheckpointContents:
    """Return the smallest checkpoint that has a metric."""
    return CheckpointContents(
        {"w": np.ones(1, np.float32)},
        progress=Progress(step, step, 0),
        epoch_completed=True,
        metrics={"acc": step % 97 / 97},
    )


def milliseconds(action: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return how long ``action`` takes; with ``time.thread_time``, of the processor."""
    began = clock()
    action()
    return 1e3 * (clock() - began)


def main() -> None:
    """Make the run and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoints", type=int, default=10_000)
    parser.add_argument("--dir", default=".", help="on the disk to be measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="store-scale-", dir=arguments.dir) as place:
        measure(Path(place), arguments.checkpoints)


def measure(place: Path, count: int) -> None:
    """Print what each question costs with few checkpoints and with ``count``."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians, in ms")
    print(
        f"{'checkpoints':>12}{'latest':>9}{'of CPU':>9}{'policy':>24}{'first retention':>17}{'after each save':>17}"
    )
    for number in (10, count):
        run = place / str(number)
        store = CheckpointStore(run)
        with mock.patch("os.fsync"), store.lock():
            for step in range(number):
                store.commit(contents(step))
        latest = statistics.median(milliseconds(CheckpointStore(run).latest_verified) for _ in range(9))
        own = statistics.median(
            milliseconds(CheckpointStore(run).latest_verified, time.thread_time) for _ in range(9)
        )
        for name, policy in POLICIES.items():
            first, later = retention(run, number, policy)
            print(f"{number:>12}{latest:>9.2f}{own:>9.2f}{name:>24}{first:>17.1f}{later:>17.2f}")


def retention(run: Path, number: int, policy: RetentionPolicy) -> tuple[float, float]:
    """Return milliseconds of a new process's first ``retain``, and of those after each of some commits."""
    store = CheckpointStore(run)
    with store.lock():
        first = milliseconds(lambda: store.retain(policy))
        later = []
        for step in range(5):
            store.commit(contents(10 * number + step))
            later.append(milliseconds(lambda: store.retain(policy)))
        for _ in range(5):
            shutil.rmtree(run / "checkpoints" / store.list()[-1].name)
    return first, statistics.median(later)


if __name__ == "__main__":
    main()
