"""What is watched over while stages change: an old task's metrics, and the best weights of a stage."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from paddle_warm_callbacks.arguments import nearest
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.hapi import attributes, optimizer_state, rng, training_state
from paddle_warm_callbacks.hapi.fit_loop import FitLoop

logger = logging.getLogger("paddle_warm_callbacks")

_BEST = "best of stage@"
# What Model.evaluate sets on the model and leaves so; without the first, fit(num_iters=) would not end.
_LEFT_BY_EVALUATE = ("num_iters", "_test_dataloader")


def evaluate_beside(loop: FitLoop, data: Any) -> dict[str, float]:
    """Evaluate the model on ``data`` between two epochs; the running fit is as if this had not been.

    Args:
        loop: At an epoch's end, so that no reading thread draws from the generators that are put back afterwards.
        data: Map-style dataset, evaluated with the batch size of training, or a loader.

    Returns:
        The loss and each metric, by name; without those that had no value.
    """
    model = loop.model
    generators = rng.capture()
    metrics = [attributes.capture(metric) for metric in model._metrics]
    logs = attributes.capture_mapping(loop.logs)
    left = {name: vars(model)[name] for name in _LEFT_BY_EVALUATE if name in vars(model)}
    batch_size = loop.board.hparams.get("batch_size", 1)
    try:
        found = model.evaluate(data, batch_size=int(batch_size), verbose=0)
    finally:
        rng.restore(generators)
        for metric, state in zip(model._metrics, metrics):
            attributes.restore(metric, state)
        loop.logs.clear()
        attributes.restore_mapping(loop.logs, logs)
        for name in _LEFT_BY_EVALUATE:
            vars(model).pop(name, None)
        vars(model).update(left)
    return {name: float(np.mean(value)) for name, value in found.items() if np.size(value)}


class BestOfStage:
    """Keep a copy of the weights that a stage's evaluations liked best, and put them back when the stage is over.

    The copy is in every checkpoint until then, so that a resumed run puts back the same.

    Args:
        monitor: A metric of the evaluation, as fit logs it without a prefix.
        mode: ``"max"`` or ``"min"``.

    Attributes:
        found: Of the copy: its ``stage``, ``epoch`` (how many were done) and ``value``; None where there is none.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        self._monitor = monitor
        self._sign = 1.0 if mode == "max" else -1.0
        self.found: dict[str, Any] | None = None

    def epoch_completed(self, loop: FitLoop, stage: int, eval_logs: Mapping[str, Any] | None) -> None:
        """Copy the weights if this evaluation is the stage's best so far.

        Raises:
            InvalidArgumentError: The evaluation has no such metric.
        """
        if eval_logs is None:
            return
        if self._monitor not in eval_logs:
            there = sorted(set(eval_logs) - {"step", "steps", "batch_size"})
            near = nearest(self._monitor, there)
            raise InvalidArgumentError(
                "the evaluation has no such metric",
                where="StagedUnfreeze(monitor=)",
                received=repr(self._monitor),
                expected="one of " + ", ".join(there),
                remedy=f"did you mean {near}?" if near else "",
            )
        # A rank's loss is that of its share of the data: rank 0's counts, so that all keep and restore the same epoch.
        mean = float(np.mean(eval_logs[self._monitor]))
        value = float(loop.ranks.agree("the value of the stage's best epoch", mean, lambda parts: parts[0]))
        best = self.found
        if best is None or best["stage"] != stage or self._sign * value > self._sign * best["value"]:
            self.found = {"stage": stage, "epoch": loop.progress.epoch, "value": value}
            loop.kept_arrays = {
                **loop.kept_arrays,
                **{_BEST + name: tensor.numpy().copy() for name, tensor in loop.network.state_dict().items()},
            }

    def stage_entered(self, loop: FitLoop, stage: int) -> None:
        """Put the best weights of the stage before back, with fresh optimizer state: the old belongs to others."""
        best = self.found
        if best is None or best["stage"] == stage:
            return
        weights = {n[len(_BEST) :]: a for n, a in loop.kept_arrays.items() if n.startswith(_BEST)}
        self.found = None
        loop.kept_arrays = {n: a for n, a in loop.kept_arrays.items() if not n.startswith(_BEST)}
        if best["epoch"] == loop.progress.epoch:
            return  # the last epoch was the best
        training_state.restore_model(loop.network, weights)
        optimizer_state.forget(
            loop.network, loop.optimizer, [name for name, _ in loop.network.named_parameters()]
        )
        logger.info(
            "stage %d starts from the best of stage %d: %s %g after epoch %d",
            stage,
            best["stage"],
            self._monitor,
            best["value"],
            best["epoch"],
        )
