"""A user's script as ``prove`` meets it: one fit, or ``--two``, exact or not in a place that an argument names."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import paddle

from paddle_warm_callbacks import EveryNSteps, PeriodicCheckpoint, WarmStartCallback

hidden = np.random.default_rng(3)
seldom = 12 if "--at-the-end" in sys.argv else 7


class Points(paddle.io.Dataset):  # type: ignore[misc]  # Paddle is untyped
    """Twelve noisy points; ``--<name>`` makes the noise that of a generator which no checkpoint holds."""

    def __init__(self, name: str) -> None:
        self.hidden = f"--{name}" in sys.argv

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        draw = hidden.normal() if self.hidden else np.random.normal()
        return np.array([index, draw], dtype="float32"), np.array([index % 2])


def train(run_dir: str, data: Points, evaluation: Points | None = None) -> None:
    """Fit a model of its own."""
    network = paddle.nn.Sequential(paddle.nn.Linear(2, 4), paddle.nn.Dropout(0.5), paddle.nn.Linear(4, 2))
    model = paddle.Model(network)
    adam = paddle.optimizer.Adam(0.01, parameters=network.parameters())
    model.prepare(adam, paddle.nn.CrossEntropyLoss(), paddle.metric.Accuracy())
    callbacks = [
        WarmStartCallback(run_dir=run_dir, resume_from="latest"),
        PeriodicCheckpoint(run_dir, save=EveryNSteps(seldom if "--seldom" in sys.argv else 2)),
    ]
    if "--bare" in sys.argv:
        callbacks = []
    model.fit(data, evaluation, batch_size=4, epochs=4, callbacks=callbacks, verbose=0)


if "--broken" in sys.argv:
    raise SystemExit("no data today")
train("runs/points", Points("hidden"), Points("hidden-evaluation") if "--evaluated" in sys.argv else None)
if "--two" in sys.argv:
    train("runs/others", Points("never"))
