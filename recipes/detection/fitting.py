"""What a detector needs of ``fit`` beside losses and metrics: its epoch's number, and a look before the first step."""

from __future__ import annotations

from typing import Any

import paddle

from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.hapi.stage_guard import evaluate_beside


class DetectorProgress(paddle.callbacks.ProgBarLogger):  # type: ignore[misc]  # Paddle is untyped
    """Paddle's progress, each number only where there is one: the loss in training, mAP in evaluations."""

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self.train_metrics = ["loss"]

    def on_eval_begin(self, logs: Any = None) -> None:
        super().on_eval_begin(logs)
        names = [] if logs is None else logs["metrics"]
        self.eval_metrics = [name for name in names if name != "loss"]


class EpochNumber(FitCallback):
    """Tell detector and dataset which epoch it is: some assign boxes, or mix images, in another way at first."""

    def epoch_starting(self, loop: FitLoop) -> None:
        """Set the number that a resumed run is at, too."""
        loop.network.epoch = loop.progress.epoch
        loop.train_loader.dataset.set_epoch(loop.progress.epoch)


class EvaluationAtStart(FitCallback):
    """Evaluate what a warm start has given, before anything is trained: ``start/<metric>`` in the logs.

    Training is the same to the bit as without it. A resumed run does not repeat it.

    Args:
        data: The loader of the evaluation.

    Attributes:
        found: Metric to value; empty if this ``fit`` was resumed.
    """

    def __init__(self, data: Any) -> None:
        super().__init__()
        self._data = data
        self.found: dict[str, float] = {}

    def fit_ready(self, loop: FitLoop) -> None:
        """Evaluate; no batch has been read yet."""
        self.found = {}
        if loop.progress.global_step == 0:
            self.found = evaluate_beside(loop, self._data)
            loop.board.points += [(f"start/{name}", 0, value) for name, value in self.found.items()]
