"""What recipes need of ``fit`` beside the package's callbacks: a look before the first step, and honest progress."""

from __future__ import annotations

from typing import Any

import paddle

from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.hapi.stage_guard import evaluate_beside


class SparseProgress(paddle.callbacks.ProgBarLogger):  # type: ignore[misc]  # Paddle is untyped
    """Paddle's progress, each number only where there is one: the loss in training, the metrics in evaluations."""

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self.train_metrics = ["loss"]

    def on_eval_begin(self, logs: Any = None) -> None:
        super().on_eval_begin(logs)
        names = [] if logs is None else logs["metrics"]
        self.eval_metrics = [name for name in names if name != "loss"]


class EvaluationAtStart(FitCallback):
    """Evaluate what a warm start has given, before anything is trained: ``start/<metric>`` in the logs.

    Training is the same to the bit as without it. A resumed run does not repeat it.

    Args:
        data: What to evaluate on: a loader, or a dataset, which is read with the batch size of training.

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
