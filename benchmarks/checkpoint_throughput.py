"""What checkpoints cost training: ResNet50 with Momentum, 64x64, batch 8, paired with runs without any.

    python benchmarks/checkpoint_throughput.py [--rounds 3] [--steps 22] [--dir .]

Each round trains the same network once in each way, in turn. Throughput is the bare run's time over the other's, of the
same round; two bare runs a round show the noise. "Blocked" is how long training waited for one save, from the end of
its step until it went on, and what was held back later, as a multiple of a memcpy of the same bytes in one block,
measured in the same round (what the same takes in pieces of the tensors' sizes is shown too). "Durable" is the rate
from a save's beginning until it is on disk, copied and written beside training, as a share of a plain write and fsync
of the same bytes with nothing beside it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import paddle
from resnet50_state import Memcpy, resnet50, seconds_of
from timed_fit import Repeated, images

from paddle_warm_callbacks import CheckpointStore, EveryNSteps, KeepLatest, PeriodicCheckpoint
from paddle_warm_callbacks.hapi.hold_back import HoldBack


class SaveEvery(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Call ``Model.save``, which is what Paddle's ModelCheckpoint does after an epoch, every ``n`` steps."""

    def __init__(self, n: int, path: Path) -> None:
        super().__init__()
        self._n, self._path = n, path

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        """Save if it is time."""
        if (step + 1) % self._n == 0:
            self.model.save(str(self._path / "final"))


class Clock(paddle.callbacks.Callback):  # type: ignore[misc]
    """Seconds from the third step's beginning to the last step's."""

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        """Note the moment."""
        if step == 2:
            self.began = time.perf_counter()
        self.seconds = time.perf_counter() - getattr(self, "began", time.perf_counter())


@contextmanager
def nothing_is_written() -> Iterator[None]:
    """Let a commit write nothing, so that what is left is the copy."""

    def commit(_store: CheckpointStore, contents: Any) -> Any:
        made = mock.Mock()
        made.name = f"step-{contents.progress.global_step:08d}"
        return made

    with mock.patch.object(CheckpointStore, "commit", commit):
        yield


@contextmanager
def as_it_is() -> Iterator[None]:
    """Change nothing."""
    yield


@contextmanager
def copied_at_once() -> Iterator[None]:
    """Let training wait for the whole copy, as where nothing can be held back."""
    with mock.patch.object(HoldBack, "works_for", return_value=False), nothing_is_written():
        yield


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=22)
    parser.add_argument("--dir", default=".", help="on the disk to be measured")
    arguments = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="checkpoint-throughput-", dir=arguments.dir))
    try:
        measure(place, arguments.rounds, arguments.steps)
    finally:
        shutil.rmtree(place)


def measure(place: Path, rounds: int, steps: int) -> None:
    """Train in each way in turn, ``rounds`` times, and print medians."""
    network = paddle.vision.models.resnet50(num_classes=1000)
    batch = images(64, 8, 1000)

    def ours(every: int) -> PeriodicCheckpoint:
        shutil.rmtree(place / "run", ignore_errors=True)
        return PeriodicCheckpoint(place / "run", save=EveryNSteps(every), keep=KeepLatest(2))

    ways: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "bare": (lambda: None, as_it_is),
        "copied every step": (lambda: ours(1), nothing_is_written),
        "durable every 10 steps": (lambda: ours(10), as_it_is),
        "bare again": (lambda: None, as_it_is),
        "durable every 2 steps": (lambda: ours(2), as_it_is),
        "Model.save every 10 steps": (lambda: SaveEvery(10, place), as_it_is),
        "copied every step, no overlap": (lambda: ours(1), copied_at_once),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    blocked: dict[str, list[float]] = {way: [] for way in ways}
    durable: dict[str, list[float]] = {way: [] for way in ways}
    state, velocities = resnet50()
    memory = Memcpy(array.nbytes for array in (*state.values(), *velocities.values()))
    for _ in range(rounds):
        memcpy, pieces = memory.seconds()
        raw = statistics.median(seconds_of(lambda: _raw(place / "raw", memory.source)) for _ in range(3))
        for way, (callback, patched) in ways.items():
            made, clock = callback(), Clock()
            with patched():
                _fit(network, batch, steps, [*([made] if made is not None else []), clock])
            seconds[way].append(clock.seconds)
            if isinstance(made, PeriodicCheckpoint):
                timed = made.events[
                    1:-1
                ]  # the first finds the tensors and makes the buffers, the last is at the end
                blocked[way] += [event.seconds_blocked / memcpy for event in timed]
                if patched is as_it_is:
                    durable[way] += [raw / event.seconds_to_durable for event in timed]
        print(
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
            f"memcpy {1e3 * memcpy:.0f} ms, in pieces {1e3 * pieces:.0f} ms, write and fsync {1e3 * raw:.0f} ms"
        )
        print_table(seconds, blocked, durable, steps)


def print_table(
    seconds: dict[str, list[float]],
    blocked: dict[str, list[float]],
    durable: dict[str, list[float]],
    steps: int,
) -> None:
    """Print medians of the rounds so far."""
    print(
        f"{'':<32}{'s a step':>9}{'throughput':>12}{'of each round':>24}{'blocked, x memcpy':>19}{'durable':>9}"
    )
    for way, taken in seconds.items():
        shares = [bare / mine for bare, mine in zip(seconds["bare"], taken)]
        waits = f"{statistics.median(blocked[way]):.3f}" if blocked[way] else ""
        rate = f"{statistics.median(durable[way]):.2f}" if durable[way] else ""
        each = " ".join(f"{share:.2f}" for share in shares)
        step = statistics.median(taken) / (steps - 3)
        print(
            f"{way:<32}{step:>9.3f}{statistics.median(shares):>12.3f}{each:>24}{waits:>19}{rate:>9}",
            flush=True,
        )


def _fit(network: Any, batch: list[Any], steps: int, callbacks: list[Any]) -> None:
    model = paddle.Model(network)
    model.prepare(
        paddle.optimizer.Momentum(1e-3, parameters=network.parameters()), paddle.nn.CrossEntropyLoss()
    )
    model.fit(Repeated(batch, steps), epochs=1, verbose=0, callbacks=callbacks)


def _raw(path: Path, data: np.ndarray[Any, Any]) -> None:
    path.unlink(missing_ok=True)
    os.sync()
    with path.open("wb", buffering=0) as file:
        file.write(data.data)
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
