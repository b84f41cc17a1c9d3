"""How long the steps of a ``Model.fit`` take, on data that costs nothing to load."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle


class StepTimes(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """The moment each step began.

    Attributes:
        seconds: From each step's beginning to the next one's.
    """

    def __init__(self) -> None:
        super().__init__()
        self._began: list[float] = []

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        """Note the moment."""
        self._began.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        """Durations, one fewer than steps."""
        return [later - earlier for earlier, later in zip(self._began, self._began[1:])]


class Repeated:
    """A loader that gives one batch again and again."""

    def __init__(self, batch: list[Any], steps: int) -> None:
        self._batch, self._steps = batch, steps

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[Any]]:
        return (self._batch for _ in range(self._steps))


def images(size: int, batch: int, classes: int = 10) -> list[Any]:
    """Return a batch of noise: float32 [batch, 3, size, size], and labels int64 [batch, 1]."""
    numbers = np.random.RandomState(0)
    pixels = numbers.normal(size=(batch, 3, size, size)).astype("float32")
    return [paddle.to_tensor(pixels), paddle.to_tensor(numbers.randint(0, classes, (batch, 1)))]


def timed_steps(network: Any, loader: Any, callbacks: list[Any]) -> list[float]:
    """Fit for one epoch of ``loader`` with Momentum and ``callbacks``, and return the seconds of all but two steps."""
    model = paddle.Model(network)
    optimizer = paddle.optimizer.Momentum(1e-3, parameters=network.parameters())
    model.prepare(optimizer, paddle.nn.CrossEntropyLoss())
    times = StepTimes()
    model.fit(loader, epochs=1, verbose=0, callbacks=[*callbacks, times])
    return times.seconds[2:]
