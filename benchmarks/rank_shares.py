"""What a rank waits for at a save, by number of ranks: ResNet50 and Momentum, layout "shards", gloo, one machine.

    python benchmarks/rank_shares.py [--ranks 1 2 4] [--saves 6] [--dir .]

Each number of ranks is a run of Paddle's launcher, in which the same network is trained twice: with its copies made at
once, and behind the next forward and backward pass. Of a save, of the rank that took longest:

- "copy": on the training thread, the tensors of the rank's share; wall time, and the thread's processor time, which
  others on the machine change less; also as a ratio to the same of one rank;
- "check": the pass over the parameters, of which no rank can be spared, that tells whether they are the same on all; on
  the training thread if the copy is made at once, else on the thread that copies;
- "blocked": everything that training waited for, counters and the wait for the write before included.

The first save of each training, which warms up, and the last, which is made at once, are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

WAYS = ("at once", "behind")
Figures = dict[str, dict[str, list[float]]]


def main() -> None:
    """Run every number of ranks, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--saves", type=int, default=6)
    parser.add_argument("--dir", default=".", help="on the disk to be measured")
    parser.add_argument("--rank-of", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.rank_of is not None:
        one_rank(chosen.rank_of, chosen.saves)
        return
    place = Path(tempfile.mkdtemp(prefix="rank-shares-", dir=chosen.dir)).resolve()
    try:
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
        print_table({size: measured(place / str(size), size, chosen.saves) for size in chosen.ranks})
    finally:
        shutil.rmtree(place)


def measured(place: Path, size: int, saves: int) -> list[Figures]:
    """Return what each of ``size`` ranks has measured."""
    place.mkdir()
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(size), "--backend", "gloo"]
    launcher += ["--log_dir", str(place / "logs")]
    command = [sys.executable, *(launcher if size > 1 else []), __file__, "--rank-of", str(place)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOG_minloglevel": "2"}
    subprocess.run(
        [*command, "--saves", str(saves)], check=True, env=environment, cwd=place, capture_output=True
    )
    return [json.loads((place / f"{rank}.json").read_text()) for rank in range(size)]


def one_rank(place: Path, saves: int) -> None:
    """Train in each way, and write what this rank has measured."""
    import paddle

    from paddle_warm_callbacks.hapi import same_weights
    from paddle_warm_callbacks.hapi.hold_back import HoldBack
    from paddle_warm_callbacks.hapi.overlap import OverlappedCopies

    figures: Figures = {}
    network = paddle.vision.models.resnet50(num_classes=1000)
    model = paddle.Model(network)
    for way in WAYS:
        found = figures[way] = {}
        copy = timed(OverlappedCopies.capture, "copy", found)
        check = timed(same_weights.Comparison.look, "check", found)
        held = (
            mock.patch.object(HoldBack, "works_for", return_value=False)
            if way == "at once"
            else nullcontext()
        )
        copied = mock.patch.object(OverlappedCopies, "capture", copy)
        with copied, mock.patch.object(same_weights.Comparison, "look", check), held:
            events = trained(model, place / f"run {way}", saves)
        found["blocked"] = [event.seconds_blocked for event in events]
        found["bytes"] = [event.bytes_written for event in events]
        found["durable"] = [event.seconds_to_durable for event in events]
    rank = os.environ.get("PADDLE_TRAINER_ID", "0")
    (place / f"{rank}.json").write_text(json.dumps(figures))


def timed(function: Callable[..., Any], name: str, found: dict[str, list[float]]) -> Callable[..., Any]:
    """Return ``function`` with its wall and processor time noted under ``name``."""

    def timing(*args: Any, **options: Any) -> Any:
        began, worked = time.perf_counter(), time.thread_time()
        try:
            return function(*args, **options)
        finally:
            found.setdefault(f"{name} CPU", []).append(time.thread_time() - worked)
            found.setdefault(name, []).append(time.perf_counter() - began)

    return timing


def trained(model: Any, run_dir: Path, saves: int) -> list[Any]:
    """Train ``saves`` times two steps, and return the events of their saves."""
    import paddle
    from timed_fit import Repeated, images

    from paddle_warm_callbacks import EveryNSteps, KeepLatest, PeriodicCheckpoint

    model.prepare(
        paddle.optimizer.Momentum(1e-3, parameters=model.network.parameters()), paddle.nn.CrossEntropyLoss()
    )
    checkpoints = PeriodicCheckpoint(run_dir, save=EveryNSteps(2), keep=KeepLatest(1), layout="shards")
    model.fit(Repeated(images(32, 2, 1000), 2 * saves), epochs=1, verbose=0, callbacks=[checkpoints])
    return checkpoints.events


def print_table(by_size: dict[int, list[Figures]]) -> None:
    """Print, for each number of ranks and each way, the medians of the rank that waits longest."""
    columns = ("copy", "copy CPU", "check", "check CPU", "blocked", "durable")
    print(f"{'ranks':>5} {'way':<8} {'MB a rank':>10}" + "".join(f"{column:>18}" for column in columns))
    one: dict[tuple[str, str], float] = {}
    for size, ranks in by_size.items():
        for way in WAYS:
            row = f"{size:>5} {way:<8} {share_of(ranks, way) / 1e6:>10.1f}"
            for column in columns:
                medians = [
                    statistics.median(rank[way][column][1:-1]) for rank in ranks if column in rank[way]
                ]
                longest = max(medians, default=0.0)
                base = one.setdefault((way, column), longest)
                row += f"{1e3 * longest:>9.1f} ms" + (f" {longest / base:>5.2f}" if base else f"{'':>6}")
            print(row, flush=True)
    print(f"load {os.getloadavg()[0]:.1f} after; ratios are to the same of {next(iter(by_size))} rank")


def share_of(ranks: list[Figures], way: str) -> float:
    """Return the bytes that the rank with the largest share writes; rank 0 tells those of all ranks."""
    written = [statistics.median(rank[way]["bytes"][1:-1]) for rank in ranks]
    return max([written[0] - sum(written[1:]), *written[1:]])


if __name__ == "__main__":
    main()
