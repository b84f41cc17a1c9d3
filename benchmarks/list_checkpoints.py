"""What it costs to list a run of 1,000 checkpoints, beside an interpreter that does nothing.

    python benchmarks/list_checkpoints.py [--rounds 9]

CPU seconds, user and system, of processes of their own, alternating. The manifests are those of a ResNet50's run by
``from_config``: a report that names 267 tensors, the configuration, and 100 labels. Only manifests are read.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.digests import digest_of
from paddle_warm_callbacks.checkpoint.manifest import MANIFEST, Manifest
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.config.loading import load
from paddle_warm_callbacks.config.schema import Config
from paddle_warm_callbacks.plan.report import RestoreReport
from paddle_warm_callbacks.progress import Progress

CHECKPOINTS = 1000
COMMANDS = {
    "`python -c pass`": ["-c", "pass"],
    "`paddle-warm --version`": ["-m", "paddle_warm_callbacks", "--version"],
    "`paddle-warm ls RUN`": ["-m", "paddle_warm_callbacks", "ls", "RUN"],
    "`paddle-warm ls RUN --json`": ["-m", "paddle_warm_callbacks", "ls", "RUN", "--json"],
}


def make_run(folder: Path) -> int:
    """Commit so many small checkpoints with long manifests; return the bytes of one manifest."""
    store = CheckpointStore(folder)
    report = RestoreReport(
        "warm", "old.pdparams", loaded=tuple(f"layer{i % 4}.{i}.conv.weight" for i in range(267))
    )
    metadata = {
        "start": report.to_json(),
        "config": load(Config, {"lr": {}, "visualdl": {}, "optimizer": {}}).plain,
        "labels": [f"class {number}" for number in range(100)],
    }
    for epoch in range(1, CHECKPOINTS + 1):
        store.commit(
            CheckpointContents(
                {"w": np.zeros(1, np.float32)},
                progress=Progress(epoch * 100, epoch, 0),
                epoch_completed=True,
                metrics={"train_loss": 1 / epoch, "train_acc": 0.5, "loss": 1 / epoch, "acc": 0.5},
                metadata=metadata,
                writer={"paddle": "3.3.1", "paddle_warm_callbacks": "0.1.0"},
            )
        )
    (newest, *_) = reversed(store.list())
    data = (Path(newest.path) / MANIFEST).read_bytes()
    assert digest_of(Manifest.from_bytes(data, "newest").to_bytes()) == digest_of(data)
    return len(data)


def cpu_seconds(command: Sequence[str]) -> float:
    """Return what a process of this interpreter used."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        size = make_run(Path(folder))
        commands = {name: [folder if word == "RUN" else word for word in of] for name, of in COMMANDS.items()}
        seen: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):  # the first round only warms the file system's cache
            for name, command in commands.items():
                found = cpu_seconds(command)
                if number:
                    seen[name].append(found)
    nothing = statistics.median(seen["`python -c pass`"])
    print(f"{CHECKPOINTS} manifests of {size:,} bytes each\n")
    print("| | CPU seconds, median (least to most) | more than `python -c pass` |\n|---|---|---|")
    for name, values in seen.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.3f} ({min(values):.3f} to {max(values):.3f}) | {median - nothing:.3f} |")


if __name__ == "__main__":
    main()
