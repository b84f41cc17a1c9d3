"""Fits whose learning rates the tests of this room watch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import paddle
import pytest
from paddle.optimizer import lr as paddle_lr

from paddle_warm_callbacks import EveryNSteps, KeepLatest, PeriodicCheckpoint, WarmStartCallback
from tests.callbacks.runs import Interrupted, Losses, fit
from tests.hapi.schedules import advance

GROUPS = {"body": 0.5, "fc": 2.0}


def steady_half(learning_rate: float = 0.1) -> Any:
    """Return a schedule that halves the rate every second step."""
    return paddle_lr.StepDecay(learning_rate, 2, 0.5)


def a_float(learning_rate: float = 0.1) -> float:
    """Return the rate itself."""
    return learning_rate


RATES: dict[str, Callable[..., Any]] = {"float": a_float, "schedule": steady_half}


def made(rate: Any, optimizer: str = "Adam", loss: Any = None) -> paddle.Model:
    """Return a prepared model: a body, dropout, and a head named ``fc``."""
    paddle.seed(0)
    network = paddle.nn.Sequential(
        ("body", paddle.nn.Linear(3, 5)),
        ("drop", paddle.nn.Dropout(0.3)),
        ("fc", paddle.nn.Linear(5, 3)),
    )
    model = paddle.Model(network)
    built = getattr(paddle.optimizer, optimizer)(rate, parameters=network.parameters())
    model.prepare(built, loss or paddle.nn.CrossEntropyLoss(), paddle.metric.Accuracy())
    return model


class Said(paddle.callbacks.Callback):  # type: ignore[misc]
    """Each step's rate by (epoch, step)."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: dict[tuple[int, int], float] = {}
        self.epoch = -1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        self.rates[self.epoch, step] = float(self.model._optimizer.get_lr())


def saving(run_dir: Path) -> PeriodicCheckpoint:
    """Return what saves at every step.

    A control saves too: where Paddle's CPU generator cannot be put back (2.6), saving makes each step draw anew.
    """
    return PeriodicCheckpoint(str(run_dir), save=EveryNSteps(1), keep=KeepLatest(2))


def interrupt(model: Any, run_dir: Path, *callbacks: Any, after: tuple[int, int] = (1, 0)) -> None:
    """Fit until after a step, with a checkpoint at each."""
    start = WarmStartCallback(run_dir=str(run_dir), resume_from="latest")
    with pytest.raises(Interrupted):
        fit(model, start, *callbacks, saving(run_dir), Losses(fail_after=after))


def resume(model: Any, run_dir: Path, *callbacks: Any, on_change: str = "raise", **options: Any) -> None:
    """Go on with the fit that was interrupted."""
    start = WarmStartCallback(run_dir=str(run_dir), resume_from="latest", on_change=on_change)
    fit(model, start, *callbacks, saving(run_dir), **options)


class Plateaus(paddle.callbacks.Callback):  # type: ignore[misc]
    """Step a schedule that Paddle's own callback cannot step."""

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        advance(self.model._optimizer._learning_rate)
