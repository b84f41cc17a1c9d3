"""A user's script as ``prove`` meets it; ``--hidden`` draws from a generator that no checkpoint holds."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import paddle

from paddle_warm_callbacks import EveryNSteps, PeriodicCheckpoint, WarmStartCallback

hidden = np.random.default_rng(3)


class Points(paddle.io.Dataset):  # type: ignore[misc]  # Paddle is untyped
    """Twelve noisy points."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        draw = hidden.normal() if "--hidden" in sys.argv else np.random.normal()
        return np.array([index, draw], dtype="float32"), np.array([index % 2])


if "--broken" in sys.argv:
    raise SystemExit("no data today")
network = paddle.nn.Sequential(paddle.nn.Linear(2, 4), paddle.nn.Dropout(0.5), paddle.nn.Linear(4, 2))
model = paddle.Model(network)
model.prepare(paddle.optimizer.Adam(0.01, parameters=network.parameters()), paddle.nn.CrossEntropyLoss())
callbacks = (
    []
    if "--bare" in sys.argv
    else [
        WarmStartCallback(run_dir="runs/points", resume_from="latest"),
        PeriodicCheckpoint("runs/points", save=EveryNSteps(2)),
    ]
)
model.fit(Points(), batch_size=4, epochs=4, callbacks=callbacks, verbose=0)
