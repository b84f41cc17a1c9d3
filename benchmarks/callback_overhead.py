"""What all five callbacks cost a training step, beside a bare fit of the same steps.

    python benchmarks/callback_overhead.py [--rounds 9]

Bare and with callbacks alternate, so that a noisy machine is noisy for both; the difference is that of the means within
a round, the table holds its median and quartiles over rounds, and the spread of the bare runs. Nothing is saved within
the timed steps: what a save costs is in checkpoint_throughput.py.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
from pathlib import Path
from typing import Any

import paddle
from timed_fit import Repeated, images, timed_steps

from paddle_warm_callbacks import (
    PeriodicCheckpoint,
    Stage,
    StagedUnfreeze,
    WarmLRScaler,
    WarmStartCallback,
    WarmVisualDL,
)


def tiny() -> Any:
    """Return a network whose step is hapi's own work, and little else."""
    return paddle.nn.Sequential(paddle.nn.Flatten(), paddle.nn.Linear(12, 10))


_HEAD = """\
| case | bare step | with all callbacks | more per step | its quartiles | spread of bare |
|---|---|---|---|---|---|"""

# Name to network, (image size, batch), steps, rounds for each one asked for, and whether a DataLoader reads batches.
CASES = {
    "Linear(12, 10), batch 1, a list of batches": (tiny, (2, 1), 1500, 2, False),
    "Linear(12, 10), batch 1, a DataLoader": (tiny, (2, 1), 1500, 2, True),
    "ResNet18, 64x64, batch 16": (
        lambda: paddle.vision.models.resnet18(num_classes=10),
        (64, 16),
        22,
        1,
        False,
    ),
}


def callbacks(folder: Path) -> list[Any]:
    """Return all of ours, at their defaults."""
    return [
        WarmStartCallback(run_dir=folder / "run", resume_from="latest"),
        WarmLRScaler(0.5),
        StagedUnfreeze([Stage(0, ".*")]),
        PeriodicCheckpoint(folder / "run"),
        WarmVisualDL(folder / "vdl"),
    ]


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    logging.getLogger("paddle_warm_callbacks").setLevel(logging.ERROR)
    print(_HEAD)
    for name, (network, (size, count), steps, times, read) in CASES.items():
        loader: Any = Repeated(images(size, count), steps)
        if read:
            pixels, label = (array.numpy()[0] for array in images(size, 1))
            loader = paddle.io.DataLoader([(pixels, label)] * steps * count, batch_size=count, shuffle=True)
        bare, ours = [], []
        for _ in range(times * arguments.rounds):
            with tempfile.TemporaryDirectory() as folder:
                bare.append(statistics.mean(timed_steps(network(), loader, [])))
                ours.append(statistics.mean(timed_steps(network(), loader, callbacks(Path(folder)))))
        differences = [one - other for one, other in zip(ours, bare)]
        low, more, high = statistics.quantiles(differences, n=4)
        base, spread = statistics.median(bare), max(bare) - min(bare)
        print(
            f"| {name} | {1e3 * base:.3f} ms | {1e3 * statistics.median(ours):.3f} ms "
            f"| {1e6 * more:.0f} us, {100 * more / base:.1f}% | {1e6 * low:.0f} to {1e6 * high:.0f} us "
            f"| {100 * spread / base:.0f}% |"
        )


if __name__ == "__main__":
    main()
