"""Small fits that the tests of this room share."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle

from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.progress import Progress

SAMPLES, BATCH = 12, 4
STEPS = SAMPLES // BATCH


class Points(paddle.io.Dataset):  # type: ignore[misc]  # Paddle is untyped
    """Twelve points in two classes; remembers which were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        self.asked.append(index)
        return np.array([index, 1], dtype="float32"), np.array([index % 2], dtype="int64")


def linear_model(**prepare: Any) -> paddle.Model:
    """Return a prepared model of one Linear(2, 2) with SGD."""
    paddle.seed(0)
    network = paddle.nn.Linear(2, 2)
    model = paddle.Model(network)
    optimizer = paddle.optimizer.SGD(0.1, parameters=network.parameters())
    model.prepare(optimizer, paddle.nn.CrossEntropyLoss(), paddle.metric.Accuracy(), **prepare)
    return model


class StartAt(FitCallback):
    """Start at a position and write down every event of ours, with the position it came at."""

    def __init__(self, progress: Progress | None = None) -> None:
        super().__init__()
        self.progress = progress or Progress()
        self.events: list[tuple[str, int, int, int]] = []

    def _note(self, event: str, loop: FitLoop) -> None:
        at = loop.progress
        self.events.append((event, at.epoch, at.step_in_epoch, at.global_step))

    def fit_opened(self, loop: FitLoop) -> None:
        loop.progress = self.progress
        self._note("opened", loop)

    def fit_started(self, loop: FitLoop) -> None:
        self._note("started", loop)

    def epoch_starting(self, loop: FitLoop) -> None:
        self._note("epoch", loop)

    def step_ended(self, loop: FitLoop, logs: dict[str, Any]) -> None:
        self._note("step", loop)

    def epoch_completed(self, loop: FitLoop, logs: dict[str, Any], eval_logs: dict[str, Any] | None) -> None:
        self._note("completed" if eval_logs is None else "evaluated", loop)

    def fit_ended(self, loop: FitLoop, logs: dict[str, Any]) -> None:
        self._note("ended", loop)

    def fit_closed(self, loop: FitLoop) -> None:
        self._note("closed", loop)


class Recorder(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Write down what Paddle tells a callback of a user."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, Any]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.heard.append(("train_begin", None))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.heard.append(("epoch_begin", epoch))

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        self.heard.append(("batch_end", step))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.heard.append(("epoch_end", epoch))

    def on_eval_end(self, logs: Any = None) -> None:
        self.heard.append(("eval_end", None))

    def on_train_end(self, logs: Any = None) -> None:
        self.heard.append(("train_end", None))


def fit(model: paddle.Model, *callbacks: Any, epochs: int = 3, **options: Any) -> None:
    """Fit on the twelve points, in silence."""
    data = options.pop("data", None) or Points()
    model.fit(
        data, batch_size=BATCH, epochs=epochs, callbacks=list(callbacks), verbose=0, shuffle=False, **options
    )
