"""How long a checkpoint of ResNet50 with Momentum takes: copied, committed, read, verified; beside ``paddle.save``.

    python benchmarks/checkpoint_write.py [--rounds 7] [--dir .]

Prints medians over rounds in which everything is measured in turn, so that a noisy machine is noisy for all, and of the
ratios within a round: the copy to a memcpy of the same bytes, the commit to a plain write and fsync of the same bytes.
Where Paddle is not installed, its rows are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from resnet50_state import Arrays, resnet50, write_plainly

from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.pdparams import read_pdparams
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.progress import Progress


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dir", default=".", help="on the disk to be measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="checkpoint-write-", dir=arguments.dir) as place:
        print_table(measure(Path(place), arguments.rounds))


def measure(place: Path, rounds: int) -> tuple[int, dict[str, list[float]]]:
    """Return the bytes of the state, and seconds by what was done."""
    model, optimizer = resnet50()
    arrays = [*model.values(), *optimizer.values()]
    size = sum(array.nbytes for array in arrays)
    one, other = np.ones(size, np.uint8), np.ones(size, np.uint8)
    staged = [np.empty_like(array) for array in arrays]
    contents = CheckpointContents(
        model=model, model_names={name: name for name in model}, optimizer=optimizer
    )
    seconds: dict[str, list[float]] = {}
    store = CheckpointStore(place / "run")

    def timed(what: str, action: Callable[[], Any]) -> Any:
        os.sync()  # else it would wait for what was written before it
        started = time.perf_counter()
        result = action()
        seconds.setdefault(what, []).append(time.perf_counter() - started)
        return result

    for number in range(rounds + 1):
        timed("memcpy in one block", lambda: np.copyto(one, other))
        timed(
            "copy of every tensor, reused buffers", lambda: [np.copyto(a, b) for a, b in zip(staged, arrays)]
        )
        if number % 2:
            timed("raw write + fsync", lambda: write_plainly(place / "raw", one))
        checkpoint = timed(
            "commit: digested, durable, renamed",
            lambda number=number: store.commit(_at(contents, number)),
        )
        if not number % 2:
            timed("raw write + fsync", lambda: write_plainly(place / "raw", one))
        timed("verify", checkpoint.verify)
        timed(
            "read_model + read_optimizer, verified", lambda c=checkpoint: (c.read_model(), c.read_optimizer())
        )
        timed("read_pdparams of both files", lambda c=checkpoint: _read_ours(Path(c.path)))
        shutil.rmtree(checkpoint.path)
        (place / "raw").unlink()
        if importlib.util.find_spec("paddle") is not None:
            _measure_paddle(place, model, optimizer, timed)
    return size, {what: taken[1:] for what, taken in seconds.items()}  # the first round warms up


def _at(contents: CheckpointContents, step: int) -> CheckpointContents:
    return CheckpointContents(
        contents.model, contents.model_names, contents.optimizer, progress=Progress(step, 0, step)
    )


def _read_ours(path: Path) -> None:
    read_pdparams(path / "model.pdparams")
    read_pdparams(path / "model.pdopt")


def _measure_paddle(place: Path, model: Arrays, optimizer: Arrays, timed: Callable[..., Any]) -> None:
    import paddle

    tensors = [{name: paddle.to_tensor(array) for name, array in part.items()} for part in (model, optimizer)]
    files = [str(place / "paddle.pdparams"), str(place / "paddle.pdopt")]
    timed("paddle.save of both, not durable", lambda: [paddle.save(t, f) for t, f in zip(tensors, files)])
    timed("paddle.load of both, to arrays", lambda: [paddle.load(f, return_numpy=True) for f in files])


def print_table(measured: tuple[int, dict[str, list[float]]]) -> None:
    """Print medians and spreads, and the medians of the ratios within each round."""
    size, seconds = measured
    memcpy, raw = seconds["memcpy in one block"], seconds["raw write + fsync"]
    print(f"{size / 1e6:.0f} MB, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'':<40}{'median':>9}{'lowest':>9}{'highest':>9}{'GB/s':>7}{'x memcpy':>10}{'x raw write':>13}")
    for what, taken in seconds.items():
        median = statistics.median(taken)
        times_memcpy = statistics.median(mine / theirs for mine, theirs in zip(taken, memcpy))
        share_of_raw = statistics.median(theirs / mine for mine, theirs in zip(taken, raw))
        print(
            f"{what:<40}{1e3 * median:>6.0f} ms{1e3 * min(taken):>6.0f} ms{1e3 * max(taken):>6.0f} ms"
            f"{size / median / 1e9:>7.2f}{times_memcpy:>10.2f}{share_of_raw:>13.2f}"
        )
    print(
        "x memcpy: time as a multiple of memcpy's; x raw write: rate as a share of the raw write's; round by round."
    )


if __name__ == "__main__":
    main()
