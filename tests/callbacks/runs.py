"""Small runs with checkpoints that the tests of this room share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks import (
    CheckpointStore,
    EveryNSteps,
    KeepLatest,
    PeriodicCheckpoint,
    WarmStartCallback,
)

SAMPLES, BATCH = 12, 4
STEPS = SAMPLES // BATCH


class Points(paddle.io.Dataset):  # type: ignore[misc]  # Paddle is untyped
    """Twelve points in three classes."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return np.array([index, index % 3, 1], dtype="float32") / 4, np.array([index % 3], dtype="int64")


def model(classes: int = 3, seed: int = 0) -> paddle.Model:
    """Return a prepared model: a body, dropout, and a head named ``fc``."""
    paddle.seed(seed)
    network = paddle.nn.Sequential(
        ("body", paddle.nn.Linear(3, 5)),
        ("drop", paddle.nn.Dropout(0.3)),
        ("fc", paddle.nn.Linear(5, classes)),
    )
    schedule = paddle.optimizer.lr.StepDecay(0.05, 2)
    made = paddle.Model(network)
    made.prepare(
        paddle.optimizer.Adam(schedule, parameters=network.parameters()),
        paddle.nn.CrossEntropyLoss(),
        paddle.metric.Accuracy(),
    )
    return made


class Losses(paddle.callbacks.Callback):  # type: ignore[misc]
    """Every step's loss, by (epoch, step); raises after a step when told to."""

    def __init__(self, fail_after: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.seen: dict[tuple[int, int], Any] = {}
        self.epoch = -1
        self.fail_after = fail_after

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch
        if self.fail_after == (epoch - 1, STEPS - 1):
            raise Interrupted

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        # At the beginning of the step after, so that our tail has seen the step that is failed after.
        if self.fail_after is not None and (self.epoch, step - 1) == self.fail_after:
            raise Interrupted

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        self.seen[self.epoch, step] = (logs["loss"], float(logs["acc"]))


class Interrupted(Exception):
    """Stands for whatever ends a run early."""


def fit(of: paddle.Model, *callbacks: Any, epochs: int = 3, **options: Any) -> None:
    """Fit on the twelve points, in silence."""
    options.setdefault("shuffle", True)
    of.fit(Points(), batch_size=BATCH, epochs=epochs, callbacks=list(callbacks), verbose=0, **options)


def bits(of: paddle.Model) -> dict[str, bytes]:
    """Return every tensor's bytes by structured name."""
    return {name: tensor.numpy().tobytes() for name, tensor in of.network.state_dict().items()}


def names(run_dir: Path) -> list[str]:
    """Return the names of the checkpoints in a run directory, oldest first."""
    return [checkpoint.name for checkpoint in CheckpointStore(str(run_dir)).list()]


def interrupted_run(run_dir: Path, after: tuple[int, int] = (1, 0), **save: Any) -> None:
    """Train with a checkpoint at every step until after step ``after``."""
    save.setdefault("save", EveryNSteps(1))
    with pytest.raises(Interrupted):
        fit(model(), PeriodicCheckpoint(str(run_dir), keep=KeepLatest(10), **save), Losses(fail_after=after))


def resumed(run_dir: Path, **options: Any) -> WarmStartCallback:
    """Return a start that goes on with the newest checkpoint there."""
    return WarmStartCallback(run_dir=str(run_dir), resume_from="latest", **options)
