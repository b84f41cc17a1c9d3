"""How much is written per checkpoint while only ResNet50's head is trained, in either layout.

    python benchmarks/frozen_backbone.py [--dir .]

Parameters, running statistics, and Momentum's velocities of the head. Bytes do not vary from run to run; seconds do,
and are medians of five commits.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from resnet50_state import resnet50

from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.progress import Progress


def main() -> None:
    """Commit six checkpoints in each layout and print a line for each number of classes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dir", default=".", help="on the disk to be measured")
    arguments = parser.parse_args()
    print(
        f"{'classes':>8}{'native, bytes':>16}{'shards, bytes':>16}{'share':>9}{'native, s':>11}{'shards, s':>11}"
    )
    for classes in (10, 100, 1000):
        with tempfile.TemporaryDirectory(prefix="frozen-backbone-", dir=arguments.dir) as place:
            native, shards = (
                measure(Path(place) / layout, layout, classes) for layout in ("native", "shards")
            )
        share = shards[0] / native[0]
        print(
            f"{classes:>8}{native[0]:>16,}{shards[0]:>16,}{share:>9.2%}{native[1]:>11.3f}{shards[1]:>11.3f}"
        )


def measure(place: Path, layout: str, classes: int) -> tuple[int, float]:
    """Return the bytes that the last of six commits wrote, and the median seconds of the last five."""
    model, _ = resnet50()
    store = CheckpointStore(place, layout=layout)
    seconds = []
    for step in range(6):
        head = {
            "fc.weight": np.full((2048, classes), step, np.float32),
            "fc.bias": np.full(classes, step, np.float32),
        }
        velocities = {f"{name}_velocity_0": array + 0.5 for name, array in head.items()}
        contents = CheckpointContents(
            {**model, **head}, optimizer=velocities, progress=Progress(step, 0, step)
        )
        began = time.perf_counter()
        store.commit(contents)
        seconds.append(time.perf_counter() - began)
    return store.bytes_written, statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
